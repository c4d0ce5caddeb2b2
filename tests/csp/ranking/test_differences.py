"""Errors of energy differences against closed forms, and against pairs drawn from known parameters."""

import json
import math
from pathlib import Path

import pytest
import torch

from csp.protocols import Label
from csp.ranking.differences import DifferenceErrors, disagreements

OURS, FIRST, SECOND = Label("PBE", "none", "1"), Label("PBE", "none", "2"), Label("PBE", "none", "3")


def test_intervals_of_a_cauchy_distribution_are_known_in_closed_form() -> None:
    errors = DifferenceErrors(floor=0.003, difference=0.1, others=(0.5,), freedom=1.0)
    apart, others = torch.tensor([0.0, 0.04]).double(), torch.tensor([[0.0], [0.048]]).double()
    scale = math.hypot(0.003, 0.1 * 0.04, 0.5 * 0.008)
    for share in (0.5, 0.6827, 0.95):
        itself, other = errors.intervals(apart, others, share).tolist()
        assert itself == 0.0
        assert other == pytest.approx(scale * math.tan(math.pi * share / 2))


def test_models_that_agree_leave_the_floor_to_another_crystal_of_equal_energy() -> None:
    errors = DifferenceErrors(floor=0.003, difference=0.1, others=(0.5,), freedom=1.0)
    (width,) = errors.intervals(torch.zeros(1).double(), torch.tensor([[1e-9]]).double(), 0.5).tolist()
    assert width == pytest.approx(0.003)


def test_a_fit_finds_the_parameters_that_pairs_were_drawn_with() -> None:
    torch.manual_seed(0)
    n = 20_000
    ours = torch.rand(n).double()
    others = ours[:, None] + 0.1 * torch.randn(n, 2).double()
    scale = (0.01**2 + (0.05 * ours) ** 2 + (0.8 * (others[:, 0] - ours)) ** 2).sqrt()
    true = ours + scale * torch.distributions.StudentT(3.0).sample((n,)).double()
    fit = DifferenceErrors.fit(ours, others, true)
    assert fit.floor == pytest.approx(0.01, rel=0.1)
    assert fit.difference == pytest.approx(0.05, rel=0.1)
    assert fit.others[0] == pytest.approx(0.8, rel=0.1)
    assert fit.others[1] < 0.1  # it tells nothing
    assert fit.freedom == pytest.approx(3.0, rel=0.1)
    inside = (true - ours).abs() <= fit.intervals(ours, others, 0.9)
    assert float(inside.double().mean()) == pytest.approx(0.9, abs=0.01)


def test_the_fit_that_knows_most_of_the_other_models_counts(tmp_path: Path) -> None:
    path = tmp_path / "errors.json"
    one = DifferenceErrors(0.01, 0.1, (0.5,), 2.0)
    both = DifferenceErrors(0.02, 0.2, (0.3, 0.4), 3.0)
    fits = [
        {"label": str(OURS)} | one.as_dict([str(FIRST)]),
        {"label": str(OURS)} | both.as_dict([str(FIRST), str(SECOND)]),
    ]
    path.write_text(json.dumps(fits))
    assert DifferenceErrors.load(OURS, [FIRST], path) == one
    assert DifferenceErrors.load(OURS, [SECOND, FIRST], path) == DifferenceErrors(0.02, 0.2, (0.4, 0.3), 3.0)
    assert DifferenceErrors.load(OURS, [FIRST, OURS], path) == DifferenceErrors(0.01, 0.1, (0.5, 0.0), 2.0)
    assert DifferenceErrors.load(OURS, [None], path) is None
    assert DifferenceErrors.load(FIRST, [OURS], path) is None


def test_what_ships_has_errors_for_the_default_potential() -> None:
    from surrogates.zoo import load_model

    label = Label("PBE+U", "none", "nequix-oam-1-6a43475eaeb3")
    errors = DifferenceErrors.load(label, [load_model("xs").label, load_model("chgnet").label])
    assert errors is not None
    assert all(c > 0 for c in errors.others)


def test_only_large_disagreements_on_the_order_of_the_first_three_are_told() -> None:
    ours = torch.tensor([-1.0, -0.99, -0.98, -0.97]).double()
    assert disagreements(ours, ours - 5.0) == []
    theirs = torch.tensor([0.1, 0.0, 0.18, -9.0]).double()
    ((i, j, much),) = disagreements(ours, theirs)
    assert (i, j) == (0, 1)
    assert much == pytest.approx(0.11)
    by_probability = ours[[1, 0, 2, 3]]
    ((i, j, much),) = disagreements(by_probability, theirs[[1, 0, 2, 3]])
    assert (i, j) == (1, 0)
    assert disagreements(ours, torch.tensor([0.03, 0.0, 0.1, 0.0]).double()) == []  # by 40 meV/atom only
