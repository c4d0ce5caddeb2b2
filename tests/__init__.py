"""A package, not a namespace: some packages install a `tests` of their own (optimade does)."""
