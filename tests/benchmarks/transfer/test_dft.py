"""The benchmark of a few labels, with a universal potential in the stead of a DFT code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.transfer.dft import DftBenchmark, judged
from csp.errors import InputError
from csp.protocols import Label
from surrogates.training.label_files import read_labels
from surrogates.training.labelled import Labelled
from surrogates.transformer.surrogate import Surrogate
from surrogates.zoo import load_model
from tests.benchmarks.surrogate.test_benchmark import tables  # noqa: F401


def test_labels_are_made_once_and_judged_again_without_the_code(
    tables: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    def begun(labeller: str) -> DftBenchmark:
        return DftBenchmark.begin(
            tables[0], tmp_path, labeller=labeller, labels=6, test=8, max_atoms=4, device="cpu"
        )

    said = list[str]()
    summary = begun("chgnet").run(["KBr"], said.append)
    assert len(said) == 14
    assert (summary["n_labels.KBr"], summary["n_test.KBr"]) == (6, 8)
    assert set(summary) >= {"tau.KBr.before", "mae_mev.KBr.after", "error_ratio.KBr.first_round"}
    assert "CHGNet" in summary["label.KBr"] or "chgnet" in summary["label.KBr"]
    labelled, label = read_labels([tmp_path / "labels" / "KBr.xyz"])
    assert len(labelled) == 14
    assert str(label) == summary["label.KBr"]
    assert begun("a code that is not here").run(["KBr"]) == summary
    other = replace(begun("a code that is not here"), seed=1)  # which would have chosen others
    assert other.run(["KBr"])["mae_mev.KBr.after"] == summary["mae_mev.KBr.after"]
    with pytest.raises(InputError, match="cannot be adapted"):
        DftBenchmark.begin(tables[0], tmp_path, model="chgnet", device="cpu")


def test_what_is_a_line_away_is_learned_from_the_labels(
    tables: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    """Labels on a line over the model's own energies leave no error after transfer, nor with the potential's
    affine correction; ranks do not change."""
    from benchmarks.surrogate.pool import make_pool
    from csp.library.library import Library
    from csp.library.volume import VolumePrior
    from csp.target import Target

    model = load_model("xs", "cpu")
    assert isinstance(model, Surrogate)
    target = Target.parse("KBr", max_atoms=4)
    crystals, ids = make_pool(target, Library.open(tables[0]), VolumePrior.load(), 0, 24)
    energy = 1.2 * model.evaluate(crystals).energy + 0.7 * crystals.n_atoms
    roles = (["round 1"] * 5 + ["round 2"] * 5 + ["test"] * 14)[: len(crystals)]
    found = judged(
        "KBr", Labelled(crystals, ids, energy), roles, Label("PBE", "none", "planted"), model, [model]
    )
    assert found["mae_mev.KBr.before"] > 5.0
    assert found["mae_mev.KBr.after"] == pytest.approx(0.0, abs=0.5)
    assert found["mae_mev.KBr.xs_affine"] == pytest.approx(0.0, abs=0.5)
    assert found["tau.KBr.before"] == found["tau.KBr.after"] == 1.0
