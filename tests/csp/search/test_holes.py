"""What counts as a hole of a potential."""

import torch

from csp.search.holes import DEEP, in_holes

USUAL = torch.tensor([-0.4, -0.3, -0.25, -0.2, -0.1], dtype=torch.float64)  # H3S at 200 GPa, about


def test_what_is_far_below_the_usual_is_in_a_hole() -> None:
    found = in_holes(torch.tensor([-3.2, -1.14, -0.4, 0.5, 9.0], dtype=torch.float64), USUAL)
    assert found.tolist() == [True, True, False, False, False]


def test_a_shift_of_all_energies_changes_nothing() -> None:
    some = torch.linspace(-2.0, 2.0, 41, dtype=torch.float64)
    assert torch.equal(in_holes(some, USUAL), in_holes(some + 7.0, USUAL + 7.0))


def test_models_that_agree_nowhere_find_no_hole() -> None:
    wild = torch.tensor([-3.0, -1.5, 0.0, 1.5, 3.0], dtype=torch.float64)
    assert not in_holes(wild - 1.0, wild).any()


def test_two_crystals_tell_nothing_of_what_is_usual() -> None:
    assert not in_holes(torch.tensor([-10 * DEEP], dtype=torch.float64), USUAL[:2]).any()
