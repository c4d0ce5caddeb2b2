"""How much a second."""
