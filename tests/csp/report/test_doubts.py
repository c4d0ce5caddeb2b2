"""What is doubted, and only where there is a reason."""

from __future__ import annotations

from dataclasses import replace

from csp.protocols import Label
from csp.report.description import Description
from csp.report.doubts import doubts
from csp.search.completeness import completeness
from csp.search.history import History, Round
from csp.search.prediction import Prediction
from csp.target import Target
from tests.csp.report.example import cards, prediction


def crystals(given: Prediction) -> list[Description]:
    return [card.crystal for card in cards(given)]


def settled() -> Prediction:
    """All relaxed to the end, found twice, far apart."""
    whole = prediction()
    rows = [replace(r, status="converged", n_duplicates=1) for r in whole.results]
    return replace(whole, results=rows, unranked=[])


def test_a_settled_ranking_is_not_doubted() -> None:
    assert doubts(settled(), crystals(settled())) == []


def test_what_is_near_is_not_settled() -> None:
    whole = settled()
    near = [replace(r, above_lowest_ev_per_atom=k / 500) for k, r in enumerate(whole.results)]
    (said,) = doubts(replace(whole, results=near), crystals(whole))
    assert said.startswith("Ranks 1 to 3 are within 5 meV/atom of the lowest")
    sure = [replace(r, above_lowest_sigma_ev_per_atom=0.0015 * k) for k, r in enumerate(near)]
    assert doubts(replace(whole, results=sure), crystals(whole)) == []
    unsure = [replace(r, above_lowest_sigma_ev_per_atom=0.0025 * k) for k, r in enumerate(near)]
    (said,) = doubts(replace(whole, results=unsure), crystals(whole))
    assert said.startswith("Ranks 1 to 4 are nearer to the lowest than their energies are sure (±)")


def test_layers_far_apart_are_doubted_where_the_functional_has_no_dispersion() -> None:
    whole = settled()
    wide = [replace(c, gap=4.5) if k in (1, 3) else c for k, c in enumerate(crystals(whole))]
    (said,) = doubts(whole, wide)
    assert said.startswith("PBE has no dispersion forces, and ranks 2 and 4 have gaps of more than 4 Å")
    assert doubts(replace(whole, label=Label("PBE-D3", "none", "x")), wide) == []


def test_magnetic_and_radioactive_elements_are_named() -> None:
    whole, drawn = settled(), crystals(settled())
    (magnetic,) = doubts(replace(whole, target=Target.parse("FeO")), drawn)
    assert magnetic.startswith("Fe may be magnetic")
    both = doubts(replace(whole, target=Target.parse("UO2")), drawn)
    assert [one.split(" ", 1)[0] for one in both] == ["U", "U"]
    assert "radioactive" in both[1]


def test_uncertain_and_unfinished_and_lost() -> None:
    whole = prediction(sigma=0.05)
    said = doubts(whole, crystals(whole))
    assert said[0].startswith(
        "The model's own uncertainty, σ = 50 meV/atom, is larger than the 33.3 meV/atom"
    )
    assert said[1].startswith("Rank 1 was not relaxed to the end: more steps would lower it")
    lost = replace(settled(), failed={"relax": {"collapsed": 3}})
    assert doubts(lost, crystals(lost)) == [
        "Of 9 last relaxations 3 failed (3 collapsed): the potential may not fit here."
    ]


def test_a_search_that_is_not_complete() -> None:
    whole = settled()
    once = [replace(r, n_duplicates=k) for k, r in enumerate(whole.results)]
    (said,) = doubts(replace(whole, results=once), crystals(whole))
    assert said.startswith("Only one candidate led to rank 1, the lowest: there may be others")
    for counts, incomplete in (([9, 8, 7], False), ([1, 1, 2], True)):
        last = Round(3, 900, 700, 600, 500, -4.1, 3, completeness(counts))
        told = doubts(replace(whole, results=once, history=History((last,), "time")), crystals(whole))
        assert bool(told) == incomplete
    assert told[0].startswith("The search is not complete: the time was over, and by estimate the lowest")


def test_a_truth_that_is_probably_none_of_these() -> None:
    whole = settled()
    given = replace(whole, results=[replace(r, probability=0.1) for r in whole.results])
    (said,) = doubts(given, crystals(given))
    assert said.startswith("With p = 60 % the lowest-energy crystal is none of these")
