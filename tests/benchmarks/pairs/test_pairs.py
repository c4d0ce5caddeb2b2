"""Pairs of compositions: how they are drawn and judged, and what tells them apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.data import atomic_numbers
from ase.io import write as write_atoms

from benchmarks.baselines import cspml
from benchmarks.baselines.cspml import train_cspml
from benchmarks.baselines.descriptors import TABULATED, _valence, descriptors, element_properties
from benchmarks.pairs import pairs as of_pairs
from benchmarks.pairs.benchmark import area_under_curve, summary
from benchmarks.pairs.metric_scores import Nearness, calibrated
from benchmarks.pairs.pairs import Pairs, answers, by_prototype, folds, fours, judged, read, write
from csp.errors import InputError
from csp.library.importing import import_structures
from csp.library.library import Library
from csp.library.volume import VolumePrior
from csp.target import Target
from csp.training.cards import shipped
from csp.training.splits import composition_name, fold
from generators.templates.assignments import Assignments
from generators.templates.composition_encoder import load_encoder
from generators.templates.prototypes import PrototypeIndex
from generators.templates.similarity import LearnedSimilarity

KINDS = {
    "rocksalt": "NaCl LiF KBr RbI MgO CaS SrSe BaTe",
    "zincblende": "ZnS GaAs InP AlSb CdTe GaN",
    "cesiumchloride": "CsCl NiAl FeTi TlBr",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Eighteen compositions AB in three prototypes, and a polymorph of ZnS."""
    folder = tmp_path_factory.mktemp("pairs")
    crystals = [
        bulk(formula, kind, a=5.0 if kind != "cesiumchloride" else 3.2)
        for kind, formulas in KINDS.items()
        for formula in formulas.split()
    ]
    write_atoms(folder / "known.extxyz", [*crystals, bulk("ZnS", "rocksalt", a=5.1)])
    import_structures(folder / "known.extxyz", folder / "own.parquet", source_name="test", licence="none")
    return Library.open(folder / "own.parquet")


@pytest.fixture(scope="module")
def index(library: Library, tmp_path_factory: pytest.TempPathFactory) -> PrototypeIndex:
    return PrototypeIndex(library, tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def small_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_pairs, "MIN_ENTRIES", 1)


def rows_of(library: Library, formula: str) -> list[int]:
    target = Target.parse(formula)
    wanted = composition_name(target.numbers, target.counts)
    numbers, counts = library.compositions(library.all_rows())
    return [k for k, row in enumerate(zip(numbers, counts, strict=True)) if composition_name(*row) == wanted]


# -- drawing and judging ------------------------------------------------------------------------------


def test_the_answer_is_the_lowest_entry_or_the_only_one(library: Library, index: PrototypeIndex) -> None:
    polymorphs = rows_of(library, "ZnS")
    assert len(polymorphs) == 2
    (unknown,) = answers(library, index, {})
    assert len(unknown.rows) == 17  # ZnS has two entries and no energy
    for answer in polymorphs:
        energies = {str(library.material_id[k]): -1.0 - (k == answer) for k in polymorphs}
        (known,) = answers(library, index, energies)
        assert len(known.rows) == 18
        assert answer in known.rows.tolist()
        assert (
            index.of((1, 1)).number[index.of((1, 1)).rows == answer] == known.prototype[known.rows == answer]
        )


def test_folds_are_those_of_the_names(library: Library) -> None:
    numbers, counts = library.compositions(library.all_rows())
    expected = [fold(composition_name(z, n)) for z, n in zip(numbers, counts, strict=True)]
    assert folds(library).tolist() == expected


def test_both_classes_hold_the_same_compositions(library: Library, index: PrototypeIndex) -> None:
    known = answers(library, index, {})
    pairs = by_prototype(fours(known, seed=0), 400)
    assert len(pairs) == 400
    prototype = dict(zip(known[0].rows.tolist(), known[0].prototype.tolist(), strict=True))
    for (a, b), similar in zip(pairs.rows.tolist(), pairs.similar, strict=True):
        assert a != b
        assert (prototype[a] == prototype[b]) == similar
    members = [Counter(pairs.rows[pairs.similar == same].ravel().tolist()) for same in (True, False)]
    assert members[0] == members[1]
    again = by_prototype(fours(known, seed=0), 400)
    np.testing.assert_array_equal(again.rows, pairs.rows)
    assert not np.array_equal(by_prototype(fours(known, seed=1), 400).rows, pairs.rows)


def test_nothing_to_draw_is_said(library: Library, index: PrototypeIndex) -> None:
    only = answers(library, index, {})[0].among(np.arange(len(library)) < 8)  # rock salts
    with pytest.raises(InputError, match="no pairs to draw"):
        next(fours([only], seed=0))


def test_judged_pairs_are_each_once_and_as_the_matcher_says(library: Library, index: PrototypeIndex) -> None:
    known = answers(library, index, {})
    found, lost = judged(library, fours(known, seed=0), 12)
    assert (len(found), lost) == (12, 0)
    assert len({tuple(sorted(pair)) for pair in found.rows.tolist()}) == 12
    kind = {
        row: name for name, formulas in KINDS.items() for f in formulas.split() for row in rows_of(library, f)
    }
    assert [kind[a] == kind[b] for a, b in found.rows.tolist()] == found.similar.tolist()
    # clusters that are wrong are found out: zincblende taken for rock salt
    wrong = of_pairs.Answers(known[0].rows, np.where(known[0].prototype == 2, 2, 0))
    kept, lost = judged(library, fours([wrong], seed=0), 12)
    assert lost > 0
    assert [kind[a] == kind[b] for a, b in kept.rows.tolist()] == kept.similar.tolist()


def test_a_file_of_pairs(library: Library, tmp_path: Path) -> None:
    pairs = Pairs(np.array([[0, 3], [5, 1], [2, 4]]), np.array([True, False, True]))
    write(tmp_path / "pairs.txt", library, pairs)
    back = read(tmp_path / "pairs.txt", library, limit=2)
    np.testing.assert_array_equal(back.rows, pairs.rows[:2])
    assert back.similar.tolist() == [True, False]
    (tmp_path / "other.txt").write_text("mp-1 mp-2 1\n")
    with pytest.raises(InputError, match="no entry 'mp-1'"):
        read(tmp_path / "other.txt", library)
    (tmp_path / "odd.txt").write_text("mp-1\n")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "odd.txt", library)


# -- the reference ------------------------------------------------------------------------------------


def test_descriptors_by_hand() -> None:
    """Mean, sum, variance, largest and smallest of SrTiO3, element by element; padding changes nothing."""
    table = element_properties()
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table[1:].mean(axis=0), 0.0, atol=1e-9)
    found = descriptors(np.array([[22, 38, 8, 0]]), np.array([[1, 1, 3, 0]]))[0].reshape(5, -1)
    atoms = table[[22, 38, 8, 8, 8]]
    for row, expected in zip(
        found, (atoms.mean(0), atoms.sum(0), atoms.var(0), atoms.max(0), atoms.min(0)), strict=True
    ):
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_properties_are_those_of_the_elements() -> None:
    table = element_properties()
    ordered = table[:, TABULATED.index("X")]
    assert ordered[9] == ordered[1:].max()  # nothing is as electronegative as fluorine
    assert ordered[87] == ordered[1:].min()  # francium
    assert list(_valence("[Ar].3d6.4s2")) == [2, 0, 6, 0, 8, 0, 0, 4, 0, 4]
    assert list(_valence("[Xe].4f7.5d1.6s2")) == [2, 0, 1, 7, 10, 0, 0, 9, 7, 16]


def test_the_reference_learns_what_there_is_to_learn_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are similar if one descriptor of them is near; or by chance."""
    monkeypatch.setattr(cspml, "MODELS", 2)
    monkeypatch.setattr(cspml, "EPOCHS", 6)
    rng = np.random.default_rng(0)

    def drawn(n: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
        a, b = rng.normal(size=(2, n, 6))
        return (a, b), np.abs(a[:, 2] - b[:, 2]) < 0.9, rng.random(n) < 0.5

    pairs, near, chance = drawn(1500)
    others, others_near, others_chance = drawn(400)
    asked, asked_near, asked_chance = drawn(1000)
    for y, y_validation, truth, low, high in (
        (near, others_near, asked_near, 0.85, 1.0),
        (chance, others_chance, asked_chance, 0.44, 0.56),
    ):
        log_odds = train_cspml(pairs, y, others, y_validation, seed=0, device=torch.device("cpu"))
        assert low <= ((log_odds(asked) > 0) == truth).mean() <= high


# -- the metric ---------------------------------------------------------------------------------------


def test_the_scores_are_those_of_the_generator(library: Library, index: PrototypeIndex) -> None:
    """The odds against Bayes' rule with the evidence that `metric_learning` ranks by, a composition at a
    time and over all pairs of prototypes; the kernel against the distance of the vectors."""
    weights = shipped("metric_learning")
    hidden = np.array([rows_of(library, f)[0] for f in ("NaCl", "GaAs")])
    view = library.hiding(hidden)
    seen = PrototypeIndex(view, index._folder.parent.parent)
    rows = np.array([hidden, [hidden[0], rows_of(library, "LiF")[0]]])
    found = Nearness(view, seen, weights).scores(rows)

    evidence = LearnedSimilarity(view, VolumePrior.load(), weights)
    prototypes = seen.of((1, 1))

    def shares(formula: str) -> np.ndarray:
        target = Target.parse(formula)
        p = np.exp(evidence(target, prototypes, Assignments.of(target))).sum(axis=1)
        return np.bincount(prototypes.number, p, len(prototypes)) / p.sum()

    for k, other in enumerate(("GaAs", "LiF")):
        # P(a, b | same) ∝ Σ_p π_p P(a | p) P(b | p), P(a, b | two) ∝ Σ_p≠q π_p π_q P(a | p) P(b | q)
        prior = np.bincount(prototypes.number) / len(prototypes.number)
        likelihood = np.outer(shares("NaCl") / prior, shares(other) / prior)
        apart = np.outer(prior, prior) * (1 - np.eye(len(prior)))
        expected = np.log((prior * np.diag(likelihood)).sum()) - np.log(
            (apart * likelihood).sum() / apart.sum()
        )
        assert found[k, 1] == pytest.approx(expected, abs=1e-3)

    encoder, _ = load_encoder(weights)
    one = torch.ones(1, 2, dtype=torch.long)
    both = []
    for placed in (["Ga", "As"], ["As", "Ga"]):
        with torch.no_grad():
            f, g = encoder(torch.tensor([[11, 17]]), one)
            h, i = encoder(torch.tensor([[atomic_numbers[s] for s in placed]]), one)
            squared, tail = ((f - h) ** 2).sum() + ((g - i) ** 2).sum(), encoder.log_tail.exp()
            both.append(float(-tail * torch.log1p(squared / tail)))
    assert found[0, 0] == pytest.approx(np.logaddexp(*both), abs=1e-3)


def test_calibration_finds_the_odds_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(3.0, 2.0, size=(20_000, 2))
    truth = 1.5 * scores[:, 0] - 0.5 * scores[:, 1] - 2.0
    similar = rng.random(len(scores)) < 1 / (1 + np.exp(-truth))
    found = calibrated(scores, similar)(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(found, [-2.0, -0.5, -2.5], atol=0.15)


def test_the_area_under_the_curve_counts_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    values, positive = rng.integers(0, 8, 60).astype(float), rng.random(60) < 0.4
    higher = values[positive][:, None] - values[~positive]
    expected = ((higher > 0) + 0.5 * (higher == 0)).mean()
    assert area_under_curve(values, positive) == pytest.approx(expected)


def test_the_summary_is_flat() -> None:
    pairs = Pairs(np.array([[0, 3], [5, 1], [2, 3], [0, 1]]), np.array([True, False, True, False]))
    found = summary(
        pairs, {"metric": np.array([1.0, -1.0, 2.0, -0.5]), "cspml": np.array([1.0, 2.0, -1.0, -0.5])}
    )
    assert found == {
        "n": 4, "n_compositions": 5,
        "accuracy.metric": 1.0, "auc.metric": 1.0, "accuracy.cspml": 0.5, "auc.cspml": 0.25,
    }  # fmt: skip
