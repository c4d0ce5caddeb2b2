"""A search as a user starts it, a process of its own: what it cost, and how much of that had to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from csp.crystallography.operations import operations
from csp.crystallography.surroundings import Surroundings
from csp.errors import CspError
from csp.protocols import EnergyModel
from csp.store.store import Store

__all__ = ["Cost", "Evaluations", "evaluations", "run"]

KIB_PER_GIB = 2**20
REPEATS = 2  # the faster counts
AT_ONCE = 40  # crystals whose energy is timed together, as many as a shard of `relax` has


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one search, from its formula to its page.

    Attributes:
        seconds, cpu_seconds: Of the whole process, its start included.
        gib: The most memory that it held.
        stages: Seconds of each stage, as `run.json` has them.
    """

    seconds: float
    cpu_seconds: float
    gib: float
    stages: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evaluations:
    """What a stage asked of its energy model.

    Attributes:
        number: Energies with forces, one for each crystal and step.
        least: Seconds that so many take, by those of one in a batch of crystals at their ends.
    """

    number: int
    least: float


def run(arguments: list[str], out: Path, *, threads: int) -> Cost:
    """`csp predict` with these arguments into the folder `out`.

    Raises:
        CspError: It ended with another exit code than 0; its last line says why.
    """
    command = [sys.executable, "-m", "csp", "predict", *arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    began = time.perf_counter()
    with open(out.with_suffix(".log"), "wb+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise CspError(
            f"csp predict ended with {process.returncode}: {said[-1] if said else 'it said nothing'}"
        )
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / KIB_PER_GIB, record["timings"])


def evaluations(folder: Path, stages: Mapping[str, EnergyModel]) -> dict[str, Evaluations]:
    """Of the relaxations in a run's folder, by stage → the model that relaxed in it.

    The time of one is measured here, by as many threads as torch has in this process.
    """
    store = Store.open(folder)
    found = {}
    for stage, model in stages.items():
        _, relaxed = store.relaxed(stage, model.label)
        if not len(relaxed.crystals):
            continue
        some = relaxed.crystals[torch.arange(min(AT_ONCE, len(relaxed.crystals)))].to(model.device)
        symmetry = operations(some)
        some = symmetry.symmetrize(some)
        surroundings = Surroundings.of(some, symmetry.to(model.device))
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            model.evaluate(some, forces=True, surroundings=surroundings)
            best = min(best, time.perf_counter() - began)
        number = int((relaxed.steps + 1).sum())
        found[stage] = Evaluations(number, number * best / len(some))
    return found
