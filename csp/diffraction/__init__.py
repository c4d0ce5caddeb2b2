"""Powder patterns: reading scans, calculating them from crystals, and telling which crystal was measured."""
