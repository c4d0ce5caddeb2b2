"""What `csp library info` tells of a library."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

__all__ = ["LibraryInfo"]


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """What a library holds.

    Attributes:
        name: Of the library.
        fingerprint: A hash of its crystals.
        entries: Number of crystals.
        compositions: Number of distinct reduced compositions.
        anonymous_compositions: The same with the names of the elements left out.
        space_groups: Number of distinct space groups.
        elements: Symbols of the elements that occur.
        sizes: Atoms per cell: the 5, 25, 50, 75, 95 % quantiles and the largest.
        provenance: Entries by (source, licence).
        retrieved: First and last day on which the entries of a source were asked from it, where it is known.
        energies: Entries with a distance from their source's hull.
        experimental: Entries of which is known that they were made.
        duplicates: Entries that are a crystal of another source again.
    """

    name: str
    fingerprint: str
    entries: int
    compositions: int
    anonymous_compositions: int
    space_groups: int
    elements: tuple[str, ...]
    sizes: dict[str, int]
    provenance: dict[tuple[str, str], int]
    retrieved: dict[str, tuple[str, str]] = field(default_factory=dict)
    energies: int = 0
    experimental: int = 0
    duplicates: int = 0

    def __str__(self) -> str:
        origins = [
            f"  {count} from {source}{f' ({licence})' if licence else ''}{self._age(source)}"
            for (source, licence), count in self.provenance.items()
        ]
        for count, what in (
            (self.energies, "with their distance from the source's hull"),
            (self.experimental, "known to have been made"),
            (self.duplicates, "are crystals that another source has too"),
        ):
            if count:
                origins.append(f"  {count} {what}")
        return "\n".join(
            [
                f"{self.name}: {self.entries} crystals, fingerprint {self.fingerprint}",
                f"  {self.compositions} compositions, {self.anonymous_compositions} anonymous ones, "
                f"{self.space_groups} space groups",
                f"  {len(self.elements)} elements: {' '.join(self.elements)}",
                "  atoms per cell: " + ", ".join(f"{level} {n}" for level, n in self.sizes.items()),
                *origins,
            ]
        )

    def _age(self, source: str) -> str:
        """How old they are, in words."""
        if source not in self.retrieved:
            return ""
        first, last = self.retrieved[source]
        days = (date.today() - date.fromisoformat(last)).days
        return f", asked on {first if first == last else f'{first} to {last}'}, {days} days ago"
