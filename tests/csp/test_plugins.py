"""What other packages offer, as a person meets it: an installed distribution, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

MODULE = '''
from collections import Counter

import numpy as np
from ase.build import bulk

from csp.crystals import Crystals
from csp.protocols import Proposals, Provenance
from tests.lennard_jones import LennardJones


class Rocksalt:
    """Rock salt in cells drawn from (seed, i)."""

    def __init__(self, library, volume_prior):
        self.name = "rocksalt"
        self.entries = len(library)

    def propose(self, target, n, *, seed, start=0):
        rows = range(start, start + n)
        atoms = [
            bulk("NaCl", "rocksalt", a=5.0 * np.random.default_rng([seed, i]).uniform(0.9, 1.1)) for i in rows
        ]
        return Proposals(
            Crystals.from_atoms(atoms), [Provenance(self.name, i, seed, 225) for i in rows], n, Counter()
        )


def make_pair(device):
    model = LennardJones(device=device)
    model.name = "pair"
    return model


def make_nothing(*_):
    return "nothing"
'''


def install(folder: Path, name: str, entry_points: str) -> None:
    """A package with its metadata, as pip leaves them."""
    information = folder / f"{name}-1.2.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(entry_points)
    (folder / f"{name}.py").write_text(MODULE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(
        folder,
        "swarm",
        "[csp.generators]\nrocksalt = swarm:Rocksalt\nnothing = swarm:make_nothing\n"
        "template = swarm:Rocksalt\n"
        "[csp.models]\npair = swarm:make_pair\nnothing = swarm:make_nothing\nchgnet = swarm:make_pair\n"
        "gone = swarm:not_there\n",
    )
    return folder


def run(site: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def csp(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(site, "-m", "csp", *arguments, cwd=cwd)


def test_models_are_listed_with_their_package(site: Path, tmp_path: Path) -> None:
    found = csp(site, tmp_path, "models", "list")
    assert found.returncode == 0, found.stderr
    (pair,) = [line for line in found.stdout.splitlines() if line.strip().startswith("pair")]
    assert "from swarm 1.2" in pair
    assert pair.rstrip().endswith("yes")
    assert "refused" in found.stdout
    card = csp(site, tmp_path, "models", "card", "pair")
    assert "LJ/none/1" in card.stdout


def test_a_search_by_the_names_of_another_package(site: Path, tmp_path: Path) -> None:
    search = ("predict", "NaCl", "--generators", "rocksalt", "--surrogate", "none", "--relaxer", "pair")
    few = ("--candidates", "3", "--rattled", "0", "--out", "run")
    found = csp(site, tmp_path, *search, *few)
    assert found.returncode == 0, found.stderr
    ranked = (tmp_path / "run" / "ranked.json").read_text()
    assert '"generator": "rocksalt"' in ranked
    assert '"label": "LJ/none/1"' in ranked
    assert csp(site, tmp_path, *search, *few, "--resume").returncode == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--relaxer", "pair", "--generators", "template"],
            "swarm 1.2 offers a generator 'template', which is the name of one of",
        ),
        (["--relaxer", "chgnet"], "swarm 1.2 offers a model 'chgnet', which is the name of one of"),
        (["--relaxer", "gone"], "gone of swarm 1.2 cannot be imported"),
        (["--relaxer", "nothing"], "nothing of swarm 1.2 gives a str, which is no energy model"),
        (
            ["--relaxer", "pair", "--generators", "nothing"],
            "nothing of swarm 1.2 gives a str, not a generator",
        ),
        (["--generators", "swarms"], "there is no generator 'swarms'; choose from template"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    site: Path, tmp_path: Path, options: list[str], sentence: str
) -> None:
    found = csp(site, tmp_path, "predict", "NaCl", "--surrogate", "none", "--candidates", "1", *options)
    assert found.returncode in (1, 2, 3)
    assert sentence in found.stderr.replace("\n", " ")
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())  # before any work


def test_two_packages_with_one_name_are_refused(site: Path, tmp_path: Path) -> None:
    install(tmp_path / "more", "flock", "[csp.models]\npair = flock:make_pair\n")
    paths = Path(os.pathsep.join([str(site), str(tmp_path / "more")]))
    code = "import csp; csp.load_model('pair')"
    found = run(paths, "-c", code, cwd=tmp_path)
    assert "'pair' is offered by flock 1.2 and swarm 1.2" in found.stderr
