"""Fine-tuning: what is held out, what stays frozen, what is pulled back, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import surrogates.transfer.adapt
from csp.contracts import check_energy_model
from csp.crystals import Crystals
from csp.errors import InputError
from surrogates.training.batches import Source
from surrogates.training.labelled import Labelled
from surrogates.training.losses import mean_error
from surrogates.transfer.adapt import TUNINGS, adapt
from surrogates.transfer.finetune import FROZEN, FULL, FineTuning, Task, fine_tune
from surrogates.transfer.regression import folds
from surrogates.transformer.surrogate import Surrogate
from tests.surrogates.transfer.test_adapt import OTHER, planted, salts, surrogate

SHORT = replace(FULL, steps=1, epochs=3, folds=2, head_lr=3e-3, trunk_lr=3e-3)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `adapt` tunes with, in fewer steps."""
    few = {name: replace(settings, steps=100, folds=2) for name, settings in TUNINGS.items()}
    monkeypatch.setattr(surrogates.transfer.adapt, "TUNINGS", few)


def single() -> Surrogate:
    """In single precision, as surrogates that ship."""
    model = surrogate()
    model.network.float()
    model.network.reference = model.network.reference.double()
    return model


def task(n: int) -> tuple[Surrogate, Labelled]:
    model, crystals = single(), salts(n)
    energy = planted(model, crystals, slope=0.6, spread=0.3, noise=0.0)
    return model, Labelled(crystals, [""] * n, energy)


def test_parts_keep_groups_together_and_are_of_one_size() -> None:
    groups = np.random.default_rng(0).integers(40, size=200)
    parts = folds(groups, 4, 0)
    assert sorted(np.concatenate(parts).tolist()) == list(range(200))
    assert all(40 <= len(part) <= 60 for part in parts)
    owners = [set(groups[part].tolist()) for part in parts]
    assert sum(len(owner) for owner in owners) == len(set(groups.tolist()))
    assert [len(part) for part in folds(np.array([7, 7, 7]), 3, 0)] == []
    assert len(folds(np.array([1, 1, 2]), 3, 0)) == 2


def test_labels_are_learned_and_the_reference_is_refitted() -> None:
    """Energies 3 eV/atom away: the references take that at once, the weights what structures make of it."""
    model, labelled = task(40)
    crystals, n_atoms = labelled.crystals, labelled.crystals.n_atoms
    before = (model.evaluate(crystals).energy - labelled.energy) / n_atoms
    tuned = fine_tune(model.network, model.column, labelled, np.arange(40), replace(SHORT, epochs=12))
    assert tuned.network.architecture.kinds == ("tuned",)
    assert float(before.mean().abs()) > 2.0
    spread = float((before - before.median()).abs().mean())
    assert float(tuned.left_out.abs().mean()) < 0.6 * spread
    assert model.network.architecture.kinds == ("formation", "anchored")  # the parent is untouched


def test_few_labels_get_as_many_steps_and_many_as_many_epochs() -> None:
    settings = FineTuning(steps=100, epochs=10, batch=16)
    assert [settings.steps_for(n) for n in (1, 160, 161, 1600)] == [100, 100, 101, 1000]
    model, labelled = task(5)
    task_of_5 = Task(model.network, model.column, labelled, replace(settings, batch=2))
    batches = task_of_5.batches(torch.arange(5))
    epochs = [torch.cat([next(batches) for _ in range(3)]) for _ in range(2)]
    assert all(sorted(epoch.tolist()) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_frozen_leaves_the_trunk_and_a_strong_pull_leaves_everything() -> None:
    model, labelled = task(12)
    groups = np.arange(12)

    def moved(settings: object, part: str) -> float:
        tuned = fine_tune(model.network, model.column, labelled, groups, settings).network  # type: ignore[arg-type]
        after, before = getattr(tuned, part), getattr(model.network, part)
        pairs = zip(after.parameters(), before.parameters(), strict=True)
        return max(float((a - b).abs().max()) for a, b in pairs)

    assert moved(replace(SHORT, trunk_lr=0.0), "blocks") == 0.0
    assert moved(replace(SHORT, trunk_lr=0.0), "readout") > 1e-4
    longer = replace(SHORT, steps=40)
    free = moved(longer, "blocks")
    assert moved(replace(longer, pull=1.0 / SHORT.trunk_lr), "blocks") < 0.2 * free
    assert FROZEN.trunk_lr == 0.0


def test_replay_keeps_what_was_known() -> None:
    """The old head, beside the new one while the weights are tuned, forgets without replay."""
    model, labelled = task(24)
    old = salts(24, seed=5)
    known = Labelled(old, [""] * 24, model.evaluate(old).energy)
    source = Source("anchored", known, 1.0, model.network.architecture.cutoff)
    errors = []
    for replay in (source, None):
        tuning = Task(model.network, model.column, labelled, replace(SHORT, epochs=50), replay=replay)
        network = tuning.train(torch.arange(24))
        errors.append(mean_error(network, source))
    assert errors[0] < 0.5 * errors[1]


def test_tuned_surrogates_keep_the_contract_and_have_a_sigma() -> None:
    model, labelled = task(12)
    adapted = adapt(model, labelled.crystals, labelled.energy, OTHER, strategy="frozen")
    assert adapted.strategy == "frozen"
    assert set(adapted.errors) == {"shift", "frozen"}
    found = adapted.surrogate.evaluate(labelled.crystals)
    assert found.sigma is not None
    assert bool((found.sigma > 0).all())
    check_energy_model(adapted.surrogate, labelled.crystals[:3])


def test_several_compositions_are_learned_with_their_elements_references() -> None:
    model = single()
    crystals = salts(20)
    numbers = crystals.numbers.clone()
    numbers[: 10 * 4][numbers[: 10 * 4] == 17] = 35
    mixed = Crystals(crystals.cell, crystals.frac, numbers, crystals.offsets)
    energy = model.evaluate(mixed).energy + 1.5 * (numbers == 35).double().view(20, 4).sum(1)
    adapted = adapt(model, mixed, energy, OTHER, strategy="frozen")
    error = (adapted.surrogate.evaluate(mixed).energy - energy) / 4
    assert float(error.abs().mean()) < 0.15  # 0.75 eV/atom for half of them before
    with pytest.raises(InputError, match="replay"):
        adapt(
            adapted.surrogate,
            mixed,
            energy,
            OTHER,
            strategy="frozen",
            replay=Labelled(mixed, [""] * 20, energy),
        )
