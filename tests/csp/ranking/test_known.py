"""Which crystals are known: as entries, by their structure type, or not at all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.rows import Entry, library_rows
from csp.ranking.known import KnownAs, KnownCrystals
from csp.target import Target
from tests.places import SHARED, needs

STRUCTURES = SHARED / "data" / "mp_structures.parquet"


def salt(a: float = 5.64, numbers: tuple[int, int] = (11, 17)) -> Crystals:
    cell = a / 2 * (np.ones((3, 3)) - np.eye(3))
    return Crystals.from_arrays([cell], [[[0, 0, 0], [0.5, 0.5, 0.5]]], [list(numbers)])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Rock salt as an entry with all that a source may say, and KCl of another source."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from csp.library.schema import library_schema

    rows = library_rows(
        [
            Entry("a-1", salt(5.7), source="A (2018)", about={"e_above_hull": 0.0, "experimental": True}),
            Entry("b-1", salt(6.3, (19, 17)), source="B"),
        ]
    ).rows
    pq.write_table(pa.Table.from_pylist(rows, schema=library_schema()), tmp_path / "two.parquet")
    return Library.open(tmp_path / "two.parquet")


def test_known_by_name_and_by_type(library: Library) -> None:
    known = KnownCrystals(Target.parse("NaCl"), library)
    assert known.sentence == "The library has 1 entry of NaCl, among 2 of its ratio."
    told = known.of(salt())
    assert [str(entry) for entry in told.known_as] == ["a-1 (A, 0 meV/atom above its hull, made)"]
    assert told.known_as[0] == KnownAs("a-1", "A (2018)", 0.0, True)
    assert told.prototype == "AB_cF8_225_a_b (Rock Salt/Halite (NaCl, B1))"
    assert (told.novelty, told.same_type_as) == ("known", "")

    other = KnownCrystals(Target.parse("LiF"), library)
    told = other.of(salt(4.0, (3, 9)))
    assert other.sentence == "The library has no entry of LiF, and 2 of its ratio."
    assert (told.novelty, told.same_type_as) == ("known type", "aflow:AB_cF8_225_a_b-001")
    without = KnownCrystals(Target.parse("NaCl"), library, "Library: mine.", left_out=True)
    assert without.sentence.startswith("Library: mine. It has 1 entry of NaCl, among 2 of its ratio; ")
    assert without.of(salt()).novelty == "known"
    hidden = KnownCrystals(Target.parse("NaCl"), library.excluding(Target.parse("NaCl")))
    assert hidden.of(salt()).novelty == "known type"


def test_a_new_crystal_has_a_label_all_the_same(library: Library) -> None:
    cell = torch.tensor([[3.0, 0.2, 0.1], [0.4, 4.1, 0.3], [0.2, 0.5, 5.3]])
    crystal = Crystals.from_arrays([cell.numpy()], [[[0, 0, 0], [0.41, 0.33, 0.52]]], [[11, 17]])
    told = KnownCrystals(Target.parse("NaCl"), library).of(crystal)
    assert (told.novelty, told.known_as, told.same_type_as) == ("new", (), "")
    assert told.prototype == "AB_aP2_1_a_a"


def test_elements_may_be_exchanged_either_way(library: Library) -> None:
    """Caesium chloride and its partner are one type; so is anti-fluorite of an A2B where fluorite is AB2."""
    encyclopedia = Library.open()
    names = dict(zip(encyclopedia.material_id.tolist(), range(len(encyclopedia.material_id)), strict=True))
    fluorite = encyclopedia.crystals([names["aflow:AB2_cF12_225_a_c-001"]])
    swap = {20: 8, 9: 3}
    antifluorite = Crystals(
        fluorite.cell,
        fluorite.frac,
        torch.tensor([swap[z] for z in fluorite.numbers.tolist()]),
        fluorite.offsets,
    )
    told = KnownCrystals(Target.parse("Li2O"), library).of(antifluorite)
    assert told.same_type_as == "aflow:AB2_cF12_225_a_c-001"
    assert "Fluorite" in told.prototype


def distorted(crystal: Crystals, shift: float) -> Crystals:
    """Each coordinate moved by chance, Å."""
    moved = np.random.default_rng(0).normal(scale=shift, size=crystal.frac.shape)
    frac = crystal.frac + torch.from_numpy(moved) @ torch.linalg.inv(crystal.cell[0].double())
    return Crystals(crystal.cell, frac.to(crystal.frac), crystal.numbers, crystal.offsets)


def test_a_distorted_crystal_is_of_its_type(library: Library) -> None:
    """Rhombohedral perovskite: by the tolerance with which its group is reported, and with none left."""
    encyclopedia = Library.open()
    [row] = np.flatnonzero(encyclopedia.material_id == "aflow:AB3C_hR10_167_b_e_a-001")
    entry = encyclopedia.crystals([row])
    strontium = torch.tensor([{28: 22, 59: 38, 8: 8}[z] for z in entry.numbers.tolist()])
    crystal = Crystals(entry.cell, entry.frac, strontium, entry.offsets)
    target = Target.parse("SrTiO3")
    for shift, prototype in ((0.0, "AB3C_hR10_167_b_e_a (PrNiO3"), (0.02, "AB3C_hR10_167"), (0.08, "")):
        told = KnownCrystals(target, library, symprec=0.1).of(distorted(crystal, shift))
        assert (told.novelty, told.same_type_as) == ("known type", "aflow:AB3C_hR10_167_b_e_a-001")
        assert told.prototype.startswith(prototype)
    assert told.prototype == "A3BC_aP10_1_6a_2a_2a"  # its own, not one of a higher symmetry


@needs(STRUCTURES)
def test_every_entry_of_a_composition_knows_itself() -> None:
    library = Library.open(STRUCTURES)
    target = Target.parse("MoS2")
    known = KnownCrystals(target, library)
    for row in known.own.tolist():
        told = known.of(library.crystals([row]))
        assert str(library.material_id[row]) in {entry.id for entry in told.known_as}
    [molybdenite] = [row for row in known.own.tolist() if library.material_id[row] == "mp-2815"]
    assert "Molybdenite" in known.of(library.crystals([molybdenite])).prototype
