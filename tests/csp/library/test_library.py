"""The library: what is found is compared with a plain loop over the entries."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from csp.crystallography.symmetry import primitive, space_groups
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.library.schema import library_schema
from csp.target import Target
from tests.places import SHARED, needs

MATERIALS_PROJECT = SHARED / "data" / "mp_structures.parquet"


def compositions(library: Library) -> list[dict[int, int]]:
    """Coprime amounts of each entry, one by one."""
    found = []
    for _, _, numbers in library.crystals(np.arange(len(library.material_id))).arrays():
        amounts = Counter(numbers.tolist())
        divisor = math.gcd(*amounts.values())
        found.append({z: n // divisor for z, n in amounts.items()})
    return found


@pytest.fixture(scope="module")
def aflow() -> Library:
    return Library.open()


def write(path: Path, **changes: object) -> Path:
    """A library of NaCl and CsCl."""
    rows = {
        "material_id": ["a", "b"],
        "formula": ["NaCl", "CsCl"],
        "spacegroup": [225, 221],
        "cell": [[0, 2.8, 2.8, 2.8, 0, 2.8, 2.8, 2.8, 0], [4.1, 0, 0, 0, 4.1, 0, 0, 0, 4.1]],
        "numbers": [[11, 17], [55, 17]],
        "frac_coords": [[0, 0, 0, 0.5, 0.5, 0.5]] * 2,
        "source": ["mine", "yours"],
        "licence": ["CC0", "CC BY 4.0"],
    } | changes
    schema = library_schema()
    pq.write_table(
        pa.table({k: pa.array(v, schema.field(k).type) for k, v in rows.items() if v is not None}), path
    )
    return path


def test_embedded_prototypes(aflow: Library) -> None:
    assert len(aflow) == 1948
    assert len(set(aflow.material_id)) == 1948
    assert "aflow:AB_hP6_154_a_b-001" in aflow.material_id
    assert aflow.info().provenance.keys() == {(aflow.origin[0][0], "Apache-2.0")}
    names = dict(zip(aflow.material_id, aflow.about["name"], strict=True))
    assert names["aflow:AB3C2_cI96_206_c_e_ad-001"] == "AlLi3N2 (E9d)"


def test_labels_of_the_prototypes_are_their_space_groups(aflow: Library) -> None:
    found = np.array(space_groups(aflow.crystals(aflow.all_rows()), 1e-3))
    assert (found == aflow.space_group).all()


def test_own_entries_are_no_stand_ins(aflow: Library) -> None:
    own = aflow.own_rows(Target.parse("NaCl"))
    assert set(aflow.space_group[own]) == {225}
    ammonium_nitrate = Target.parse("HeNe")  # whose ions are written so
    assert len(aflow) > len(aflow.excluding(ammonium_nitrate))
    assert not len(aflow.own_rows(ammonium_nitrate))


def test_rows_are_those_of_a_plain_loop(aflow: Library) -> None:
    amounts = compositions(aflow)
    for anonymous in {tuple(sorted(a.values())) for a in amounts}:
        expected = [i for i, a in enumerate(amounts) if tuple(sorted(a.values())) == anonymous]
        assert aflow.rows(anonymous).tolist() == expected
        for row, elements in zip(expected, aflow.elements(anonymous).tolist(), strict=True):
            assert elements == sorted(amounts[row], key=lambda z: (amounts[row][z], z))
    assert aflow.rows((1, 97)).shape == (0,)
    assert aflow.elements((1, 2, 3, 4, 5, 6, 7)).shape == (0, 7)


def test_excluding_hides_every_formula_unit_multiple(aflow: Library) -> None:
    target = Target.parse("SiO2")
    view = aflow.excluding(target)
    silica = [i for i, a in enumerate(compositions(aflow)) if a == {14: 1, 8: 2}]
    assert len(silica) > 2
    assert len(view) == len(aflow) - len(silica)
    assert set(aflow.rows((1, 2))) - set(view.rows((1, 2))) == set(silica)
    assert set(view.all_rows()) == set(range(1948)) - set(silica)
    assert view.fingerprint != aflow.fingerprint
    again = view.excluding(Target.parse("NaCl"))
    assert not set(again.all_rows()) & set(silica)
    assert len(again) < len(view)
    # the same amounts on other elements stay
    assert len(aflow.excluding(Target.parse("OSi2"))) == len(aflow)


def test_crystals_keep_the_order_asked_for(aflow: Library) -> None:
    rows = np.array([200, 3, 3, 77])
    together = aflow.crystals(rows)
    for b, row in enumerate(rows):
        alone = aflow.crystals([int(row)])
        assert together[b].ids() == alone.ids()
    assert len(aflow.crystals([])) == 0


def test_group_z_counts_against_the_primitive_cells(aflow: Library) -> None:
    target = Target.parse("SiO2", max_atoms=12)
    rows = aflow.rows(target.anonymous)
    z = primitive(aflow.crystals(rows), 0.05).n_atoms.numpy() // 3
    expected = Counter(
        (int(aflow.space_group[r]), int(k)) for r, k in zip(rows, z, strict=True) if 3 * k <= 12
    )
    group, units, counts = aflow.group_z_counts(target)
    assert (
        dict(zip(zip(group.tolist(), units.tolist(), strict=True), counts.tolist(), strict=True)) == expected
    )
    only = aflow.group_z_counts(Target.parse("SiO2", z=2, space_groups=frozenset({136})))
    assert set(only[0]) == {136}
    assert set(only[1]) == {2}


def test_files_round_trip(tmp_path: Path) -> None:
    library = Library.open(write(tmp_path / "two.parquet"))
    assert library.name == "two"
    assert library.space_group.tolist() == [225, 221]
    assert library.info().provenance == {("mine", "CC0"): 1, ("yours", "CC BY 4.0"): 1}
    assert library.info().elements == ("Na", "Cl", "Cs")
    assert library.crystals([1]).volumes.item() == pytest.approx(4.1**3, rel=1e-6)
    assert library.excluding(Target.parse("CsCl")).rows((1, 1)).tolist() == [0]
    same = Library.open(write(tmp_path / "other_name.parquet"))
    changed = Library.open(write(tmp_path / "changed.parquet", numbers=[[11, 17], [55, 35]]))
    assert same.fingerprint == library.fingerprint != changed.fingerprint
    unnamed = Library.open(write(tmp_path / "old.parquet", source=None, licence=None))
    assert unnamed.info().provenance == {("old", ""): 2}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"numbers": [[11, 17], [55]]}, "unequal lengths"),
        ({"numbers": [[11, 17], [55, 119]]}, "atomic numbers"),
        ({"numbers": [[], [55, 17]], "frac_coords": [[], [0] * 6]}, "without atoms"),
        ({"spacegroup": [0, 221]}, "space groups"),
        ({"spacegroup": [None, 221]}, "missing values"),
        ({"cell": [[0.0] * 9, [4.1, 0, 0, 0, 4.1, 0, 0, 0, 4.1]]}, "without volume"),
        ({"frac_coords": [[0, 0, 0, 0, 0, float("nan")], [0] * 6]}, "not numbers"),
        ({"cell": None}, "no column cell"),
    ],
)
def test_damaged_rows_are_said(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Library.open(write(tmp_path / "bad.parquet", **changes))


def test_missing_or_damaged_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no library at"):
        Library.open(tmp_path / "nothing.parquet")
    path = write(tmp_path / "cut.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged"):
        Library.open(path)
    path.write_text("formula,energy\n")
    with pytest.raises(InputError, match="damaged"):
        Library.open(path)


@needs(MATERIALS_PROJECT)
def test_materials_project_library() -> None:
    library = Library.open(MATERIALS_PROJECT)
    assert len(library) == 152_427
    rows = np.random.default_rng(0).choice(len(library), 300, replace=False)
    formulas = pq.read_table(MATERIALS_PROJECT, columns=["formula"])["formula"].take(rows).to_pylist()
    numbers, counts = library.compositions(rows)
    for formula, z, n in zip(formulas, numbers, counts, strict=True):
        target = Target.parse(formula, max_atoms=500)
        assert dict(zip(target.numbers, target.counts, strict=True)) == dict(
            zip(z[n > 0].tolist(), n[n > 0].tolist(), strict=True)
        )
