"""Energies of one's own: read from extended XYZ, refused where they cannot be learned together, learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from surrogates import zoo
from surrogates.training.label_files import read_labels
from surrogates.training.labelled import hashed
from surrogates.transformer.surrogate import Surrogate
from tests.program import csp
from tests.untrained import checkpoint

LATTICE = 5.6  # Å


def salt(edge: float, energy: float | None = -27.0, **info: str) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=edge)
    atoms.info.update(info)
    if energy is not None:
        atoms.calc = SinglePointCalculator(atoms, energy=energy, free_energy=energy - 0.1)
    return atoms


def written(path: Path, *frames: Atoms) -> Path:
    write(path, list(frames), format="extxyz")
    return path


def test_energies_cells_and_their_label_are_read(tmp_path: Path) -> None:
    a = written(tmp_path / "a.xyz", salt(5.5, -27.1, functional="PBE", code="VASP 6.4"), salt(5.7, -27.2))
    b = written(tmp_path / "b.xyz", salt(5.9, -27.3))
    labelled, label = read_labels([a, b], functional="PBE", code="VASP 6.4")
    assert labelled.energy.tolist() == [-27.1, -27.2, -27.3]
    expected = Crystals.from_atoms([salt(edge) for edge in (5.5, 5.7, 5.9)])
    torch.testing.assert_close(labelled.crystals.cell, expected.cell, atol=1e-6, rtol=0)
    assert labelled.ids == ["a.xyz, frame 1", "a.xyz, frame 2", "b.xyz, frame 1"]
    assert (label.functional, label.correction, label.checkpoint) == ("PBE", "none", "VASP 6.4")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ((salt(5.5, functional="PBE"), salt(5.6, functional="r2SCAN")), "Energies of two kinds"),
        (
            (salt(5.5, functional="PBE", code="GPAW"), salt(5.6, functional="PBE", code="VASP")),
            "of two kinds",
        ),
        ((salt(5.5, functional="PBE", code="GPAW"), salt(5.6, functional="PBE")), "Energies of two kinds"),
        ((salt(5.5),), "does not name its functional"),
        ((salt(5.5, None, functional="PBE"),), "frame 1 has no energy"),
        ((Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.4]], info={"functional": "PBE"}),), "not periodic"),
    ],
)
def test_what_cannot_be_learned_together_is_refused(
    frames: tuple[Atoms, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        read_labels([written(tmp_path / "a.xyz", *frames)])


def test_files_that_are_not_there_or_not_xyz_are_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file of labels"):
        read_labels([tmp_path / "none.xyz"], functional="PBE")
    (tmp_path / "a.xyz").write_text("five\nnonsense\n")
    with pytest.raises(InputError, match="cannot be read as extended XYZ"):
        read_labels([tmp_path / "a.xyz"], functional="PBE")


# -- csp train transfer -------------------------------------------------------------------------------


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An untrained model, and a user's data folder of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "120")
    about = {"data": [], "split": "", "licence": "", "code_version": ""}
    zoo.model_from_checkpoint(checkpoint(tmp_path, seen=("3:1 9:1",)), "tiny", tmp_path, {}, **about)
    return tmp_path / "tiny.safetensors"


def test_a_model_that_learned_labels_is_in_the_library(
    parent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = zoo.load_model(parent)
    crystals = Crystals.from_atoms([salt(LATTICE + 0.1 * k) for k in range(8)])
    energies = (0.7 * before.evaluate(crystals).energy + 3.0).tolist()
    frames = (salt(LATTICE + 0.1 * k, energy) for k, energy in enumerate(energies))
    data = written(tmp_path / "salts.xyz", *frames)
    arguments = ("--from", str(parent), "--data", str(data), "--functional", "PBE", "--strategy", "affine")
    assert csp("train", "transfer", *arguments) == 0
    told = capsys.readouterr().out
    assert "affine on 8 labels, as asked" in told
    assert "--surrogate tiny-salts" in told
    assert csp("models", "list") == 0
    assert "tiny-salts" in capsys.readouterr().out
    found = zoo.load_model("tiny-salts")
    assert isinstance(found, Surrogate)
    torch.testing.assert_close(
        found.evaluate(crystals).energy, torch.tensor(energies, dtype=torch.float64), atol=0.02, rtol=0
    )
    assert found.label.functional == "PBE"
    card = zoo.verify("tiny-salts")
    assert card.parents == [before.label.checkpoint]
    assert found.seen == {hashed("3:1 9:1"), hashed("11:1 17:1")}
    assert csp("train", "transfer", "--from", "chgnet", *arguments[2:]) == 2
    assert "cannot be adapted to labels" in capsys.readouterr().err
    assert csp("train", "transfer", *arguments, "--replay", str(tmp_path)) == 3
    assert "no shards" in capsys.readouterr().err
