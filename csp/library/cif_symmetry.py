"""The symmetry operations that a CIF means: listed, or those of the group that it names in some setting.

Names of groups (Hall, Hermann-Mauguin in every setting of the International Tables, numbers) are those of
gemmi (Wojdyr, J. Open Source Softw. 7, 4200, 2022).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from csp.cif_file import Block
from csp.crystallography.symmetry import number_of_operations, space_group_symbol
from csp.errors import CrystalError

if TYPE_CHECKING:
    from gemmi import GroupOps, SpaceGroup

__all__ = ["Setting", "settings"]

Array = NDArray[np.float64]

LISTED = (
    "symmetry_equiv_pos_as_xyz",
    "space_group_symop_operation_xyz",
    "space_group_symop_magn_operation_xyz",
)
CENTRINGS = "space_group_symop_magn_centering_xyz"
HALL = ("space_group_name_hall", "symmetry_space_group_name_hall")
HERMANN_MAUGUIN = ("space_group_name_h-m_alt", "symmetry_space_group_name_h-m", "space_group_name_h-m_full")
NUMBER = ("space_group_it_number", "symmetry_int_tables_number")
OTHER_GROUPS = {  # whose atoms in three dimensions the name alone does not give
    "space_group_magn_name_bns": "magnetic group",
    "space_group_magn_name_og": "magnetic group",
    "space_group_magn_number_bns": "magnetic group",
    "space_group_magn_number_og": "magnetic group",
    "space_group_ssg_name": "superspace group",
    "space_group_ssg_name_it": "superspace group",
    "space_group_ssg_name_wjj": "superspace group",
}
ORIGINS = {"s": ":1", "z": ":2"}  # as other programs call the origin choices
TERM = re.compile(r"([+-]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?\*?([xyz])?|([xyz]))")
LARGEST_ENTRY = 9  # of a rotation in an oblique cell
LARGEST_GROUP = 400  # operations; 192, and centrings of a magnetic cell
STRAIN = 0.01  # by which a metric may differ from that of its group
GRID = 24  # the denominators of translations in standard settings divide it
SAME = 3e-3  # by which translations may differ: they are written with three decimals or more


@dataclass(frozen=True, slots=True)
class Setting:
    """Symmetry operations x → rotation x + translation on fractional columns.

    Attributes:
        name: For people.
        number: Of the space group.
        rotations: [G, 3, 3], whole numbers.
        translations: [G, 3], from 0 to 1.
        certain: Is nothing in the file against it?
    """

    name: str
    number: int
    rotations: Array
    translations: Array
    certain: bool = True

    def fits(self, cell: Array) -> bool:
        """Do the operations keep lengths and angles of the lattice vectors, [3, 3], Å?"""
        metric = cell @ cell.T
        turned = np.einsum("gji,jk,gkl->gil", self.rotations, metric, self.rotations)
        edges = np.sqrt(np.diag(metric))
        return bool((np.abs(turned - metric) <= STRAIN * np.outer(edges, edges)).all())


def settings(block: Block) -> list[Setting]:
    """The settings that a block may mean; more than one where it names a group and leaves the choice open.

    Raises:
        CrystalError: What it says is no group, or contradicts itself.
    """
    listed, named = _listed(block), _named(block)
    if listed is None and not named:
        _refuse_other_groups(block)
    if listed is None:
        return named or [_of_group([(np.eye(3), np.zeros(3))])]
    if not named or any(setting.number == listed.number for setting in named):
        return [listed]
    # the operations of a smaller group beside the name: all atoms are listed, or the operations are not
    if all(len(setting.rotations) > len(listed.rotations) for setting in named):
        return [_uncertain(listed), *map(_uncertain, named)]
    raise CrystalError(
        "contradiction", f"it names the space group {named[0].name} and lists operations of {listed.name}"
    )


def _refuse_other_groups(block: Block) -> None:
    for tag, kind in OTHER_GROUPS.items():
        if (name := block.value(tag)) is not None:
            raise CrystalError(
                "unknown group", f"it names the {kind} {name} alone, without a list of its operations"
            )


def _uncertain(setting: Setting) -> Setting:
    return Setting(setting.name, setting.number, setting.rotations, setting.translations, certain=False)


def _of_group(operations: list[tuple[Array, Array]]) -> Setting:
    rotations = np.array([rotation for rotation, _ in operations])
    translations = np.array([translation for _, translation in operations]) % 1.0
    number = number_of_operations(rotations, translations) if _is_group(rotations, translations) else 0
    if not number:
        raise CrystalError("no group", "the symmetry operations that it lists are not those of a space group")
    return Setting(space_group_symbol(number), number, rotations, translations)


def _is_group(rotations: Array, translations: Array) -> bool:
    """Is every product of two of them among them?"""
    keys = _keys(rotations)
    turns, counts = np.unique(keys, return_counts=True)
    if counts.min() != counts.max():
        return False
    moves = translations[np.argsort(keys, kind="stable")].reshape(len(turns), -1, 3)  # of each rotation
    products = _keys(np.einsum("aij,bjk->abik", rotations, rotations)).ravel()
    which = np.searchsorted(turns, products).clip(max=len(turns) - 1)
    moved = (np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]).reshape(-1, 1, 3)
    off = moved - moves[which]
    off -= np.rint(off)
    return bool((turns[which] == products).all() and (np.abs(off) < SAME).all(axis=-1).any(axis=-1).all())


def _keys(rotations: Array) -> NDArray[np.int64]:
    """One whole number for each rotation [..., 3, 3]."""
    digits = np.rint(rotations).astype(np.int64).reshape(*rotations.shape[:-2], 9) + LARGEST_ENTRY
    return digits @ (2 * LARGEST_ENTRY + 1) ** np.arange(9)


# -- listed -------------------------------------------------------------------------------------------


def _listed(block: Block) -> Setting | None:
    """What the block lists; None for nothing."""
    texts = [text for text in block.column(*LISTED) if text]
    if not texts:
        return None
    centrings = [text for text in block.column(CENTRINGS) if text]
    operations = [_operation(text) for text in texts]
    if centrings:  # of a magnetic group: with every operation
        shifts = [_operation(text)[1] for text in centrings]
        operations = [(turn, move + shift) for (turn, move), shift in product(operations, shifts)]
    if len(operations) > LARGEST_GROUP:
        raise CrystalError("no group", f"it lists {len(operations)} symmetry operations, which no group has")
    return _of_group(_distinct(operations))


def _distinct(operations: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    return list({(*r.ravel(), *np.rint(t / SAME) % round(1 / SAME)): (r, t) for r, t in operations}.values())


def _operation(text: str) -> tuple[Array, Array]:
    """Rotation and translation of "-y, x-y, z+1/3"; a time reversal after them (+1 or -1) plays no part."""
    parts = re.sub(r"[\s'\"]", "", text.lower()).split(",")
    if len(parts) == 4 and parts[3] in ("+1", "-1", "1"):
        parts.pop()
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    for row, part in enumerate(parts):
        place = 0
        while row < 3 and (term := TERM.match(part, place)) and (term[1] or place == 0):
            place = term.end()
            value = float(term[2] or 1) / (float(term[3] or 1) or np.nan) * (-1 if term[1] == "-" else 1)
            if axis := term[4] or term[5]:
                rotation[row, "xyz".index(axis)] += value
            else:
                translation[row] += value
        if len(parts) != 3 or place != len(part):
            raise CrystalError("no group", f"{text!r} is no symmetry operation")
    if not np.isfinite([*rotation.ravel(), *translation]).all() or not _turns(rotation):
        raise CrystalError("no group", f"{text!r} is no symmetry operation")
    on_grid = np.rint(translation * GRID) / GRID
    return rotation, np.where(np.abs(on_grid - translation) < SAME / 3, on_grid, translation)  # 0.333 is 1/3


def _turns(rotation: Array) -> bool:
    whole = (rotation == np.rint(rotation)).all() and np.abs(rotation).max() <= LARGEST_ENTRY
    return bool(whole) and abs(round(np.linalg.det(rotation))) == 1


# -- named --------------------------------------------------------------------------------------------


def _named(block: Block) -> list[Setting]:
    """The settings that have the name in the block; [] where it names none."""
    number = _number(block.value(*NUMBER))
    hall, name = block.value(*HALL), block.value(*HERMANN_MAUGUIN)
    of_hall, of_name = _of_hall(hall) if hall else [], list(_of_name(name)) if name else []
    if of_hall and of_name and of_hall[0].number != of_name[0].number:
        raise CrystalError(
            "contradiction", f"it names both the space groups {of_hall[0].name} and {of_name[0].name}"
        )
    found = of_hall or of_name or (list(_of_number(number)) if number else [])
    if not found and (hall or name) and not block.column(*LISTED):
        raise CrystalError(
            "unknown group",
            f"it names the space group {name or hall!r}, which is in no table, and lists no operations",
        )
    if number and found and found[0].number != number:
        raise CrystalError(
            "contradiction", f"it names the space group {found[0].name}, whose number is not {number}"
        )
    return found


def _number(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= 230:
        raise CrystalError("unknown group", f"it gives {text!r} as the number of its space group")
    return int(text)


def _of_hall(hall: str) -> list[Setting]:
    from gemmi import symops_from_hall

    try:
        rotations, translations = _arrays(symops_from_hall(hall))
    except RuntimeError:
        return []
    number = number_of_operations(rotations, translations)
    return [Setting(f"{hall} (Hall)", number, rotations, translations)] if number else []


def _of_name(name: str) -> Iterator[Setting]:
    """All settings that are called so: two where the name leaves the origin or the axes open."""
    import gemmi

    plain = re.sub(r"[~()_'\"]|\s+$", "", name)
    origin = re.fullmatch(r"(.*\S)\s*:?\s*([sz])", plain, re.IGNORECASE)
    if origin and gemmi.find_spacegroup_by_name(origin[1]) is not None:
        plain = origin[1] + ORIGINS[origin[2].lower()]
    found = gemmi.find_spacegroup_by_name(plain)
    if found is None:
        return
    is_open = found.ext != "\x00" and not re.search(r":\s*\w\s*$|\s[HR]$", plain, re.IGNORECASE)
    for group in gemmi.spacegroup_table():
        if group.hm == found.hm and (is_open or group.ext == found.ext):
            yield _of_table(group)


def _of_number(number: int) -> Iterator[Setting]:
    import gemmi

    return (_of_table(group) for group in gemmi.spacegroup_table_itb() if group.number == number)


def _of_table(group: SpaceGroup) -> Setting:
    return Setting(group.xhm(), group.number, *_arrays(group.operations()))


def _arrays(operations: GroupOps) -> tuple[Array, Array]:
    """Rotations [G, 3, 3] and translations [G, 3]."""
    from gemmi import Op

    listed = list(operations)
    return np.array([op.rot for op in listed]) / Op.DEN, np.array([op.tran for op in listed]) / Op.DEN % 1.0
