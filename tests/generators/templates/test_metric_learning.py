"""The metric: equivariance, brute force, training; and the generator that asks it."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.contracts import check_generator
from csp.errors import InputError, MissingError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from csp.training.cards import ModelCard, seen_compositions, shipped, write_model
from csp.training.splits import HELD_OUT, composition_name, fold, hashed
from generators.templates.composition_encoder import CompositionEncoder, EncoderArchitecture, load_encoder
from generators.templates.metric_learning import MetricLearningGenerator
from generators.templates.neighbour_loss import Ratio, anonymous_compositions, neighbour_loss, ratios
from generators.templates.prototypes import PrototypeIndex
from generators.templates.training import MetricRecipe, mean_loss, train_encoder
from tests.places import ROOT

TINY = EncoderArchitecture(width=16, layers=1, heads=2, whole=8, place=6)
COMPOSITIONS = ROOT / "benchmarks" / "compositions35.txt"


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.open()


@pytest.fixture(scope="module")
def generator(library: Library) -> MetricLearningGenerator:
    return MetricLearningGenerator(library, VolumePrior.load())


@pytest.fixture(scope="module")
def binaries(library: Library) -> Ratio:
    index = PrototypeIndex(library)
    (found,) = ratios(library, index, {"aflow:AB_cF8_225_a_b-001": -2.0}, [(1, 1)], VolumePrior.load())
    return found


def make_encoder() -> CompositionEncoder:
    torch.manual_seed(0)
    return CompositionEncoder(TINY).double()


def test_vectors_follow_their_elements() -> None:
    encoder = make_encoder()
    numbers, counts = torch.tensor([[11, 17, 8]]), torch.tensor([[1, 1, 3]])
    whole, place = encoder(numbers, counts)
    exchanged = encoder(numbers[:, [1, 0, 2]], counts)
    assert torch.allclose(exchanged[0], whole)
    assert torch.allclose(exchanged[1], place[:, [1, 0, 2]])
    padded = encoder(torch.tensor([[11, 17, 8, 0]]), torch.tensor([[1, 1, 3, 0]]))
    assert torch.allclose(padded[0], whole)
    assert torch.allclose(padded[1][:, :3], place)
    assert not torch.allclose(encoder(numbers, torch.tensor([[1, 3, 1]]))[0], whole)


def test_comparison_is_the_kernel_of_the_distance() -> None:
    encoder = make_encoder()
    counts = torch.tensor([1, 1, 3])
    queries, entries = torch.tensor([[11, 17, 8]]), torch.tensor([[11, 17, 8], [17, 11, 8], [38, 22, 8]])
    orders = torch.tensor([[0, 1, 2], [1, 0, 2]])
    with torch.no_grad():
        f, g = encoder(queries, counts.expand(1, 3)), encoder(entries, counts.expand(3, 3))
    found = encoder.compare(f, g, orders).detach()
    tail = float(encoder.log_tail.detach().exp())
    for p, order in enumerate(orders):
        for n in range(3):
            squared = ((f[0][0] - g[0][n]) ** 2).sum() + ((f[1][0][order] - g[1][n]) ** 2).sum()
            assert float(found[0, p, n]) == pytest.approx(-tail * math.log1p(float(squared) / tail), abs=1e-6)
    assert float(found[0, 0, 0]) == pytest.approx(0.0, abs=1e-6)  # itself
    assert float(found[0, 1, 1]) == pytest.approx(0.0, abs=1e-6)  # itself, the places exchanged


def test_loss_is_the_probability_of_the_neighbours(binaries: Ratio) -> None:
    encoder = make_encoder()
    with torch.no_grad():
        encoder.evidence.normal_()
    data = replace(binaries, features=binaries.features.double())
    vectors = encoder(data.elements, data.counts.expand_as(data.elements))
    found = neighbour_loss(encoder, data, data, (vectors, vectors)).detach()
    s = (encoder.compare(vectors, vectors, data.orders) + data.features @ encoder.evidence).detach()
    some = 0
    for q in range(len(data)):
        everything = hits = 0.0
        for n in range(len(data)):
            if data.composition[n] == data.composition[q]:
                continue
            for p in range(len(data.orders)):
                everything += math.exp(s[q, p, n])
                if data.prototype[n] == data.prototype[q] and data.symmetric[data.prototype[q], p]:
                    hits += math.exp(s[q, p, n])
        if hits == 0.0:
            assert math.isnan(found[q])
        else:
            some += 1
            assert float(found[q]) == pytest.approx(-math.log(hits / everything))
    assert some > 3


def test_the_ground_truth_is_the_lowest_energy_or_shared(library: Library) -> None:
    rows = library.rows((1, 1))
    elements = library.elements((1, 1))
    zns = np.flatnonzero((elements == [16, 30]).all(1))
    energies = {library.material_id[rows[e]]: -1.0 - k for k, e in enumerate(zns)}
    (known,) = ratios(library, PrototypeIndex(library), energies, [(1, 1)], VolumePrior.load())
    assert len(zns) == 2
    assert known.ground_truth[zns].tolist() == [0.0, 1.0]
    (unknown,) = ratios(library, PrototypeIndex(library), {}, [(1, 1)], VolumePrior.load())
    assert unknown.ground_truth[zns].tolist() == [0.5, 0.5]


def test_training_learns_and_goes_on_where_it_stopped(binaries: Ratio, tmp_path: Path) -> None:
    recipe = MetricRecipe(steps=30, entries=150, warmup=5, architecture=TINY)
    cpu = torch.device("cpu")
    whole, step = train_encoder(recipe, [binaries], tmp_path / "whole", device=cpu)
    assert step == 30
    torch.manual_seed(recipe.seed)
    untrained = CompositionEncoder(TINY)
    before, after = (mean_loss(encoder, [binaries], [binaries]) for encoder in (untrained, whole))
    assert after < before - 0.1

    done, step = 0, 0
    while step < recipe.steps:  # a few steps each time
        encoder, step = train_encoder(
            recipe, [binaries], tmp_path / "parts", device=cpu, stop_after_minutes=1e-9 + 1e-4
        )
        done += 1
    assert done > 1
    for one, other in zip(whole.parameters(), encoder.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    with pytest.raises(InputError, match="another recipe"):
        train_encoder(replace(recipe, lr=1.0), [binaries], tmp_path / "parts", device=cpu)


def test_a_metric_is_kept_with_its_card(tmp_path: Path) -> None:
    about = {"property": "p", "data": ["d"], "split": "s", "licence": "l", "code_version": "1"}
    about |= {"architecture": asdict(TINY), "elements": [8, 14], "recipe": {}}
    encoder = make_encoder().float()
    path = tmp_path / "mine.safetensors"
    write_model(path, ModelCard, encoder.state_dict(), seen={3, 1}, **about)
    again, card = load_encoder(path)
    assert card.elements == [8, 14]
    assert seen_compositions(path) == {1, 3}
    for one, other in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(InputError, match="not those of their card"):
        load_encoder(path)
    with pytest.raises(MissingError):
        load_encoder(tmp_path / "none.safetensors")


def test_what_ships_has_seen_neither_the_35_nor_the_held_out() -> None:
    path = shipped("metric_learning")
    seen = seen_compositions(path)
    assert path.stat().st_size < 5e6
    assert len(seen) > 50_000
    assert not {hashed(name) for name in COMPOSITIONS.read_text().splitlines()} & seen
    simple = [
        composition_name((a, b), (m, n))
        for a in range(1, 90)
        for b in range(1, a)
        for m in (1, 2)
        for n in (1, 3)
    ]
    held_out = {hashed(name) for name in simple if fold(name) == HELD_OUT}
    assert len(held_out) > 200
    assert not held_out & seen
    assert {hashed(name) for name in simple} & seen


@pytest.mark.parametrize("formula", ["SrTiO3", "Si"])
def test_contract(generator: MetricLearningGenerator, formula: str) -> None:
    check_generator(generator, Target.parse(formula), stochastic=False)


def test_no_entry_of_the_ratio_is_said(generator: MetricLearningGenerator) -> None:
    proposals = generator.propose(Target.parse("Na3Cl7O11"), 5, seed=0)
    assert proposals.failed == {"no_library_entry_of_this_ratio": 5}


def test_unknown_elements_take_the_tabulated_scale_and_say_so(generator: MetricLearningGenerator) -> None:
    first = generator.propose(Target.parse("LrCl"), 1, seed=0).provenance[0]
    assert "Lr is not known to the metric, taken as" in first.why
    known = generator.propose(Target.parse("KBr"), 1, seed=0).provenance[0]
    assert "not known" not in known.why


def test_salts_are_salts(generator: MetricLearningGenerator) -> None:
    first = generator.propose(Target.parse("RbBr"), 3, seed=0).provenance
    assert "aflow:AB_cF8_225_a_b-001" in {p.template_id for p in first}
    assert "with" in first[0].why
    assert anonymous_compositions(Library.open())[0] in {(1, 1), (1, 2)}
