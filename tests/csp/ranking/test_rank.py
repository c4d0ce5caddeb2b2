"""Ranking against the plain loop it stands for."""

import ase.units
import numpy as np
import pytest
import torch

from csp.errors import ContractError, LabelError
from csp.protocols import Label
from csp.ranking.rank import RESOLUTION, order, rank
from csp.relaxation.relax import GPA, enthalpy

LABEL = Label("PBE", "none", "1")


def ids(n: int, rng: np.random.Generator) -> list[str]:
    return [f"{k:08x}" for k in rng.permutation(n)]


def test_gpa_is_that_of_ase() -> None:
    assert pytest.approx(ase.units.GPa, rel=1e-6) == GPA


def test_enthalpy_of_a_hand_computed_case() -> None:
    # 160.21766 GPa are 1 eV/Å³
    energy, volume = torch.tensor([-10.0, 0.0]), torch.tensor([50.0, 2.0])
    expected = torch.tensor([-10.0 + 50.0 / 16.021766, 2.0 / 16.021766])
    torch.testing.assert_close(enthalpy(energy, volume, 10.0), expected)
    assert torch.equal(enthalpy(energy, volume, 0.0), energy)


def test_order_is_by_rounded_energy_then_id() -> None:
    energy = torch.tensor([-1.0, -1.0 - 0.3 * RESOLUTION, -1.0 - 1.2 * RESOLUTION, float("nan"), -2.0, -1.0])
    names = ["c", "b", "z", "0", "y", "a"]
    assert order(energy, names).tolist() == [4, 2, 5, 1, 0, 3]


def test_order_does_not_depend_on_the_order_of_the_batch_or_on_noise() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 15, 200) * RESOLUTION - 3.0  # many ties, all in the middle of their bins
    names = ids(200, rng)
    expected = [names[k] for k in order(torch.tensor(values), names)]
    for _ in range(5):
        shuffle = rng.permutation(200)
        noisy = torch.tensor(values[shuffle] + rng.uniform(-0.3, 0.3, 200) * RESOLUTION)
        shuffled = [names[k] for k in shuffle]
        assert [shuffled[k] for k in order(noisy, shuffled)] == expected


@pytest.mark.parametrize("seed", range(5))
def test_rank_is_the_plain_loop(seed: int) -> None:
    """Whichever member stands for a group, groups are ranked by the energies of these."""
    rng = np.random.default_rng(seed)
    values, names, groups = rng.normal(size=60).round(1), ids(60, rng), rng.integers(0, 20, 60)
    stands = {g: int(rng.choice(np.flatnonzero(groups == g))) for g in set(groups.tolist())}
    same = torch.tensor([stands[g] for g in groups.tolist()])
    ranking = rank(torch.tensor(values), names, same, [LABEL] * 60)
    expected = sorted(stands.values(), key=lambda k: (values[k], names[k]))
    assert ranking.chosen.tolist() == expected
    assert ranking.n_duplicates.tolist() == [int((groups == groups[k]).sum()) - 1 for k in expected]
    assert ranking.label == LABEL


def test_rank_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(LabelError):
        rank(torch.zeros(2), ["a", "b"], torch.arange(2), [LABEL, Label("PBE", "MP2020", "1")])
    with pytest.raises(ContractError):
        rank(torch.tensor([0.0, float("nan")]), ["a", "b"], torch.arange(2), [LABEL] * 2)


def test_rank_of_nothing() -> None:
    ranking = rank(torch.zeros(0), [], torch.zeros(0, dtype=torch.int64), [])
    assert len(ranking.chosen) == len(ranking.n_duplicates) == 0
    assert ranking.label is None
