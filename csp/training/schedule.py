"""The course of the learning rate, the same for every model that is trained here."""

from __future__ import annotations

import math

__all__ = ["learning_rate"]


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, decay: float) -> float:
    """Linear to `peak` over `warmup` steps, then level, a cosine to zero over the last fraction `decay`."""
    warm = min(1.0, (step + 1) / max(warmup, 1))
    begin = steps * (1.0 - decay)
    done = max(0.0, (step - begin) / max(steps - begin, 1.0))
    return peak * warm * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
