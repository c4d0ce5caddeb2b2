"""What is known of a composition, counted on real crystals by a real search."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.known.benchmark import Kept, lowest_of, measure, summary
from csp.errors import InputError
from tests.places import SHARED, needs

LIBRARY = SHARED / "data" / "mp_structures.parquet"
ENERGIES = SHARED / "data" / "mp_formation_energy.parquet"


def test_the_lowest_of_those_with_an_energy() -> None:
    assert lowest_of(["a", "b", "c"], {"b": -0.1, "c": -0.2}) == 2
    assert lowest_of(["a"], {"b": 0.1}) is None


def test_near_is_first_or_at_most_five_mev() -> None:
    places = [(1, 0.0), (2, 0.004), (2, 0.006), (None, None)]
    found = summary([Kept("X", 3, 1, 2, 2, "id", rank, above, 1.0) for rank, above in places])
    assert found["lowest_first"] == 1
    assert found["lowest_first_or_within_5_mev"] == 2
    assert found["lowest_without_rank"] == 1
    assert (found["entries"], found["distinct"], found["distinct_relaxed"]) == (12, 8, 8)


@pytest.mark.slow
@needs(ENERGIES)
@needs(LIBRARY)
def test_zinc_sulphide_keeps_all_its_entries(tmp_path: Path) -> None:
    """By the surrogate alone; a second call reads what the first has searched."""
    settings = {
        "effort": "quick",
        "relaxer": "none",
        "seed": 0,
        "hull": False,
        "max_atoms": 8,
        "candidates": 60,
        "screened": 20,
        "relaxed": 10,
    }
    for _ in range(2):
        found = measure(LIBRARY, ENERGIES, ("ZnS",), tmp_path, settings, device="cpu", say=print)
        assert found["distinct_relaxed"] == found["distinct"] == 5
        assert found["lowest_without_rank"] == 0
    with pytest.raises(InputError, match="seed"):
        measure(LIBRARY, ENERGIES, ("ZnS",), tmp_path, settings | {"seed": 1}, device="cpu", say=print)
