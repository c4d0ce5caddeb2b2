"""`csp models`: what is there, whether it is whole, and how it gets here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from surrogates import zoo
from surrogates.potentials import catalogue as published
from tests.program import csp
from tests.untrained import checkpoint

NAME = "TensorNet-PES-MatPES-PBE-2025.2"


def models(*arguments: str) -> int:
    """Run the command; its exit code."""
    return csp("models", *arguments)


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library is one untrained model; of the potentials, CHGNet alone is here."""
    folder = tmp_path / "weights"
    zoo.model_from_checkpoint(
        checkpoint(tmp_path / "run"),
        "tiny",
        folder,
        {"mae_test_mev": 41.5},
        data=["three made up crystals"],
        split="none",
        licence="Apache-2.0",
        code_version="0",
    )
    monkeypatch.setattr(zoo, "_shipped", lambda: folder)
    monkeypatch.setattr(published, "MATGL_CACHE", tmp_path / "cache")
    monkeypatch.delenv("CSP_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return folder


def downloaded(cache: Path, content: bytes, named_after: bytes) -> None:
    """As the hub's cache has it: files are links to blobs, which are called by their hash."""
    repository = cache / f"models--{published.MATGL_ORGANISATION}--{NAME}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    for folder in ("refs", "blobs", f"snapshots/{revision}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    for file in published.MATGL_FILES:
        blob = (
            repository / "blobs" / (hashlib.sha256(named_after).hexdigest() if file == "state.pt" else file)
        )
        blob.write_bytes(content)
        (repository / "snapshots" / revision / file).symlink_to(blob)


def test_list(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert models("list") == 0
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    k = next(k for k, line in enumerate(told) if line.startswith("tiny PBE+U/MP2018 formation energy 0."))
    assert told[k + 1 : k + 3] == ["PBE+U/MP2018-anchored Δ(chgnet)", "89 elements, Apache-2.0"]
    for line in ("chgnet PBE+U/MP2020 4.9 MB", "89 elements, BSD-3-Clause", f"{NAME} PBE/none no"):
        assert line in told
    downloaded(tmp_path / "cache", b"0" * 1_000_000, b"")
    assert models("list") == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if NAME in line]
    assert line[-2:] == ["3.0", "MB"]


def test_no_model_of_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(zoo, "list_models", list)
    assert models("list") == 0
    assert "No model of ours comes with this version." in capsys.readouterr().out


def test_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert models("card", "tiny") == 0
    told = capsys.readouterr().out
    for words in ("Δ(chgnet)", "mae_test_mev", "41.5", "three made up crystals", "Apache-2.0", "89: H He Li"):
        assert words in told
    assert models("card", "chgnet") == 0
    assert "PBE+U/MP2020/chgnet-0.3.0-d14ab7c0f093" in capsys.readouterr().out
    assert models("card", NAME) == 0
    assert f"no; csp models pull {NAME}" in capsys.readouterr().out
    assert models("card", "tiny2") == 2
    assert "There is no model 'tiny2'; did you mean tiny? Known are tiny, chgnet" in capsys.readouterr().err
    for command in ("verify", "pull"):
        assert models(command, "tiny2") == 2
        assert "did you mean tiny?" in capsys.readouterr().err


def test_verify(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    downloaded(tmp_path / "cache", b"weights", b"weights")
    assert models("verify") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["tiny", "chgnet", NAME]
    assert "as in its card" in told[0]
    assert all("as published" in line for line in told[1:])


def test_damage_is_told(shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shipped / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    downloaded(tmp_path / "cache", b"other weights", b"weights")
    assert models("verify") == 2
    told = capsys.readouterr()
    assert "not those of their card" in told.out
    assert f"Do not use tiny, {NAME}: install or fetch again." in told.err
    assert models("verify", "tiny") == 2
    assert models("verify", "chgnet") == 0


def test_chgnets_hash(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(published, "CHGNET_SHA256", "0" * 64)
    assert models("verify", "chgnet") == 2
    assert "is not the published 000000000000…" in capsys.readouterr().err


def test_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_network(*arguments: object, **options: object) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", no_network)
    assert models("pull", NAME) == 3
    assert capsys.readouterr().err.count("cannot be downloaded") == 1
    assert models("verify", NAME) == 3
    assert models("pull", "TensorNet") == 2
    for here in ("tiny", "chgnet"):
        assert models("pull", here) == 0
    downloaded(tmp_path / "cache", b"weights", b"weights")
    assert models("pull", NAME) == 0
    assert str(tmp_path / "cache") in capsys.readouterr().out


def test_a_pulled_file_is_asked_for_where_matgl_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(repository: str, file: str, *, cache_dir: Path) -> str:
        asked.append((repository, file, cache_dir))
        return str(cache_dir / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    paths = published.download(NAME)
    assert [path.name for path in paths] == list(published.MATGL_FILES)
    assert asked[0] == (f"materialyze/{NAME}", "model.json", tmp_path / "cache")
