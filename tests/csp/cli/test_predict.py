"""The command line as a person meets it: real generators, real CHGNet, small numbers."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.program import csp

SMALL = [
    "--relaxer=chgnet", "--candidates=24", "--screened=6", "--relaxed=3", "--rattled=1", "--max-steps=3",
    "--max-atoms=6",
]  # fmt: skip

TELLING = """
from csp.__main__ import main
from csp.cli import progress
progress.EVERY = 0.0
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nacl") / "run"
    assert csp("predict", "NaCl", *SMALL, "--out", str(folder)) == 0
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What must be equal between equal runs."""
    named = [folder / name for name in ("ranked.json", "ranked.csv", "structures.extxyz", "report.html")]
    return {p.name: p.read_bytes() for p in [*named, *sorted((folder / "structures").iterdir())]}


def test_the_files(run: Path) -> None:
    ranked = json.loads((run / "ranked.json").read_text())
    assert ranked["schema"] == 3
    assert ranked["formula"] == "NaCl"
    assert ranked["label"].startswith("PBE+U/MP2020/chgnet-0.3.0")
    assert list(ranked["funnel"]) == [
        "proposed", "built", "plausible", "unique", "pre_relaxed", "relaxed", "refined",
        "converged", "ranked",
    ]  # fmt: skip
    assert {
        "rank", "id", "file", "n_atoms", "spacegroup", "spacegroup_number", "energy_ev_per_atom",
        "enthalpy_ev_per_atom", "sigma_ev_per_atom", "density", "volume_per_atom", "status", "generator",
        "template_id", "wyckoff", "n_duplicates",
    } <= set(ranked["results"][0])  # fmt: skip
    assert (run / ranked["results"][0]["file"]).is_file()
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["seed"] == 0
    assert {"settings", "versions", "checkpoints", "library", "timings"} <= set(record)


def test_same_seed_same_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with --resume where there is nothing yet, which is said: the folder may be mistyped."""
    again = tmp_path / "again"
    assert csp("predict", "NaCl", *SMALL, "--out", str(again), "--resume") == 0
    assert f"note: Nothing to resume in {again}: a new run begins.\n" in capsys.readouterr().err
    assert files(again) == files(run)


def test_json_is_all_of_standard_output(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert csp("predict", "NaCl", *SMALL, "--out", str(run), "--resume", "--json") == 0
    told = capsys.readouterr()
    assert told.out == (run / "ranked.json").read_text()
    assert "Nothing to resume" not in told.err


def test_an_out_folder_holds_one_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(run)
    assert csp("predict", "NaCl", *SMALL, "--out", str(run)) == 2
    assert "--resume" in capsys.readouterr().err
    assert csp("predict", "NaCl", *SMALL, "--seed", "1", "--out", str(run), "--resume") == 2
    assert "seed" in capsys.readouterr().err
    assert files(run) == before


def test_match(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = json.loads((run / "ranked.json").read_text())["results"][0]
    assert csp("match", str(run / best["file"]), str(run)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    group = [best["spacegroup"], f"({best['spacegroup_number']})"]
    assert ["1", *group, "0.0000", "1.000", best["file"]] in rows


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["Xx2O"], 2, "no element Xx"),
        (["Sr(Ti"], 2, "bracket"),
        ([""], 2, "empty"),
        (["SrTiO3.5x"], 2, "not a chemical formula"),
        (["Li0.3337CoO2"], 2, "whole"),
        (["Og"], 2, "does not know Og"),
        (["Ca14MnSb11", "--max-atoms", "20"], 2, "--max-atoms"),
        (["Si", "--library", "nowhere.parquet"], 3, "nowhere.parquet"),
        (["Si", "--library", "pyproject.toml"], 2, "pyproject.toml"),
        (["Si", "--relaxer", "nomodel"], 2, "chgnet"),
        (["Si", "--generators", "magic"], 2, "magic"),
        (["Si", "--device", "tpu"], 2, "tpu"),
        (["Si", "--pressure", "hot"], 2, "pressure"),
    ],
)
def test_bad_input_gets_one_sentence(
    arguments: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert csp("predict", *arguments, "--out", str(tmp_path / "run")) == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_done_when_it_is_stopped_is_ranked(stop: signal.Signals, code: int, tmp_path: Path) -> None:
    """By Ctrl-C or by a scheduler: the ranking of what was relaxed is written, and the run can be resumed."""
    words = [*SMALL, "--relaxer=none", "--max-steps=60", "--max-force=1e-9", "--out", str(tmp_path)]
    command = [sys.executable, "-c", TELLING, "predict", "NaCl", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        while not (line := process.stderr.readline()).startswith("rattling"):
            assert line, "it ended by itself"
        process.send_signal(stop)
        said = process.communicate(timeout=300)[1].splitlines()[-1]
    assert process.returncode == code
    assert (
        said == f"csp: Interrupted; what was relaxed is ranked in {tmp_path}, and --resume goes on with it."
    )
    ranked = json.loads((tmp_path / "ranked.json").read_text())
    assert ranked["results"]
    assert "Interrupted" in ranked["warnings"][-1]


def test_stopped_before_there_is_anything_to_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def propose(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("generators.templates.template.TemplateGenerator.propose", propose)
    words = ["NaCl", *SMALL, "--generators=template", "--relaxer=none", "--out", str(tmp_path)]
    assert csp("predict", *words) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"csp: Interrupted before anything could be ranked; --resume goes on with what is in {tmp_path}."
    )
    assert not (tmp_path / "ranked.json").exists()
    assert csp("predict", *words, "--resume") == 130
    assert "Nothing to resume" not in capsys.readouterr().err
