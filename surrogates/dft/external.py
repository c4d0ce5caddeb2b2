"""Single points by a DFT code that is an external program: a folder for each, files in and out.

A calculation that exceeds its time is killed with all its processes; one that does not converge is tried
once more with safer mixing; one that is there already, from the same input, is not made again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from csp.crystals import Crystals
from csp.files import write_text
from csp.protocols import DONE, Label, Labels

__all__ = ["NOT_CONVERGED", "External", "last_line", "run", "write_result"]

NOT_CONVERGED = "not converged"
INPUT, RESULT = "input.json", "result.json"


class External(ABC):
    """A `csp.protocols.Labeller` over a program.

    Attributes:
        datasets: What an element needs, for people: "PAW dataset".
    """

    name: str
    label: Label
    elements: frozenset[int]
    max_atoms: int
    datasets: str

    @abstractmethod
    def given(self, crystal: Crystals) -> dict[str, Any]:
        """Everything that decides the result, JSON values."""

    @abstractmethod
    def attempt(self, crystal: Crystals, folder: Path, *, safer: bool) -> str:
        """One try, which leaves `RESULT` in the folder if its outcome is `DONE`; the outcome."""

    def compute(self, crystals: Crystals, folder: Path) -> Labels:
        """See `csp.protocols.Labeller`; a calculation has its folder by the crystal's id."""
        found = [self._one(crystals[b], folder / name) for b, name in enumerate(crystals.ids())]
        return Labels(torch.tensor([e for e, _ in found], dtype=torch.float64), [why for _, why in found])

    def _one(self, crystal: Crystals, folder: Path) -> tuple[float, str]:
        """Energy, eV per cell (NaN if there is none), and the outcome."""
        missing = set(crystal.numbers.tolist()) - self.elements
        if missing:
            return float("nan"), f"no {self.datasets} for atomic number {min(missing)}"
        folder.mkdir(parents=True, exist_ok=True)
        given = json.dumps(self.given(crystal), indent=1)
        result, before = folder / RESULT, folder / INPUT
        if not (result.exists() and before.exists() and before.read_text() == given):
            result.unlink(missing_ok=True)
            write_text(before, given)
            why = self.attempt(crystal, folder, safer=False)
            if why == NOT_CONVERGED:
                why = self.attempt(crystal, folder, safer=True)
            if why != DONE:
                return float("nan"), why
        return float(json.loads(result.read_text())["energy"]), DONE


def write_result(folder: Path, energy: float, forces: Any, version: str) -> None:
    """Energy in eV per cell, forces [A, 3] in eV/Å; whole or not at all."""
    write_text(folder / RESULT, json.dumps({"version": version, "energy": energy, "forces": forces}))


def run(command: Sequence[str], folder: Path, time_limit: float, *, stdout: str = os.devnull) -> str:
    """Run a program in a folder; `DONE`, or why it failed. Its errors go to stderr.txt."""
    with (folder / stdout).open("w") as out, (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            code = process.wait(time_limit)
        except BaseException as interruption:
            os.killpg(process.pid, signal.SIGKILL)  # MPI's processes too
            process.wait()
            if isinstance(interruption, subprocess.TimeoutExpired):
                return f"not done in {time_limit:g} s"
            raise
    if code == 0:
        return DONE
    return f"failed: {last_line((folder / 'stderr.txt').read_text(errors='replace'))}"


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it says nothing"
