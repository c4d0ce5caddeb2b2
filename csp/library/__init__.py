"""Known crystals: library files, importing them, their energies, the volumes they teach."""
