"""Skeletons of other ratios: exact, symmetric, after those of the own ratio, and the garnet among them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.contracts import check_generator
from csp.crystallography.operations import operations
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.matching.fingerprints import unique
from csp.matching.matcher import Matcher
from csp.protocols import Proposals
from csp.target import Target
from generators.templates.decoration import _exchanged
from generators.templates.similarity import LearnedSimilarity
from generators.templates.template import TemplateGenerator


@pytest.fixture(scope="module")
def generator() -> TemplateGenerator:
    return TemplateGenerator(Library.open(), VolumePrior.load())


@pytest.fixture(scope="module")
def garnet(generator: TemplateGenerator) -> Proposals:
    return generator.propose(Target.parse("Y3Al5O12"), 100, seed=0)


def decorated(proposals: Proposals) -> list[int]:
    return [k for k, one in enumerate(proposals.provenance) if "given other elements" in one.why]


def test_yttrium_aluminium_garnet_is_grossular_with_aluminium_on_two_kinds_of_sites(
    garnet: Proposals,
) -> None:
    """Cell and oxygen as measured by Euler and Bruce, Acta Cryst. 19, 971 (1965): 12.000 Å, x, y, z of the
    oxygen -0.0306, 0.0512, 0.1500."""
    from pymatgen.core import Lattice, Structure

    measured = Structure.from_spacegroup(
        "Ia-3d",
        Lattice.cubic(12.000),
        ["Y", "Al", "Al", "O"],
        [[0.125, 0, 0.25], [0, 0, 0], [0.375, 0, 0.25], [-0.0306, 0.0512, 0.1500]],
    ).get_primitive_structure()
    truth = Crystals.from_structures([measured])
    fits = Matcher.DEFAULT.fits(truth, garnet.crystals).nonzero().flatten().tolist()
    assert fits
    one = garnet.provenance[fits[0]]
    assert one.space_group == 230
    assert one.template_id == "aflow:A2B3C12D3_cI160_230_a_c_h_d-001"
    assert "Y in 24c, Al in 16a and 24d, O in 96h" in one.why
    assert float(garnet.crystals[fits[0]].volumes[0]) == pytest.approx(12.0**3 / 2, rel=0.1)


@pytest.mark.parametrize("formula", ["Y3Al5O12", "Ti2Sn3", "KNb4O5F"])
def test_composition_is_exact_and_the_entrys_symmetry_kept(
    generator: TemplateGenerator, formula: str
) -> None:
    target, library = Target.parse(formula, max_atoms=40), Library.open()
    made = generator.propose(target, generator.of_ratio(target, 1000) + 40, seed=0)
    chosen = decorated(made)
    assert len(chosen) > 5
    crystals = made.crystals[chosen]
    found, entries = operations(crystals), []
    for crystal, k in zip(crystals.arrays(), chosen, strict=True):
        amounts = Counter(crystal[2].tolist())
        units = len(crystal[2]) // target.n_atoms
        assert amounts == {z: units * n for z, n in zip(target.numbers, target.counts, strict=True)}
        entries.append(int(np.flatnonzero(library.material_id == made.provenance[k].template_id)[0]))
    own = operations(library.crystals(entries))
    # operations of a cell for each of its atoms: a supergroup's are as many or more
    per_atom = (
        found.n_operations / crystals.n_atoms,
        own.n_operations / torch.from_numpy(library.n_primitive(np.array(entries))),
    )
    assert (per_atom[0] >= per_atom[1] - 1e-9).all()


def test_they_follow_those_of_the_own_ratio_which_stay_as_they_were(generator: TemplateGenerator) -> None:
    target = Target.parse("Mg2SiO4")
    of_ratio = generator.of_ratio(target, 10_000)
    alone = generator._substitution.propose(target, of_ratio, seed=0)
    both = generator.propose(target, of_ratio + 40, seed=0)
    n = len(alone.crystals)
    assert both.provenance[:n] == alone.provenance
    assert torch.equal(both.crystals[list(range(n))].frac, alone.crystals.frac)
    assert decorated(both) == list(range(n, n + 40))
    scores = [one.score for one in both.provenance]
    assert scores == sorted(scores, reverse=True)
    assert [one.index for one in both.provenance[n:]] == list(range(of_ratio, of_ratio + 40))
    assert generator.propose(target, of_ratio, seed=0).provenance == alone.provenance
    # none is a template again, and none twice, by a fingerprint that this does not rest on
    assert torch.equal(unique(both.crystals, scale=True)[n:], torch.arange(n, n + 40))


def test_contract_across_the_border(generator: TemplateGenerator) -> None:
    check_generator(generator, Target.parse("Y3Al5O12"), stochastic=False)
    target = Target.parse("Y3Al5O12")
    whole = generator.propose(target, 12, seed=0)
    parts = [generator.propose(target, 4, seed=0, start=start) for start in (0, 4, 8)]
    assert [one for part in parts for one in part.provenance] == whole.provenance


def test_constraints() -> None:
    fresh = TemplateGenerator(Library.open(), VolumePrior.load())
    target = Target.parse("Y3Al5O12", space_groups=frozenset({230}))
    assert {one.space_group for one in fresh.propose(target, 50, seed=0).provenance} == {230}
    single = fresh.propose(Target.parse("Y3Al5O12", z=1), 50, seed=0)
    assert set(single.crystals.n_atoms.tolist()) == {20}


def test_what_is_hidden_is_no_skeleton() -> None:
    library, target = Library.open(), Target.parse("Y3Al5O12")
    grossular = np.flatnonzero(library.material_id == "aflow:A2B3C12D3_cI160_230_a_c_h_d-001")
    made = TemplateGenerator(library.hiding(grossular), VolumePrior.load()).propose(target, 100, seed=0)
    assert len(decorated(made)) > 10
    assert "aflow:A2B3C12D3_cI160_230_a_c_h_d-001" not in {one.template_id for one in made.provenance}


def test_an_exchange_of_elements_is_no_decoration() -> None:
    """Kinds 0 0 1 of three orbits: what keeps the first two together and the third apart only exchanges."""
    ways = np.array([[0, 0, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]])
    assert _exchanged(ways, np.array([0, 0, 1]), 2).tolist() == [True, True, False, False]
    assert _exchanged(np.array([[0, 0, 0]]), np.array([0, 0, 1]), 1).tolist() == [False]  # a merge


def test_distances_are_those_of_the_own_ratio(generator: TemplateGenerator, tmp_path: Path) -> None:
    """For an entry of the target's ratio the measure is that which ranks the templates, features apart."""
    similarity = generator._substitutions
    assert isinstance(similarity, LearnedSimilarity)
    target = Target.parse("SrTiO3")
    apart = similarity.apart(target, np.array([[20, 22, 8]]), np.array([[1, 1, 3]]))
    place = apart.atom[0].diagonal() @ np.array(target.counts) / target.n_atoms
    a = torch.tensor([[38, 22, 8]]), torch.tensor([[1, 1, 3]])
    b = torch.tensor([[20, 22, 8]]), torch.tensor([[1, 1, 3]])
    encoder = similarity._encoder
    with torch.no_grad():
        expected = encoder.compare(encoder(*a), encoder(*b), torch.arange(3)[None])[0, 0, 0]
    found = similarity.kernel(apart.whole + place, np.ones(1))[0]
    assert found == pytest.approx(float(expected), rel=1e-4)
