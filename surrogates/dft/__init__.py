"""DFT codes as labellers."""
