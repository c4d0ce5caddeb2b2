"""Contributions of atoms: they add up, and are equal for equal atoms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from csp.crystals import Crystals
from surrogates.properties.contributions import _of_largest, contributions
from surrogates.properties.features import AtomFeatures, pooled
from surrogates.properties.model import LastLayer, PropertyModel
from surrogates.properties.network import CrystalEncoder
from surrogates.properties.predicting import of_crystals
from tests.surrogates.properties.test_features import doubled
from tests.surrogates.properties.tiny import card, crystals, model, surrogate


@pytest.mark.parametrize("scale", ["identity", "log10"])
@pytest.mark.parametrize("cut", [False, True])
def test_they_add_up_to_the_value(scale: str, cut: bool) -> None:
    one = model(scale=scale)
    mean = float(one.from_hidden(one.hidden(one.encoder.centre[None])).value)
    if cut:  # between that of the mean features and that of the first crystal
        lowest = 0.5 * (mean + float(one.predict(crystals()).value[0]))
        one = model(scale=scale, lowest=lowest)
        mean = max(mean, lowest)
    for (found,) in of_crystals([one], crystals(), contributions=True):
        assert found is not None
        shares = found.contributions
        assert shares is not None
        assert shares.baseline == pytest.approx(mean, rel=1e-4)
        total = shares.baseline + shares.whole + math.fsum(shares.atoms)
        assert total == pytest.approx(found.value, rel=1e-4, abs=1e-4 * abs(found.value - mean))
        assert (max(map(abs, shares.atoms)) > 0) == (found.value != mean)


def test_equal_atoms_have_equal_ones_and_others_have_not() -> None:
    one = model()
    assert one.surrogate is not None
    ((salt, perovskite),) = contributions([one], one.surrogate, crystals())
    strontium, titanium, *oxygens = perovskite.atoms
    assert oxygens == pytest.approx([oxygens[0]] * 3, abs=1e-4)
    assert len({round(each, 3) for each in (strontium, titanium, oxygens[0])}) == 3
    assert len(salt.atoms) == 2


def test_a_supercell_has_those_of_its_crystal_in_more_pieces() -> None:
    one, single = model(), crystals()[[1]]
    assert one.surrogate is not None
    ((small, large),) = contributions([one], one.surrogate, Crystals.cat([single, doubled(single)]))
    expected = [0.5 * each for each in small.atoms] * 2
    assert large.atoms == pytest.approx(expected, abs=1e-3)
    assert large.whole == pytest.approx(small.whole, abs=1e-3)


def test_of_a_linear_model_of_a_mean_they_are_the_atoms_features() -> None:
    """y = the third feature of the last depth, in the mean over the atoms: each has its own, by N."""
    reads, both = surrogate(), crystals()
    width, n = reads.network.architecture.width, pooled(reads, both).shape[1]
    feature = 4 * width + 2  # of two depths mean and spread stand before it
    encoder = CrystalEncoder(
        torch.full((n,), 0.1), torch.ones(n), members=1, width=1, plain=torch.zeros(n, 1)
    )
    encoder.plain[feature] = 1.0  # type: ignore[index]
    encoder.eval().requires_grad_(False)
    weight = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)
    last = LastLayer(weight, torch.eye(3, dtype=torch.float64), 0.2, 1.0, 2.0, 1.0)
    linear = PropertyModel(card(), encoder, last, reads)
    (found,) = contributions([linear], reads, both)
    atoms = AtomFeatures.of(reads, both).depths[-1][:, 2].tolist()
    assert found[0].atoms == pytest.approx([(x - 0.1) / 2 for x in atoms[:2]], abs=1e-5)
    assert found[1].atoms == pytest.approx([(x - 0.1) / 5 for x in atoms[2:]], abs=1e-5)
    assert found[0].baseline == pytest.approx(0.5)
    assert found[0].whole == 0.0


def shapley(x: Tensor, nobody: float) -> list[float]:
    """By its definition: what each adds to those before it, in the mean over all orders of arrival."""
    found = [0.0] * len(x)
    orders = list(itertools.permutations(range(len(x))))
    for order in orders:
        worth = nobody
        for k, atom in enumerate(order):
            now = float(x[list(order[: k + 1])].max())
            found[atom] += (now - worth) / len(orders)
            worth = now
    return found


def test_shares_of_the_largest_are_shapley_values() -> None:
    x = torch.tensor([[0.3], [-1.2], [2.0], [2.0], [0.9]], dtype=torch.float64)
    other = torch.tensor([[5.0], [1.0]], dtype=torch.float64)
    crystal = torch.tensor([0] * 5 + [1] * 2)
    centre = torch.tensor([0.5], dtype=torch.float64)
    found = _of_largest(torch.cat([x, other]), centre, crystal).flatten()
    assert found[:5].tolist() == pytest.approx(shapley(x, 0.5))
    assert found[5:].tolist() == pytest.approx(shapley(other, 0.5))


def test_attention_is_told_by_shells_of_neighbours() -> None:
    """In cubic SrTiO3: six O around Ti and twelve around Sr; in NaCl six of the other kind around each."""
    one = model()
    assert one.surrogate is not None
    ((salt, perovskite),) = contributions([one], one.surrogate, crystals())
    strontium, titanium, *oxygens = perovskite.neighbours
    nearest = [(own[0].element, own[0].number) for own in (strontium, titanium)]
    assert nearest == [("O", 12), ("O", 6)]
    assert len({tuple(shell.number for shell in own) for own in oxygens}) == 1
    for own in (*salt.neighbours, *perovskite.neighbours):
        assert [shell.distance for shell in own] == sorted(shell.distance for shell in own)
        assert 0 < sum(shell.attention for shell in own) <= 1.0 + 1e-5
    assert [(own[0].element, own[0].number) for own in salt.neighbours] == [("Cl", 6), ("Na", 6)]


def test_attention_is_what_the_network_weighs_its_neighbours_by() -> None:
    """A second way: from what goes into the attention of each layer in the forward pass."""
    one = model()
    assert one.surrogate is not None
    network = one.surrogate.network
    part = AtomFeatures.of(one.surrogate, crystals())
    seen = list[Tensor]()
    hooks = [
        block.attention.register_forward_pre_hook(lambda module, args: seen.append((module, *args)))
        for block in network.blocks
    ]
    network.depths(part.atoms)
    for hook in hooks:
        hook.remove()
    expected = []
    for module, x, geometry, bias in seen:
        key = module.key_value(x)[geometry.index].view(*geometry.envelope.shape[:2], -1)[..., : module.key]
        query = module.query(x).view(len(x), module.heads, module.key) / math.sqrt(module.key)
        score = torch.einsum("ahd,akd->akh", query, key) + bias
        weight = geometry.envelope * score.exp()
        null = module.null.exp()
        expected.append((weight / (weight.sum(1, keepdim=True) + null)).mean(2))
    torch.testing.assert_close(network.attention(part.atoms, part.depths), torch.stack(expected).mean(0))
