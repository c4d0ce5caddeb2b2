"""A folder on a disk of its own that can be made full, where mounting is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SmallDisk", "small_disk"]

SIZE = 4096  # MB at most; only what is written takes memory


class SmallDisk:
    """A file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """No byte more can be written."""
        there = os.statvfs(self.folder)
        self._resize(f"{max((there.f_blocks - there.f_bfree) * there.f_frsize // 1024, 4)}k")

    def free(self) -> None:
        """There is room again."""
        self._resize(f"{SIZE}m")

    def _resize(self, size: str) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={size}", str(self.folder)], check=True, capture_output=True
        )


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk | None]:
    """What is in the folder stays when the block is left; None where nothing may be mounted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m,mode=0755", "tmpfs", str(folder)]
    try:
        mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        yield None
        return
    kept = folder.with_name(f"{folder.name}.kept")
    try:
        disk = SmallDisk(folder)
        yield disk
        disk.free()
        shutil.copytree(folder, kept, symlinks=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)
    folder.rmdir()
    kept.rename(folder)
