"""Lattices, neighbours, space groups, Wyckoff positions: geometry that knows no energies."""
