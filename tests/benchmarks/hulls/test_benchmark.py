"""The benchmark of hulls on a library of a few crystals, by a Lennard-Jones model."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.stats import kendalltau, spearmanr

from benchmarks.hulls import benchmark
from benchmarks.hulls.benchmark import Judged, measure, summary
from csp.errors import InputError
from csp.library.importing import import_structures
from tests.lennard_jones import LennardJones

FCC = [(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0), (0.0, 0.0, 0.0)]


def judged(published: float, above: float | None) -> Judged:
    return Judged(f"{published} {above}", "NaCl", published, above, 3, 1.0)


def test_what_has_no_hull_counts_against() -> None:
    rng = np.random.default_rng(0)
    published, ours = rng.uniform(0.01, 1, 20), rng.uniform(0.01, 1, 20)
    unstable = [judged(float(p), float(a)) for p, a in zip(published, ours, strict=True)]
    stable = [judged(0.0, 0.0), judged(0.0, 0.024), judged(0.0, 0.026), judged(0.0, None)]
    found = summary([*stable, *unstable, judged(0.3, None)])
    assert (found["stable"], found["stable_within_25_mev"], found["stable_within_25_mev_share"]) == (
        4,
        2,
        0.5,
    )
    assert (found["unstable"], found["unstable_with_hull"], found["without_hull"]) == (21, 20, 2)
    assert found["unstable_spearman"] == pytest.approx(spearmanr(published, ours).statistic, abs=1e-3)
    assert found["unstable_kendall"] == pytest.approx(kendalltau(published, ours).statistic, abs=1e-3)


def test_it_is_measured_once_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifs = tmp_path / "cifs"
    cifs.mkdir()
    for name, atoms in {
        "na": bulk("Na", "fcc", a=3.1),
        "cl": bulk("Cl", "fcc", a=3.1),
        "nacl": bulk("NaCl", "rocksalt", a=5.3),
        "na3cl": Atoms("Na3Cl", scaled_positions=FCC, cell=[4.6] * 3, pbc=True),
    }.items():
        atoms.write(cifs / f"{name}.cif")
    import_structures(cifs, tmp_path / "own.parquet", source_name="test", licence="none")
    table = {
        "material_id": ["na", "cl", "nacl", "na3cl"],
        "e_above_hull": [0.0, 0.0, 0.0, 0.2],
        "e_above_hull_unique": [True] * 4,
    }
    pq.write_table(pa.table(table), tmp_path / "stability.parquet")
    monkeypatch.setattr(benchmark, "fold", lambda name: benchmark.HELD_OUT)

    def run(**more: int) -> dict[str, object]:
        said.clear()
        files = (tmp_path / "own.parquet", tmp_path / "stability.parquet", tmp_path / "out")
        asked = {"limit": 5, "seed": 0, **more}
        return measure(*files, LennardJones(), **asked, say=said.append, cache=tmp_path / "cache")

    said: list[str] = []
    found = run()
    assert (found["stable"], found["unstable"], found["without_hull"]) == (1, 1, 0)
    assert found["stable_within_25_mev"] == 1  # its own end is on the hull
    assert len(said) == 2
    kept = (tmp_path / "out" / "crystals.jsonl").read_text()
    assert [json.loads(line)["id"] for line in kept.splitlines()] == ["nacl", "na3cl"]
    monkeypatch.setattr(benchmark, "_judge", None)  # nothing is judged anew
    assert run() == found
    with pytest.raises(InputError, match="another seed"):
        run(seed=1)
