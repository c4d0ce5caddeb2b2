"""A run's folder as its reader meets it: found, not found, refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write

from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.cif import read_cif
from csp.report.match import match

SITES = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
POLAR = np.array([[0, 0, 0], [0, 0, 0.04], [0, 0, -0.05], [0, 0, -0.03], [0, 0, -0.03]])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three ranked ZnS: rock salt, zinc blende and again zinc blende, wider and shaken."""
    shaken = bulk("ZnS", "zincblende", a=5.7)
    shaken.positions[1] += [0.12, 0.0, 0.0]
    frames = [bulk("ZnS", "rocksalt", a=5.0), bulk("ZnS", "zincblende", a=5.5), shaken]
    for k, atoms in enumerate(frames):
        atoms.info = {"rank": k + 1}
    write(tmp_path / "structures.extxyz", frames, format="extxyz")
    write_ranked(tmp_path, "ZnS", 3)
    return tmp_path


def write_ranked(folder: Path, formula: str, n: int) -> None:
    known = {
        "n_atoms": 2,
        "spacegroup": "",
        "above_lowest_ev_per_atom": 0.1,
        "generator": "",
        "template_id": "",
    }
    rows = [{"rank": k, "file": f"structures/{k:03d}.cif", **known} for k in range(1, n + 1)]
    ranked = {"schema": 3, "formula": formula, "label": "PBE", "results": rows, "funnel": {}}
    (folder / "ranked.json").write_text(json.dumps(ranked))


def cif(folder: Path, text: str | None = None, **kind: float | str) -> Path:
    path = folder / "mine.cif"
    if text is None:
        [structure] = Crystals.from_atoms([bulk(**kind)]).structures()
        structure.to(filename=str(path), fmt="cif")
    else:
        path.write_text(text)
    return path


def test_found_at_its_rank(run: Path) -> None:
    found = match(cif(run, name="ZnS", crystalstructure="zincblende", a=5.0), run)
    first, second = found.matches
    assert (found.rank, found.n_ranked, found.space_group) == (2, 3, 216)
    assert (first.file, first.space_group) == ("structures/002.cif", 216)
    assert first.rms == pytest.approx(0.0, abs=1e-3)
    assert first.volume_ratio == pytest.approx(1.1**3, rel=1e-4)
    assert (second.rank, second.space_group) == (3, 44)  # moved along a cubic axis: Imm2
    assert second.volume_ratio == pytest.approx(1.14**3, rel=1e-4)
    assert str(found).splitlines() == [
        "The given crystal is F-43m (216) within 0.1 Å. Of 3 ranked crystals of ZnS it matches:",
        "",
        "rank  space group  RMS     volume  file",
        "2     F-43m (216)  0.0000  1.331   structures/002.cif",
        "3     Imm2 (44)    0.0211  1.482   structures/003.cif",
        "",
        "RMS displacement of the sites in (V/N)^(1/3); volume per atom, the given crystal's being 1.",
    ]


def test_a_match_of_another_group_is_said(tmp_path: Path) -> None:
    """Tetragonal BaTiO3 matches the cubic one within the tolerances, which is no answer to which it is."""
    cubic = Atoms("BaTiO3", scaled_positions=SITES, cell=[4.0] * 3, pbc=True)
    tetragonal = Atoms("BaTiO3", scaled_positions=SITES + POLAR, cell=[3.99, 3.99, 4.1], pbc=True)
    [structure] = Crystals.from_atoms([tetragonal]).structures()
    structure.to(filename=str(tmp_path / "p4mm.cif"), fmt="cif")
    for frames, words in (
        ([cubic, tetragonal], "and the first match with the given one is 2."),
        ([cubic], "and no match has the given one."),
    ):
        for k, atoms in enumerate(frames):
            atoms.info = {"rank": k + 1}
        write(tmp_path / "structures.extxyz", frames, format="extxyz")
        write_ranked(tmp_path, "BaTiO3", len(frames))
        found = match(tmp_path / "p4mm.cif", tmp_path)
        assert [m.space_group for m in found.matches] == [221, 99][: len(frames)]
        assert str(found).endswith(
            "Rank 1 has another space group than the given crystal, Pm-3m (221): it matches within the "
            f"tolerances alone, {words}"
        )


def test_rms_of_a_known_displacement(run: Path) -> None:
    """Two atoms moved apart by d are each d/2 from the mean."""
    frames = [bulk("ZnS", "zincblende", a=5.0)]
    frames[0].positions[1] += [0.2, 0.0, 0.0]
    frames[0].info = {"rank": 1}
    write(run / "structures.extxyz", frames, format="extxyz")
    write_ranked(run, "ZnS", 1)
    found = match(cif(run, name="ZnS", crystalstructure="zincblende", a=5.0), run)
    assert found.matches[0].rms == pytest.approx(0.1 / (125 / 8) ** (1 / 3), rel=1e-4)


def test_not_found(run: Path) -> None:
    found = match(cif(run, name="ZnS", crystalstructure="cesiumchloride", a=3.0), run)
    assert found.rank is None
    assert str(found) == (
        "The given crystal is Pm-3m (221) within 0.1 Å. It is not among the 3 ranked crystals of ZnS."
    )


def test_a_run_that_ranked_nothing(run: Path) -> None:
    write_ranked(run, "ZnS", 0)
    (run / "structures.extxyz").write_text("")
    assert match(cif(run, name="ZnS", crystalstructure="zincblende", a=5.0), run).n_ranked == 0


def test_refuses_in_one_sentence(run: Path) -> None:
    ordered = cif(run, name="ZnS", crystalstructure="zincblende", a=5.0).read_text()
    with pytest.raises(InputError, match="no file"):
        match(run / "none.cif", run)
    with pytest.raises(InputError, match="holds no crystal structure"):
        match(cif(run, "data_nothing\n"), run)
    with pytest.raises(InputError, match="partial occupancies"):
        match(cif(run, "\n".join(partly(line) for line in ordered.splitlines())), run)
    with pytest.raises(InputError, match="is GaAs, the prediction is of ZnS"):
        match(cif(run, name="GaAs", crystalstructure="zincblende", a=5.6), run)
    good = cif(run, ordered)
    with pytest.raises(InputError, match="no finished prediction"):
        match(good, run / "elsewhere")
    (run / "structures.extxyz").unlink()
    with pytest.raises(InputError, match="damaged"):
        match(good, run)
    (run / "ranked.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        match(good, run)


def partly(line: str) -> str:
    """A CIF's line with the occupancy of zinc halved."""
    columns = line.split()
    return " ".join([*columns[:-1], "0.5"]) if len(columns) == 7 and columns[0] == "Zn" else line


def test_reads_what_was_written(tmp_path: Path) -> None:
    crystal = read_cif(cif(tmp_path, name="ZnS", crystalstructure="zincblende", a=5.0))
    assert sorted(crystal.numbers.tolist()) == [16, 30]
    assert math.isclose(float(crystal.volumes), 125 / 4, rel_tol=1e-6)
