"""Models of properties on the features of the energy surrogate, and their transfer to few data."""
