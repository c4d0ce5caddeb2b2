"""Keeping freed memory: on a CPU, tensor code spends much of its time on fresh pages otherwise."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed blocks of megabytes for the next tensor; true where it can.

    By default glibc gives every freed block above 32 MB, and the free top of the heap, back to the
    system, whose pages must then be mapped and zeroed again for the next tensor: a quarter of the
    time of a forward pass of the surrogate. Memory in use does not grow beyond its peak. Other C
    libraries are left as they are. Call it once, early, from a program's entry point.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    limit = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, 2**25) and mallopt(M_TRIM_THRESHOLD, limit))
