"""Minimising energies of many crystals at once, and rattling what symmetry holds on a saddle."""
