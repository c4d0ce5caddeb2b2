"""Harmonic lattice dynamics: phonons by finite displacements, free energies, ways down imaginary modes."""
