"""A prediction of GaAs made by hand, for tests of what is written and drawn of one."""

from __future__ import annotations

import numpy as np
from ase.build import bulk

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.protocols import Label
from csp.report.card import Card
from csp.report.description import describe
from csp.report.page import render_page
from csp.report.record import RunRecord, versions
from csp.search.prediction import Prediction, Result, Unranked, cif_path
from csp.target import Target

SYMPREC = 0.05


def gaas() -> Crystals:
    """Zincblende, wurtzite and rocksalt, the second a little out of symmetry, and one with no symmetry."""
    rng = np.random.default_rng(0)
    phases = [
        bulk("GaAs", "zincblende", a=5.75),
        bulk("GaAs", "wurtzite", a=4.05, c=6.68),
        bulk("GaAs", "rocksalt", a=5.30),
        bulk("GaAs", "zincblende", a=5.75, cubic=True),
    ]
    phases[1].positions += rng.normal(scale=0.004, size=(4, 3))
    phases[3].positions += rng.normal(scale=0.2, size=(8, 3))
    return Crystals.from_atoms(phases)


def prediction(*, pressure: float = 0.0, sigma: float | None = None) -> Prediction:
    crystals = gaas()
    ids, numbers = crystals.ids(), space_groups(crystals, SYMPREC)
    volumes = (crystals.volumes / crystals.n_atoms).tolist()
    results = [
        Result(
            rank=k + 1,
            id=ids[k],
            file=cif_path(k + 1),
            n_atoms=int(crystals.n_atoms[k]),
            spacegroup=("F-43m", "P6_3mc", "Fm-3m", "P1")[k],
            spacegroup_number=numbers[k],
            energy_ev_per_atom=-4.1 + k / 30,
            enthalpy_ev_per_atom=-4.1 + k / 30 + 0.0062 * pressure * volumes[k],
            sigma_ev_per_atom=sigma,
            density=5.1 + k / 7,
            volume_per_atom=volumes[k],
            status="converged" if k else "max_steps",
            generator=("template", "random")[k % 2],
            template_id="" if k % 2 else f"mp-{k}",
            wyckoff="Ga:a As:c",
            n_duplicates=k,
            above_lowest_ev_per_atom=k / 30 + 0.0062 * pressure * (volumes[k] - min(volumes)),
            lowered_ev_per_atom=0.0123 if k == 2 else None,
        )
        for k in range(4)
    ]
    return Prediction(
        Target.parse("GaAs", pressure=pressure),
        Label("PBE", "MP2020", "CHGNet-0.3.0:93b1"),
        results,
        crystals,
        {
            "proposed": 900,
            "built": 800,
            "plausible": 500,
            "unique": 90,
            "relaxed": 9,
            "converged": 7,
            "ranked": 4,
        },
        [Unranked("ab", "exploded", "template"), Unranked("cd", "exploded", "template")],
        ["Energies within 5 meV/atom are <not> told apart."],
    )


RECORD = RunRecord(
    settings={"formula": "GaAs", "seed": 3, "generators": ["template", "random"], "z": None},
    versions=versions(),
    checkpoints={"chgnet": "PBE/MP2020/CHGNet-0.3.0:93b1"},
    library={"name": "aflow", "fingerprint": "0f1e", "entries": 288},
    timings={"relax": 12.5},
    citations=("B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023).",),
)


def cards(given: Prediction, symprec: float = SYMPREC) -> list[Card]:
    """Of its crystals."""
    return [
        Card(
            given.target.formula,
            result,
            describe(given.crystals[k], symprec),
            given.models,
            {f"{k + 1}.cif": "data_x\n"},
            pressed=given.target.pressure != 0,
        )
        for k, result in enumerate(given.results)
    ]


def page_of(given: Prediction, record: RunRecord = RECORD) -> str:
    """Its page."""
    return render_page(given, record, cards(given))
