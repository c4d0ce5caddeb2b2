"""Generators that are told where to look: by skeleton and by space group."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from csp.crystallography.symmetry import space_groups, wyckoffs
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.protocols import Low, Skeleton, Steerable
from csp.target import Target
from generators.random_symmetric.generator import RandomGenerator
from generators.random_symmetric.skeletons import read_skeletons, tilted
from generators.space_group.generator import SpaceGroupGenerator

TITANIA = Target.parse("TiO2", max_atoms=24)
RUTILE, ANATASE = Skeleton(136, "Ti:a O:f"), Skeleton(141, "Ti:a O:e")
BROOKITE = Skeleton(61, "O:c O:c Ti:c")
NOTHING = Low(Crystals.empty(), torch.zeros(0, dtype=torch.float64))


@pytest.fixture(scope="module", params=[RandomGenerator, SpaceGroupGenerator])
def generator(request: pytest.FixtureRequest) -> RandomGenerator | SpaceGroupGenerator:
    return request.param(Library.open(), VolumePrior.load())


def test_skeletons_are_read() -> None:
    read = read_skeletons(TITANIA, [RUTILE, BROOKITE])
    assert read.group.tolist() == [136, 61]
    assert read.z.tolist() == [2, 8]
    assert read.crystal.tolist() == [0, 0, 1, 1, 1]
    assert read.element.tolist() == [0, 1, 0, 1, 1]  # Ti, then O, by electronegativity


def test_geometries_are_of_the_skeletons(generator: RandomGenerator | SpaceGroupGenerator) -> None:
    """As moyo finds them; where free coordinates fall on a special place, the group may be a higher one."""
    assert isinstance(generator, Steerable)
    wanted = [RUTILE, ANATASE, BROOKITE] * 4
    made = generator.redraw(TITANIA, wanted, seed=3)
    assert made.requested == 12 == len(made.provenance) + made.failed.total()
    assert len(made.provenance) >= 9
    groups, texts = space_groups(made.crystals), wyckoffs(made.crystals)
    kept = [
        Skeleton(group, text) == wanted[p.index]
        for group, text, p in zip(groups, texts, made.provenance, strict=True)
    ]
    assert all(Skeleton(p.space_group, p.wyckoff) == wanted[p.index] for p in made.provenance)
    assert sum(kept) >= 0.8 * len(kept)
    assert len(set(made.crystals.ids())) == len(made.provenance)


def test_a_geometry_does_not_depend_on_the_others(generator: RandomGenerator | SpaceGroupGenerator) -> None:
    wanted = [RUTILE, ANATASE, BROOKITE, RUTILE]
    whole = generator.redraw(TITANIA, wanted, seed=3, start=7)
    alone = [generator.redraw(TITANIA, wanted[k : k + 1], seed=3, start=7 + k) for k in range(4)]
    together = Crystals.cat([one.crystals for one in alone])
    torch.testing.assert_close(whole.crystals.cell, together.cell, rtol=0, atol=1e-4)  # networks round
    torch.testing.assert_close(whole.crystals.frac, together.frac, rtol=0, atol=1e-4)
    assert [p.index for p in whole.provenance] == [p.index for one in alone for p in one.provenance]


def test_steering_changes_the_odds_of_groups(generator: RandomGenerator | SpaceGroupGenerator) -> None:
    favoured = {136: 1e6, 141: 1e6}
    made = generator.steered(TITANIA, 40, favoured, NOTHING, seed=0)
    share = np.mean([p.space_group in favoured for p in made.provenance])
    plain = generator.propose(TITANIA, 40, seed=0)
    before = np.mean([p.space_group in favoured for p in plain.provenance])
    assert share > max(0.4, 2 * before)  # half of them explore the likeliest groups evenly
    part = generator.steered(TITANIA, 10, favoured, NOTHING, seed=0, start=10)
    same = [k for k, p in enumerate(made.provenance) if 10 <= p.index < 20]
    assert part.provenance == [made.provenance[k] for k in same]
    torch.testing.assert_close(part.crystals.cell, made.crystals[same].cell, rtol=0, atol=1e-4)


def test_tilted_odds_are_odds_and_leave_nothing_out() -> None:
    p = np.random.default_rng(0).random((231, 3))
    p[0] = p[7] = 0
    changed = tilted(p / p.sum(), {5: 10.0, 9: 0.5})
    assert changed.sum() == pytest.approx(1)
    assert ((changed > 0) == (p > 0)).all()
    ratio = changed / np.where(p > 0, p, 1)
    assert ratio[5] == pytest.approx(10 * ratio[100])
    assert ratio[9] == pytest.approx(0.5 * ratio[100])
    assert torch.from_numpy(tilted(p, {})).isclose(torch.from_numpy(p / p.sum())).all()
