"""What a run ran with: enough to repeat it and to assess it."""

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

    Attributes:
        settings: The validated settings, seed included.
        versions: Versions of Python and the packages that the results depend on.
        checkpoints: Name of each energy model → its label with the hash of its weights.
        library: Name, fingerprint, number of entries, source and licence.
        device: "cpu", "cuda:0 (NVIDIA …)".
        timings: Seconds of each stage; the only values that differ between equal runs.
        citations: What to cite for the parts that were used.
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
