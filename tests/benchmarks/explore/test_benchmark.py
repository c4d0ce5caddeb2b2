"""The benchmark of chemical systems on a library of a few crystals, by a Lennard-Jones model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk

from benchmarks import targets
from benchmarks.explore import benchmark as module
from benchmarks.explore.benchmark import ExploreBenchmark, ExploreBenchmarkSettings
from csp.errors import InputError
from csp.library.importing import import_structures
from csp.settings import SearchSettings
from csp.systems import exploration as exploring
from csp.systems.acquisition import Level
from csp.systems.settings import ExploreSettings
from csp.systems.state import Searched
from csp.training.splits import HELD_OUT
from tests.lennard_jones import LennardJones

TINY = {
    "candidates": 30,
    "screened": 30,
    "relaxed": 10,
    "refined": 4,
    "rattled": 0,
    "max_steps": 40,
    "max_atoms": 4,
}
CAESIUM_CHLORIDE = Atoms("NaCl", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[3.1] * 3, pbc=True)
ASKED: dict[str, Any] = {
    "binaries": 1,
    "ternaries": 0,
    "searches": 1,
    "max_atoms": 2,
    "largest_cell": 4,
    "surrogate": "lennard-jones",
    "relaxer": "none",
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExploreBenchmarkSettings:
    """Of a library of Na, Cl, and NaCl in the structure that the pair potential has it in."""
    whole = ExploreSettings.search

    def search(self: ExploreSettings, formula: str, level: Level, *, exclude: bool = False) -> SearchSettings:
        small = {**TINY, "generators": ("random",)}
        return whole(self, formula, level, exclude=exclude).model_copy(update=small)

    monkeypatch.setattr(ExploreSettings, "search", search)
    monkeypatch.setattr(exploring, "load_model", lambda name, device: LennardJones())
    monkeypatch.setattr(targets, "fold", lambda name: HELD_OUT)
    cifs = tmp_path / "cifs"
    cifs.mkdir()
    crystals = {"na": bulk("Na", "fcc", a=4.7), "cl": bulk("Cl", "fcc", a=2.9), "nacl": CAESIUM_CHLORIDE}
    for name, atoms in crystals.items():
        atoms.write(cifs / f"{name}.cif")
    import_structures(cifs, tmp_path / "own.parquet", source_name="test", licence="none")
    names = [*crystals]
    table = {"material_id": names, "e_above_hull": [0.0] * 3, "e_above_hull_unique": [True] * 3}
    pq.write_table(pa.table(table), tmp_path / "stability.parquet")
    return ExploreBenchmarkSettings.read(
        library=tmp_path / "own.parquet", stability=tmp_path / "stability.parquet", **ASKED
    )


def test_what_is_left_out_is_found_again(
    settings: ExploreBenchmarkSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    summary = ExploreBenchmark.begin(settings, out, "cpu").run()
    for arm in ("gain", "even", "equal"):
        assert (summary[f"{arm}.systems"], summary[f"{arm}.known"]) == (1, 1)
        assert (summary[f"{arm}.found"], summary[f"{arm}.near"]) == (1, 1)
        assert (summary[f"{arm}.told"], summary[f"{arm}.false"]) == (1, 0)
    said = (out / "table.md").read_text(encoding="utf-8")
    for spread in ("By expected gain", "Evenly", "Evenly, after as much work as by expected gain"):
        assert (
            f"\n{spread}: of 1 known stable phases in 1 systems 1 are found as crystals, 1 (100 %) within 25 "
            "meV/atom of the hull; of 1 phases told to be stable 0 (0 %) lie more than 50 meV/atom above the "
            "published hull; 1 searches, "
        ) in said
    explored = json.loads((out / "runs" / "Na-Cl-gain" / "explore.json").read_text(encoding="utf-8"))
    assert explored["settings"]["exclude"] == ["Na-Cl"]
    (salt,) = [one for one in explored["phases"] if one["stable"] and one["formula"] == "NaCl"]
    assert salt["search"]  # no crystal of the library
    assert salt["entry"] == "nacl"  # which knows it all the same

    def explored_again(*_: Any) -> None:
        raise AssertionError("what is done is only read")

    monkeypatch.setattr(ExploreBenchmark, "_explore", explored_again)
    again = ExploreBenchmark.begin(settings, out, "cpu").run()
    assert again == summary
    with pytest.raises(InputError, match="searches"):
        ExploreBenchmark.begin(settings.model_copy(update={"searches": 2}), out, "cpu")


def test_after_so_much_work(settings: ExploreBenchmarkSettings, tmp_path: Path) -> None:
    """Quick ones cost 1, standard ones 4."""
    benchmark = ExploreBenchmark.begin(settings, tmp_path / "out", "cpu")
    exploration = exploring.Exploration.begin(
        benchmark.settings.exploration("Na-Cl", "even"), tmp_path / "run"
    )
    one = Searched(formula="NaCl", level="quick", folder="searches/NaCl-quick")
    levels = ("quick", "standard", "standard", "quick")
    made = [one.model_copy(update={"level": level}) for level in levels]
    for work, kept in ((0, 0), (1, 1), (4, 1), (5, 2), (9, 3), (100, 4)):
        assert module._first(replace(exploration, searches=made), work).searches == made[:kept]
