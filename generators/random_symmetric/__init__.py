"""Random crystals in a space group."""
