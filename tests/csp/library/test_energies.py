"""Tables of formation energies, and what is said of files that are none."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from csp.errors import InputError, MissingError
from csp.library.energies import read_energies, read_stable


def test_all_energies_or_those_of_a_split(tmp_path: Path) -> None:
    columns = {"material_id": ["a", "b", "c"], "formation_energy": [-1.0, 0.0, -2.5]}
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    pq.write_table(pa.table(columns | {"split": ["train", "val", "train"]}), tmp_path / "split.parquet")
    assert read_energies(tmp_path / "all.parquet") == {"a": -1.0, "b": 0.0, "c": -2.5}
    assert read_energies(tmp_path / "split.parquet") == {"a": -1.0, "b": 0.0, "c": -2.5}
    assert read_energies(tmp_path / "split.parquet", "train") == {"a": -1.0, "c": -2.5}
    assert read_energies(tmp_path / "split.parquet", "test") == {}
    with pytest.raises(InputError, match="no column split"):
        read_energies(tmp_path / "all.parquet", "train")


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"none\.parquet"):
        read_energies(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(InputError, match="no Parquet"):
        read_energies(tmp_path / "text.parquet")


def test_the_stable_are_those_near_the_hull_whose_distance_is_unique(tmp_path: Path) -> None:
    table = {
        "material_id": ["a", "b", "c", "d"],
        "e_above_hull": [0.0, 0.004, 0.006, 0.0],
        "e_above_hull_unique": [True, True, True, False],
    }
    pq.write_table(pa.table(table), tmp_path / "hull.parquet")
    assert read_stable(tmp_path / "hull.parquet", 0.005) == {"a", "b"}
    assert read_stable(tmp_path / "hull.parquet", 0.0) == {"a"}
    with pytest.raises(InputError, match="formation_energy"):
        read_energies(tmp_path / "hull.parquet")
