"""Every kind of source, with something broken in it."""

import gzip
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk, molecule, surface
from ase.db import connect
from ase.io import write as ase_write

from csp.errors import InputError, MissingError
from csp.library.importing import ImportReport, import_structures
from csp.library.library import Library
from tests.program import csp

DISORDERED = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 0.5
Cl1 Cl 0.5 0.5 0.5 1
"""


def run(source: Path, out: Path, **changes: str) -> ImportReport:
    return import_structures(source, out, **({"source_name": "lab", "licence": "CC0"} | changes))


def crystals() -> list[Atoms]:
    return [bulk("NaCl", "rocksalt", 5.6), bulk("Si", "diamond", 5.43), bulk("Mg", "hcp", 3.2, 5.2)]


def test_cif_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cifs"
    (folder / "deep").mkdir(parents=True)
    for name, atoms in zip(("salt", "silicon", "deep/magnesium"), crystals(), strict=True):
        ase_write(folder / f"{name}.cif", atoms)
    (folder / "disordered.cif").write_text(DISORDERED)
    (folder / "rubbish.cif").write_text("not a CIF at all")
    steps: list[tuple[int, int]] = []
    out = tmp_path / "library.parquet"
    report = import_structures(
        folder,
        out,
        source_name="lab",
        licence="CC0",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert report.written == 3
    assert report.skipped.keys() == {"disordered", "rubbish"}
    assert "partial" in report.skipped["disordered"]
    assert steps == [(k, 5) for k in range(1, 6)]
    library = Library.open(out)
    assert dict(zip(library.material_id, library.space_group, strict=True)) == {
        "salt": 225,
        "silicon": 227,
        "deep/magnesium": 194,
    }
    assert library.info().provenance == {("lab", "CC0"): 3}
    assert "3 crystals" in str(report)
    assert "disordered" in str(report)


def test_extended_xyz_with_a_molecule_and_a_broken_frame(tmp_path: Path) -> None:
    source = tmp_path / "frames.extxyz"
    ase_write(source, [*crystals(), molecule("H2O")])
    source.write_text(source.read_text() + '1\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T"\nPo zero 0 0\n')
    report = run(source, tmp_path / "out.parquet")
    assert report.written == 3
    assert report.skipped.keys() == {"frames-4", "frames-5"}
    assert "periodic" in report.skipped["frames-4"]
    library = Library.open(tmp_path / "out.parquet")
    for atoms, crystal in zip(crystals(), library.crystals([0, 1, 2]).atoms(), strict=True):
        assert crystal.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)
        assert np.allclose(crystal.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-5)


def test_ase_database(tmp_path: Path) -> None:
    with connect(tmp_path / "some.db") as database:
        for atoms in crystals():
            database.write(atoms)
    assert run(tmp_path / "some.db", tmp_path / "out.parquet").written == 3
    assert Library.open(tmp_path / "out.parquet").material_id.tolist() == ["some-1", "some-2", "some-3"]


def test_a_damaged_row_of_a_database_takes_nothing_with_it(tmp_path: Path) -> None:
    with connect(tmp_path / "some.db") as database:
        for atoms in (*crystals(), molecule("H2O")):
            database.write(atoms)
    with sqlite3.connect(tmp_path / "some.db") as connection:
        connection.execute("UPDATE systems SET cell = ? WHERE id = 2", (b"\0" * 70,))
        connection.execute("UPDATE systems SET positions = ? WHERE id = 3", (b"",))
    report = run(tmp_path / "some.db", tmp_path / "out.parquet")
    assert report.written == 1
    assert report.reasons == {
        "damaged row": ["some-2", "some-3"],
        "it is not periodic in three directions": ["some-4"],
    }
    assert "  2, damaged row: some-2, some-3 (some-2: it cannot be read (" in str(report)


def test_what_is_no_bulk_crystal_is_reported(tmp_path: Path) -> None:
    box = molecule("CH4", cell=[14, 14, 14], pbc=True)
    slab = surface("Al", (1, 1, 1), 3, vacuum=10, periodic=True)
    crowded = bulk("NaCl", "rocksalt", 2.2)
    mirrored = bulk("ZnS", "zincblende", 5.4)
    mirrored.set_cell(mirrored.cell.array * [1, 1, -1], scale_atoms=True)
    ase_write(tmp_path / "frames.extxyz", [box, slab, crowded, mirrored])
    report = run(tmp_path / "frames.extxyz", tmp_path / "out.parquet")
    empty = "it has an empty layer of more than 10 Å."
    assert report.skipped == {"frames-1": empty, "frames-2": empty, "frames-3": "its atoms overlap."}
    library = Library.open(tmp_path / "out.parquet")
    assert library.space_group.tolist() == [216]
    assert np.linalg.det(library.crystals([0]).atoms()[0].cell.array) > 0


def test_every_crystal_of_a_folder(tmp_path: Path) -> None:
    """Capitals, compression, moments, several blocks, and what is no CIF."""
    folder = tmp_path / "cifs"
    (folder / "deep").mkdir(parents=True)
    ase_write(folder / "a.cif", crystals()[0])
    plain = (folder / "a.cif").read_text()
    (folder / "UPPER.CIF").write_text(plain)
    (folder / "deep" / "small.cif.gz").write_bytes(gzip.compress(plain.encode()))
    (folder / "moments.mcif").write_text(plain)
    ase_write(folder / "many.cif", [*crystals(), crystals()[0]])
    (folder / "broken.cif.gz").write_bytes(b"no gzip")
    (folder / "README").write_text("")
    report = run(folder, tmp_path / "out.parquet")
    assert sorted(Library.open(tmp_path / "out.parquet").material_id) == [
        "UPPER", "a", "deep/small", "many/image0", "many/image1", "many/image2", "many/image3", "moments",
    ]  # fmt: skip
    assert report.reasons == {"unreadable file": ["broken.cif.gz"]}
    assert "1 other files of the folder" in str(report)
    assert run(folder / "many.cif", tmp_path / "out.parquet").written == 4


def test_a_frame_that_does_not_begin_ends_the_file_and_not_the_import(tmp_path: Path) -> None:
    ase_write(tmp_path / "a.extxyz", crystals())
    with (tmp_path / "a.extxyz").open("a") as file:
        file.write("two\nLattice\nNa 0 0 0\n")
    report = run(tmp_path / "a.extxyz", tmp_path / "out.parquet")
    assert report.written == 3
    assert "line 13 is not a number of atoms" in report.skipped["a-4"]


@pytest.mark.parametrize("announced", ["5", "99999999999999999999", "9" * 5000])
def test_a_frame_that_ends_early_is_reported_at_once(announced: str, tmp_path: Path) -> None:
    ase_write(tmp_path / "a.extxyz", crystals())
    with (tmp_path / "a.extxyz").open("a") as file:
        file.write(f"{announced}\nLattice\nNa 0 0 0\n")
    report = run(tmp_path / "a.extxyz", tmp_path / "out.parquet")
    assert report.written == 3
    assert "line 13 " in report.skipped["a-4"]


def test_tables_with_columns_of_other_kinds(tmp_path: Path) -> None:
    good = {"material_id": "a", "cell": [4.1, 0, 0, 0, 4.1, 0, 0, 0, 4.1], "numbers": [55.0, 17.0]}
    good["frac_coords"] = [0, 0, 0, 0.5, 0.5, 0.5]
    rows = [good, good | {"numbers": [55.5, 17.0]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert run(tmp_path / "a.parquet", tmp_path / "o.parquet").skipped == {
        "a-2": "its numbers are not whole."
    }
    rows = [good | {"spacegroup": "cubic", "source": "x"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert run(tmp_path / "a.parquet", tmp_path / "o.parquet").written == 1
    assert Library.open(tmp_path / "o.parquet").space_group.tolist() == [221]
    pq.write_table(pa.Table.from_pylist([good | {"e_above_hull": "low"}]), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="its e_above_hull is not of the type float"):
        run(tmp_path / "a.parquet", tmp_path / "o.parquet")


def test_a_target_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = tmp_path / "a.extxyz"
    ase_write(source, crystals())
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "folder", source / "inside.parquet", Path("/proc/nothing/out.parquet")):
        assert csp("library", "import", str(source), str(out), "--source", "a", "--licence", "b") == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("csp:")]
        assert str(out.parent if "folder" not in str(out) else out) in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.extxyz", "folder"]


def test_parquet_rows_keep_their_origin(tmp_path: Path) -> None:
    source = tmp_path / "rows.parquet"
    good = {
        "cell": [4.1, 0, 0, 0, 4.1, 0, 0, 0, 4.1],
        "numbers": [55, 17],
        "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5],
    }
    rows = [
        good | {"material_id": "a", "source": "theirs", "licence": "MIT"},
        good | {"material_id": "a", "source": None, "licence": None},
        good | {"material_id": "short", "frac_coords": [0, 0, 0]},
        good | {"material_id": "flat", "cell": [0] * 9},
        good | {"material_id": "overlapping", "frac_coords": [0.0] * 6},
    ]
    pq.write_table(pa.Table.from_pylist(rows), source)
    report = run(source, tmp_path / "out.parquet")
    assert report.skipped.keys() == {"short", "flat", "overlapping"}
    library = Library.open(tmp_path / "out.parquet")
    assert library.material_id.tolist() == ["a", "a-2"]
    assert library.info().provenance == {("theirs", "MIT"): 1, ("lab", "CC0"): 1}
    assert library.space_group.tolist() == [221, 221]


def test_nothing_is_left_of_an_import_that_fails(tmp_path: Path) -> None:
    source = tmp_path / "frames.extxyz"
    ase_write(source, [molecule("H2O")])
    kept = tmp_path / "out" / "kept.parquet"
    kept.parent.mkdir()
    kept.write_text("before")
    with pytest.raises(InputError, match="not periodic"):
        run(source, kept)
    ase_write(source, crystals())

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_structures(source, kept, source_name="", licence="", progress=interrupted)
    assert kept.read_text() == "before"
    assert [p.name for p in kept.parent.iterdir()] == ["kept.parquet"]


def test_wrong_sources_are_said(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with pytest.raises(MissingError, match="nothing at"):
        run(tmp_path / "absent", out)
    with pytest.raises(InputError, match="no CIF files"):
        run(tmp_path, out)
    for name, complaint in (
        ("a.txt", "no library source"),
        ("a.db", "ASE"),
        ("a.parquet", "Parquet"),
        ("a.xyz", "XYZ"),
    ):
        (tmp_path / name).write_text("rubbish rubbish")
        with pytest.raises(InputError, match=complaint):
            run(tmp_path / name, out)
    assert not out.exists()
