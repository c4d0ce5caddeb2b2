"""Virtual crystals: their labels, the ways they are made in, and where they walk to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Proposals
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from surrogates.training.labelled import Labelled, compositions
from surrogates.training.virtual_crystals import Anchors, KnownCells, VirtualRecipe, make_shard
from tests.lennard_jones import LennardJones


def rocksalt(z1: int, z2: int, edge: float) -> Crystals:
    cell = 0.5 * edge * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Crystals.from_arrays(cell[None], [[[0, 0, 0], [0.5, 0.5, 0.5]]], [[z1, z2]])


def caesium_chloride(z1: int, z2: int, edge: float) -> Crystals:
    return Crystals.from_arrays(edge * np.eye(3)[None], [[[0, 0, 0], [0.5, 0.5, 0.5]]], [[z1, z2]])


def symmetric() -> RandomGenerator:
    return RandomGenerator(Library.open(), VolumePrior.load())


RECIPE = VirtualRecipe(groups=2, per_anchor=30, max_above=50.0)


def shard(
    recipe: VirtualRecipe = RECIPE, walker: LennardJones | None = None
) -> tuple[Labelled, Anchors, LennardJones]:
    teacher = LennardJones()
    known = Crystals.cat(
        [rocksalt(3, 9, 5.2), rocksalt(11, 17, 5.2), caesium_chloride(11, 17, 3.2), rocksalt(12, 8, 5.2)]
    )
    data = Labelled(known, ["LiF", "NaCl", "NaCl-2", "MgO"], torch.tensor([-1.0, -2.0, -1.8, -3.0]).double())
    anchors = Anchors(data, {"8:1 12:1"}, max_atoms=12)
    found, _ = make_shard(0, anchors, KnownCells(known, 12), symmetric(), teacher, recipe, walker)
    return found, anchors, teacher


def test_virtual_labels_are_anchored_differences() -> None:
    """E(x) − T(x) is one constant per formula unit of a composition: E_DFT − T of its lowest crystal."""
    found, anchors, teacher = shard()
    names = compositions(found.crystals)
    assert set(names) == {"3:1 9:1", "11:1 17:1"}  # MgO is held out
    offset = found.energy - teacher.evaluate(found.crystals).energy
    for name, energy in (("3:1 9:1", -1.0), ("11:1 17:1", -2.0)):
        rows = torch.tensor([k for k, other in enumerate(names) if other == name])
        anchor = anchors.labelled.crystals[anchors.rows[name][0]]
        expected = energy - float(teacher.evaluate(anchor).energy)
        formula_units = found.crystals.n_atoms[rows] / 2
        assert torch.allclose(offset[rows], expected * formula_units.double(), atol=1e-6)


def test_virtual_labels_may_be_the_teachers_energies() -> None:
    found, _, teacher = shard(replace(RECIPE, anchored=False))
    assert found.ids == shard()[0].ids
    assert torch.allclose(found.energy, teacher.evaluate(found.crystals).energy, atol=1e-6)


def test_virtual_crystals_are_made_in_every_way_and_replayed() -> None:
    found, _, teacher = shard()
    ways = {name.split("(")[0].split(":")[-1] for name in found.ids}
    assert ways == {"rattle", "volume", "compress", "strain", "substitute", "random", "LiF", "NaCl"}
    again, _, _ = shard()
    assert again.ids == found.ids
    assert torch.equal(again.crystals.frac, found.crystals.frac)
    walked = [k for k, name in enumerate(found.ids) if name.startswith("walk3")]
    assert walked
    true = teacher.evaluate(found.crystals, forces=True)
    assert true.forces is not None
    assert found.forces is not None
    assert torch.allclose(true.forces.float(), found.forces, atol=1e-5)


def test_random_crystals_are_asked_for_by_a_formula() -> None:
    """As `Target.parse` makes it, the elements in the order of electronegativity."""
    asked: list[Target] = []

    class Listening(RandomGenerator):
        def propose(self, target: Target, n: int, *, seed: int, start: int = 0) -> Proposals:
            asked.append(target)
            return super().propose(target, n, seed=seed, start=start)

    known = rocksalt(3, 9, 5.2)
    anchors = Anchors(Labelled(known, ["LiF"], torch.tensor([-1.0]).double()), set(), 12)
    generator = Listening(Library.open(), VolumePrior.load())
    make_shard(0, anchors, KnownCells(known, 12), generator, LennardJones(), replace(RECIPE, groups=1))
    assert asked == [Target.parse("LiF", max_atoms=12)]


def test_nothing_is_substituted_where_no_prototype_is_known() -> None:
    known = rocksalt(3, 9, 5.2)
    anchors = Anchors(Labelled(known, ["LiF"], torch.tensor([-1.0]).double()), set(), 12)
    none = KnownCells(known, max_atoms=1)
    assert not none.knows("3:1 9:1")
    recipe = VirtualRecipe(groups=1, per_anchor=20, max_above=50.0)
    found, _ = make_shard(0, anchors, none, symmetric(), LennardJones(), recipe)
    assert {name.split("(")[0].split(":")[-1] for name in found.ids} == {
        "LiF",
        "rattle",
        "volume",
        "compress",
        "strain",
        "random",
    }


def test_a_walker_leads_to_where_it_relaxes_to() -> None:
    """Where the walker is the teacher, what it relaxed to the end is at rest by the labels too."""

    def at_rest(*relaxing: int) -> torch.Tensor:
        recipe = VirtualRecipe.on_policy(groups=2, per_anchor=30, max_above=50.0, relaxing=relaxing)
        found, _, teacher = shard(recipe, walker=LennardJones())
        ends = found[[k for k, name in enumerate(found.ids) if name.startswith(f"{teacher.name}:")]]
        assert ends.forces is not None
        largest = torch.zeros(len(ends))
        return largest.scatter_reduce_(0, ends.crystals.batch, ends.forces.norm(dim=1), "amax") < 0.05

    once, twice = at_rest(300), at_rest(3, 300)
    assert once.float().mean() > 0.8
    assert len(once) < len(twice) <= 2 * len(once)  # what was at rest after three steps is there once
    assert twice.sum() >= once.sum()


def test_virtual_crystals_walk_downhill() -> None:
    found, _, _ = shard()
    energy = dict(zip(found.ids, (found.energy / found.crystals.n_atoms).tolist(), strict=True))
    starts = [name for name in energy if name.startswith("substitute") and f"walk3:{name}" in energy]
    assert starts
    falls = [energy[f"walk3:{name}"] - energy[name] for name in starts]
    assert np.mean(falls) < 0.0
