"""A search that labels, adapts its surrogate and goes on; and the choice of what to label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from csp.errors import InputError
from csp.search.prediction import Prediction
from csp.search.search import Search
from csp.settings import SearchSettings
from csp.store.store import Store
from surrogates.active_learning import WINDOW, ActiveLearner, choose, farthest
from surrogates.labellers import Potential
from surrogates.transformer.surrogate import Surrogate
from surrogates.zoo import load_surrogate, read_card
from tests.csp.search.test_search import Interrupting, Strained
from tests.lennard_jones import LennardJones
from tests.surrogates.transfer.test_adapt import planted, salts, surrogate

SETTINGS = SearchSettings.read(
    formula="NaCl",
    candidates=40,
    screened=40,
    relaxed=6,
    rattled=0,
    max_steps=10,
    surrogate="tiny",
    relaxer="none",
    labeller="lj",
    labels=10,
    rounds=2,
)


def search(folder: Path, model: LennardJones, *, resume: bool = False) -> Search:
    values = SETTINGS.model_dump(mode="json")
    store = Store.begin(folder, values, formula="NaCl", versions={}, resume=resume)
    learner = ActiveLearner(Potential(model), folder / "labels")
    target = SETTINGS.target()
    return Search(SETTINGS, target, [Strained()], [surrogate()], 16.0, store, learner=learner)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    return search(tmp_path_factory.mktemp("run"), LennardJones()).run()


def test_the_ranking_is_by_the_adapted_surrogate(whole: Prediction) -> None:
    assert whole.label is not None
    assert whole.label.functional == "LJ"
    assert "on 10 labels" in whole.label.checkpoint
    assert whole.funnel["labelled"] == 10
    assert whole.models == ("random+transfer",)
    assert "random was adapted to labels of LJ/none/1: " in whole.warnings[0]
    true = LennardJones().evaluate(whole.crystals).energy / whole.crystals.n_atoms
    found = torch.tensor([r.energy_ev_per_atom for r in whole.results], dtype=torch.float64)
    before = surrogate().evaluate(whole.crystals).energy / whole.crystals.n_atoms
    assert all(r.sigma_ev_per_atom is not None and r.sigma_ev_per_atom > 0 for r in whole.results)
    assert float((found - true).abs().mean()) < 0.3 * float((before - true).abs().mean())


@pytest.mark.parametrize("labels", [0, 3, 7])
def test_interrupted_while_labelling(tmp_path: Path, whole: Prediction, labels: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Interrupting(labels)).run()
    assert search(tmp_path, LennardJones(), resume=True).conclude().results == []
    again = search(tmp_path, LennardJones(), resume=True).run()
    assert again.results == whole.results


def test_labels_without_a_surrogate_are_refused() -> None:
    with pytest.raises(InputError, match="name a `surrogate`"):
        SearchSettings.read(formula="NaCl", surrogate="none", labeller="gpaw")


def test_only_our_surrogates_can_be_adapted(tmp_path: Path) -> None:
    learner = ActiveLearner(Potential(LennardJones()), tmp_path / "labels")
    with pytest.raises(InputError, match="cannot be adapted"):
        learner.adapt(LennardJones(), salts(2), torch.zeros(2, dtype=torch.float64))


def test_the_adapted_model_is_kept_and_can_begin_another_search(tmp_path: Path) -> None:
    learner, crystals = ActiveLearner(Potential(LennardJones()), tmp_path / "labels"), salts(12)
    model = surrogate()
    energy = planted(model, crystals, slope=0.9, spread=0.1, noise=0.01)
    adapted, how = learner.adapt(model, crystals, energy)
    assert how.endswith("saved as models/NaCl-lennard-jones.safetensors")
    kept = load_surrogate(tmp_path / "models" / "NaCl-lennard-jones.safetensors")
    kept.network.double()
    expected = adapted.evaluate(crystals).energy
    torch.testing.assert_close(kept.evaluate(crystals).energy, expected, atol=1e-4, rtol=0)
    assert read_card(tmp_path / "models" / "NaCl-lennard-jones.safetensors").parents == ["random"]
    again, _ = learner.adapt(kept, crystals, energy)
    assert "random" not in again.label.checkpoint


def test_a_model_that_cannot_be_kept_costs_the_search_nothing(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("no folder")
    learner, crystals = ActiveLearner(Potential(LennardJones()), tmp_path / "labels"), salts(3)
    _, how = learner.adapt(surrogate(), crystals, torch.zeros(3, dtype=torch.float64))
    assert how.endswith("it could not be saved (File exists)")


def test_later_labels_go_where_they_decide(tmp_path: Path) -> None:
    learner, crystals = ActiveLearner(Potential(LennardJones()), tmp_path / "labels"), salts(60)
    model = surrogate()
    energy = planted(model, crystals, slope=0.9, spread=0.1, noise=0.01)
    adapted, _ = learner.adapt(model, crystals[:10], energy[:10])
    assert isinstance(adapted, Surrogate)
    per_atom = adapted.evaluate(crystals).energy / crystals.n_atoms
    chosen = learner.choose(adapted, crystals, per_atom, range(10), 20, 0)
    assert len(chosen) == len(set(chosen)) == 20
    assert not set(chosen) & set(range(10))
    lowest = [k for k in torch.argsort(per_atom).tolist() if k >= 10][:8]
    assert chosen[:8] == lowest
    assert learner.choose(adapted, crystals, per_atom, range(10), 20, 1) != chosen  # the random share
    assert len(learner.choose(adapted, crystals, per_atom, range(10), 100, 0)) == 50


def test_nothing_far_above_the_lowest_is_labelled_while_there_is_something_lower() -> None:
    features = torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    energy = torch.cat([torch.linspace(0.0, WINDOW, 8), torch.linspace(WINDOW + 0.1, 9.0, 4)]).double()
    for taken in ([], [0, 5]):
        n = 8 - len(taken)
        assert sorted(choose(features, energy, None, range(12), taken, n, 0)) == sorted(
            set(range(8)) - set(taken)
        )
        assert len(choose(features, energy, None, range(12), taken, n + 2, 0)) == n + 2


def test_cells_too_large_for_the_labeller_are_not_chosen(tmp_path: Path) -> None:
    labeller = Potential(LennardJones())
    labeller.max_atoms = 3
    learner, crystals = ActiveLearner(labeller, tmp_path / "labels"), salts(5)
    assert learner.choose(surrogate(), crystals, torch.zeros(5, dtype=torch.float64), [], 3, 0) == []


def test_farthest_points_spread() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [9.0], [10.0], [5.0]], dtype=torch.float64)
    assert farthest(points, range(6), [0], 4) == [0, 4, 5, 2]
    assert farthest(points, [1, 2, 3], [0, 4], 2) == [2, 1]
    assert len(farthest(points, range(6), [0], 50)) == 6
