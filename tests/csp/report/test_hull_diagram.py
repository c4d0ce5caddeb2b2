"""The picture of a hull against pymatgen's own diagram."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from csp.crystals import Crystals
from csp.protocols import Label
from csp.ranking.hull import convex_hull
from csp.report.files import write_report
from csp.report.hull_diagram import _edges, hull_svg
from csp.report.record import RunRecord
from csp.search.prediction import Prediction
from csp.target import Target
from tests.csp.report.test_files import prediction

LABEL = Label("PBE", "none", "test")


def with_hull(formula: str, *phases: tuple[str, float]) -> Prediction:
    """A prediction of this formula, whose hull is of these phases and their eV/atom."""
    numbers = [[e.Z for e, n in Composition(name).items() for _ in range(int(n))] for name, _ in phases]
    known = Crystals.from_arrays(
        [np.eye(3) * 9] * len(phases), [np.zeros((len(z), 3)) for z in numbers], numbers
    )
    energy = torch.tensor([e for _, e in phases], dtype=torch.float64)
    target = Target.parse(formula)
    hull = convex_hull(target, known, energy, [LABEL], [f"id-{k}" for k in range(len(phases))])
    results = [
        replace(r, e_above_hull_ev_per_atom=above, stability=hull.words(above))
        for r in prediction().results
        for above in [r.enthalpy_ev_per_atom - hull.energy]
    ]
    return replace(prediction(), target=target, results=results, hull=hull, decomposition=hull.decomposition)


BINARY = with_hull("GaAs", ("Ga", -3.0), ("As", -4.6), ("Ga2As", -3.6), ("GaAs2", -4.2))
TERNARY = with_hull(
    "SrTiO3", ("Sr", -1.0), ("Ti", -7.0), ("O", -5.0), ("SrO", -6.0), ("TiO2", -9.0), ("Sr2TiO4", -7.9),
    ("Ti2O3", -8.0), ("SrO2", -5.0),
)  # fmt: skip


def texts(svg: str) -> str:
    """All that is written in a picture, letter after letter."""
    return "".join(ElementTree.fromstring(svg).itertext())


@pytest.mark.parametrize(("given", "formulas"), [(BINARY, ("Ga", "As")), (TERNARY, ("Sr", "Ti", "O"))])
def test_two_and_three_elements_are_drawn_the_same_each_time(
    given: Prediction, formulas: tuple[str, ...]
) -> None:
    svg = hull_svg(given)
    assert svg is not None
    assert svg == hull_svg(given)
    written = texts(svg)
    assert all(formula in written for formula in formulas)
    assert "on the hull of what the library holds" in written
    assert not re.search(r"\d{4}-\d\d-\d\d", svg.split("<defs>")[0])  # no date


def test_the_lines_of_the_triangle_are_the_edges_of_the_diagram() -> None:
    hull = TERNARY.hull
    assert hull is not None
    entries = [
        PDEntry(composition, phase.energy_ev_per_atom * composition.num_atoms)
        for phase in hull.phases
        for composition in [Composition(phase.formula)]
    ]
    lines = {
        frozenset(entry.composition.reduced_formula for entry in pair)
        for facet in PhaseDiagram(entries).facets
        for pair in combinations([PhaseDiagram(entries).qhull_entries[k] for k in facet], 2)
    }
    ours = {frozenset(Composition(name).reduced_formula for name in pair) for pair in _edges(hull)}
    assert ours == lines


def test_other_numbers_of_elements_and_no_hull_have_no_picture(tmp_path: Path) -> None:
    assert hull_svg(prediction()) is None
    assert hull_svg(with_hull("Si", ("Si", -5.4))) is None
    write_report(BINARY, tmp_path, RunRecord({}, {}, {}, {}), symprec=0.05)
    svg = hull_svg(BINARY)
    assert svg is not None
    assert (tmp_path / "hull.svg").read_text(encoding="utf-8") == svg
    assert svg[svg.index("<svg") :] in (tmp_path / "report.html").read_text(encoding="utf-8")
    write_report(prediction(), tmp_path, RunRecord({}, {}, {}, {}), symprec=0.05)
    assert not (tmp_path / "hull.svg").exists()  # that of an earlier ranking
