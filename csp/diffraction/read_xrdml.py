"""PANalytical's XML files."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from csp.diffraction.pattern import Floats
from csp.diffraction.radiation import Radiation
from csp.diffraction.scan import Scan
from csp.errors import InputError

__all__ = ["read_xrdml"]

RATIO = 0.5  # of Kα2 to Kα1, where the file does not say it


def read_xrdml(name: str, content: bytes) -> Scan:
    """The scan over 2θ in a file; repeated scans over the same angles are added up.

    Raises:
        InputError: It is no such file, or its scans have different angles.
    """
    if b"<!ENTITY" in content:
        raise InputError(f"{name} defines entities, which no xrdml file does.")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise InputError(f"{name} is damaged: {error}.") from error
    for element in root.iter():  # names without the version of the format
        element.tag = element.tag.rpartition("}")[2]
    if root.tag != "xrdMeasurements":
        raise InputError(f"{name} is XML, but no xrdml file of a diffractometer.")
    scans = [scan for points in root.iter("dataPoints") if (scan := _scan(name, points)) is not None]
    if not scans:
        raise InputError(f"{name} has no scan over 2θ.")
    x, y = scans[0]
    for other, intensity in scans[1:]:
        if len(other) != len(x) or abs(other - x).max() > 1e-3:
            raise InputError(
                f"{name} has {len(scans)} scans over different angles; export the one to be read."
            )
        y = y + intensity
    return Scan(x, y, radiation=_radiation(name, root))


def _scan(name: str, points: ElementTree.Element) -> tuple[Floats, Floats] | None:
    """Angles and intensities; None where something else than 2θ was scanned."""
    values = next(
        (points.find(tag) for tag in ("counts", "intensities") if points.find(tag) is not None), None
    )
    axis = next((p for p in points.findall("positions") if p.get("axis") == "2Theta"), None)
    if values is None or axis is None:
        return None
    y = _numbers(name, values)
    if values.tag == "counts":  # intensities are corrected for the attenuator, counts are not
        factors = points.find("beamAttenuationFactors")
        y = y if factors is None else y * _numbers(name, factors)
    listed = axis.find("listPositions")
    if listed is not None:
        x = _numbers(name, listed)
    else:
        ends = [axis.find(tag) for tag in ("startPosition", "endPosition")]
        if any(end is None for end in ends):
            return None
        first, last = (_numbers(name, end)[0] for end in ends if end is not None)
        x = np.linspace(first, last, len(y))
    if len(x) != len(y):
        raise InputError(f"{name} is damaged: it has {len(x)} angles and {len(y)} intensities.")
    return x, y


def _numbers(name: str, element: ElementTree.Element) -> Floats:
    try:
        found = np.array((element.text or "").split(), dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{name} is damaged: its {element.tag} are not all numbers.") from error
    if not len(found):
        raise InputError(f"{name} is damaged: its {element.tag} are empty.")
    return found


def _radiation(name: str, root: ElementTree.Element) -> Radiation | None:
    used = next(root.iter("usedWavelength"), None)
    if used is None or used.find("kAlpha1") is None:
        return None
    values = dict.fromkeys(("kAlpha1", "kAlpha2", "ratioKAlpha2KAlpha1"), 0.0)
    for tag in values:
        if (element := used.find(tag)) is not None and (element.text or "").strip():
            values[tag] = float(_numbers(name, element)[0])
    if values["kAlpha1"] <= 0:
        return None
    only_first = used.get("intended", "").strip() == "K-Alpha 1" and used.find("ratioKAlpha2KAlpha1") is None
    if only_first or values["kAlpha2"] <= 0:
        return Radiation.of(values["kAlpha1"])
    return Radiation.of(values["kAlpha1"], values["kAlpha2"], values["ratioKAlpha2KAlpha1"])
