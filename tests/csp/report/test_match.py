"""A run's folder as its reader meets it: found, not found, refused."""

import json
import math
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from csp.crystals import Crystals
from csp.errors import InputError
from csp.library.cif import read_cif
from csp.report.match import match


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three ranked ZnS: rock salt, zinc blende and again zinc blende, wider and shaken."""
    shaken = bulk("ZnS", "zincblende", a=5.7)
    shaken.positions[1] += [0.12, 0.0, 0.0]
    frames = [bulk("ZnS", "rocksalt", a=5.0), bulk("ZnS", "zincblende", a=5.5), shaken]
    for k, atoms in enumerate(frames):
        atoms.info = {"rank": k + 1}
    write(tmp_path / "structures.extxyz", frames, format="extxyz")
    results = [{"rank": k, "file": f"structures/{k:03d}.cif"} for k in (1, 2, 3)]
    (tmp_path / "ranked.json").write_text(json.dumps({"formula": "ZnS", "results": results}))
    return tmp_path


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
    assert (found.rank, found.file, found.also, found.n_ranked) == (2, "structures/002.cif", (3,), 3)
    assert found.rms == pytest.approx(0.0, abs=1e-3)
    assert found.volume_ratio == pytest.approx(1.1**3, rel=1e-4)
    assert "Rank 2 of 3" in str(found)


def test_rms_of_a_known_displacement(run: Path) -> None:
    """Two atoms moved apart by d are each d/2 from the mean."""
    ranked = json.loads((run / "ranked.json").read_text())
    frames = [bulk("ZnS", "zincblende", a=5.0)]
    frames[0].positions[1] += [0.2, 0.0, 0.0]
    frames[0].info = {"rank": 1}
    write(run / "structures.extxyz", frames, format="extxyz")
    (run / "ranked.json").write_text(json.dumps({**ranked, "results": ranked["results"][:1]}))
    found = match(cif(run, name="ZnS", crystalstructure="zincblende", a=5.0), run)
    assert found.rms == pytest.approx(0.1 / (125 / 8) ** (1 / 3), rel=1e-4)


def test_not_found(run: Path) -> None:
    found = match(cif(run, name="ZnS", crystalstructure="cesiumchloride", a=3.0), run)
    assert found.rank is None
    assert str(found) == "Not among the 3 ranked crystals of ZnS."


def test_a_run_that_ranked_nothing(run: Path) -> None:
    (run / "ranked.json").write_text(json.dumps({"formula": "ZnS", "results": []}))
    (run / "structures.extxyz").write_text("")
    assert match(cif(run, name="ZnS", crystalstructure="zincblende", a=5.0), run).n_ranked == 0


def test_refuses_in_one_sentence(run: Path) -> None:
    ordered = cif(run, name="ZnS", crystalstructure="zincblende", a=5.0).read_text()
    with pytest.raises(InputError, match="no file"):
        match(run / "none.cif", run)
    with pytest.raises(InputError, match="no crystal structure"):
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
