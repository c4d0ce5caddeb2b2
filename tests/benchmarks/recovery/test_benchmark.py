"""A whole recovery benchmark with a Lennard-Jones model, killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

import benchmarks.recovery.benchmark
import csp.engine
from benchmarks.ground_truth import TARGETS35
from benchmarks.recovery.benchmark import Recovery, RecoverySettings, relaxed_truth
from benchmarks.recovery.budgets import BUDGETS, Budget
from csp.crystals import Crystals
from csp.errors import InputError, MissingError
from csp.library.chosen import choose
from csp.settings import DEFAULT_GENERATORS, SearchSettings
from flows.benchmark import benchmark
from tests.lennard_jones import LennardJones
from tests.program import csp as program

TINY = Budget(candidates=16, screened=8, relaxed=4, refined=4, max_steps=20, rattled=1, max_atoms=6)


def use_lennard_jones(patch: pytest.MonkeyPatch) -> None:
    for module in (csp.engine, benchmarks.recovery.benchmark):
        patch.setattr(module, "load_model", lambda name, device: LennardJones(device=device))
    patch.setitem(BUDGETS, "small", TINY)


@pytest.fixture(autouse=True)
def lennard_jones(monkeypatch: pytest.MonkeyPatch) -> None:
    use_lennard_jones(monkeypatch)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's ground state of an AB compound is CsCl (see test_search.py)."""
    folder = tmp_path_factory.mktemp("truths")
    for name, kind, a in (("NaCl", "cesiumchloride", 3.2), ("KBr", "cesiumchloride", 3.7)):
        structure = AseAtomsAdaptor.get_structure(bulk(name, kind, a=a))
        (folder / f"{name}.cif").write_text(str(CifWriter(structure)))
    return folder


def settings(targets: Path, **given: object) -> RecoverySettings:
    return RecoverySettings.read(targets=targets, budget="small", **given)


@pytest.fixture(scope="module")
def undisturbed(targets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        use_lennard_jones(patch)
        run_all(targets, out)
    return out


def run_all(targets: Path, out: Path) -> None:
    recovery = Recovery.begin(settings(targets), out, resume=True)
    for truth in recovery.truths.truths:
        recovery.run(truth)
    recovery.write()


def scores(out: Path) -> list[dict[str, object]]:
    """All that is recorded but for the times."""
    targets = json.loads((out / "recovery.json").read_text())["targets"]
    return [{k: v for k, v in target.items() if k != "seconds"} for target in targets]


def test_finds_the_ground_state(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert (summary["n"], summary["found_at_1"], summary["found_at_1.template"]) == (2, 2, 2)
    assert summary["proposed.any"] == 2
    for target in scores(undisturbed):
        assert target["score"]["default"]["space_groups"] == {"0.01": 221, "0.1": 221}  # type: ignore[index]
        assert target["score"]["best_ev_per_atom"] == pytest.approx(target["truth_ev_per_atom"], abs=2e-3)  # type: ignore[index]
        learned = {"NaCl": "seen", "KBr": "clean"}[str(target["name"])]  # KBr is in the held-out fold
        assert target["leak"] == {"lennard-jones": "unknown", **dict.fromkeys(DEFAULT_GENERATORS, learned)}
        assert 8 <= target["chance"]["n"] <= 16  # type: ignore[index]
    assert {"table.md", "recovery.png", "recovery.json"} <= {p.name for p in undisturbed.iterdir()}


def test_a_search_never_sees_the_composition(undisturbed: Path) -> None:
    from csp.store.store import Store

    assert Store.open(undisturbed / "runs" / "NaCl").settings["exclude_composition"] is True


def test_killed_and_resumed(targets: Path, undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL in the second target: the first is kept as it is, the second goes on."""
    code = (
        "import sys, pytest; from pathlib import Path;"
        "from tests.benchmarks.recovery import test_benchmark as t;"
        "t.use_lennard_jones(pytest.MonkeyPatch()); t.run_all(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(targets), str(tmp_path)], env={**os.environ, "PYTHONPATH": "."}
    )
    first, second = tmp_path / "targets" / "KBr.json", tmp_path / "runs" / "NaCl" / "run.sqlite"
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None and not second.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = first.read_bytes()
    run_all(targets, tmp_path)
    assert first.read_bytes() == before
    assert scores(tmp_path) == scores(undisturbed)


def test_an_out_folder_belongs_to_one_benchmark(targets: Path, undisturbed: Path) -> None:
    with pytest.raises(InputError, match="`resume`"):
        Recovery.begin(settings(targets), undisturbed)
    with pytest.raises(InputError, match="other settings: seed"):
        Recovery.begin(settings(targets, seed=1), undisturbed, resume=True)


def test_no_library_can_be_said_in_a_word(targets: Path) -> None:
    assert settings(targets, library="none").library_file is None
    assert settings(targets, library="mine.parquet").library_file == Path("mine.parquet")


def test_a_library_that_is_not_chosen_is_told(
    targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert settings(targets, library="auto").library_note.startswith("No library is chosen")
    assert not settings(targets, library="none").library_note
    choose(TARGETS35)  # any file
    assert not settings(targets, library="auto").library_note


def test_targets_that_a_form_leaves_empty_are_the_35() -> None:
    assert RecoverySettings.read(targets="").targets == TARGETS35


def test_wrong_settings_are_told_before_any_work(targets: Path, tmp_path: Path) -> None:
    for wrong, sentence in (
        ({"budget": "huge"}, "budget: "),
        ({"generators": "template,magic"}, "magic"),
        ({"seed": -1}, "seed: "),
    ):
        with pytest.raises(InputError, match=sentence):
            RecoverySettings.read(**{"targets": targets, **wrong})
    with pytest.raises(MissingError, match="library"):
        Recovery.begin(settings(targets, library=tmp_path / "none.parquet"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_the_search_refuses_is_a_miss(targets: Path, tmp_path: Path) -> None:
    class NoPotassium(LennardJones):
        elements = LennardJones.elements - {19}

    recovery = Recovery.begin(settings(targets), tmp_path)
    vars(recovery)["models"] = [NoPotassium()]
    outcome = recovery.run(recovery.truths.choose(["KBr"])[0])
    assert outcome.miss == "refused"
    assert "does not know K" in outcome.refused
    assert recovery.write()["misses.refused"] == 1
    assert "does not know K" in (tmp_path / "table.md").read_text()


def test_the_relaxed_truth_is_a_minimum() -> None:
    crystal = Crystals.from_atoms([bulk("NaCl", "cesiumchloride", a=3.6)])
    search = SearchSettings.read(formula="NaCl", max_steps=100, max_force=1e-3)
    energy = relaxed_truth(crystal, LennardJones(), search)
    scan = [bulk("NaCl", "cesiumchloride", a=2.8 + 0.002 * k) for k in range(300)]
    lowest = float(LennardJones().evaluate(Crystals.from_atoms(scan)).energy.min()) / 2
    assert energy == pytest.approx(lowest, abs=1e-5)


def test_command_and_compare(targets: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        f"benchmark recovery --targets {targets} --out {undisturbed} --budget small --resume --limit 1 "
        f"--beside again={undisturbed}"
    ).split()
    assert program(*arguments) == 0
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert (summary["beside.again.n"], summary["beside.again.found_at_1"]) == (2, summary["found_at_1"])
    assert "| again |" in (undisturbed / "table.md").read_text()
    assert program(*arguments, "--beside", "nameless") == 2
    assert "csp: --beside: write a name and a folder" in capsys.readouterr().err
    Recovery.begin(settings(targets), undisturbed, resume=True).write()
    assert program("benchmark", "compare", str(undisturbed), str(undisturbed)) == 0
    assert "n 2, won 0, lost 0" in capsys.readouterr().out


def test_flow_as_a_plain_function_reads_what_is_done(targets: Path, undisturbed: Path) -> None:
    summary = benchmark.fn(settings(targets), undisturbed)
    written = json.loads((undisturbed / "summary.json").read_text())
    assert summary == written


@pytest.mark.slow
def test_flow_on_a_server(
    targets: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task a target, both tables, on a real server of its own."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        benchmark(settings(targets), undisturbed)
        with get_client(sync_client=True) as client:
            tasks, artifacts = client.read_task_runs(), client.read_artifacts()
    assert sorted(task.name for task in tasks) == ["KBr", "NaCl"]
    assert {artifact.key for artifact in artifacts} == {"recovery", "recovery-summary"}
