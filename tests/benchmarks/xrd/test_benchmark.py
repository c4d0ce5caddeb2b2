"""The benchmark of powder patterns on a handful of crystals, and what its figures mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.xrd.benchmark import summary
from benchmarks.xrd.calibration import Judged, fit_probability, judge, reliability
from benchmarks.xrd.simulated import Case
from benchmarks.xrd.spoilt import DISPLACED, LARGEST, perfect, relaxed_like, scan, simulate
from csp.crystallography.symmetry import space_groups
from csp.diffraction.probability import evidence
from tests.csp.diffraction.samples import brookite, rutile, salt


def case(misfit: list[float], *, twins: tuple[int, ...] = (), told: bool = False) -> Case:
    n = len(misfit)
    return Case(
        "TiO2", 6, 1, "Cu Kα", 1000, 0.1, [0.1] if told else [], told, 1000.0, misfit, [0.9] * n,
        [0.1] * n, [0.5] * n, [0.2] * n, 3.0, list(twins),
    )  # fmt: skip


def test_crystals_err_as_predicted_ones_and_keep_their_symmetry() -> None:
    rng = np.random.default_rng(0)
    for crystal in (rutile(), brookite()):
        errors = [relaxed_like(crystal, rng) for _ in range(20)]
        assert all(space_groups(one, 1e-3) == space_groups(crystal, 1e-3) for one in errors)
        stretch = [
            np.linalg.svd(np.linalg.inv(crystal.cell[0].numpy()) @ one.cell[0].numpy())[1] for one in errors
        ]
        assert np.abs(np.array(stretch) - 1).max() <= LARGEST + 1e-9
        assert np.abs(np.array(stretch) - 1).max() > 0.01
        moved = [(one.frac - crystal.frac).numpy() @ crystal.cell[0].numpy() for one in errors]
        assert 0.2 * DISPLACED < np.sqrt(np.mean(np.square(moved) * 3)) <= 1.1 * DISPLACED


def test_a_scan_has_its_counts_and_its_background() -> None:
    rng = np.random.default_rng(3)
    how = scan(rng)
    pattern = simulate("a", [(rutile(), 0.8), (salt(), 0.2)], how, rng)
    assert pattern.two_theta[0] == pytest.approx(how.range[0])
    assert 0.6 * how.counts < pattern.intensity.max() < 2.5 * how.counts + 100
    again = simulate("a", [(rutile(), 0.8), (salt(), 0.2)], how, np.random.default_rng(4))
    assert not np.array_equal(pattern.intensity, again.intensity)
    assert perfect(rutile(), how).intensity.max() == pytest.approx(1.01)


def test_a_fit_of_probabilities_knows_what_decides() -> None:
    """Where the right crystal has the least misfit, it gets the probability; where none fits, none does."""
    cases = [case([0.2, 0.8, 0.85 + k / 200]) for k in range(10)]
    probability = fit_probability(cases)
    x = evidence(cases[0].compared)
    assert probability(x)[0] > 0.9
    assert probability(x[1:]).sum() < 0.2
    judged = judge(cases)
    assert [one.rank for one in judged] == [1] * 10
    rows = reliability(judged)
    assert {row["of"] for row in rows} == {"crystal", "none"}
    assert sum(row["n"] for row in rows if row["of"] == "none") == pytest.approx(10)


def test_counts() -> None:
    done = [case([0.2, 0.9]), case([0.5, 0.4], twins=(1,)), case([0.5, 0.4], told=True), case([0.3, 0.6])]
    sure, unsure = np.array([0.9, 0.05]), np.array([0.3, 0.6])
    judged = [
        Judged(set(), sure, np.array([0.1])),
        Judged({1}, unsure, np.array([0.7])),
        Judged({1}, unsure, np.array([0.7])),
        Judged(set(), sure, np.array([0.1])),
    ]
    found = summary(done, judged, [])
    assert (found["n.all"], found["first.all"], found["first_or_twin.all"]) == (4, 2, 3)
    assert (found["n.impurities_told"], found["first.impurities_told"]) == (1, 0)
    assert found["first_by_misfit"] == 2
    assert (found["none_when_left_out"], found["none_when_there"]) == (2, 0)
    real = [{"way": "told", "rank": 1, "weight": 0.4, "weight_found": 0.5}]
    assert json.loads(json.dumps(summary(done, judged, real)))["scans.weight_error"] == 0.1


def test_what_is_committed_is_what_ships() -> None:
    root = Path(__file__).parents[3]
    committed = root / "benchmarks" / "results" / "xrd" / "pattern_probability.json"
    shipped = root / "csp" / "data" / "pattern_probability.json"
    assert json.loads(committed.read_text()) == json.loads(shipped.read_text())
