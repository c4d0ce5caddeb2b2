"""How long it takes to get a library."""
