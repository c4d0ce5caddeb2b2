"""What a chemical system is asked for by, and the formulas that lie in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from math import gcd

from csp.errors import InputError
from csp.formula import electronegativity_key, in_order, read_formula
from csp.target import Target

__all__ = ["MAX_ELEMENTS", "ChemicalSystem"]

MAX_ELEMENTS = 6
WITH = re.compile(r"(?:^|\s+)(?:with|\+)(?:\s+|$)", re.IGNORECASE)
LISTED = re.compile(r"\s*[,;]\s*")
BETWEEN = re.compile(r"\s*[-–—]\s*")

Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class ChemicalSystem:
    """The formulas that an exploration looks at.

    Attributes:
        name: As people write it: Li-P-S, Li2S-P2S5, LiFePO4 with Na.
        elements: By electronegativity.
        ends: Of a section, the compounds whose mixtures are looked at; empty: all formulas of the elements.
        formulas: Those of a list, which are all that is looked at; empty: there is no list.
        host, guest: A compound, and the element that goes into it or takes the place of others; "": none.
    """

    name: str
    elements: tuple[str, ...]
    ends: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    host: str = ""
    guest: str = ""

    @classmethod
    def parse(cls, text: str) -> ChemicalSystem:
        """Read a system: elements (`Li-P-S` or `Li,P,S`), a section between compounds (`Li2S-P2S5`), a host
        with a further element (`LiFePO4 with Na`), or a list of formulas (`Li3PS4,Li7P3S11`).

        Raises:
            InputError: In one sentence, for what is none of these, one element, and more than six.
        """
        parts = WITH.split(text.strip())
        if len(parts) > 1:
            return cls._with_guest(text, parts)
        separator = LISTED if LISTED.search(text) else BETWEEN
        words = [word for word in separator.split(text.strip()) if word]
        if not words:
            raise InputError("No chemical system is named; write one such as Li-P-S.")
        read = [dict(read_formula(word).counts) for word in words]
        formulas = tuple(dict.fromkeys(map(in_order, read)))
        elements = _elements(read)
        _few_enough(elements, text)
        if all(len(counts) == 1 for counts in read):
            return cls("-".join(elements), elements)
        if separator is LISTED:
            return cls(",".join(formulas), elements, formulas=formulas)
        if len(formulas) == 1:
            raise InputError(
                f"{text!r} is one formula; `csp predict` searches for its crystals, and a system is written "
                f"{'-'.join(elements)}."
            )
        return cls("-".join(formulas), elements, ends=formulas)

    @classmethod
    def _with_guest(cls, text: str, parts: list[str]) -> ChemicalSystem:
        """Of what stands before and after `with`."""
        such = "a compound and a further element are written such as LiFePO4 with Na"
        if len(parts) != 2 or not all(parts):
            raise InputError(f"{text!r} is no chemical system: {such}.")
        host, guest = parts
        if BETWEEN.search(host) or LISTED.search(host):
            raise InputError(f"{host!r} is no compound: {such}.")
        if LISTED.search(guest):
            raise InputError(f"{guest!r} is more than one element: {such}.")
        inside, added = (dict(read_formula(word).counts) for word in (host, guest))
        if len(added) != 1:
            raise InputError(f"{guest!r} is no element: {such}.")
        (element,) = added
        elements = _elements([inside, added])
        formula = in_order(inside)
        _few_enough(elements, formula)
        return cls(f"{formula} with {element}", elements, host=formula, guest=element)

    @property
    def target(self) -> Target:
        """One atom of each element: stands for the system where a composition is asked for."""
        return Target.parse("".join(self.elements))

    @property
    def place(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^A-Za-z0-9,-]+", "-", self.name)[:80]

    def within(self, max_atoms: int) -> list[str]:
        """The reduced formulas of the system with at most so many atoms in a formula unit, compounds alone;
        those of a list all."""
        if self.formulas:
            return [formula for formula in self.formulas if len(read_formula(formula).counts) > 1]
        if self.ends:
            found: Iterator[Counts] = self._between(max_atoms)
        elif self.host:
            found = self._of_host(max_atoms)
        else:
            found = self._of_elements(max_atoms)
        sizes = {in_order(counts): sum(counts.values()) for counts in map(_coprime, found) if len(counts) > 1}
        return sorted(sizes, key=lambda formula: (sizes[formula], formula))

    def _of_elements(self, max_atoms: int) -> Iterator[Counts]:
        for n in range(2, len(self.elements) + 1):
            for some in combinations(self.elements, n):
                for amounts in _amounts(n, max_atoms):
                    if gcd(*amounts) == 1:
                        yield dict(zip(some, amounts, strict=True))

    def _between(self, max_atoms: int) -> Iterator[Counts]:
        """Of a mixture the ends' amounts may have a common factor with its formula: Li4P2S7 is 2 Li2S + P2S5,
        LiPS3 a half of Li2S + P2S5."""
        ends = [dict(read_formula(end).counts) for end in self.ends]
        most = max_atoms * max(sum(end.values()) for end in ends)  # atoms before they are made coprime
        for amounts in product(*(range(most // sum(end.values()) + 1) for end in ends)):
            if gcd(*amounts) != 1:
                continue
            mixed = _mixed(ends, amounts)
            if sum(_coprime(mixed).values()) <= max_atoms:
                yield mixed

    def _of_host(self, max_atoms: int) -> Iterator[Counts]:
        """n units of the host, in which k atoms of one element are the guest, or to which k are added."""
        host = dict(read_formula(self.host).counts)
        yield host
        for n in range(1, max(1, max_atoms // sum(host.values())) + 1):
            whole = {element: n * amount for element, amount in host.items()}
            for k in range(1, max_atoms - sum(whole.values()) + 1):
                yield _mixed([whole, {self.guest: 1}], (1, k))
            for element, amount in whole.items():
                if element == self.guest or sum(whole.values()) > max_atoms:
                    continue
                for k in range(1, amount + 1):
                    left = {**whole, element: amount - k}
                    yield _mixed([left, {self.guest: 1}], (1, k))


def _elements(read: list[Counts]) -> tuple[str, ...]:
    return tuple(sorted({element for counts in read for element in counts}, key=electronegativity_key))


def _few_enough(elements: tuple[str, ...], text: str) -> None:
    if len(elements) == 1:
        raise InputError(
            f"{text!r} has one element; a system has two to {MAX_ELEMENTS}, and `csp predict {elements[0]}` "
            "searches for the crystals of one."
        )
    if len(elements) > MAX_ELEMENTS:
        raise InputError(f"{text!r} has {len(elements)} elements; at most {MAX_ELEMENTS} are possible.")


def _amounts(n: int, most: int) -> Iterator[tuple[int, ...]]:
    """n positive whole numbers that add up to `most` or less."""
    if n == 0:
        yield ()
        return
    for first in range(1, most - n + 2):
        for rest in _amounts(n - 1, most - first):
            yield (first, *rest)


def _mixed(parts: list[Counts], amounts: tuple[int, ...]) -> Counts:
    total: Counts = {}
    for counts, times in zip(parts, amounts, strict=True):
        for element, amount in counts.items():
            total[element] = total.get(element, 0) + times * amount
    return {element: amount for element, amount in total.items() if amount}


def _coprime(counts: Counts) -> Counts:
    divisor = gcd(*counts.values())
    return {element: amount // divisor for element, amount in counts.items()}
