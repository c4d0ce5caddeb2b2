"""One row of a ranking, as it stands in the files, and what has no place in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from csp.property_value import PropertyValue
from csp.ranking.known import KnownAs

__all__ = ["Result", "Unranked", "Variant", "cif_path"]


def cif_path(rank: int) -> str:
    """The place of a ranked crystal's CIF in the out folder."""
    return f"structures/{rank:03d}.cif"


@dataclass(frozen=True, slots=True)
class Variant:
    """A crystal of another space group that is taken for a ranked one.

    Attributes:
        above_ev_per_atom: Its energy, or enthalpy under pressure, above that of the ranked one; may be
            negative.
    """

    spacegroup: str
    spacegroup_number: int
    above_ev_per_atom: float

    def __str__(self) -> str:
        return f"{self.spacegroup or '?'} {1000 * self.above_ev_per_atom:+.1f} meV/atom"


@dataclass(frozen=True, slots=True)
class Result:
    """One ranked crystal. The fields, in this order, are the keys of `ranked.json` and `ranked.csv`.

    Attributes:
        rank: Counted from 1.
        id: Hash of the relaxed crystal (`Crystals.ids`).
        file: Its CIF, relative to the out folder (`cif_path`).
        n_atoms: Atoms in the relaxed cell, on which volume and energies per atom stand.
        spacegroup: Hermann-Mauguin symbol of the relaxed crystal, "" where the analysis fails.
        spacegroup_number: Its number in the International Tables, 0 where the analysis fails.
        energy_ev_per_atom: E; its meaning is the prediction's label.
        enthalpy_ev_per_atom: H = E + PV at the target's pressure; what the ranking is by.
        sigma_ev_per_atom: One standard deviation of the energy, None where the model has none.
        density: g/cm³.
        volume_per_atom: Å³.
        status: How its relaxation ended (`csp.relaxation.relax.Status`).
        generator: What proposed the candidate (`csp.protocols.Provenance`).
        template_id: The library entry it was made from, "" if none.
        wyckoff: The Wyckoff positions that it was made with.
        proposed_by: All generators that proposed it or a duplicate of it, separated by spaces.
        n_duplicates: Other candidates that are this crystal or relaxed to it.
        above_lowest_ev_per_atom: Energy, or enthalpy under pressure, above the lowest of all that were
            ranked, which may be too improbable to be among the results.
        lowered_ev_per_atom: What the free relaxation after rattling gained over the symmetry-keeping one, at
            least 0; None where it was not tried.
        e_above_hull_ev_per_atom: Above what the library's phases have at this composition
            (`csp.ranking.references`), in energy, or in enthalpy under pressure; negative where it would be
            more stable than all of them, which `stability` has in words; None where it was not asked for or
            a reference is missing.
        rank_energy: The rank by energy, or by enthalpy under pressure.
        rank_probability: The rank by probability, None where it is not known.
        probability: Of being the lowest-energy one known (`csp.ranking.probability`), None if not calibrated.
        above_lowest_sigma_ev_per_atom: Half the width of the interval that holds the true difference to the
            lowest with a probability of 68 % (`csp.ranking.differences`), None if not calibrated.
        probability_pattern: Of being what the powder pattern was measured of, by pattern and energy
            (`csp.diffraction.probability`), None without a pattern.
        rank_pattern: The rank by it.
        r_wp: Weighted profile R factor of its fit to the pattern, 0 to 1; background and other phases count;
            None where it was not fitted.
        pattern_explained: Share of the intensity above the background that it accounts for, 0 to 1.
        pattern_missing: Share of its calculated intensity that was not measured, 0 to 1.
        known_as: Entries of the library of this composition that it is, by StructureMatcher.
        prototype: AFLOW label of its structure type, with the common name where there is one.
        same_type_as: An entry of another composition with its structure; "" where there is none, and where it
            is known itself.
        novelty: "known", "known type" or "new"; "" where it was not compared.
        stability: Where it stands to the hull and what it could decompose into
            (`csp.ranking.hull.Hull.words`): "on the hull …", "12 meV/atom above …" or "12 meV/atom below the
            hull of what the library holds …"; "" where there is no hull.
        variants: What of the duplicates has another space group, the lowest of each, lowest first.
        dynamic_stability: "stable", "unstable" or "unsure" against small displacements
            (`csp.lattice_dynamics.phonons.Stability`); "" where its phonons are not known.
        lowest_frequency_thz: Of its phonons; negative where modes are imaginary.
        zero_point_ev_per_atom: Energy of its vibrations at 0 K; None where modes are imaginary.
        free_energy_300k_ev_per_atom: Energy, or enthalpy, and the free energy of its harmonic vibrations.
        free_energy_1000k_ev_per_atom: The same at 1000 K.
        rank_300k: The rank by it, of those where it is known.
        rank_1000k: The same at 1000 K.
        led_from: The saddle that it lies below, and along which mode; "" where it was not found so.
        properties: What models foretell of it, of those that were asked for, and what each atom adds to that
            (`csp.property_value.PropertyValue`).
    """

    rank: int
    id: str
    file: str
    n_atoms: int
    spacegroup: str
    spacegroup_number: int
    energy_ev_per_atom: float
    enthalpy_ev_per_atom: float
    sigma_ev_per_atom: float | None
    density: float
    volume_per_atom: float
    status: str
    generator: str
    template_id: str
    wyckoff: str
    n_duplicates: int
    above_lowest_ev_per_atom: float
    lowered_ev_per_atom: float | None = None
    e_above_hull_ev_per_atom: float | None = None
    rank_energy: int | None = None
    rank_probability: int | None = None
    probability: float | None = None
    proposed_by: str = ""
    above_lowest_sigma_ev_per_atom: float | None = None
    probability_pattern: float | None = None
    rank_pattern: int | None = None
    r_wp: float | None = None
    pattern_explained: float | None = None
    pattern_missing: float | None = None
    known_as: tuple[KnownAs, ...] = ()
    prototype: str = ""
    same_type_as: str = ""
    novelty: str = ""
    stability: str = ""
    variants: tuple[Variant, ...] = ()
    dynamic_stability: str = ""
    lowest_frequency_thz: float | None = None
    zero_point_ev_per_atom: float | None = None
    free_energy_300k_ev_per_atom: float | None = None
    free_energy_1000k_ev_per_atom: float | None = None
    rank_300k: int | None = None
    rank_1000k: int | None = None
    led_from: str = ""
    properties: tuple[PropertyValue, ...] = ()

    @property
    def above_lowest(self) -> float:
        """Energy, or enthalpy under pressure, above the lowest, meV/atom."""
        return 1000 * self.above_lowest_ev_per_atom

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, in their order; JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **values,
            "known_as": [entry.as_dict() for entry in self.known_as],
            "variants": [asdict(variant) for variant in self.variants],
            "properties": [value.as_dict() for value in self.properties],
        }


@dataclass(frozen=True, slots=True)
class Unranked:
    """A crystal that was chosen for relaxation but has no place in the ranking, and why.

    Attributes:
        id: Of the candidate.
        status: How its relaxation ended (`csp.relaxation.relax.Status`).
        generator: What proposed it.
        template_id: The library entry it was made from, "" if none.
    """

    id: str
    status: str
    generator: str
    template_id: str = ""
