"""What a run ran with: enough to repeat it and to judge it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

__all__ = ["RunRecord", "versions"]

PACKAGES = ("csp-engine", "torch", "numpy", "pymatgen", "ase", "moyopy", "chgnet", "matgl")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The circumstances of a run, JSON values only.

    settings     the validated settings, seed included
    versions     of Python and the packages that the results depend on
    checkpoints  name of each energy model → its label with the hash of its weights
    library      name, fingerprint, number of entries, source and licence
    device       "cpu", "cuda:0 (NVIDIA …)"
    timings      seconds of each stage; the only values that differ between equal runs
    citations    what to cite for the parts that were used
    """

    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    checkpoints: Mapping[str, str]
    library: Mapping[str, Any]
    device: str = "cpu"
    timings: Mapping[str, float] = field(default_factory=dict)
    citations: tuple[str, ...] = ()


def versions() -> dict[str, str]:
    """Versions of Python and of those packages that the results depend on and that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
