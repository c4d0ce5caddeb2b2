"""Scores of hand-made runs: each reason of a miss constructed, numbers known beforehand."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from benchmarks.files import Clock
from benchmarks.leakage import Leak, leak
from benchmarks.recovery.budgets import BUDGETS, budget_table
from benchmarks.recovery.compare import compare
from benchmarks.recovery.outcome import Chance, Outcome
from benchmarks.recovery.plot import plot
from benchmarks.recovery.scoring import Miss, Run, groups, score, wilson
from benchmarks.recovery.summary import summarise
from benchmarks.recovery.table import table
from csp.crystals import Crystals
from csp.errors import InputError
from csp.files import write_json
from surrogates.training.labelled import compositions, hashed
from tests.places import ROOT

SALT, CESIUM, BLENDE = (
    Crystals.from_atoms([bulk("NaCl", kind, a=a)])
    for kind, a in (("rocksalt", 5.6), ("cesiumchloride", 3.4), ("zincblende", 6.1))
)
BOTH = ("template", "random")


def run(proposed: list[Crystals], relaxed: list[bool], ends: list[Crystals], ranked: list[Crystals]) -> Run:
    """All proposals of `template`, ranked 0.01 eV/atom apart."""
    return Run(
        Crystals.cat(proposed),
        ["template"] * len(proposed),
        torch.tensor(relaxed),
        Crystals.cat(proposed)[relaxed],
        Crystals.cat(ends),
        Crystals.cat(ranked),
        [-3.0 + 0.01 * k for k in range(len(ranked))],
        [frozenset({"template"})] * len(ranked),
    )


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (run([CESIUM], [True], [CESIUM], [CESIUM]), Miss.NOT_PROPOSED),
        (run([CESIUM, SALT], [True, False], [CESIUM], [CESIUM]), Miss.SCREENED_OUT),
        (run([CESIUM, SALT], [True, True], [CESIUM, BLENDE], [CESIUM, BLENDE]), Miss.RELAXED_AWAY),
        (run([SALT], [True], [BLENDE] * 10 + [SALT], [BLENDE] * 10 + [SALT]), Miss.OUTRANKED),
        (run([SALT], [True], [BLENDE] * 9 + [SALT], [BLENDE] * 9 + [SALT]), None),
        (run([CESIUM], [True], [SALT], [SALT]), None),  # relaxed into the truth from elsewhere
    ],
)
def test_where_the_truth_was_lost(made: Run, reason: Miss | None) -> None:
    assert score(SALT, made, BOTH).miss == reason


def test_ranks_of_all_and_of_each_generator() -> None:
    made = run([SALT, CESIUM, BLENDE], [True] * 3, [BLENDE, CESIUM, SALT], [BLENDE, CESIUM, SALT])
    made = replace(
        made,
        generators=["random", "template", "template"],
        reached=[frozenset({"template"}), frozenset({"template"}), frozenset(BOTH)],
    )
    found = score(SALT, made, BOTH).default
    assert found.rank == 3
    assert found.rank_of == {"template": 3, "random": 1}
    assert found.proposed == {"template": 0, "random": 1}
    assert (found.relaxed_from, found.relaxed_to) == (1, 1)
    assert not found.within(1)
    assert found.within(5)


def test_a_match_says_nothing_about_volume_so_the_ratio_does() -> None:
    swollen = SALT.scaled_to(1.3 * SALT.volumes)
    found = score(SALT, run([swollen], [True], [swollen], [swollen]), BOTH).default
    assert found.rank == 1
    assert found.rms == pytest.approx(0.0, abs=1e-6)
    assert found.volume_ratio == pytest.approx(1.3)
    assert found.space_groups == {"0.01": 225, "0.1": 225} == groups(SALT)


def test_loose_tolerances_find_more() -> None:
    """A shift of the anions by 0.35 (V/N)^(1/3) / 2 from the centre is between the two site tolerances."""
    length = float(SALT.volumes / 2) ** (1 / 3)
    direction = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    shift = 0.8 * length * direction @ torch.linalg.inv(SALT.cell[0])
    frac = SALT.frac + torch.stack([torch.zeros(3, dtype=torch.float64), shift])
    moved = SALT.with_geometry(SALT.cell, frac)
    result = score(SALT, run([moved], [True], [moved], [moved]), BOTH)
    assert (result.default.rank, result.loose.rank) == (None, 1)
    assert result.loose.rms == pytest.approx(0.4, abs=0.01)


def test_what_a_surrogate_made_of_another_proposal_counts_as_relaxed() -> None:
    made = run([SALT], [False], [], [])
    assert score(SALT, made, BOTH).miss == Miss.SCREENED_OUT
    assert score(SALT, replace(made, starts=SALT), BOTH).miss == Miss.RELAXED_AWAY


def test_an_empty_run() -> None:
    empty = Crystals.empty()
    made = Run(empty, [], torch.zeros(0, dtype=torch.bool), empty, empty, empty, [], [])
    result = score(SALT, made, BOTH)
    assert result.miss == Miss.NOT_PROPOSED
    assert result.best_ev_per_atom is None


def test_wilson_interval() -> None:
    """Its bounds solve |p − k/n| = z √(p (1 − p) / n)."""
    z = 1.959963984540054
    for k, n in ((0, 10), (3, 35), (17, 35), (35, 35)):
        for bound in wilson(k, n):
            assert abs(bound - k / n) == pytest.approx(z * (bound * (1 - bound) / n) ** 0.5, abs=1e-12)
    assert wilson(0, 35)[0] == pytest.approx(0.0)
    assert wilson(35, 35)[1] == pytest.approx(1.0)
    assert wilson(0, 0) == (0.0, 1.0)


def test_leaks() -> None:
    (composition,) = compositions(SALT)
    seen = frozenset({hashed(composition)})
    assert leak("Na2Cl2", seen) == Leak.SEEN
    assert leak("KCl", seen) == Leak.CLEAN
    assert leak("NaCl", None) == Leak.UNKNOWN


def outcome(name: str, made: Run, **about: object) -> Outcome:
    return Outcome.model_validate(
        {
            "name": name,
            "formula": "NaCl",
            "n_atoms": 2,
            "score": score(SALT, made, BOTH),
            "truth_ev_per_atom": -3.02,
            "space_groups_true": groups(SALT),
            "seconds": {"relax": 2.0},
            "leak": {"lj": Leak.UNKNOWN},
            "chance": Chance(n=50, default=1, loose=2),
            **about,
        }
    )


FOUND = run([SALT, CESIUM], [True, True], [SALT, CESIUM], [CESIUM, SALT])
LOST = run([CESIUM], [True], [CESIUM], [CESIUM])


def test_summary_counts() -> None:
    refused = Outcome(name="c", formula="X", n_atoms=2, score=None, refused="no", space_groups_true={})
    outcomes = [outcome("a", FOUND), outcome("b", LOST, leak={"lj": Leak.CLEAN}), refused]
    summary = summarise(outcomes)
    assert summary["n"] == 3
    assert [summary[f"found_at_{k}"] for k in (1, 5, 10, 20)] == [0, 1, 1, 1]
    assert [summary[f"found_at_{k}_loose"] for k in (1, 5, 10, 20)] == [0, 1, 1, 1]
    assert (summary["proposed.template"], summary["proposed.random"], summary["proposed.any"]) == (
        1,
        0,
        1,
    )
    assert summary["misses.not_proposed"] == summary["misses.refused"] == 1
    assert sum(v for k, v in summary.items() if k.startswith("misses.")) == 3 - summary["found_at_10"]
    assert (summary["chance.default"], summary["chance.loose"]) == (0.02, 0.04)
    assert (summary["leak.lj.unknown"], summary["leak.lj.clean"], summary["n_clean"]) == (1, 1, 1)
    assert summary["found_at_10_clean"] == 0
    assert summary["seconds"] == 4.0
    assert all(isinstance(value, (int, float, str)) for value in summary.values())


def test_energy_above_the_truth() -> None:
    assert outcome("a", FOUND).best_above_truth == pytest.approx(0.02)


def test_table_and_plot(tmp_path: Path) -> None:
    outcomes, other = [outcome("a", FOUND), outcome("b", LOST)], [outcome("a", LOST), outcome("c", FOUND)]
    settings = {
        "budget": {"name": "small"},
        "surrogate": "none",
        "relaxer": "lj",
        "library": None,
        "seed": 0,
    }
    text = table(outcomes, settings, {"x": "y"}, {"other": other})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows[:5]}) == 1
    assert "| a |" in rows[2]
    assert "| **2** | 2 | 2 | – | – |" in rows[2]
    assert "225 → 225 | +20.0 |" in rows[2]
    assert "not proposed" in rows[3]
    assert "found of 2" in rows[4]
    assert "| other, among the first 10 | 0/1 " in text
    assert "Left out: x: y." in text
    plot(outcomes, tmp_path / "recovery.png")
    assert (tmp_path / "recovery.png").read_bytes().startswith(b"\x89PNG")


def test_compare_tells_won_from_lost(tmp_path: Path) -> None:
    def write(name: str, **runs: Run) -> Path:
        targets = [outcome(target, made).model_dump(mode="json") for target, made in runs.items()]
        write_json(tmp_path / name / "recovery.json", {"targets": targets})
        return tmp_path / name

    before = write("before", a=FOUND, b=LOST, c=FOUND, d=LOST, e=LOST)
    after = write("after", a=FOUND, b=FOUND, c=LOST, d=LOST)
    comparison = compare(before, after)
    assert [str(c) for c in comparison.won] == [
        "b: not proposed, best found +20 meV/atom from the truth → rank 2"
    ]
    assert [c.name for c in comparison.lost] == ["c"]
    assert comparison.summary() == {
        "n": 4,
        "won": 1,
        "lost": 1,
        "found_by_both": 1,
        "found_by_none": 1,
        "only_in_one": 1,
    }
    with pytest.raises(InputError, match="does not hold"):
        compare(before, tmp_path / "nothing")


def test_clock_adds_up_over_interruptions(tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    write_json(path, {"relax": 10.0})
    clock = Clock(path)
    with pytest.raises(KeyboardInterrupt), clock("relax"):
        raise KeyboardInterrupt
    with clock("screen"):
        pass
    assert Clock(path).seconds == clock.seconds
    assert clock.seconds["relax"] >= 10.0
    assert clock.seconds["screen"] < 1.0


def test_budgets_grow_and_are_documented() -> None:
    small, standard, full = (list(BUDGETS[name].as_dict().values()) for name in ("small", "standard", "full"))
    assert all(a <= b <= c for a, b, c in zip(small, standard, full, strict=True))
    readme = ROOT / "docs" / "benchmarks" / "commands.md"
    assert budget_table() in readme.read_text(encoding="utf-8")
