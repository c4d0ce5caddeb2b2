"""The template generator: exactness, order, constraints, and prototypes it must find."""

import numpy as np
import pytest

from csp.contracts import check_generator
from csp.crystallography.symmetry import space_groups
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.templates.pettifor import pettifor_scale
from generators.templates.template import TemplateGenerator


@pytest.fixture(scope="module")
def generator() -> TemplateGenerator:
    return TemplateGenerator(Library.open(), VolumePrior.load())


def test_scale_is_a_permutation_with_like_elements_together() -> None:
    places = pettifor_scale()
    assert sorted(places[1:104]) == list(range(103))
    for like, unlike in (((11, 19), (11, 17)), ((16, 34), (16, 7)), ((22, 72), (22, 12)), ((9, 17), (9, 7))):
        assert abs(np.subtract(*places[list(like)])) < abs(np.subtract(*places[list(unlike)]))
    assert np.isfinite(places[1:]).all()
    assert places[118] == places[86]


@pytest.mark.parametrize("formula", ["SrTiO3", "TiO2", "GaAs", "Si"])
def test_contract(generator: TemplateGenerator, formula: str) -> None:
    check_generator(generator, Target.parse(formula), stochastic=False)


@pytest.mark.parametrize(
    ("formula", "template"),
    [("KBr", "AB_cF8_225_a_b-001"), ("ZnO", "AB_hP4_186_b_b-001"), ("MgAl2O4", "A2BC4_cF56_227_c_b_e-001")],
)
def test_known_prototypes_are_proposed(generator: TemplateGenerator, formula: str, template: str) -> None:
    proposals = generator.propose(Target.parse(formula), 200, seed=0)
    assert f"aflow:{template}" in {p.template_id for p in proposals.provenance}


def test_both_ways_to_put_two_elements(generator: TemplateGenerator) -> None:
    """Nickel arsenide has two different sites; its partner with the elements exchanged is another crystal."""
    target = Target.parse("NiAs")
    proposals = generator.propose(target, generator.of_ratio(target, 500), seed=0)
    wyckoff = {p.wyckoff for p in proposals.provenance if p.template_id == "aflow:AB_hP4_194_c_a-001"}
    assert wyckoff == {"Ni:a As:c", "As:a Ni:c"}
    # rock salt has not: exchanging its elements gives the same crystal
    assert sum(p.template_id == "aflow:AB_cF8_225_a_b-001" for p in proposals.provenance) == 1


def test_order_diversity_and_end(generator: TemplateGenerator) -> None:
    target = Target.parse("SrTiO3")
    proposals = generator.propose(target, 1000, seed=0)
    of_ratio = generator.of_ratio(target, 1000)
    first = generator.propose(target, of_ratio, seed=0)
    assert first.failed.keys() <= {"template_cell_not_reducible"}
    scores = [p.score for p in proposals.provenance]
    assert scores == sorted(scores, reverse=True)
    assert (
        proposals.failed["exhausted"]
        == 1000 - len(proposals.crystals) - proposals.failed["template_cell_not_reducible"]
    )
    later = generator.propose(target, 5, seed=1, start=3)
    assert [p.template_id for p in later.provenance] == [p.template_id for p in proposals.provenance[3:8]]
    past = generator.propose(target, 4, seed=0, start=10_000)
    assert len(past.crystals) == 0
    assert past.failed == {"exhausted": 4}


def test_without_an_entry_of_the_ratio_skeletons_serve(generator: TemplateGenerator) -> None:
    proposals = generator.propose(Target.parse("Na3Cl7O11"), 5, seed=0)
    assert all("given other elements" in one.why for one in proposals.provenance)
    assert len(proposals.crystals) == 5


def test_constraints(generator: TemplateGenerator) -> None:
    groups = frozenset({136, 141})
    proposals = generator.propose(Target.parse("TiO2", space_groups=groups), 100, seed=0)
    assert {p.space_group for p in proposals.provenance} == groups
    assert set(space_groups(proposals.crystals)) <= groups
    double = generator.propose(Target.parse("TiO2", z=2), 100, seed=0)
    assert set(double.crystals.n_atoms.tolist()) == {6}
    small = generator.propose(Target.parse("TiO2", max_atoms=6), 100, seed=0)
    assert int(small.crystals.n_atoms.max()) == 6


def test_volume_is_the_templates_times_the_ratio_of_priors(generator: TemplateGenerator) -> None:
    library, prior = Library.open(), VolumePrior.load()
    proposals = generator.propose(Target.parse("KBr"), 300, seed=0)
    [b] = [i for i, p in enumerate(proposals.provenance) if p.template_id == "aflow:AB_cF8_225_a_b-001"]
    salt = library.crystals(np.flatnonzero(library.material_id == "aflow:AB_cF8_225_a_b-001"))
    per_unit = float(salt.volumes[0] / salt.n_atoms[0]) * 2
    expected = per_unit * prior.predict([19, 35], [1, 1]) / prior.predict([11, 17], [1, 1])
    assert float(proposals.crystals[b].volumes[0]) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(71.9, rel=0.1)  # KBr, a = 6.60 Å


@pytest.mark.parametrize("formula", ["GaAs", "ZnS", "TiO2", "CaTiO3"])
def test_excluded_composition_is_not_proposed(formula: str) -> None:
    """It is where nothing is hidden, so that the test can fail."""
    target, library = Target.parse(formula), Library.open()
    row = {name: k for k, name in enumerate(library.material_id)}

    def compositions_of_templates(of: Library) -> list[dict[int, int]]:
        made = TemplateGenerator(of, VolumePrior.load()).propose(target, 100, seed=0)
        rows = np.array([row[p.template_id] for p in made.provenance])
        numbers, counts = library.compositions(rows)
        return [
            dict(zip(z[n > 0].tolist(), n[n > 0].tolist(), strict=True))
            for z, n in zip(numbers, counts, strict=True)
        ]

    own = dict(zip(target.numbers, target.counts, strict=True))
    assert own in compositions_of_templates(library)
    assert own not in compositions_of_templates(library.excluding(target))
