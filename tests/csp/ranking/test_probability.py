"""The conditional logit against closed forms and against searches drawn from known weights."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from csp.protocols import Label, Provenance
from csp.ranking.probability import (
    FAR,
    FEATURES,
    LEAST,
    SCORED,
    SOFT,
    AnswerProbability,
    best_first,
    features,
    scores,
)

LABEL = Label("PBE", "none", "1")


def proposed(**scores: float) -> tuple[Provenance, ...]:
    return tuple(Provenance(name, 0, 0, 225, score=score) for name, score in scores.items())


def test_features_of_a_hand_computed_case() -> None:
    found = features(
        torch.tensor([-3.0, -3.0 + SOFT, -2.0]),
        scores(
            [
                proposed(template=-1.5, space_group=-40.0),
                proposed(random=0.0),
                proposed(metric_learning=-2.0, template=-3.0),
            ]
        ),
    )
    assert FEATURES == ("energy", "far", "templates", "drawn")
    above = [0.0, -math.log(2), -math.log(1 + 1 / SOFT)]
    far = [0.0, -SOFT / FAR, -1 / FAR]
    one = math.log((math.exp(-1.5) + math.exp(LEAST)) / 2)
    both = math.log((math.exp(-2) + math.exp(-3)) / 2)
    by_templates, by_draws = [one, LEAST, both], [LEAST] * 3
    expected = [*zip(above, far, by_templates, by_draws, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)
    assert features(torch.zeros(0), scores([])).shape == (0, 4)


def test_probabilities_of_a_hand_computed_case() -> None:
    order = AnswerProbability((2.0, 1.0, 0.0, 1.0), none=-1.0)
    x = torch.tensor([[0.0, 0.0, 5.0, -1.0], [-0.5, -1.0, 0.0, 0.0]], dtype=torch.float64)
    weights = [math.exp(-1), math.exp(-2), math.exp(-1)]
    expected = torch.tensor(weights[:2], dtype=torch.float64) / sum(weights)
    torch.testing.assert_close(order.probabilities(x), expected)
    both, neither = torch.tensor([True, True]), torch.tensor([False, False])
    assert order.log_likelihood(x, both) == pytest.approx(math.log(sum(weights[:2]) / sum(weights)))
    assert order.log_likelihood(x, neither) == pytest.approx(math.log(weights[2] / sum(weights)))
    assert order.probabilities(x[:0]).shape == (0,)


def drawn(order: AnswerProbability, n: int) -> list[tuple[Tensor, Tensor]]:
    """Searches of three to eight crystals whose answers are drawn from the order's probabilities."""
    torch.manual_seed(0)
    searches = []
    for k in range(n):
        x = torch.randn(3 + k % 6, len(FEATURES), dtype=torch.float64)
        p = order.probabilities(x)
        answer = torch.multinomial(torch.cat([p, 1 - p.sum()[None]]), 1)
        searches.append((x, torch.arange(len(x)) == answer))
    return searches


def test_the_weights_that_answers_were_drawn_from_are_found_again() -> None:
    truth = AnswerProbability((1.0, 0.5, -0.7, 0.0), none=0.3)
    found = AnswerProbability.fit(drawn(truth, 3000))
    assert found.weights == pytest.approx(truth.weights, abs=0.12)
    assert found.none == pytest.approx(truth.none, abs=0.15)


def test_what_is_far_up_is_never_the_more_probable_for_it() -> None:
    found = AnswerProbability.fit(drawn(AnswerProbability((1.0, -0.5, 0.0, 0.0), none=0.0), 300))
    assert found.weights[FEATURES.index("far")] == pytest.approx(0.0, abs=1e-3)


def test_only_what_was_fitted_for_a_label_and_no_larger_a_library_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    fits = [
        {
            "label": str(LABEL),
            "entries": entries,
            "weights": dict(zip(FEATURES, (1.0, 0.5, 2.0, none), strict=True)),
            "none": none,
        }
        for entries, none in ((1000, -3.0), (40, -2.0))
    ]
    file.write_text(json.dumps(fits))
    large, small = (AnswerProbability((1.0, 0.5, 2.0, none), none) for none in (-3.0, -2.0))
    assert AnswerProbability.load(LABEL, 500, SCORED, file) == large
    assert AnswerProbability.load(LABEL, 10_000, SCORED, file) == AnswerProbability(
        (1.0, 0.5, 2.0, -3.0), -3.0
    )
    assert AnswerProbability.load(LABEL, 80, SCORED, file) == small
    assert AnswerProbability.load(LABEL, 81, SCORED, file) is None
    assert AnswerProbability.load(LABEL, 499, SCORED, file) is None
    assert AnswerProbability.load(LABEL, 19, SCORED, file) is None
    assert AnswerProbability.load(LABEL, 500, (*SCORED, "random"), file) is not None
    for left_out in SCORED:  # it would look as if it had held nothing for probable
        others = [name for name in SCORED if name != left_out]
        assert AnswerProbability.load(LABEL, 500, others, file) is None
    assert AnswerProbability.load(Label("PBE", "none", "2"), 500, SCORED, file) is None


def test_equal_probabilities_stay_in_the_order_of_energy() -> None:
    p = torch.tensor([0.1, 0.3, 0.1 + 1e-9, 0.3, 0.2], dtype=torch.float64)
    assert best_first(p).tolist() == [1, 3, 4, 0, 2]
