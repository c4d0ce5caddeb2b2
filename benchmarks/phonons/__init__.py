"""Phonons of crystals that everybody knows, by potentials, beside those of DFT."""
