"""The surrogate's errors, against other models."""
