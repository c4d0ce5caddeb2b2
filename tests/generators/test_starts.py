"""Starts that a person gives: of the target as they are, of other elements exchanged, and in a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ase.build import bulk

from csp.crystallography.symmetry import space_groups
from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.given import GivenCrystals
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.starts import Starts
from tests.program import csp

VOLUME = VolumePrior.load()
GAAS = bulk("GaAs", "zincblende", a=5.65)
ROCK_SALT = bulk("ZnSe", "rocksalt", a=5.3)


def perovskite() -> Crystals:
    frac = [[0.5] * 3, [0] * 3, [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Crystals.from_arrays([3.9 * torch.eye(3).numpy()], [frac], [[38, 22, 8, 8, 8]])


def starts(target: Target, *crystals: Crystals, compression: float = 1.0) -> Starts:
    names = [f"crystal {k}" for k in range(len(crystals))]
    return Starts(GivenCrystals(names, Crystals.cat(crystals), {}), target, VOLUME, compression)


def test_crystals_of_the_target_come_first_and_as_they_are() -> None:
    target = Target.parse("ZnSe")
    given = starts(target, *(Crystals.from_atoms([one]) for one in (GAAS, ROCK_SALT)))
    made = given.propose(target, 2, seed=0)
    assert space_groups(made.crystals) == [225, 216]
    assert float(made.crystals.volumes[0]) == pytest.approx(ROCK_SALT.get_volume())
    assert [p.why for p in made.provenance] == ["crystal 1", "crystal 0 with Ga→Zn, As→Se"]
    assert made.crystals.ids() == given.ids(2)


def test_the_targets_elements_take_the_places_of_others_in_every_way() -> None:
    """Two ways of Zn and Se, at the volumes that the prior has relative to GaAs."""
    target = Target.parse("ZnSe")
    made = starts(target, Crystals.from_atoms([GAAS])).propose(target, 5, seed=0)
    assert sorted(made.crystals.numbers[made.crystals.offsets[:-1]].tolist()) == [30, 34]
    ratio = VOLUME.predict([30, 34], [1, 1]) / VOLUME.predict([31, 33], [1, 1])
    torch.testing.assert_close(made.crystals.volumes, torch.full((2,), ratio * GAAS.get_volume()).double())
    assert made.failed == {"exhausted": 3}


def test_amounts_decide_which_places_elements_take() -> None:
    target = Target.parse("BaSnO3")
    made = starts(target, perovskite()).propose(target, 9, seed=0)
    assert len(made.crystals) == 2  # Ba and Sn may change places, O may not
    assert (made.crystals.numbers == 8).sum() == 6


def test_under_pressure_what_is_of_the_target_keeps_its_volume() -> None:
    target = Target.parse("ZnSe", pressure=50.0)
    made = starts(target, Crystals.from_atoms([ROCK_SALT]), compression=0.7).propose(target, 1, seed=0)
    assert float(made.scaled(0.7).crystals.volumes) == pytest.approx(ROCK_SALT.get_volume())


def test_shards_are_parts_of_the_whole() -> None:
    target = Target.parse("BaSnO3")
    given = starts(target, perovskite())
    whole = given.propose(target, 2, seed=0).crystals.ids()
    assert [given.propose(target, 1, seed=0, start=k).crystals.ids()[0] for k in (0, 1)] == whole


@pytest.mark.parametrize(
    "target",
    [
        Target.parse("Al2O3"),
        Target.parse("BaSnO3", z=2),
        Target.parse("BaSnO3", space_groups=frozenset({62})),
    ],
)
def test_what_can_be_no_start_is_said(target: Target) -> None:
    with pytest.raises(InputError, match="None of 1 crystals is one"):
        starts(target, perovskite())


def test_a_search_finds_what_another_run_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A search that proposes one crystal without symmetry, and what rose from sodium chloride."""
    few = ["--candidates=24", "--relaxed=8", "--rattled=0", "--no-hull", "--library=none", "--relaxer=none"]
    salt = ["--generators=template", "--max-atoms=4", f"--out={tmp_path / 'NaCl'}"]
    assert csp("predict", "NaCl", *few, *salt) == 0
    few[0] = "--candidates=8"
    blind = ["--generators=random", "--space-groups=1,225", "--z=1", f"--out={tmp_path / 'KBr'}"]
    assert csp("predict", "KBr", *few, *blind, "--starts", str(tmp_path / "NaCl")) == 0
    first = json.loads((tmp_path / "KBr" / "ranked.json").read_text())["results"][0]
    assert first["spacegroup_number"] == 225
    assert "starts" in first["proposed_by"]
    assert csp("predict", "Al2O3", *few, "--starts", str(tmp_path / "NaCl")) == 2
    assert "starts" in capsys.readouterr().err
