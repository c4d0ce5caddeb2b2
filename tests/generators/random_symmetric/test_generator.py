"""Random crystals: exact, far enough apart, in their groups, and the same however they are asked for."""

from __future__ import annotations

import time

import numpy as np
import pytest
import spglib
import torch

from csp.contracts import check_generator
from csp.crystallography import symmetry
from csp.crystallography.neighbours import COVALENT_RADII, distance_ratio
from csp.crystallography.operations import operations
from csp.crystallography.wyckoff import wyckoff_table
from csp.crystals import Crystals
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from generators.random_streams import Streams
from generators.random_symmetric.generator import RandomGenerator
from generators.random_symmetric.packing import PackingSettings, pack
from generators.random_symmetric.wyckoff_combinations import WyckoffAssignments

# these tests call spglib without choosing between its old and new ways of telling errors
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

TABLE = wyckoff_table()
CENTRING = torch.linalg.det(TABLE.to_primitive).round().long()
ORDER = ((TABLE.first_operation[1:] - TABLE.first_operation[:-1]) // CENTRING).numpy()  # primitive cells


@pytest.fixture(scope="module")
def generator() -> RandomGenerator:
    return RandomGenerator(Library.open(), VolumePrior.load())


def held(crystals: Crystals, numbers: tuple[int, ...]) -> torch.Tensor:
    """Atoms of each element [B, E]."""
    batch = crystals.batch
    return torch.stack(
        [torch.bincount(batch[crystals.numbers == z], minlength=len(crystals)) for z in numbers], dim=1
    )


def test_what_is_promised(generator):
    target = Target.parse("CaCO3", max_atoms=40)
    proposals = generator.propose(target, 100, seed=3)
    crystals = proposals.crystals
    assert len(crystals) == len(proposals.provenance) == 100 - proposals.failed.total()
    assert len(crystals) > 75
    assert set(proposals.failed) <= {"crowded"}
    z = crystals.n_atoms // target.n_atoms
    assert (held(crystals, target.numbers) == torch.tensor(target.counts) * z[:, None]).all()
    assert crystals.n_atoms.max() <= 40
    assert distance_ratio(crystals, limit=1.0).min() >= 0.85
    ratio = crystals.volumes / (generator.volume.predict(target.numbers, target.counts) * z)
    assert (ratio - 1).abs().max() <= 0.25
    assert ratio.std() > 0.05
    assert crystals.cell.dtype == crystals.frac.dtype == torch.float64
    assert (torch.linalg.det(crystals.cell) > 0).all()
    assert len(set(crystals.ids())) == len(crystals)
    assert [p.index for p in proposals.provenance] == sorted({p.index for p in proposals.provenance})


def test_a_candidate_depends_on_target_seed_and_index_alone(generator):
    target = Target.parse("TiO2", max_atoms=24)
    whole = generator.propose(target, 30, seed=5)
    ids = dict(zip((p.index for p in whole.provenance), whole.crystals.ids(), strict=True))
    other = RandomGenerator(generator.library, generator.volume)
    for start, n in ((0, 7), (7, 1), (8, 22)):
        part = other.propose(target, n, seed=5, start=start)
        assert part.requested == n
        assert {p.index: i for p, i in zip(part.provenance, part.crystals.ids(), strict=True)} == {
            k: v for k, v in ids.items() if start <= k < start + n
        }
    assert set(generator.propose(target, 30, seed=6).crystals.ids()).isdisjoint(ids.values())
    assert generator.propose(target, 0, seed=5).requested == 0


def test_contract(generator):
    check_generator(generator, Target.parse("CaCO3", max_atoms=20))


def test_the_target_is_obeyed(generator):
    target = Target.parse("SrTiO3", z=2, space_groups=frozenset({62, 140, 167, 2}))
    proposals = generator.propose(target, 100, seed=0)
    assert set(proposals.crystals.n_atoms.tolist()) == {10}
    assert {p.space_group for p in proposals.provenance} <= {140, 167, 2}  # Pnma needs four formula units
    assert len({p.space_group for p in proposals.provenance}) == 3


def test_what_no_combination_makes_is_counted(generator):
    target = Target.parse("Si", z=5, space_groups=frozenset({227}))  # only even orbits
    proposals = generator.propose(target, 9, seed=0)
    assert proposals.failed == {"infeasible": 9}
    assert len(proposals.crystals) == 0


def test_every_group_is_found_again():
    """Two general orbits in each of the 230 groups: spglib finds the group in ≥ 80 %, or a supergroup."""
    group = np.repeat(np.arange(1, 231), 2)
    general = TABLE.first.numpy()[group + 1] - 1
    assignments = WyckoffAssignments(
        group,
        np.ones_like(group),
        np.repeat(np.arange(len(group)), 2),
        np.repeat(general, 2),
        np.tile([0, 1], len(group)),
    )
    crystals, built = pack(
        assignments,
        Streams.of(0, "test", torch.arange(len(group))),
        torch.tensor([3, 9]),
        torch.tensor([0.6, 0.5]).double(),
        torch.from_numpy(2 * TABLE.n_atoms.numpy()[general] * 20.0),
        PackingSettings(),
    )
    group = group[built.numpy()]
    assert set(group) == set(range(1, 231))
    found = np.array([spglib.get_symmetry_dataset(c, 1e-3).number for c in crystals.arrays()])
    assert (found == group).mean() >= 0.95
    n_operations = operations(crystals, 1e-4).n_operations.numpy()
    assert (n_operations % ORDER[group] == 0).all()  # the order of a subgroup divides that of the group


def test_drawn_assignments_have_their_symmetry(generator):
    """Wyckoff text and group of a mixed bag, analysed again."""
    proposals = generator.propose(Target.parse("Al2O3", max_atoms=20), 60, seed=1)
    group = np.array([p.space_group for p in proposals.provenance])
    found = operations(proposals.crystals, 1e-4)
    assert (found.n_operations.numpy() % ORDER[group] == 0).all()
    same = found.space_group.numpy() == group
    assert same.mean() > 0.5
    sites = [sorted(s.split(":")[0] for s in p.wyckoff.split()) for p in proposals.provenance]
    again = [sorted(s.split(":")[0] for s in w.split()) for w in symmetry.wyckoffs(proposals.crystals, 1e-4)]
    assert all(a == b for a, b, keep in zip(sites, again, same, strict=True) if keep)


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("Ca14MnSb11", {"max_atoms": 200}),
        ("LiNaKRbMgCaO3F2", {"max_atoms": 100}),
        ("SiO2", {"max_atoms": 200, "z": 64, "space_groups": frozenset({2, 14, 227})}),
        ("Fe", {"z": 1}),
    ],
)
def test_extremes_finish(generator, formula, options):
    began = time.process_time()
    proposals = generator.propose(Target.parse(formula, **options), 4, seed=0)
    assert len(proposals.crystals) + proposals.failed.total() == 4
    assert time.process_time() - began < 30


def test_radii_without_a_value_are_replaced(generator):
    assert COVALENT_RADII[97].isnan()
    assert len(generator.propose(Target.parse("BkO2", z=1), 4, seed=0).crystals) > 0


def test_random_numbers():
    streams = Streams.of(0, "test", torch.arange(2000))
    uniform = streams.uniform(50)
    assert 0 <= uniform.min() < 1e-3 < 0.999 < uniform.max() < 1
    assert abs(float(uniform.mean()) - 0.5) < 5 / (12 * 1e5) ** 0.5
    rows, columns = np.corrcoef(uniform[:200]), np.corrcoef(uniform.T)
    assert np.abs(columns - np.eye(50)).max() < 0.12
    assert np.abs(rows - np.eye(200)).max() < 0.8
    assert len(torch.unique(uniform)) == uniform.numel()
    torch.testing.assert_close(streams[torch.tensor([7])].uniform(50), uniform[7:8], rtol=0, atol=0)
    assert not torch.equal(streams.child(1).uniform(3), streams.child(2).uniform(3))
    assert not torch.equal(
        Streams.of(1, "test", torch.arange(9)).key, Streams.of(0, "test", torch.arange(9)).key
    )
    single = streams.uniform(50, torch.float32)
    assert single.dtype == torch.float32
    assert single.max() < 1


def test_splitmix_reference():
    """The first outputs of SplitMix64 from state 1234567, as in the Java and Rosetta Code references."""
    outputs = Streams(torch.tensor([1234567])).uniform(3)
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    torch.testing.assert_close(outputs[0], torch.tensor([(x >> 11) * 2.0**-53 for x in expected]).double())
