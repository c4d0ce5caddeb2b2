"""The judgement of the last order on searches whose odds are known."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.calibration.benchmark import _reliability, halves, judge, measure
from benchmarks.calibration.ranked_features import COLUMNS, RankedFeatures, read_features, write_features
from csp.errors import InputError
from csp.library.library import Library
from csp.ranking.probability import FAR, FEATURES, LEAST, SOFT, AnswerProbability

TRUTH = AnswerProbability((0.6, 0.1, 1.2, 0.4), none=-0.5)


def searches(n: int) -> list[RankedFeatures]:
    """With the answer drawn from the true probabilities; by energy alone it is often not first."""
    torch.manual_seed(1)
    made = []
    for k in range(n):
        x = (3 * torch.randn(8, len(FEATURES), dtype=torch.float64)).clamp(min=LEAST)
        x = x[x[:, 0].argsort(descending=True)]  # lowest first
        x[:, 0] = (x[:, 0] - x[0, 0].clone()) / 2
        known = torch.zeros(8, len(COLUMNS), dtype=torch.float64)
        known[:, 0] = SOFT * torch.expm1(-x[:, 0])
        x[:, 1] = -known[:, 0] / FAR
        known[:, 1], known[:, 2], known[:, 3] = x[:, 2], x[:, 2], x[:, 3]
        p = TRUTH.probabilities(x)
        answer = torch.multinomial(torch.cat([p, 1 - p.sum()[None]]), 1)
        made.append(RankedFeatures(f"A{k}", f"prototype {k % 97}", known, torch.arange(8) == answer))
        torch.testing.assert_close(made[-1].features, x)
    return made


def test_features_are_read_as_written(tmp_path: Path) -> None:
    made = {("m", "PBE/none/1"): searches(5), ("n", "PBE/none/2"): searches(3)}
    write_features(tmp_path / "ranked_features.jsonl", made)
    read = read_features(tmp_path / "ranked_features.jsonl")
    assert {
        by: [(s.formula, s.prototype, s.answers.tolist()) for s in some] for by, some in read.items()
    } == {by: [(s.formula, s.prototype, s.answers.tolist()) for s in some] for by, some in made.items()}
    for by, some in made.items():
        for one, again in zip(some, read[by], strict=True):
            torch.testing.assert_close(again.known, one.known, atol=1e-5, rtol=0)


def test_no_prototype_is_in_both_halves() -> None:
    first, second = halves(searches(200))
    assert len(first) + len(second) == 200
    assert not {s.prototype for s in first} & {s.prototype for s in second}


def test_the_probabilities_find_more_and_are_right() -> None:
    made = searches(1500)
    summary, points = judge(made)
    assert summary["n"] == 1500
    assert summary["n_ranked"] == sum(bool(s.answers.any()) for s in made)
    assert summary["found_at_1.energy"] == sum(bool(s.answers[0]) for s in made)
    best = sum(bool(s.answers[TRUTH.probabilities(s.features).argmax()]) for s in made)
    assert summary["found_at_1.probability"] == pytest.approx(best, rel=0.02)
    assert summary["found_at_1.probability"] > summary["found_at_1.energy"]
    perfect = -sum(TRUTH.log_likelihood(s.features, s.answers) for s in made) / 1500
    assert summary["log_loss.probability"] == pytest.approx(perfect, rel=0.02)
    assert summary["log_loss.frequency"] > summary["log_loss.probability"]
    assert len(points) == 8 * 1500
    for line in _reliability(points).splitlines()[2:]:
        told, was, n = (float(cell) for cell in line.strip("| ").split("|"))
        spread = 100 * (told / 100 * (1 - told / 100) / n) ** 0.5
        assert abs(told - was) < 4 * spread + 0.2


def test_earlier_searches_are_judged_again_without_runs(tmp_path: Path) -> None:
    made = searches(300)
    write_features(tmp_path / "earlier.jsonl", {("m", "PBE/none/1"): made})
    summary = measure([], None, None, tmp_path, lambda line: None, tmp_path / "earlier.jsonl")
    assert summary == {f"{name}.m": value for name, value in judge(made)[0].items()}
    (fit,) = json.loads((tmp_path / "answer_probability.json").read_text())
    assert (fit["label"], fit["searches"], fit["entries"]) == ("PBE/none/1", 300, len(Library.open()))
    assert list(fit["weights"].values()) == pytest.approx(TRUTH.weights, abs=0.25)


def test_too_few_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        judge(searches(1))
