"""Text files of diffractometers: columns below any header, or a start, a step and a list of intensities."""

from __future__ import annotations

import re

import numpy as np

from csp.diffraction.radiation import TUBES, Radiation
from csp.diffraction.scan import Scan
from csp.errors import InputError

__all__ = ["read_text"]

NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"  # in one way only, or a row of many takes for ever
ROW = re.compile(rf"\s*{NUMBER}(?:(?:\s*[,;]\s*|\s+){NUMBER})*[\s,;]*")
COMMA_INSIDE = re.compile(r"\d,\d")
FIRST_LINE = re.compile(r"alpha[ _-]?1|α1|_WL1|wave[ _-]?length|lambda|λ|wellenl", re.IGNORECASE)
SECOND_LINE = re.compile(r"alpha[ _-]?2|α2|_WL2|(?:length|lambda|λ)[ _-]?2", re.IGNORECASE)
OTHER_LINE = re.compile(r"beta|β|_WL3", re.IGNORECASE)
RATIO = re.compile(r"ratio", re.IGNORECASE)
ANODE = re.compile(
    rf"(?:anode|target|tube|radiation|x-?rays?)\b.*?\b({'|'.join(TUBES)})(?=\b|K|_|-)", re.IGNORECASE
)
START = re.compile(rf"START[ _-]*(?:ANGLE|POS\w*)?[^\w\n]{{1,10}}?({NUMBER})", re.IGNORECASE)
STEP = re.compile(rf"STEP[ _-]*(?:SIZE|WIDTH)?[^\w\n]{{1,10}}?({NUMBER})", re.IGNORECASE)
FREE_FORMAT = re.compile(rf"\s*({NUMBER})[\s,]+({NUMBER})[\s,]+({NUMBER})\b")
OTHER_AXIS = re.compile(
    r"(?:^|[\s,;#\"'(\[])(?:q|d|d-spacing|s)[ _]*[\[(/]\s*(?:1/)?(?:Å|A\b|ang|nm)", re.IGNORECASE
)
WAVELENGTHS = (0.05, 3.0)  # Å
RATIO_OF_TUBES = 0.5  # of Kα2 to Kα1
FREE = 3  # numbers in a row of a list of intensities are more


def read_text(name: str, text: str) -> Scan:
    """The scan in a text file.

    Rows of numbers are data, all else is header, in which the wavelength is looked for. A third column is one
    standard deviation in files named `.xye`; in `.ras` files it is the attenuator's factor.

    Raises:
        InputError: There are no rows of numbers that are a powder pattern.
    """
    lines = [_with_decimal_points(line) for line in text.splitlines()]
    rows = [_numbers(line) if ROW.fullmatch(line) else None for line in lines]
    header = [line for line, row in zip(lines, rows, strict=True) if row is None]
    axis = next((found for line in header if (found := OTHER_AXIS.search(line))), None)
    if axis:
        raise InputError(
            f"{name} is not over the angle 2θ: its header has {axis[0].strip()!r}; convert it to 2θ."
        )
    block = _longest_block(rows)
    if len(block) < 2:
        raise InputError(f"{name} has no rows of numbers: it is no powder pattern.")
    radiation = _radiation(header)
    width = len(block[0])
    if not _angles_first(block):
        grid = _start_and_step("\n".join(header), next(line for line in lines if line.strip()))
        if grid is None:
            raise InputError(
                f"{name} has no column of rising angles, and no start and step; write rows of angle and "
                "intensity."
            )
        y = np.array([value for row in block for value in row], dtype=np.float64)
        return Scan(grid[0] + grid[1] * np.arange(len(y), dtype=np.float64), y, radiation=radiation)
    columns = np.array([row[:3] for row in block], dtype=np.float64)
    intensity, sigma = columns[:, 1], None
    if width > 2 and name.lower().endswith(".ras"):
        intensity = intensity * columns[:, 2]
    if width > 2 and name.lower().endswith(".xye"):
        sigma = columns[:, 2]
    return Scan(columns[:, 0], intensity, sigma, radiation)


def _with_decimal_points(line: str) -> str:
    """Commas inside numbers, where something else parts the columns."""
    parted = ";" in line or "\t" in line or ("," in line and " " in line.strip() and ", " not in line)
    return line.replace(",", ".") if parted and "." not in line and COMMA_INSIDE.search(line) else line


def _numbers(line: str) -> list[float]:
    return [float(part) for part in re.findall(NUMBER, line)]


def _longest_block(rows: list[list[float] | None]) -> list[list[float]]:
    """The rows of numbers of one length that follow each other; the last of a list of intensities may be
    shorter."""
    best, block = list[list[float]](), list[list[float]]()
    for row in [*rows, None]:
        if row and block and len(row) == len(block[-1]):
            block.append(row)
            continue
        if row and len(block) > 1 and FREE < len(block[-1]) > len(row):
            block.append(row)
        if len(block) > len(best):
            best = block
        block = [row] if row else []
    return best


def _angles_first(block: list[list[float]]) -> bool:
    """Is the first of several columns an angle?"""
    if len(block[0]) < 2 or len(block[-1]) != len(block[0]):
        return False
    steps = np.diff([row[0] for row in block])
    return bool((steps >= 0).all() or (steps <= 0).all()) and bool(steps.any())


def _start_and_step(header: str, top: str) -> tuple[float, float] | None:
    """From the header, or from a first line "start step end" with anything after it."""
    start, step = START.search(header), STEP.search(header)
    if start and step and 0 < float(step[1]) < 1:
        return float(start[1]), float(step[1])
    if found := FREE_FORMAT.match(top):
        first, apart, last = (float(part) for part in found.groups())
        if 0 < apart < 1 and first < last <= 180:
            return first, apart
    return None


def _radiation(header: list[str]) -> Radiation | None:
    """What the header says: wavelengths in Å, else the anode of the tube."""
    first, second, ratio = None, None, RATIO_OF_TUBES
    for line in header:
        values = [value for value in _numbers(line) if WAVELENGTHS[0] < value < WAVELENGTHS[1] and value % 1]
        if not values or OTHER_LINE.search(line):
            continue
        if RATIO.search(line):
            ratio = values[-1] if values[-1] <= 1 else ratio
        elif SECOND_LINE.search(line):
            second = second or values[-1]
        elif FIRST_LINE.search(line):
            first = first or values[0]
            second = values[1] if len(values) > 1 and second is None else second
    if first is not None:
        doublet = second is not None and 1e-4 < second / first - 1 < 1e-2
        return Radiation.of(first, second if doublet else None, ratio)
    anode = next((found[1] for line in header if (found := ANODE.search(line))), None)
    return None if anode is None else Radiation.of(*TUBES[anode.capitalize()])
