"""Moves from low crystals to others that may lie lower: each a pure function of crystals and random numbers.

A move takes a batch of one, or of two, and gives a batch of one, or None where it does not apply. It keeps
the composition. What it gives is a start, to be relaxed; that atoms keep apart is checked by who calls.
"""
