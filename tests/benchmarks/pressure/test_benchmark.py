"""The table of known phases, and what counts as found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pressure.benchmark import Found, Known, rank_of, read_known, summary
from csp.errors import InputError
from tests.csp.report.example import prediction
from tests.places import SHARED, needs

TABLE = SHARED / "data" / "high_pressure_truths.csv"


@needs(TABLE)
def test_the_table() -> None:
    known = read_known(TABLE)
    assert len(known) == 89
    assert known[0] == Known("AgBr", 11, 10.3, 4)


def test_another_table_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no table of known phases"):
        read_known(tmp_path / "other.csv")


def test_space_group_and_size_of_the_primitive_cell_decide() -> None:
    found = prediction()
    assert rank_of(Known("GaAs", 216, 5.0, 2), found) == 1
    assert rank_of(Known("GaAs", 225, 5.0, 2), found) == 3
    assert rank_of(Known("GaAs", 216, 5.0, 4), found) is None
    assert rank_of(Known("GaAs", 62, 5.0, 8), found) is None


def test_what_was_not_found_counts() -> None:
    ranks = [1, 3, 4, None]
    told = summary([Found("X", 1, 1.0, rank, 1, 2.0) for rank in ranks])
    assert (told["n"], told["found_at_1"], told["found_at_3"], told["found_at_any"]) == (4, 1, 2, 3)
