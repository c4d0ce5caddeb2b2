"""Makes csp/data/aflow_prototypes.parquet: the prototypes of the AFLOW encyclopedia, parts 1 to 5.

    pip install --no-deps kim-tools==0.4.15
    python -m csp.library.build_prototypes

The package kim-tools carries the encyclopedia's labels and parameters, one `info.json` for each prototype
(the data are under Apache-2.0). A label such as AB3_hR8_155_c_de-001 names space group and Wyckoff letters of
each species in turn; the parameters are the lattice's and then the free coordinates of each orbit. What is
built is checked: its space group, its number of atoms and its shortest distance. An entry that fails, most
often one with half-occupied sites that lie too close, is left out and said.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csp.crystallography.build_wyckoff_table import parse
from csp.crystallography.neighbours import neighbour_list
from csp.crystallography.symmetry import space_groups, standard_operations
from csp.crystallography.wyckoff import LETTERS, wyckoff_table
from csp.crystals import Crystals
from csp.errors import CspError, InputError, MissingError
from csp.files import replacing
from csp.library.rows import reduced_formula

__all__ = ["build", "built_crystal", "encyclopedia"]

OUT = Path(__file__).parents[1] / "data" / "aflow_prototypes.parquet"
SOURCE = "AFLOW encyclopedia of crystallographic prototypes, parts 1 to 5, as carried by kim-tools 0.4.15"
LICENCE = "Apache-2.0"
SYMPREC = 1e-3  # Å; the crystals are exactly symmetric, some of them nearly of a higher symmetry
MAX_ATOMS = 400  # in the primitive cell; the largest that a search may ask for
NEAREST = 0.6  # Å; what is nearer are alternatives for one atom
STAND_INS = ("He", "Ne", "Ar", "Kr", "Xe", "Rn")
"""For species that are no element (water, ammonium) or that share their sites: the entry tells of a structure
but not of a compound, and is no entry of any composition (`stand_in`). Nothing is like a noble gas, so that
the entry's elements recommend it for no compound."""

Floats = NDArray[np.float64]

# The representatives of the rhombohedral groups' positions on rhombohedral axes, International Tables A.
# Labels that name free coordinates otherwise ("z3" of 166 c) are on hexagonal axes as all other tables here.
ON_RHOMBOHEDRAL_AXES = {
    146: {"a": "x,x,x", "b": "x,y,z"},
    148: {"a": "0,0,0", "b": "1/2,1/2,1/2", "c": "x,x,x", "d": "1/2,0,0", "e": "0,1/2,1/2", "f": "x,y,z"},
    155: {"a": "0,0,0", "b": "1/2,1/2,1/2", "c": "x,x,x", "d": "0,y,-y", "e": "1/2,y,-y", "f": "x,y,z"},
    160: {"a": "x,x,x", "b": "x,x,z", "c": "x,y,z"},
    161: {"a": "x,x,x", "b": "x,y,z"},
    166: {
        "a": "0,0,0",
        "b": "1/2,1/2,1/2",
        "c": "x,x,x",
        "d": "1/2,0,0",
        "e": "0,1/2,1/2",
        "f": "x,-x,0",
        "g": "x,-x,1/2",
        "h": "x,x,z",
        "i": "x,y,z",
    },
    167: {
        "a": "1/4,1/4,1/4",
        "b": "0,0,0",
        "c": "x,x,x",
        "d": "1/2,0,0",
        "e": "x,-x+1/2,1/4",
        "f": "x,y,z",
    },
}
# Columns are the rhombohedral basis vectors on the hexagonal ones, obverse setting.
HEXAGONAL_OF_RHOMBOHEDRAL = np.array([[2, -1, -1], [1, 1, -2], [1, 1, 1]]) / 3.0


def encyclopedia(package: Path | None = None) -> list[dict[str, Any]]:
    """What the package kim-tools says of each prototype, by label.

    Args:
        package: Its folder; None: as installed.

    Raises:
        MissingError: It is not installed.
    """
    if package is None:
        found = find_spec("kim_tools")
        if found is None or found.origin is None:
            raise MissingError("The package kim-tools is not there: pip install --no-deps kim-tools==0.4.15.")
        package = Path(found.origin).parent
    files = sorted(package.glob("aflow_util/aflow_prototype_encyclopedia/data/*/info.json"))
    if not files:
        raise MissingError(f"{package} holds no prototypes; another version of kim-tools may.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def species(info: dict[str, Any]) -> tuple[list[str], bool]:
    """The element of each letter of a label, and whether these are stand-ins.

    AFLOW's letters go by the alphabetical order of the elements' symbols.
    """
    n = info["number_of_species"]
    symbols = sorted(set(re.findall(r"[A-Z][a-z]?", info["prototype"])))
    from pymatgen.core import Element

    if len(symbols) != n or not all(Element.is_valid_symbol(s) for s in symbols):
        return list(STAND_INS[:n]), True
    return ["H" if symbol in ("D", "T") else symbol for symbol in symbols], False


def built_crystal(info: dict[str, Any], symbols: list[str]) -> Crystals:
    """The prototype as its label and parameters say, in a primitive cell of the standard setting.

    Raises:
        InputError: Label and parameters do not belong together.
    """
    from pymatgen.core import Element

    label = info["label"].rsplit("-", 1)[0].split("_")
    group = int(label[2])
    values = dict(zip(info["parameter_symbols"], info["parameter_values"], strict=True))
    rotations, translations, to_primitive = standard_operations(group)
    cell = np.linalg.inv(to_primitive).T @ _conventional_cell(group, values)
    frac: list[Floats] = []
    numbers: list[int] = []
    orbits = [
        (letter, symbol)
        for symbol, letters in zip(symbols, label[3:], strict=True)
        for letter in _orbits(letters)
    ]
    # the numbers in the parameters' names count by letter, then by species
    for number, (letter, symbol) in enumerate(sorted(orbits, key=lambda o: LETTERS.index(o[0])), 1):
        point = _representative(group, letter, _own_coordinates(values, number))
        images = _distinct((rotations @ point + translations) @ to_primitive.T)
        if len(images) != _multiplicity(group, letter):
            raise InputError(f"orbit {letter} has {len(images)} atoms in place of its own number")
        frac.append(images)
        numbers += [Element(symbol).Z] * len(images)
    return Crystals.from_arrays([cell], [np.concatenate(frac)], [np.array(numbers)])


def _orbits(letters: str) -> Iterator[str]:
    """ "a2c" to a, c, c."""
    for amount, letter in re.findall(r"(\d*)([a-zA])", letters):
        yield from letter * int(amount or 1)


def _own_coordinates(values: dict[str, float], number: int) -> dict[str, float]:
    return {axis: values[f"{axis}{number}"] for axis in "xyz" if f"{axis}{number}" in values}


def _representative(group: int, letter: str, own: dict[str, float]) -> Floats:
    """The first point of an orbit in the conventional cell of the standard setting.

    Raises InputError where the free coordinates are not those of the position.
    """
    u = np.array([own.get(axis, 0.0) for axis in "xyz"])
    rhombohedral = ON_RHOMBOHEDRAL_AXES.get(group)
    for coordinates, axes in (
        *([(rhombohedral[letter], HEXAGONAL_OF_RHOMBOHEDRAL)] if rhombohedral else []),
        (_coordinates(group, letter), np.eye(3)),
    ):
        if set(re.findall("[xyz]", coordinates)) == set(own):
            matrix, shift = parse(coordinates)
            return axes @ (matrix @ u + shift)
    raise InputError(f"position {letter} has other free coordinates than {', '.join(own) or 'none'}")


def _position(group: int, letter: str) -> int:
    return wyckoff_table().positions(group)[LETTERS.index(letter)]


def _coordinates(group: int, letter: str) -> str:
    return str(wyckoff_table().coordinates[_position(group, letter)])


def _multiplicity(group: int, letter: str) -> int:
    """Atoms of an orbit in the primitive cell."""
    return int(wyckoff_table().n_atoms[_position(group, letter)])


def _distinct(points: Floats) -> Floats:
    """Fractional coordinates [n, 3] without those that differ by lattice vectors."""
    gap = points[:, None] - points
    same = np.abs(gap - np.rint(gap)).max(axis=-1) < 1e-5
    return points[np.flatnonzero(same.argmax(axis=1) == np.arange(len(points)))] % 1.0


def _conventional_cell(group: int, values: dict[str, float]) -> Floats:
    """[3, 3] Å, rows: of a, b/a, c/a and the angles, those that the label leaves out being implied."""
    a = values["a"]
    b, c = a * values.get("b/a", 1.0), a * values.get("c/a", 1.0)
    hexagonal = 143 <= group <= 194
    alpha, beta, gamma = (
        math.radians(values.get(name, 120.0 if hexagonal and name == "gamma" else 90.0))
        for name in ("alpha", "beta", "gamma")
    )
    x = (math.cos(alpha) - math.cos(beta) * math.cos(gamma)) / math.sin(gamma)
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * math.cos(gamma), b * math.sin(gamma), 0.0],
            [c * math.cos(beta), c * x, c * math.sqrt(max(0.0, 1.0 - math.cos(beta) ** 2 - x**2))],
        ]
    )


def fault(info: dict[str, Any], crystal: Crystals) -> str:
    """What is wrong with a built prototype, in one clause; "" if nothing."""
    group, n = int(info["space_group_number"]), int(crystal.n_atoms)
    pearson = int(re.sub(r"\D", "", info["pearson_symbol"]))
    # Pearson symbols count the conventional cell; AFLOW's of rhombohedral crystals the primitive one.
    centred = {"C": 2, "A": 2, "I": 2, "F": 4}.get(info["pearson_symbol"][1], 1)
    if n * centred != pearson:
        return f"it has {n * centred} atoms in place of {pearson}"
    if n > MAX_ATOMS:
        return f"it has {n} atoms in the primitive cell"
    nearest = neighbour_list(crystal, NEAREST).distance
    if len(nearest):
        return f"atoms are {float(nearest.min()):.2f} Å apart: sites that are occupied in part"
    (found,) = space_groups(crystal, SYMPREC)
    if found != group:
        return f"its space group is {found} in place of {group}"
    return ""


def build(package: Path | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of `csp.library.schema.library_schema`, and by label why others are left out."""
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for info in encyclopedia(package):
        symbols, stand_in = species(info)
        try:
            crystal = built_crystal(info, symbols)
            wrong = fault(info, crystal)
        except CspError as error:
            wrong = str(error)
        if wrong:
            left_out[info["label"]] = wrong
            continue
        (cell, frac, numbers) = crystal.arrays()[0]
        rows.append(
            {
                "material_id": f"aflow:{info['label']}",
                "formula": info["prototype"] if stand_in else reduced_formula(numbers.tolist()),
                "spacegroup": int(info["space_group_number"]),
                "cell": cell.ravel().tolist(),
                "numbers": numbers.tolist(),
                "frac_coords": frac.ravel().tolist(),
                "source": SOURCE,
                "licence": LICENCE,
                "name": _name(info),
                "stand_in": stand_in,
            }
        )
    return rows, left_out


def _name(info: dict[str, Any]) -> str:
    r""" "$\alpha$-AgI ($B23$) Structure" to "α-AgI (B23)"."""
    text = info["title"]
    for command, letter in GREEK.items():
        text = re.sub(rf"\\{command}(?![a-z])", letter, text)
    text = re.sub(r"\\frac\{?(\d)\}?\{?(\d)\}?", r" \1/\2 ", text).replace(r"\cdot", "·")
    text = re.sub(r"\\(?:mathrm|text|emph|textit|rm|bf|it|em|tt)\b", "", text)
    text = re.sub(r"\\['`\"^~]\s*", "", text)
    text = re.sub(r"[${}\\]|_(?=[\d{(])|_", "", text)
    text = text.replace("( ", "(").replace("[ ", "[")
    return re.sub(r"\s+", " ", text.replace(" Structure", "").replace(" structure", "")).strip()


GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "epsilon": "ε",
    "zeta": "ζ",
    "eta": "η",
    "theta": "θ",
    "kappa": "κ",
    "lambda": "λ",
    "mu": "μ",
    "nu": "ν",
    "xi": "ξ",
    "pi": "π",
    "rho": "ρ",
    "sigma": "σ",
    "tau": "τ",
    "phi": "φ",
    "chi": "χ",
    "psi": "ψ",
    "omega": "ω",
    "Gamma": "Γ",
    "Delta": "Δ",
    "Theta": "Θ",
    "Lambda": "Λ",
    "Sigma": "Σ",
    "Phi": "Φ",
    "Omega": "Ω",
}


def write(out: Path = OUT, package: Path | None = None) -> tuple[int, dict[str, str]]:
    """Write the file; how many prototypes are in it, and which are left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from csp.library.schema import library_schema

    rows, left_out = build(package)
    schema = library_schema()
    with replacing(out) as part:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema), part, compression="zstd", compression_level=19
        )
    return len(rows), left_out


if __name__ == "__main__":
    n, left_out = write()
    print(f"{n} prototypes written to {OUT}, {len(left_out)} left out:")
    for label, why in left_out.items():
        print(f"  {label}: {why}")
