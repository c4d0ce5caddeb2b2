"""Folders of known crystals: what is read, and what is left out by name."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from benchmarks.ground_truth import PUBLISHED_TOTALS, TARGETS35, read_truths
from benchmarks.library.server import Served, serving
from csp.crystallography.symmetry import space_groups
from csp.errors import InputError, MissingError, ProviderError
from csp.library.library import Library
from csp.library.providers import Provider
from csp.matching.matcher import Matcher
from tests.places import SHARED, needs

THIRTY_FIVE = SHARED / "data" / "benchmark35"
ENTRIES = SHARED / "data" / "mp_benchmark35.parquet"

Write = Callable[[str, Structure], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_cif(name: str, structure: Structure) -> Path:
        path = tmp_path / name
        path.write_text(str(CifWriter(structure)), encoding="utf-8")
        return path

    return write_cif


def rocksalt(cation: object, a: float = 5.6) -> Structure:
    """In the conventional cell."""
    faces = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    anions = [[x + 0.5, y, z] for x, y, z in faces]
    return Structure(Lattice.cubic(a), [cation] * 4 + ["Cl"] * 4, faces + anions)


def test_reads_formula_and_primitive_cell(tmp_path: Path, write: Write) -> None:
    write("rocksalt.cif", rocksalt("Na"))
    (truth,) = read_truths(tmp_path).truths
    assert (truth.name, truth.formula, truth.published) == ("rocksalt", "NaCl", {})
    assert truth.crystal.n_atoms.tolist() == [2]
    assert float(truth.crystal.volumes) == pytest.approx(5.6**3 / 4, rel=1e-4)
    assert space_groups(truth.crystal) == [225]


def test_bad_files_are_named_and_the_rest_go_on(tmp_path: Path, write: Write) -> None:
    write("good.cif", rocksalt("K"))
    write("mixed.cif", rocksalt({"Na": 0.5, "K": 0.5}))
    (tmp_path / "empty.cif").write_text("")
    (tmp_path / "prose.cif").write_text("data_x\n_cell_length_a 5\n")
    write("first.cif", rocksalt("Rb"))
    write("second.cif", rocksalt("Rb", 6.9))
    truths = read_truths(tmp_path)
    assert [truth.name for truth in truths.truths] == ["good"]
    why = {problem.name: problem.why for problem in truths.problems}
    assert why.keys() == {"mixed.cif", "empty.cif", "prose.cif", "first.cif and second.cif"}
    assert "partial" in why["mixed.cif"]
    assert (why["empty.cif"], why["prose.cif"]) == ("it holds no crystal structure", "it lists no atoms")
    assert "RbCl" in why["first.cif and second.cif"]


def test_nothing_to_search_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no folder"):
        read_truths(tmp_path / "absent")
    with pytest.raises(InputError, match="no CIF files"):
        read_truths(tmp_path)
    (tmp_path / "empty.cif").write_text("")
    with pytest.raises(InputError, match=r"empty\.cif"):
        read_truths(tmp_path)


def test_marks_and_order_of_the_published_table(tmp_path: Path, write: Write) -> None:
    for name in ("Na", "K", "Rb"):
        write(f"{name}.cif", rocksalt(name))
    header = "printed_formula,cif,space_group_aware,metric_learning,template,uspex\n"
    (tmp_path / "table1.csv").write_text(header + "RbCl,Rb.cif,0,1,1,0\nNaCl,Na.cif,1,1,0,1\n")
    truths = read_truths(tmp_path)
    assert [truth.name for truth in truths.truths] == ["Rb", "Na", "K"]
    assert truths.truths[0].published == {
        "space_group_aware": 0,
        "metric_learning": 1,
        "template": 1,
        "uspex": 0,
    }
    assert truths.truths[2].published == {}
    (tmp_path / "table1.csv").write_text("cif,uspex\nNa.cif,yes\n")
    with pytest.raises(InputError, match=r"table1\.csv"):
        read_truths(tmp_path)


def test_choosing(tmp_path: Path, write: Write) -> None:
    for name in ("Na", "K", "Rb"):
        write(f"{name}.cif", rocksalt(name))
    truths = read_truths(tmp_path)
    assert [t.name for t in truths.choose(["Rb", "K"])] == ["K", "Rb"]
    assert [t.name for t in truths.choose(limit=2)] == ["K", "Na"]
    with pytest.raises(InputError, match="'Cs'"):
        truths.choose(["Cs"])


@needs(THIRTY_FIVE)
def test_the_thirty_five() -> None:
    truths = read_truths(THIRTY_FIVE)
    assert not truths.problems
    with (THIRTY_FIVE / "table1.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [f"{truth.name}.cif" for truth in truths.truths] == [row["cif"] for row in rows]
    sums = {m: sum(truth.published[m] for truth in truths.truths) for m in PUBLISHED_TOTALS}
    assert sums == {"space_group_aware": 17, "metric_learning": 20, "template": 33, "uspex": 14}
    size = {truth.name: int(truth.crystal.n_atoms) for truth in truths.truths}
    assert (size["Cd3As2"], size["C"], size["SrTiO3"]) == (80, 4, 10)


@needs(THIRTY_FIVE)
@needs(ENTRIES)
def test_the_thirty_five_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider has them all, and nearly all are the crystals that were published."""
    with pytest.raises(ProviderError, match="CSP_OFFLINE"):
        read_truths(TARGETS35, cache=tmp_path)
    monkeypatch.delenv("CSP_OFFLINE")  # the loopback interface alone is asked
    served = Served(Library.open(ENTRIES))
    with serving(served) as url:
        asked = read_truths(TARGETS35, Provider("mp", url, "Materials Project"), tmp_path)
        count = len(served.requests)
        read_truths(TARGETS35, Provider("mp", url, "Materials Project"), tmp_path)
        assert len(served.requests) == count
    assert not asked.problems
    known = read_truths(THIRTY_FIVE).truths
    published = {truth.name: truth.crystal for truth in known}
    assert [(t.name, t.formula, t.published) for t in asked.truths] == [
        (t.name, t.formula, t.published) for t in known
    ]
    other = [
        truth.name
        for truth in asked.truths
        if not Matcher.DEFAULT.rms(published[truth.name], truth.crystal).isfinite().all()
    ]
    assert other == []


def test_tables_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSP_OFFLINE")
    table = tmp_path / "some.csv"
    table.write_text("name,formula\nsalt,NaCl\n")
    with pytest.raises(InputError, match="needs the columns name, formula, material_id, spacegroup"):
        read_truths(table)
    salt = "aflow:AB_cF8_225_a_b-001"
    table.write_text(
        "name,formula,material_id,spacegroup\n"
        f"salt,NaCl,{salt},225\nwrong,NaCl,aflow:AB_hP4_186_b_b-001,225\ngone,NaCl,none-1,225\n"
    )
    with serving(Served(Library.open())) as url:
        truths = read_truths(table, Provider("here", url, "This machine"), tmp_path)
    assert [truth.formula for truth in truths.truths] == ["NaCl"]
    assert [str(problem) for problem in truths.problems] == [
        "wrong: aflow:AB_hP4_186_b_b-001 is in space group 186 now",
        "gone: This machine has no none-1",
    ]
