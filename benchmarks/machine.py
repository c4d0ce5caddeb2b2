"""The machine a number was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["machine", "threads"]


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Have torch compute in so many threads, and in as many as before when that is done."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device) -> dict[str, str | int]:
    """Flat description of processor, threads, memory, accelerator and software, JSON values."""
    found: dict[str, str | int] = {
        "machine.cpu": _processor(),
        "machine.cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 0,
        "machine.threads": torch.get_num_threads(),
        "machine.system": f"{platform.system()} {platform.machine()}",
        "machine.python": platform.python_version(),
        "machine.torch": torch.__version__,
        "machine.device": device.type,
    }
    if device.type == "cuda":
        found["machine.gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    """Its model name; the architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
