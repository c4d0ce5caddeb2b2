"""What a file of a diffractometer holds, before it is checked."""

from __future__ import annotations

from dataclasses import dataclass

from csp.diffraction.pattern import Floats
from csp.diffraction.radiation import Radiation

__all__ = ["Scan"]


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Columns of a file.

    Attributes:
        two_theta: [N], degrees.
        intensity: [N].
        sigma: [N], where the file has it.
        radiation: Where the file says it.
    """

    two_theta: Floats
    intensity: Floats
    sigma: Floats | None = None
    radiation: Radiation | None = None
