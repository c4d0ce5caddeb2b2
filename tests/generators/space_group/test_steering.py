"""Learning from the low crystals of a search: they become likelier, and nothing is left out."""

from __future__ import annotations

import math

import pytest
import torch
from ase import Atoms
from ase.spacegroup import crystal

from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Low, Proposals
from csp.target import Target
from generators.space_group import generator as of_generator
from generators.space_group import steering
from generators.space_group.generator import SpaceGroupGenerator
from generators.space_group.loss import negative_log_likelihood
from generators.space_group.model import SpaceGroupArchitecture, SpaceGroupModel
from generators.space_group.steering import FACTORS, LONGEST, RATE, STEPS, as_batch, moving, taught
from generators.space_group.tokens import Batch

TITANIA = Target.parse("TiO2", max_atoms=12)
RUTILE = crystal(
    ["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90]
)
ANATASE = crystal(
    ["Ti", "O"],
    [(0, 0, 0), (0, 0, 0.208)],
    spacegroup=141,
    cellpar=[3.78, 3.78, 9.51, 90, 90, 90],
    primitive_cell=True,
)
SALT = crystal(["Na", "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)], spacegroup=225, cellpar=[5.6] * 3 + [90] * 3)
VOLUME = 11.0  # Å³ per atom of TiO2


def low(*atoms: Atoms, above: float = 0.0) -> Low:
    """All but the first so much higher, eV/atom."""
    energy = torch.full((len(atoms),), above, dtype=torch.float64)
    energy[:1] = 0.0
    return Low(Crystals.from_atoms(list(atoms)) if atoms else Crystals.empty(), (-energy / 0.05).exp())


@pytest.fixture(scope="module")
def small() -> SpaceGroupModel:
    torch.manual_seed(0)
    return SpaceGroupModel(SpaceGroupArchitecture(width=32, layers=2, heads=2, components=3, cells=2)).eval()


@pytest.fixture(scope="module")
def crystals() -> tuple[Batch, torch.Tensor]:
    found = as_batch(TITANIA, low(RUTILE, ANATASE, above=0.05), VOLUME)
    assert found is not None
    return found


@pytest.fixture
def generator() -> SpaceGroupGenerator:
    return SpaceGroupGenerator(Library.open(), VolumePrior.load())


def log_p(model: SpaceGroupModel, batch: Batch, weight: torch.Tensor) -> dict[str, float]:
    """Of each part of the crystals, in the mean."""
    with torch.no_grad():
        parts = negative_log_likelihood(model, batch)
    return {name: -float((part * weight).sum()) for name, part in parts.items()}


def gain(model: SpaceGroupModel, prior: SpaceGroupModel, crystals: tuple[Batch, torch.Tensor]) -> float:
    """Of what the steps go up."""
    after, before = log_p(model, *crystals), log_p(prior, *crystals)
    return sum(factor * (after[name] - before[name]) for name, factor in FACTORS.items())


def same(one: Proposals, other: Proposals) -> bool:
    return (
        one.provenance == other.provenance
        and torch.equal(one.crystals.cell, other.crystals.cell)
        and torch.equal(one.crystals.frac, other.crystals.frac)
    )


# -- the steps ----------------------------------------------------------------------------------------


def test_what_was_found_becomes_likelier(generator, crystals):
    model = taught(generator.model, *crystals)
    after, before = log_p(model, *crystals), log_p(generator.model, *crystals)
    assert after["group"] > before["group"] + 0.2
    assert sum(after.values()) > sum(before.values()) + 0.5
    assert gain(model, generator.model, crystals) > 0.2


def test_crystals_without_free_coordinates_teach_too(small):
    found = as_batch(Target.parse("NaCl"), low(SALT), 22.0)
    assert found is not None
    assert not found[0].site_number.numel()
    assert gain(taught(small, *found), small, found) > 0


def test_the_model_stays_near_and_the_prior_stays_what_it_is(generator, crystals):
    before = {name: p.clone() for name, p in generator.model.named_parameters()}
    model = taught(generator.model, *crystals)
    moved = {id(p) for p in moving(model)}
    shift = 0.0
    for (name, p), prior in zip(model.named_parameters(), generator.model.parameters(), strict=True):
        assert torch.equal(prior, before[name])
        assert id(p) in moved or torch.equal(p, prior)
        shift += float((p.detach() - prior.detach()).square().sum())
    assert 0 < math.sqrt(shift) <= STEPS * RATE * LONGEST


def test_a_step_goes_down_the_gradient(small, crystals, monkeypatch):
    """The slope of what is gained along a step, by differences, is its length over the rate."""
    monkeypatch.setattr(steering, "STEPS", 1)
    monkeypatch.setattr(steering, "LONGEST", math.inf)
    monkeypatch.setattr(steering, "RATE", 1e-4)
    there = taught(small, *crystals)
    monkeypatch.setattr(steering, "RATE", -1e-4)
    back = taught(small, *crystals)
    pairs = zip(there.parameters(), back.parameters(), strict=True)
    square = sum(float(((p - q) / 2e-4).double().square().sum()) for p, q in pairs)
    assert gain(there, back, crystals) / 2e-4 == pytest.approx(square, rel=0.02)


def test_no_shift_is_longer_than_its_steps(small, crystals, monkeypatch):
    """Where gradients are cut so short that they keep their direction, it is as long as them."""
    monkeypatch.setattr(steering, "LONGEST", 1e-3)
    pairs = list(zip(taught(small, *crystals).parameters(), small.parameters(), strict=True))
    shift = math.sqrt(sum(float((p - q).detach().double().square().sum()) for p, q in pairs))
    assert shift == pytest.approx(STEPS * RATE * 1e-3, rel=0.02)


# -- what is learned from -----------------------------------------------------------------------------


def test_weights_are_of_those_that_can_be_described():
    """The salt is of another composition."""
    found = as_batch(TITANIA, low(SALT, RUTILE, ANATASE, above=0.05), VOLUME)
    assert found is not None
    batch, weight = found
    assert sorted(batch.group.tolist()) == [136, 141]
    torch.testing.assert_close(weight, torch.tensor([0.5, 0.5]))
    assert as_batch(TITANIA, low(SALT), VOLUME) is None
    assert as_batch(TITANIA, low(), VOLUME) is None


# -- what is drawn ------------------------------------------------------------------------------------


def test_nothing_to_learn_from_changes_nothing(generator):
    plain = generator.steered(TITANIA, 12, {}, low(), seed=3)
    assert same(plain, generator.steered(TITANIA, 12, {}, low(SALT), seed=3))
    assert not same(plain, generator.steered(TITANIA, 12, {}, low(RUTILE, ANATASE), seed=3))


def test_draws_stay_with_the_prior(generator):
    before = generator.propose(TITANIA, 12, seed=3)
    generator.steered(TITANIA, 1, {}, low(RUTILE), seed=3)
    generator._blocks.clear()
    assert same(before, generator.propose(TITANIA, 12, seed=3))


def test_same_crystals_same_proposals_learned_once(generator, monkeypatch):
    learned = []

    def noted(*given):
        learned.append(given)
        return taught(*given)

    monkeypatch.setattr(of_generator, "taught", noted)
    found = low(RUTILE, ANATASE, above=0.02)
    whole = generator.steered(TITANIA, 12, {}, found, seed=3)
    part = generator.steered(TITANIA, 6, {}, found, seed=3, start=6)
    assert len(learned) == 1
    assert [p for p in whole.provenance if p.index >= 6] == part.provenance
    another = SpaceGroupGenerator(Library.open(), VolumePrior.load())
    assert same(whole, another.steered(TITANIA, 12, {}, found, seed=3))
    generator.steered(TITANIA, 1, {}, low(RUTILE), seed=3)
    assert len(learned) == 3


def test_nothing_allowed_is_left_out(generator):
    prior, plan = generator._plan(TITANIA), generator._taught_plan(TITANIA, low(RUTILE, ANATASE))
    assert torch.equal(plan.log_p.isfinite(), prior.log_p.isfinite())
    assert float(plan.log_p.exp().sum()) == pytest.approx(1.0)
    assert plan.log_p.exp()[[136, 141]].sum() > prior.log_p.exp()[[136, 141]].sum()
