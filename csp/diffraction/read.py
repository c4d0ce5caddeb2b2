"""Scans of powder diffractometers from files.

PANalytical's `.xrdml`, Rigaku's `.ras`, and text: two or three columns (`.xy`, `.xye`, `.csv` …) below any
header, or a start, a step and a list of intensities (Bruker's `.uxd`, FullProf's `.dat`). The wavelength
is taken from the file, or told.
"""

from __future__ import annotations

import re
from pathlib import Path

from csp.diffraction.pattern import Pattern
from csp.diffraction.radiation import Radiation
from csp.diffraction.read_text import read_text
from csp.diffraction.read_xrdml import read_xrdml
from csp.diffraction.scan import Scan
from csp.errors import InputError, MissingError

__all__ = ["read_pattern"]

BINARY = {
    ".raw": "Bruker's or Rigaku's binary files",
    ".brml": "Bruker's archives",
    ".rasx": "Rigaku's archives",
    ".rd": "Philips's binary files",
    ".sd": "Philips's binary files",
}
LARGEST = 50e6  # bytes


def read_pattern(path: Path, wavelength: str | None = None, angles: str | None = None) -> Pattern:
    """The scan in a file.

    Args:
        wavelength: As `Radiation.parse` reads it; None: what the file says.
        angles: "15-80": only these, degrees; None: all.

    Raises:
        MissingError: There is no such file.
        InputError: One sentence, for what cannot be read, and where nobody says the wavelength.
    """
    scan = _scan(path)
    radiation = scan.radiation if wavelength is None else Radiation.parse(wavelength)
    if radiation is None:
        raise InputError(
            f"{path.name} does not say the wavelength; give it, for example `wavelength` CuKa or 1.5406."
        )
    pattern = Pattern.measured(path.name, scan.two_theta, scan.intensity, radiation, scan.sigma)
    return pattern if angles is None else pattern.between(*_range(angles))


def _scan(path: Path) -> Scan:
    if not path.is_file():
        raise MissingError(f"There is no file {path} with a powder pattern.")
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path.name} is larger than {LARGEST / 1e6:.0f} MB, which no powder pattern is.")
    content = path.read_bytes()
    if not content.strip():
        raise InputError(f"{path.name} is empty.")
    if content.lstrip()[:5] == b"<?xml" or b"<xrdMeasurement" in content[:4096]:
        return read_xrdml(path.name, content)
    if b"\0" in content[:4096] or content[:2] == b"PK":
        kind = BINARY.get(path.suffix.lower(), "binary files")
        raise InputError(f"{path.name}: {kind} are not read; export the scan as xy, xye, xrdml or ras.")
    return read_text(path.name, content.decode("utf-8-sig", errors="replace"))


def _range(text: str) -> tuple[float, float]:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*[-,:]\s*(\d+(?:\.\d*)?)\s*", text)
    if not found or float(found[1]) >= float(found[2]):
        raise InputError(f"{text!r} is no range of angles; write for example 15-80.", setting="range")
    return float(found[1]), float(found[2])
