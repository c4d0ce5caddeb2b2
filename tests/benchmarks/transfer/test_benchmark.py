"""The transfer benchmark: its measures, and a whole one on tiny pools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import benchmarks.baselines.shotgun_finetuning
import benchmarks.transfer.benchmark
import surrogates.transfer.adapt
from benchmarks.transfer.benchmark import TransferBenchmark
from benchmarks.transfer.summary import Case, summarise
from csp.errors import InputError
from surrogates.training.labelled import hashed
from surrogates.transfer.finetune import FineTuning
from tests.benchmarks.surrogate.test_benchmark import HELD_OUT, tables  # noqa: F401
from tests.lennard_jones import LennardJones
from tests.untrained import checkpoint

SHORT = FineTuning(steps=1, epochs=1, folds=2)


def case(strategy: str, n: int, energy: list[float], sigma: float | None = None) -> Case:
    truth, before = np.array([0.0, 1.0, 2.0, 4.0]), np.array([5.0, 5.0, 5.0, 5.0])
    width = None if sigma is None else np.full(4, sigma)
    return Case.measured("a", 0, "random", strategy, n, np.array(energy), truth, before, width)


def test_a_case_is_judged_against_the_source_with_its_best_constant() -> None:
    one = case("affine", 5, [0.5, 1.0, 2.0, 3.5], sigma=0.4)
    assert one.untuned == pytest.approx(1.25)  # truth − 5 around its median
    assert one.mae == pytest.approx(0.25)
    assert one.ratio == pytest.approx(0.2)
    assert one.tau == 1.0
    assert one.within == (0.5, 1.0)
    none = case("none", 0, [5.0, 5.0, 5.0, 5.0])
    assert none.ratio == 1.0
    assert none.tau == 0.0


def test_the_summary_has_the_means_and_says_where_the_default_is_worse() -> None:
    cases = [
        case("none", 0, [5.0] * 4),
        case("affine", 5, [0.5, 1.0, 2.0, 3.5], 0.4),
        case("shift", 5, [1.0, 1.0, 2.0, 3.5], 0.4),
        case("shift", 50, [1.0, 1.0, 2.0, 3.5], 0.4),
        case("default", 5, [9.0, 1.0, 2.0, 3.5], 0.6),
        case("default", 50, [0.0, 1.0, 2.0, 4.5], 0.6),
    ]
    found = summarise(cases, 0)
    assert found["error_ratio.affine.5"] == pytest.approx(0.2)
    assert found["tau.affine.5"] == 1.0
    assert found["error_ratio.none.0"] == 1.0
    assert found["coverage_68"] == pytest.approx((0.75 + 1.0) / 2)
    assert (found["default_worse.5"], found["default_worse.50"]) == (True, False)


def test_a_whole_benchmark(
    tables: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"POOL": 40, "TEST": 12, "LABELS": (5, 24), "ROUNDS": (10, 24)}.items():
        monkeypatch.setattr(benchmarks.transfer.benchmark, name, value)
    for name in ("TUNED_LABELS", "OTHERS_LABELS"):
        monkeypatch.setattr(benchmarks.transfer.benchmark, name, (24,))
    for name in ("FROZEN", "SCRATCH"):
        monkeypatch.setattr(benchmarks.transfer.benchmark, name, SHORT)
    monkeypatch.setattr(surrogates.transfer.adapt, "TUNINGS", {"frozen": SHORT, "full": SHORT})
    monkeypatch.setattr(benchmarks.baselines.shotgun_finetuning, "EPOCHS", 2)
    monkeypatch.setattr(benchmarks.transfer.benchmark, "unseen", lambda: HELD_OUT)
    monkeypatch.setattr(benchmarks.transfer.benchmark, "load_potential", lambda name, device: LennardJones())
    source = str(checkpoint(tmp_path / "run"))

    def begun(source: str, **options: int) -> TransferBenchmark:
        return TransferBenchmark.begin(
            tables[0], source, "lj", tmp_path / "out", limit=1, seeds=1, device="cpu", **options
        )

    summary = begun(source, tuned=1).run()
    for strategy, n in (
        ("none", 0),
        ("affine", 5),
        ("affine_model", 24),
        ("last_layer", 24),
        ("default", 5),
        ("default", 24),
        ("full", 24),
        ("scratch", 24),
        ("published", 24),
    ):
        assert summary[f"error_ratio.{strategy}.{n}"] > 0.0
        assert -1.0 <= summary[f"tau.{strategy}.{n}"] <= 1.0
    assert summary["error_ratio.none.0"] == 1.0
    assert "tau.last_layer.24.chosen" in summary
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert (tmp_path / "out" / "transfer.png").stat().st_size > 1000
    assert "affine_model" in (tmp_path / "out" / "table.md").read_text()
    stored = sorted(path.name for path in (tmp_path / "out" / "cases").iterdir())
    assert stored == ["000-heads-0.json", "000-others-0.json", "000-tuned-0.json"]
    assert begun(source, tuned=1).run() == summary
    with pytest.raises(InputError, match="another seed"):
        begun(source, seed=1)
    with pytest.raises(InputError, match="judged on"):
        begun(str(checkpoint(tmp_path / "leak", seen=(HELD_OUT[0],))))
    assert hashed(HELD_OUT[0]) not in begun(source).source.seen
