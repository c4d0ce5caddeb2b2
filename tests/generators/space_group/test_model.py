"""The learned language of crystals: sampling is the model, training goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from csp.contracts import check_generator
from csp.crystallography.neighbours import COVALENT_RADII, distance_ratio
from csp.errors import InputError
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from csp.training.cards import ModelCard, seen_compositions, shipped, write_model
from csp.training.splits import HELD_OUT, composition_name, fold, hashed
from generators.random_streams import Streams
from generators.random_symmetric.generator import RandomGenerator
from generators.random_symmetric.space_group_prior import model_weight
from generators.space_group.cell_values import lattice_of, values_of
from generators.space_group.dataset import Table
from generators.space_group.generator import Sampling, SpaceGroupGenerator, shared_out
from generators.space_group.geometries import Geometries, Soundness
from generators.space_group.loss import negative_log_likelihood
from generators.space_group.model import SpaceGroupArchitecture, SpaceGroupModel, site_freedom
from generators.space_group.representation import build_crystals
from generators.space_group.sampling import draw_assignments, joint
from generators.space_group.tokens import Batch, forward, lengths, letters_allowed
from generators.space_group.training import (
    SpaceGroupRecipe,
    Trainable,
    batches,
    train_space_group_model,
    validate,
)
from tests.places import ROOT

ANYTHING = Soundness(min_distance=0.0, volume=float("inf"), trials=1)
COMPOSITIONS = ROOT / "benchmarks" / "compositions35.txt"
TINY = SpaceGroupArchitecture(width=32, layers=2, heads=2, components=3, cells=2)
NUMBERS, COUNTS = (22, 8), (1, 2)
RADII = COVALENT_RADII[list(NUMBERS)]


@pytest.fixture(scope="module")
def model() -> SpaceGroupModel:
    torch.manual_seed(0)
    network = SpaceGroupModel(TINY).eval()
    with torch.no_grad():  # far from uniform
        for name, parameter in network.named_parameters():
            if name.startswith(("to_", "query", "key")):
                parameter.mul_(3.0)
    return network


@pytest.fixture(scope="module")
def groups() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([136, 2, 33, 1, 8, 227, 62, 5] * 5), torch.tensor([2, 1, 4, 2, 2, 2, 4, 2] * 5)


def streams(n: int, start: int = 0) -> Streams:
    return Streams.of(0, "test", torch.arange(n) + start)


def test_letters_have_the_probability_of_the_full_forward(model, groups):
    drawn = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    d = drawn.assignments
    assert (d.group[drawn.which] == groups[0]).all()
    assert (d.z[drawn.which] == groups[1]).all()
    kinds = {
        (
            int(d.group[b]),
            tuple(d.position[d.first_orbit[b] : d.first_orbit[b + 1]].tolist()),
            tuple(d.element[d.first_orbit[b] : d.first_orbit[b + 1]].tolist()),
        )
        for b in range(len(d))
    }
    assert len(kinds) == len(d)  # each assignment once
    assert (d.n_atoms == 3 * d.z).all()
    table = Table(d, letters_allowed(d), np.full(len(d), ""))
    batch = Batch.of(table.representation, table.allowed, torch.ones(len(d), dtype=torch.float64))
    parts = negative_log_likelihood(model, batch)
    torch.testing.assert_close(-parts["letters"].double(), drawn.log_p, rtol=1e-4, atol=1e-4)


def test_probabilities_of_all_assignments_add_up_to_one(model):
    n = 200  # NaCl in Fm-3m and P1: two assignments, and one
    group = torch.tensor([225, 1]).repeat(n)
    drawn = draw_assignments(model, (11, 17), (1, 1), group, torch.ones_like(group), streams(2 * n))
    assert len(drawn.assignments) == 3
    for g in (225, 1):
        assert float(drawn.log_p[drawn.assignments.group == g].exp().sum()) == pytest.approx(1.0, abs=1e-6)
    share = torch.bincount(drawn.which, minlength=3) / n
    assert (share - drawn.log_p.exp()).abs().max() < 0.15


def test_assignments_depend_on_their_stream_alone(model, groups):
    whole = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    part = draw_assignments(model, NUMBERS, COUNTS, groups[0][10:20], groups[1][10:20], streams(10, 10))
    for a, b in zip(whole.which[10:20].tolist(), part.which.tolist(), strict=True):
        one, other = whole.assignments[torch.tensor([a])], part.assignments[torch.tensor([b])]
        assert torch.equal(one.position, other.position)
        assert torch.equal(one.element, other.element)


def test_cached_geometries_are_the_full_forward(model, groups):
    """Nearly without temperature a draw is the mean of the likeliest component."""
    drawn = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    d, _ = Geometries(model, drawn.assignments, RADII).draw(
        drawn.which, streams(40), 12.0, ANYTHING, temperature=1e-9
    )
    table = Table(d, letters_allowed(d), np.full(len(d), ""))
    batch = Batch.of(table.representation, table.allowed, torch.full((len(d),), 12.0, dtype=torch.float64))
    with torch.no_grad():
        rest = forward(model, batch)[:, len(NUMBERS) :]
        n_orbits = batch.orbit_number.shape[1]
        cells = model.cells(rest[torch.arange(len(batch)), (batch.orbit_number > 0).sum(1)])
        best = cells.mean[torch.arange(len(batch)), cells.log_weight.argmax(1)]
        free = batch.cell.isfinite()
        assert free.all()
        torch.testing.assert_close(batch.cell[:, 0][free[:, 0]], best[:, 0][free[:, 0]], rtol=0, atol=1e-3)
        h = rest[:, n_orbits + 1 :]
        for axis in range(3):
            mixture = model.axis(axis, h, batch.site_point, batch.site_free)
            likeliest = mixture.log_weight.argmax(-1, keepdim=True)
            mean = mixture.mean.gather(-1, likeliest)[..., 0] / (2 * torch.pi)
            gap = (batch.site_point[..., axis] - mean)[batch.site_free[..., axis] & free.all(1)[:, None]]
            assert len(gap)
            assert (gap - gap.round()).abs().max() < 1e-3


def test_what_is_not_free_stays(model, groups):
    drawn = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    d, kept = Geometries(model, drawn.assignments, RADII).draw(drawn.which, streams(40), 12.0, ANYTHING)
    assert torch.equal(d.group, drawn.assignments.group[drawn.which[kept]])
    crystal = torch.repeat_interleave(torch.arange(len(d)), d.n_orbits)
    first = torch.arange(len(crystal)) == d.first_orbit[crystal]
    assert (d.point[~site_freedom(d.group[crystal], d.position, first)] == 0).all()
    built = build_crystals(d)
    assert (built.n_atoms % 3 == 0).all()
    volume = values_of(d.lattice.double(), d.group, d.n_atoms, torch.full((len(d),), 12.0).double())
    again = lattice_of(volume, d.group, d.n_atoms, torch.full((len(d),), 12.0).double())
    torch.testing.assert_close(again.float(), d.lattice, rtol=1e-5, atol=1e-5)


def test_sound_is_what_a_search_over_all_pairs_finds_sound(model, groups):
    """With one trial each, what is kept is what would have been drawn anyhow and keeps its atoms apart."""
    several = torch.cat([groups[0]] * 5), torch.cat([groups[1]] * 5)
    drawn = draw_assignments(model, NUMBERS, COUNTS, *several, streams(200))
    geometries = Geometries(model, drawn.assignments, RADII)
    every, rows = geometries.draw(drawn.which, streams(200), 12.0, ANYTHING)
    sound, kept = geometries.draw(drawn.which, streams(200), 12.0, Soundness(0.3, 4.0, trials=1))
    crystals = build_crystals(every)
    factor = (crystals.volumes / crystals.n_atoms / 12.0).log().abs()
    expected = (distance_ratio(crystals, limit=1.0) >= 0.3) & (factor < np.log(4.0))
    assert torch.equal(kept, rows[expected])
    assert 10 < len(kept) < len(rows)
    torch.testing.assert_close(sound.point, every[expected].point)


def test_more_trials_keep_more_and_a_batch_decides_nothing(model, groups):
    drawn = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    geometries = Geometries(model, drawn.assignments, RADII)
    strict = Soundness(min_distance=0.7, volume=1.6, trials=8)
    whole, kept = geometries.draw(drawn.which, streams(40), 12.0, strict)
    one_trial = geometries.draw(drawn.which, streams(40), 12.0, replace(strict, trials=1))[1]
    assert len(kept) > len(one_trial)
    assert distance_ratio(build_crystals(whole), limit=1.0).min() >= 0.7
    part, some = geometries.draw(drawn.which[10:20], streams(10, 10), 12.0, strict)
    mine = (kept >= 10) & (kept < 20)
    assert torch.equal(kept[mine], some + 10)
    torch.testing.assert_close(whole[mine].point, part.point, rtol=0, atol=1e-4)


def test_groups_and_sizes_are_a_probability(model):
    z = np.array([1, 2, 3, 70, 80])
    possible = np.zeros((231, 5), dtype=bool)
    possible[1:, :] = True
    log_p = joint(model, NUMBERS, COUNTS, z, possible)
    assert float(log_p.exp().sum()) == pytest.approx(1.0)
    torch.testing.assert_close(log_p[:, 3], log_p[:, 4])  # beyond what is told apart
    assert (log_p[0] == -torch.inf).all()
    log_p2 = joint(model, NUMBERS, (2, 4), z[:1], possible[:, :1])
    assert not torch.allclose(log_p2[1:, 0], joint(model, NUMBERS, COUNTS, z[:1], possible[:, :1])[1:, 0])


# -- generator ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "space_group.safetensors"
    write_model(
        path,
        ModelCard,
        model.state_dict(),
        architecture=asdict(model.architecture),
        seen=set(),
        elements=[8, 22],
        recipe={},
        metrics={},
        property="",
        data=[],
        split="",
        licence="",
        code_version="",
    )
    return path


@pytest.fixture(scope="module")
def generator(weights) -> SpaceGroupGenerator:
    return SpaceGroupGenerator(Library.open(), VolumePrior.load(), weights)


def test_contract(generator):
    check_generator(generator, Target.parse("TiO2", max_atoms=12))


def test_the_target_is_obeyed(generator):
    target = Target.parse("SrTiO3", z=2, space_groups=frozenset({140, 167, 2}))
    proposals = generator.propose(target, 60, seed=0)
    assert len(proposals.crystals) + proposals.failed.total() == 60
    assert set(proposals.crystals.n_atoms.tolist()) == {10}
    assert {p.space_group for p in proposals.provenance} <= {140, 167, 2}
    assert distance_ratio(proposals.crystals, limit=1.0).min() >= generator.sampling.sound.min_distance
    assert [p.index for p in proposals.provenance] == sorted({p.index for p in proposals.provenance})
    by_chance = [p for p in proposals.provenance if p.index % 5 == 4]
    assert by_chance
    assert all(p.why.startswith("random") for p in by_chance)
    nothing = generator.propose(Target.parse("Si", z=5, space_groups=frozenset({227})), 9, seed=0)
    assert nothing.failed == {"infeasible": 9}


def test_groups_are_drawn_from_model_and_library(model, generator, weights):
    target = Target.parse("TiO2", max_atoms=12)
    plan, random = generator._plan(target), RandomGenerator(Library.open(), VolumePrior.load()).plan(target)
    learned = joint(model, target.numbers, target.counts, plan.z, random.space.weight > 0).exp()
    share = float(model_weight(3, len(Library.open())))
    assert 0 < share < 1
    torch.testing.assert_close(
        plan.log_p.exp(), share * learned + (1 - share) * torch.from_numpy(random.p), rtol=1e-9, atol=0
    )
    plain = SpaceGroupGenerator(Library.open(), VolumePrior.load(), weights, Sampling(explore=0.0))
    group, z = plain._groups(plan, streams(4000))
    drawn = torch.zeros_like(plan.log_p)
    drawn.index_put_((group, z), torch.ones(4000).double(), accumulate=True)
    assert (drawn / 4000 - plan.log_p.exp()).abs().max() < 0.03


def test_turns_are_shared_out():
    """One that has no freedom gives its turns to one that has."""
    drawn = draw_assignments(
        SpaceGroupModel(TINY),
        (11, 17),
        (1, 1),
        torch.tensor([225] * 6 + [1] * 2),
        torch.ones(8).long(),
        streams(8),
    )
    which, turn = shared_out(drawn, 8)
    times = torch.bincount(which, minlength=len(drawn.assignments))
    assert (times[drawn.assignments.group == 225] == 1).all()
    assert int(times.sum()) == 8
    assert turn.tolist() == sorted(turn.tolist())


# -- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(model, groups) -> Trainable:
    drawn = draw_assignments(model, NUMBERS, COUNTS, *groups, streams(40))
    d, _ = Geometries(model, drawn.assignments, RADII).draw(drawn.which, streams(40), 12.0, ANYTHING)
    return Trainable.of(Table(d, letters_allowed(d), np.array([f"c{k}" for k in range(len(d))])), 0.5)


def test_batches_hold_everything_once(data):
    length = lengths(data.table.representation)
    chosen = list(batches(length, 150, seed=0, epoch=3))
    assert sorted(torch.cat(chosen).tolist()) == list(range(len(data)))
    assert all(len(rows) * int(length[rows].max()) <= 150 for rows in chosen if len(rows) > 1)
    assert [r.tolist() for r in batches(length, 150, 0, 3)] == [r.tolist() for r in chosen]


def test_padding_does_not_count(model, data):
    whole, _ = data.batch(torch.arange(len(data)))
    one, _ = data.batch(torch.tensor([4]))
    together, alone = negative_log_likelihood(model, whole), negative_log_likelihood(model, one)
    for name, part in alone.items():
        torch.testing.assert_close(together[name][4], part[0], rtol=1e-4, atol=1e-4)


def test_training_learns_and_goes_on_exactly(data, tmp_path):
    recipe = SpaceGroupRecipe(steps=12, tokens=300, lr=3e-3, warmup=2, dropout=0.1, architecture=TINY)
    cpu = torch.device("cpu")
    before = validate(
        train_space_group_model(replace(recipe, steps=1), data, data, tmp_path / "one", device=cpu)[0],
        data,
        recipe,
    )
    rows = []
    whole, steps = train_space_group_model(
        recipe, data, data, tmp_path / "whole", device=cpu, log=rows.append
    )
    assert steps == 12
    after = validate(whole, data, recipe)
    assert sum(after[k] for k in ("group", "letters", "cell")) < sum(
        before[k] for k in ("group", "letters", "cell")
    )
    interrupted, done = train_space_group_model(
        recipe, data, data, tmp_path / "parts", device=cpu, stop_after_minutes=0.0
    )
    for _ in range(20):
        if done == 12:
            break
        interrupted, done = train_space_group_model(
            recipe, data, data, tmp_path / "parts", device=cpu, stop_after_minutes=0.0
        )
    for a, b in zip(whole.state_dict().values(), interrupted.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match="another recipe"):
        train_space_group_model(replace(recipe, lr=1.0), data, data, tmp_path / "whole", device=cpu)
    assert [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()] == rows
    assert {"letters", "val_letters"} <= rows[-1].keys()


def test_training_begins_with_another_model(model, weights, data, tmp_path):
    recipe = SpaceGroupRecipe(steps=1, tokens=300, lr=1e-6, warmup=1, architecture=TINY)
    cpu = torch.device("cpu")
    begun, _ = train_space_group_model(recipe, data, data, tmp_path / "begun", device=cpu, start_from=weights)
    for name, own in begun.state_dict().items():
        torch.testing.assert_close(own, model.state_dict()[name], rtol=0.0, atol=1e-4)
    with pytest.raises(InputError, match="another recipe"):
        train_space_group_model(recipe, data, data, tmp_path / "begun", device=cpu)
    wider = replace(recipe, architecture=replace(TINY, width=48))
    with pytest.raises(InputError, match="another architecture"):
        train_space_group_model(wider, data, data, tmp_path / "wider", device=cpu, start_from=weights)


# -- what ships -----------------------------------------------------------------------------------


def test_what_ships_has_seen_neither_the_35_nor_the_held_out():
    path = shipped("space_group")
    assert path.stat().st_size <= 6 * 2**20
    seen = seen_compositions(path)
    assert len(seen) > 50_000
    assert not {hashed(name) for name in COMPOSITIONS.read_text().splitlines()} & seen
    binaries = [composition_name((a, b), (1, n)) for a in range(1, 90) for b in range(1, a) for n in (1, 2)]
    held_out = {hashed(name) for name in binaries if fold(name) == HELD_OUT}
    assert len(held_out) > 100
    assert not held_out & seen
    assert {hashed(name) for name in binaries} & seen


def test_what_ships_knows_rock_salt():
    """MgO, whatever was seen of it, is cubic; nearly every crystal drawn is the model's, not chance's."""
    generator = SpaceGroupGenerator(Library.open(), VolumePrior.load())
    target = Target.parse("MgO", max_atoms=8)
    plan = generator._plan(target)
    assert int(plan.log_p.exp().sum(1).argmax()) == 225
    proposals = generator.propose(target, 100, seed=0)
    assert sum("random" in p.why for p in proposals.provenance) < 40
    assert any(p.space_group == 225 for p in proposals.provenance)


def test_what_is_far_above_the_hull_counts_less(data):
    """exp(−ΔE / 50 meV), relative to the same crystals with no distances; unknown is 50 meV."""
    plain = data.weight
    weighed = Trainable.of(data.table, 0.5, {"c0": 0.0, "c1": 0.1, "c2": -0.02}).weight
    ratio = weighed / plain
    expected = torch.tensor([1.0, -1.0, 1.0]).exp()
    torch.testing.assert_close(ratio[:3] / ratio[3], expected)
    assert float(weighed.mean()) == pytest.approx(1.0)
