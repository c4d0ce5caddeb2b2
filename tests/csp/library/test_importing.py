"""Every kind of source, with something broken in it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.db import connect
from ase.io import write as ase_write

from csp.errors import InputError, MissingError
from csp.library.importing import ImportReport, import_structures
from csp.library.library import Library

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
