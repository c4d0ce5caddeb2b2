"""Fitting and judging the probability of being the ground state."""
