"""The embedded prototypes against those that others built of the same labels and parameters."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csp.crystallography.symmetry import space_groups
from csp.errors import InputError, MissingError
from csp.library.build_prototypes import build, built_crystal, species
from csp.library.library import Library
from csp.matching.matcher import Matcher
from csp.target import Target
from tests.places import SHARED, needs

OTHERS = SHARED / "data" / "aflow_prototypes.parquet"
CLOSE = Matcher(ltol=0.001, stol=0.01, angle_tol=0.1, scale=False)


def corundum(**changes: Any) -> dict[str, Any]:
    """Al2O3 on rhombohedral axes, as the encyclopedia has it."""
    return {
        "label": "A2B3_hR10_167_c_e-001",
        "title": "Corundum ($\\alpha$-Al$_{2}$O$_{3}$, $D5_{1}$) Structure",
        "prototype": "Al2O3",
        "number_of_species": 2,
        "pearson_symbol": "hR10",
        "space_group_number": 167,
        "parameter_symbols": ["a", "c/a", "x1", "x2"],
        "parameter_values": [4.7607, 2.7289, 0.35216, 0.55624],
    } | changes


def write(folder: Path, *infos: dict[str, Any]) -> Path:
    for info in infos:
        place = folder / "aflow_util" / "aflow_prototype_encyclopedia" / "data" / info["label"]
        place.mkdir(parents=True)
        (place / "info.json").write_text(json.dumps(info))
    return folder


def test_corundum() -> None:
    crystal = built_crystal(corundum(), ["Al", "O"])
    assert space_groups(crystal, 1e-3) == [167]
    assert float(crystal.volumes) == pytest.approx(3**0.5 / 2 * 4.7607**3 * 2.7289 / 3)
    [structure] = crystal.structures()
    assert sorted(len(structure.get_neighbors(site, 2.1)) for site in structure) == [4] * 6 + [6] * 4


def test_free_coordinates_of_hexagonal_axes() -> None:
    on_hexagonal = corundum(
        parameter_symbols=["a", "c/a", "z1", "x2"], parameter_values=[4.7607, 2.7289, 0.35216, 0.55624]
    )
    assert space_groups(built_crystal(on_hexagonal, ["Al", "O"]), 1e-3) == [167]
    with pytest.raises(InputError, match="position c has other free coordinates than y"):
        built_crystal(corundum(parameter_symbols=["a", "c/a", "y1", "x2"]), ["Al", "O"])


def test_what_fails_the_checks_is_left_out(tmp_path: Path) -> None:
    crowded = corundum(label="A2B3_hR10_167_c_e-002", parameter_values=[4.7607, 2.7289, 0.26, 0.55624])
    wrong_size = corundum(label="A2B3_hR10_167_c_e-003", pearson_symbol="hR12")
    mixed = corundum(label="A2B3_hR10_167_c_e-004", prototype="(Al,Cr)2O3")
    rows, left_out = build(write(tmp_path, corundum(), crowded, wrong_size, mixed))
    assert [row["material_id"][-3:] for row in rows] == ["001", "004"]
    assert [row["stand_in"] for row in rows] == [False, True]
    assert rows[0]["name"] == "Corundum (α-Al2O3, D51)"
    assert "Å apart" in left_out[crowded["label"]]
    assert left_out[wrong_size["label"]] == "it has 10 atoms in place of 12"
    assert species(mixed) == (["He", "Ne"], True)
    with pytest.raises(MissingError, match="holds no prototypes"):
        build(tmp_path / "nothing")


@needs(OTHERS)
def test_same_crystals_as_others_built() -> None:
    ours, theirs = Library.open(), Library.open(OTHERS)
    place = {name: row for row, name in enumerate(ours.material_id)}
    assert set(theirs.material_id) <= set(place)
    rows = np.array([place[name] for name in theirs.material_id])
    assert (ours.space_group[rows] == theirs.space_group).all()
    ours_volume, theirs_volume = ours.crystals(rows).volumes, theirs.crystals(theirs.all_rows()).volumes
    assert ours_volume.numpy() == pytest.approx(theirs_volume.numpy(), rel=1e-5)
    some = np.flatnonzero((theirs.n_atoms <= 40) & ~ours.stand_in(rows))[::7]
    for row in some.tolist():
        assert CLOSE.fits(theirs.crystals([row]), ours.crystals([int(rows[row])])).all(), theirs.material_id[
            row
        ]


def test_every_ratio_of_common_structure_types_is_there() -> None:
    library = Library.open()
    for formula in ("MoS2", "CsCl", "SrTiO3", "MgAl2O4", "Al2O3", "CaWO4"):
        assert len(library.rows(Target.parse(formula).anonymous)) > 10
