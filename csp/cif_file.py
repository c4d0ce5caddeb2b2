"""CIF files as text and as blocks of tags: what is said there, not yet what it means."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csp.errors import CrystalError
from csp.files import COMPRESSED, read_text

if TYPE_CHECKING:
    from gemmi import cif

__all__ = ["DEFAULT", "Block", "is_cif", "name_of", "read_blocks"]

SUFFIXES = (".cif", ".mcif")
DEFAULT = "."
CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def is_cif(path: Path) -> bool:
    """Does the file name say CIF, in capitals too, or compressed?"""
    return name_of(path) != path.name


def name_of(path: Path) -> str:
    """The file's name without what says that it is a CIF."""
    name = path.name
    for suffix in COMPRESSED:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return next((name[: -len(s)] for s in SUFFIXES if name.lower().endswith(s)), path.name)


def read_blocks(path: Path) -> list[Block]:
    """The blocks that hold a cell or atoms; there is at least one.

    Raises:
        InputError: There is no such file.
        CrystalError: It is no CIF, or has no such block.
    """
    from gemmi import cif

    text = re.sub(r"[^\t\n\r\x20-\x7e]", "?", read_text(path).replace("\x1a", " "))  # all that CIF 1.1 knows
    try:
        document = cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        where = re.search(r"string:(\d+)", str(error))
        line = f", line {where[1]}" if where else ""
        reason = str(error).splitlines()[0].partition(": ")[2].strip() or "not understood"
        raise CrystalError("no CIF", f"no crystal structure can be read in it{line} ({reason})") from error
    blocks = [Block.of(block) for block in document]
    some = [block for block in blocks if block.has_atoms] or [block for block in blocks if block.has_cell]
    if not some:
        raise CrystalError("no crystal", "it holds no crystal structure")
    return some


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a CIF.

    Attributes:
        name: As it is written.
        tags: Values of each tag, "" for those not known and `DEFAULT` for those left out because the
            dictionary has one. Tags are in the spelling of CIF 1.1, small, without their first underscore.
    """

    name: str
    tags: dict[str, list[str]]

    @classmethod
    def of(cls, block: cif.Block) -> Block:
        """What gemmi has read."""
        from gemmi import cif

        tags: dict[str, list[str]] = {}
        for item in block:
            pair: Any = item.pair
            loop: Any = item.loop
            if pair is None and loop is None:
                continue
            names, values = ([pair[0]], [pair[1]]) if loop is None else (loop.tags, loop.values)
            for k, name in enumerate(names):
                column = [
                    value if value == DEFAULT else cif.as_string(value).strip()
                    for value in values[k :: len(names)]
                ]
                tags.setdefault(name.lower().removeprefix("_").replace(".", "_"), []).extend(column)
        return cls(block.name.strip(), tags)

    @property
    def has_cell(self) -> bool:
        """Does it say how long the edges are?"""
        return self.value("cell_length_a") is not None

    @property
    def has_atoms(self) -> bool:
        """Does it list sites?"""
        return any(self.column(f"atom_site_{name}") for name in ("label", "type_symbol", "fract_x"))

    def value(self, *tags: str) -> str | None:
        """The value of the first of these tags that has one.

        Raises:
            CrystalError: It has two.
        """
        for tag in tags:
            values = list(
                dict.fromkeys(value for value in self.tags.get(tag, ()) if value not in ("", DEFAULT))
            )
            if len(values) > 1:
                raise CrystalError("contradiction", f"it gives both {values[0]} and {values[1]} for _{tag}")
            if values:
                return values[0]
        return None

    def column(self, *tags: str) -> list[str]:
        """The values of the first of these tags that is there."""
        return next((self.tags[tag] for tag in tags if tag in self.tags), [])

    def cell(self) -> tuple[float, ...]:
        """Edges, Å, and angles, degrees; an angle that is not given is 90.

        Raises:
            CrystalError: There are no such numbers.
        """
        texts = [self.value(f"cell_{name}") for name in CELL]
        values = [number(text or "") for text in [*texts[:3], *(text or "90" for text in texts[3:])]]
        if not all(math.isfinite(value) for value in values):
            raise CrystalError("no cell", "its cell is missing or not made of numbers")
        return tuple(values)


def number(text: str) -> float:
    """A number as CIFs write it, 5.64(2), NaN where it is none."""
    from gemmi import cif

    return float(cif.as_number(text))
