"""The training flow as a plain function, and its form."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prefect.utilities.callables import parameter_schema

from csp.errors import InputError
from csp.training.checkpoints import checkpoints
from flows.train import train_surrogate
from surrogates.transformer.network import SIZES


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rock salt of many volumes, with a parabola for its energy."""
    folder, n = tmp_path_factory.mktemp("tables"), 24
    lengths = np.linspace(2.6, 3.4, n)
    ids = [f"m{k}" for k in range(n)]
    cells = [(length * (np.ones((3, 3)) - np.eye(3))).flatten().astype(np.float32) for length in lengths]
    structures = {
        "material_id": ids,
        "cell": cells,
        "numbers": pa.array([[11, 17]] * n, pa.list_(pa.int32())),
        "frac_coords": [np.array([0, 0, 0, 0.5, 0.5, 0.5], np.float32)] * n,
    }
    energies = {
        "material_id": ids,
        "formation_energy": (lengths - 3.0) ** 2 - 2.0,
        "split": ["val" if k % 4 == 0 else "train" for k in range(n)],
    }
    pq.write_table(pa.table(structures), folder / "structures.parquet")
    pq.write_table(pa.table(energies), folder / "energies.parquet")
    return {name: folder / f"{name}.parquet" for name in ("structures", "energies")}


def test_a_training_is_gone_on_with_in_its_folder(tables: dict[str, Path], tmp_path: Path) -> None:
    train_surrogate.fn(**tables, steps=3, minutes=1e-9, folder=tmp_path)
    begun = json.loads((checkpoints(tmp_path)[-1] / "about.json").read_text())
    assert begun["step"] < 3
    errors = train_surrogate.fn(**tables, steps=3, folder=tmp_path)
    assert begun["recipe"]["steps"] == 3
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000003"]
    assert errors.keys() == {"formation"}
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_said_before_anything_is_loaded(tables: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no .*none\.parquet"):
        train_surrogate.fn(tmp_path / "none.parquet", tables["energies"], folder=tmp_path)
    with pytest.raises(InputError, match="no shards"):
        train_surrogate.fn(**tables, virtual=tmp_path, folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_form_offers_the_sizes_there_are() -> None:
    shown = parameter_schema(train_surrogate.fn).model_dump()["properties"]
    assert shown["size"]["enum"] == list(SIZES)
    assert all("description" in field for field in shown.values())
