"""Where a truth is found: by an entry of its own ratio, as a decorated skeleton, or not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.generation.skeletons import Sought, measure, summary
from benchmarks.ground_truth import Truth
from csp.crystallography.symmetry import primitive
from csp.crystals import Crystals
from csp.library.library import Library


def test_rock_salt_is_of_its_ratio_and_a_lattice_of_chance_is_not_found(tmp_path: Path) -> None:
    library = Library.open()
    salt = np.flatnonzero(library.material_id == "aflow:AB_cF8_225_a_b-001")
    crystal = primitive(library.crystals(salt))
    first = crystal.numbers == crystal.numbers[0]
    crystal = replace(crystal, numbers=torch.where(first, 19, 35))  # the two kinds of sites are alike
    chance = Crystals.from_arrays(
        [[[4.1, 0.3, 0], [0, 5.2, 0.7], [0.4, 0, 6.3]]], [[[0, 0, 0], [0.31, 0.47, 0.22]]], [[31, 33]]
    )
    truths = [Truth("salt", "KBr", crystal, {}), Truth("chance", "GaAs", chance, {})]
    told: list[str] = []
    found = measure(truths, library, tmp_path, among=100, say=told.append)
    assert (found["n"], found["found_of_ratio"], found["found_decorated"]) == (2, 1, 0)
    assert len(told) == 2
    assert json.loads((tmp_path / "summary.json").read_text()) == found
    first, second = json.loads((tmp_path / "skeletons.json").read_text())["targets"]
    assert first["rank"] <= first["of_ratio"]
    assert second["rank"] is None


def test_counts() -> None:
    rows = [
        Sought("A", of_ratio=10, proposed=500, rank=10, entry="a", seconds=1.0),
        Sought("B", of_ratio=10, proposed=500, rank=11, entry="b", seconds=3.0),
        Sought("C", of_ratio=500, proposed=500, rank=None, entry="", seconds=2.0),
    ]
    assert summary(rows) == {
        "n": 3,
        "found_of_ratio": 1,
        "found_decorated": 1,
        "with_room_for_skeletons": 2,
        "seconds_mean": 2.0,
        "seconds_most": 3.0,
    }
