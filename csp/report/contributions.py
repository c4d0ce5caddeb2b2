"""What each site of a crystal adds to a property: in numbers, and as the colours of its atoms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from csp.property_value import PropertyValue, Shell
from csp.report.description import Description

__all__ = ["SiteShare", "SiteShares", "site_shares"]

LOWERING, NOTHING, RAISING = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""Blue, white and red, which the colour-blind tell apart (RdBu of ColorBrewer)."""
SHELLS = 3  # of neighbours that are told of a site


@dataclass(frozen=True, slots=True)
class SiteShare:
    """What the atoms of one occupied Wyckoff position add together.

    Attributes:
        name: Such as "O 3c".
        colour: "#rrggbb", by what one of them adds: blue for less, red for more.
        attends: The neighbours that most of an atom's attention goes to, "6 O at 1.95 Å 61 %, 8 Sr at 3.38 Å
            12 %"; "" where it is not known.
    """

    name: str
    share: float
    colour: str
    attends: str = ""


@dataclass(frozen=True, slots=True)
class SiteShares:
    """How a value comes about: value = baseline + whole + the sum over the sites.

    Attributes:
        baseline, whole: As `csp.property_value.Contributions` has them.
        sites: In the order of `Description.sites`.
    """

    value: PropertyValue
    baseline: float
    whole: float
    sites: tuple[SiteShare, ...]

    def number(self, share: float, *, signed: bool = True) -> str:
        """In one decimal more than σ of the value has meaning."""
        places = 0
        while places < 4 and self.value.sigma * 10**places < 19.5:
            places += 1
        return f"{share:{'+' if signed else ''}z.{places}f}".replace("-", "−")


def site_shares(crystal: Description, values: Iterable[PropertyValue]) -> list[SiteShares]:
    """Of those values that contributions of atoms are known of."""
    return [_of_value(crystal, value) for value in values if value.contributions is not None]


def _of_value(crystal: Description, value: PropertyValue) -> SiteShares:
    shares = value.contributions
    assert shares is not None
    by_site: list[list[float]] = [[] for _ in crystal.sites]
    attends = [""] * len(crystal.sites)
    for site, origin in zip(crystal.orbit, crystal.origins, strict=True):
        by_site[site].append(shares.atoms[origin])
        if shares.neighbours and not attends[site]:
            attends[site] = _attended(shares.neighbours[origin])
    of_atom = [sum(found) / len(found) for found in by_site]
    most = max(map(abs, of_atom)) or 1.0
    cells = len(shares.atoms) / len(crystal.orbit)  # as given, in one conventional cell
    sites = tuple(
        SiteShare(
            f"{site.element} {site.multiplicity}{site.letter}",
            each * site.multiplicity * cells,
            _colour(each / most),
            words,
        )
        for site, each, words in zip(crystal.sites, of_atom, attends, strict=True)
    )
    return SiteShares(value, shares.baseline, shares.whole, sites)


def _attended(neighbours: Sequence[Shell]) -> str:
    """The few shells with most of the attention, the nearest first."""
    most = sorted(neighbours, key=lambda shell: -shell.attention)[:SHELLS]
    return ", ".join(
        f"{one.number} {one.element} at {one.distance:.2f} Å {100 * one.attention:.0f} %"
        for one in sorted(most, key=lambda shell: shell.distance)
    )


def _colour(part: float) -> str:
    """From blue at −1 by white at 0 to red at 1."""
    end = RAISING if part > 0 else LOWERING
    mixed = (round(a + abs(part) * (b - a)) for a, b in zip(NOTHING, end, strict=True))
    return "#" + "".join(f"{each:02x}" for each in mixed)
