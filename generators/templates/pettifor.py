"""How alike two elements are, from their places on a published one-dimensional chemical scale."""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

__all__ = ["pettifor_scale"]

MODIFIED_PETTIFOR = """
He Ne Ar Kr Xe Rn Fr Cs Rb K Na Li Ra Ba Sr Ca Eu Yb Lu Tm Y Er Ho Dy Tb Gd Sm Pm Nd Pr Ce La Ac Th Pa U Np Pu
Am Cm Bk Cf Es Fm Md No Lr Sc Zr Hf Ti Ta Nb V Cr Mo W Re Tc Os Ru Ir Rh Pt Pd Au Ag Cu Ni Co Fe Mn Mg Zn Cd
Hg Be Al Ga In Tl Pb Sn Ge Si B C N P As Sb Bi Po Te Se S O At I Br Cl F H
"""


def pettifor_scale() -> NDArray[np.float64]:
    """float64 [119]: place of each atomic number on the modified Pettifor scale.

    Glawe, Sanna, Gross and Marques, New J. Phys. 18, 093011 (2016): the order of the elements in which
    neighbours replace each other most often in known crystals. The scale ends at Lr; what is beyond
    takes the place of its lighter congener, 32 places back in the periodic table.
    """
    places = np.full(119, np.nan)
    for place, symbol in enumerate(MODIFIED_PETTIFOR.split()):
        places[atomic_numbers[symbol]] = place
    places[104:] = places[72:87]
    return places
