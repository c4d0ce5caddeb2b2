"""Relax your own structures under pressure. Run it: python examples/relax_under_pressure.py"""

# --8<-- [start:relax]
from pymatgen.core import Lattice, Structure

import csp

rock_salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.3), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
caesium_chloride = Structure(Lattice.cubic(2.7), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

for pressure in (0, 100):  # GPa
    relaxed = csp.relax([rock_salt, caesium_chloride], model="xs", pressure=pressure, max_steps=60)
    for name, one in zip(("rock salt", "caesium chloride"), relaxed, strict=True):
        enthalpy = one.enthalpy / len(one.structure)
        volume = one.structure.volume / len(one.structure)
        print(
            f"{pressure:4d} GPa  {name:16s}  H {enthalpy:8.3f} eV/atom  V {volume:6.2f} Å³/atom  {one.status}"
        )
# --8<-- [end:relax]
