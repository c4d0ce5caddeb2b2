"""The card of one ranked crystal: what the page and the notebook show of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any
from urllib.parse import quote

from csp.lattice_dynamics.phonons import Phonons
from csp.report.contributions import SiteShares, site_shares
from csp.report.description import Description
from csp.report.phonons import phonon_words, phonons_svg
from csp.report.powder import SHORTEST, WAVELENGTHS
from csp.report.scene import legend, scene
from csp.report.words import (
    crystal_words,
    distances,
    neighbours,
    printed_formula,
    printed_space_group,
    wyckoff_summary,
)
from csp.search.prediction import Result, Variant

__all__ = ["Card"]

SAME = 1e-3  # eV/atom; by less two energies do not differ
SHIFT = 1e-3  # Å; by less nothing has moved


@dataclass(frozen=True)
class Card:
    """One ranked crystal and what is told of it.

    Attributes:
        models: Names of the models that screened and relaxed, and that refined.
        files: Names of files to save, each with its text.
        pressed: Under pressure, where enthalpies are compared?
        phonons: None where they are not known.
        fit: Figure of its fit to a measured powder pattern, as SVG; empty where there is none.
    """

    formula: str
    result: Result
    crystal: Description
    models: tuple[str, ...]
    files: Mapping[str, str]
    pressed: bool = False
    phonons: Phonons | None = None
    fit: str = ""

    @property
    def vibrations(self) -> tuple[str, str]:
        """What its phonons say, and their figure as SVG; both empty where they are not known."""
        if self.phonons is None:
            return "", ""
        return phonon_words(self.phonons, self.models[-1] if self.models else "the model"), phonons_svg(
            self.phonons
        )

    @property
    def stability(self) -> str:
        """What the hull says of it; empty where there is none."""
        words = self.result.stability
        return f"{words[:1].upper()}{words[1:]}." if words else ""

    @property
    def heading(self) -> str:
        return crystal_words(self.result)

    @property
    def formula_units(self) -> int:
        """In the conventional cell."""
        return gcd(*(site_atoms for site_atoms in self._amounts.values()))

    @property
    def _amounts(self) -> dict[str, int]:
        amounts: dict[str, int] = {}
        for site in self.crystal.sites:
            amounts[site.element] = amounts.get(site.element, 0) + site.multiplicity
        return amounts

    @property
    def cell(self) -> list[tuple[str, str]]:
        """Cell parameters that the crystal system leaves free come with those that it fixes."""
        names = ("a", "b", "c", "α", "β", "γ")
        units = ("Å",) * 3 + ("°",) * 3
        decimals = (3,) * 3 + (2,) * 3
        return [
            (name, f"{value:.{places}f} {unit}".replace(" °", "°"))
            for name, value, unit, places in zip(names, self.crystal.parameters, units, decimals, strict=True)
        ]

    @property
    def sites(self) -> list[dict[str, str]]:
        return [
            {
                "element": site.element,
                "wyckoff": f"{site.multiplicity}{site.letter}",
                "place": ", ".join(f"{x:.4f}" for x in site.place),
                "charge": "" if site.charge is None else _charge(site.charge),
                "coordination": str(site.coordination) if self.crystal.analysed else "",
                "neighbours": neighbours(site.shells),
            }
            for site in self.crystal.sites
        ]

    @property
    def bonds(self) -> str:
        """The shortest and the longest bond of each pair of elements."""
        return ", ".join(
            f"{b.element} {distances(b.shortest, b.longest)} Å" for b in self.crystal.shortest_bonds
        )

    @property
    def oxidation(self) -> str:
        """Of each element, "Sr²⁺ Ti⁴⁺ O²⁻"; empty where they do not balance."""
        states: dict[str, set[int]] = {}
        for site in self.crystal.sites:
            if site.charge is None:
                return ""
            states.setdefault(site.element, set()).add(site.charge)
        return " ".join(
            element + "/".join(_charge(charge) for charge in sorted(charges))
            for element, charges in states.items()
        )

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(element, colour)."""
        return legend(self.crystal)

    @cached_property
    def shares(self) -> list[SiteShares]:
        """Of each property what the sites add to it, where that is known."""
        return site_shares(self.crystal, self.result.properties)

    @property
    def wavelengths(self) -> Mapping[str, float]:
        return WAVELENGTHS

    @property
    def known(self) -> str:
        """What is known of it; empty where it was not compared."""
        result = self.result
        if result.known_as:
            return "; ".join(map(str, result.known_as))
        if result.same_type_as:
            return f"Not known of this composition; {result.same_type_as} of another has its structure"
        return "Nothing that it was compared with: a new structure" if result.novelty else ""

    @property
    def why(self) -> str:
        """Why it was proposed."""
        result = self.result
        if result.template_id in [entry.id for entry in result.known_as]:
            start = f"The library's own crystal {result.template_id}, as it is"
        elif result.template_id:
            start = f"{printed_formula(self.formula)} in the places of the known crystal {result.template_id}"
        elif result.wyckoff:
            start = f"Drawn without a template: {wyckoff_summary(result.wyckoff)}"
        else:
            start = "Drawn without a template"
        by = f", by {result.generator.replace('_', ' ')}"
        others = [name.replace("_", " ") for name in result.proposed_by.split() if name != result.generator]
        return f"{start}{by}{f'; also proposed by {_and(others)}' if others else ''}."

    @property
    def done(self) -> str:
        """What was done to it."""
        result = self.result
        text = ", ".join(
            [
                f"Screened and relaxed by {self.models[0]}" if self.models else "Relaxed",
                *(f"refined by {name}" for name in self.models[1:]),
            ]
        )
        text += f": {result.status.replace('_', ' ')}"
        if result.led_from:
            text += f"; found below {result.led_from}"
        if result.lowered_ev_per_atom is not None:
            gained = round(1000 * result.lowered_ev_per_atom, 1)
            what = f"{gained} meV/atom" if gained else "nothing"
            text += f"; rattled and relaxed without symmetry, which gained {what}"
        if self.crystal.moved is not None and self.crystal.moved >= SHIFT:
            moved = f"which moved atoms by {self.crystal.moved:.3f} Å"
            text += f"; made exactly symmetric for this card and its files, {moved}"
        return f"{text}."

    @property
    def same(self) -> str:
        """Which other crystals are taken for this one."""
        near = [v for v in self.result.variants if abs(v.above_ev_per_atom) <= SAME]
        far = [v for v in self.result.variants if abs(v.above_ev_per_atom) > SAME]
        parts = []
        if near:
            parts.append(f"The same within 1 meV/atom: {', '.join(map(_variant, near))}.")
        if far:
            parts.append(f"The same for StructureMatcher, distorted: {', '.join(map(_variant, far))}.")
        return " ".join(parts)

    @property
    def links(self) -> list[tuple[str, str]]:
        """(name, address that holds the file itself)."""
        return [(name, f"data:text/plain;charset=utf-8,{quote(text)}") for name, text in self.files.items()]

    @cached_property
    def data(self) -> dict[str, Any]:
        """What `page.js` draws."""
        return {
            "scene": scene(self.crystal),
            "colours": [[one.sites[k].colour for k in self.crystal.orbit] for one in self.shares],
            "shortest": SHORTEST,
            "pattern": [
                [round(p.spacing, 4), round(p.strength, 4), p.planes] for p in self.crystal.reflections
            ],
        }


def _variant(variant: Variant) -> str:
    """Such as "R3̅c +1.5 meV/atom"."""
    above = f"{1000 * variant.above_ev_per_atom:+z.1f}".replace("-", "−")
    return f"{printed_space_group(variant.spacegroup)} {above} meV/atom"


def _charge(charge: int) -> str:
    """Such as "2+" above the line."""
    digits = str(abs(charge)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'' if abs(charge) == 1 else digits}{'⁺' if charge > 0 else '⁻' if charge < 0 else ''}"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
