"""Adapting a surrogate to a few labels."""
