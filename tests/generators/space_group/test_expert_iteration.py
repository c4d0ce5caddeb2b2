"""Expert iteration: what is learned from is new, low and of the training folds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.matcher import Matcher
from csp.relaxation.relax import relax_symmetric
from csp.training.splits import HELD_OUT, VALIDATION, fold
from generators.random_symmetric.generator import RandomGenerator
from generators.space_group.dataset import origins, read_table
from generators.space_group.expert_iteration import Expert, build_expert_table, good
from tests.lennard_jones import LennardJones

EXPERT = Expert(drawn=40, relaxed=10, max_steps=30, window=0.5, max_atoms=4)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open()


@pytest.fixture(scope="module")
def generator(library: Library) -> RandomGenerator:
    return RandomGenerator(library, VolumePrior.load())


def test_what_is_kept_is_new_low_and_distinct(library: Library, generator: RandomGenerator) -> None:
    (row,) = np.flatnonzero(library.material_id == "aflow:AB_cF8_225_a_b-001")
    salt, counts = primitive(library.crystals([int(row)])), Counter[str]()
    found = good(salt, generator, LennardJones(), VolumePrior.load(), EXPERT, counts)
    assert 1 < len(found) == counts["new"] <= counts["low"] <= counts["relaxed"] <= 10
    assert Matcher.DEFAULT.group(found).tolist() == list(range(len(found)))
    relaxed, level, _ = relax_symmetric(salt, LennardJones(), EXPERT.max_steps)
    assert not Matcher.DEFAULT.fits(relaxed, found).any()
    per_atom = LennardJones().evaluate(found).energy / found.n_atoms
    assert float(per_atom.max()) < float(level / 2) + EXPERT.window
    lowest = found[[int(per_atom.argmin())]]
    narrow = good(salt, generator, LennardJones(), VolumePrior.load(), replace(EXPERT, window=0.0), counts)
    assert len(narrow) <= 1
    assert all(Matcher.DEFAULT.fits(lowest, narrow)) or float(level / 2) < float(per_atom.min())
    everything = Crystals.cat([salt, found])
    assert not len(good(everything, generator, LennardJones(), VolumePrior.load(), EXPERT, counts))


def test_a_table_is_of_the_training_folds_and_goes_on(
    library: Library, generator: RandomGenerator, tmp_path: Path
) -> None:
    def made(out: str, exclude: set[str], n: int = 3, window: float = 0.5) -> list[str]:
        build_expert_table(
            library,
            generator,
            LennardJones(),
            tmp_path / out,
            compositions=n,
            exclude=exclude,
            expert=replace(EXPERT, drawn=20, relaxed=5, window=window),
            origin={"drawn by": "chance"},
            log=lambda text: None,
        )
        return read_table(tmp_path / out).compositions()

    first = made("all", set())
    assert first
    assert not {fold(name) for name in first} & {HELD_OUT, VALIDATION}
    assert origins(tmp_path / "all")["drawn by"] == "chance"
    without = made("fewer", set(first))
    assert not set(without) & set(first)
    written = (tmp_path / "all" / "shard-0000.npz").stat().st_mtime_ns
    assert made("all", set()) == first
    assert (tmp_path / "all" / "shard-0000.npz").stat().st_mtime_ns == written
    both = read_table(tmp_path / "all", tmp_path / "fewer")
    assert both.compositions() == first + without
    with pytest.raises(InputError, match="other settings"):
        made("all", set(), window=0.1)
