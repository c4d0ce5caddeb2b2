"""The space group's benchmark: ranks, ties, and held-out compositions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.baselines import space_group_classifier as plain_network
from benchmarks.generation.space_group import by_frequency, by_model, held_out_answers, mixed, tops
from csp.library.library import Library
from csp.training.splits import HELD_OUT, composition_name, fold
from generators.space_group.model import SpaceGroupArchitecture, SpaceGroupModel


def test_tops_by_hand():
    scores = np.zeros((3, 231))
    scores[0, 5] = 1.0  # right
    scores[1, 1:11] = np.arange(10, 0, -1)  # the tenth, group 10, is right
    scores[2, 225] = -1.0  # the last of all
    assert tops(scores, np.array([5, 10, 225])) == pytest.approx(
        {"spacegroup_top_1": 1 / 3, "spacegroup_top_10": 2 / 3, "spacegroup_top_30": 2 / 3}
    )


def test_answers_are_of_the_held_out_fold_and_not_in_the_rest():
    library = Library.open()
    rest, answers = held_out_answers(library, {})
    names = [composition_name(z, n) for z, n in zip(answers.number, answers.count, strict=True)]
    assert names
    assert all(fold(name) == HELD_OUT for name in names)
    assert len(set(names)) == len(names)
    number, count = rest.compositions(rest.all_rows())
    left = {composition_name(z, n) for z, n in zip(number, count, strict=True)}
    assert left.isdisjoint(names)
    assert all(fold(name) != HELD_OUT for name in left)
    scores = by_frequency(rest, answers)
    assert scores.shape == (len(answers), 231)
    rows = rest.rows(tuple(sorted(n for n in answers.count[0].tolist() if n)))
    most = np.bincount(rest.space_group[rows], minlength=231) if len(rows) else None
    if most is not None and most.max() > most.sum() - most.max() + 3:
        assert scores[0].argmax() == most.argmax()


def test_the_model_sees_padded_compositions_as_they_are():
    torch.manual_seed(0)
    model = SpaceGroupModel(SpaceGroupArchitecture(width=32, layers=2, heads=2))
    _, answers = held_out_answers(Library.open(), {})
    scores = by_model(model, answers)
    np.testing.assert_allclose(scores[:, 1:].sum(1), 1.0, atol=1e-4)
    real = answers.count[0] > 0
    with torch.no_grad():
        alone, _ = model.composition(
            torch.from_numpy(answers.number[:1, real]), torch.from_numpy(answers.count[:1, real])
        )
    np.testing.assert_allclose(scores[0, 1:], alone[0, 1:].exp().numpy(), atol=1e-5)


def test_a_mixture_is_a_probability_between_the_two():
    rest, answers = held_out_answers(Library.open(), {})
    frequency = by_frequency(rest, answers)
    np.testing.assert_allclose(frequency.sum(1), 1.0)
    learned = np.zeros_like(frequency)
    learned[:, 7] = 1.0
    both = mixed(learned, frequency, answers, entries=100_000)
    np.testing.assert_allclose(both.sum(1), 1.0)
    share = (both[:, 7] - frequency[:, 7]) / (1 - frequency[:, 7])
    assert (np.diff(share[np.argsort(answers.count.sum(1))]) <= 1e-9).all()  # large formula units: less of it


def test_the_plain_network_learns_what_the_composition_tells():
    """Group 225 for oxides and 194 for all others, whatever the amounts."""
    random = np.random.default_rng(0)
    number = np.stack([random.choice([8, 16], 600), random.integers(20, 40, 600)], 1)
    count = random.integers(1, 4, (600, 2))
    group = np.where(number[:, 0] == 8, 225, 194)
    log_p = plain_network.train_classifier(
        (number[:400], count[:400]), group[:400], (number[400:500], count[400:500]), group[400:500], seed=0
    )((number[500:], count[500:]))
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1.0, atol=1e-5)
    assert (log_p.argmax(1) == group[500:]).mean() > 0.95
