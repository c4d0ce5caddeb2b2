"""Scans in the formats of diffractometers, and files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from csp.diffraction.pattern import Pattern
from csp.diffraction.radiation import TUBES, Radiation
from csp.diffraction.read import read_pattern
from csp.errors import CspError, InputError, MissingError
from tests.places import SHARED, needs

X = np.round(np.arange(10, 60, 0.02), 4)
Y = np.round(1000 * np.exp(-(((X - 30) / 0.1) ** 2)) + 50 + np.random.default_rng(0).normal(0, 7, len(X)))
SCANS = SHARED / "data" / "xrd"


def columns(parted: str = " ", *more: str, point: str = ".") -> str:
    rows = (parted.join([f"{x:.4f}", f"{y:.1f}", *more]) for x, y in zip(X, Y, strict=True))
    return "\n".join(rows).replace(".", point)


def listed(width: int) -> str:
    return "\n".join(" ".join(f"{y:.0f}" for y in Y[k : k + width]) for k in range(0, len(Y), width))


BRUKER = (
    "; a file\n_ANODE='Cu'\n_WL1=1.540600\n_WL2=1.544390\n_WL3=1.392220\n_WLRATIO=0.500000\n_STEPTIME=0.5\n"
)
RIGAKU = (
    '*RAS_DATA_START\n*HW_XG_TARGET_NAME "Co"\n*HW_XG_WAVE_LENGTH_ALPHA1 "1.788965"\n'
    '*HW_XG_WAVE_LENGTH_ALPHA2 "1.792850"\n*HW_XG_WAVE_LENGTH_BETA "1.620790"\n*RAS_INT_START\n'
)
PANALYTICAL = (
    "[Measurement conditions]\nAnode material,Cu\nK-Alpha1 wavelength,1.540598\n"
    "K-Alpha2 wavelength,1.544426\nRatio K-Alpha2/K-Alpha1,0.5\n[Scan points]\nAngle,Intensity\n"
)
FILES = {
    "plain.xy": (columns(), None),
    "named.xy": ("# Wavelength: 1.5406\n" + columns(), (1.5406,)),
    "synchrotron.xye": ("# lambda = 0.412619 A\n" + columns(" ", "5.0"), (0.412619,)),
    "tube.txt": ("Radiation: Co Kalpha\n" + columns("\t"), TUBES["Co"]),
    "tube.csv": (PANALYTICAL + columns(","), (1.540598, 1.544426)),
    "commas.csv": ("2Theta;I\n" + columns(";", point=","), None),
    "commas.txt": (columns(" ", point=","), None),
    "rigaku.ras": (RIGAKU + columns(" ", "1.0000") + "\n*RAS_INT_END\n", (1.788965, 1.792850)),
    "list.uxd": (BRUKER + "_STEPSIZE=0.020\n_START=10.0\n_COUNTS\n" + listed(8), (1.5406, 1.54439)),
    "one.uxd": (BRUKER + "_STEPSIZE=0.020\n_START=10.0\n_COUNTS\n" + listed(1), (1.5406, 1.54439)),
    "fullprof.dat": ("10.0 0.02 59.98 a sample\n" + listed(10), None),
}


@pytest.mark.parametrize("name", FILES)
def test_formats(name: str, tmp_path: Path) -> None:
    text, lines = FILES[name]
    (tmp_path / name).write_text(text)
    if lines is None:
        with pytest.raises(InputError, match=f"{name} does not say the wavelength"):
            read_pattern(tmp_path / name)
    pattern = read_pattern(tmp_path / name, None if lines else "CuKa")
    assert len(pattern) == len(X)
    assert np.allclose(pattern.two_theta, X)
    assert np.allclose(pattern.intensity, Y)
    if lines:
        assert tuple(wavelength for wavelength, _ in pattern.radiation.lines) == lines
    assert sum(share for _, share in pattern.radiation.lines) == pytest.approx(1)


def test_what_is_told_counts_more_than_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(PANALYTICAL + columns(","))
    assert read_pattern(tmp_path / "a.csv", "MoKa1").radiation.lines == ((TUBES["Mo"][0], 1.0),)
    assert read_pattern(tmp_path / "a.csv", None, "20-45").two_theta[[0, -1]].tolist() == [20.0, 45.0]


WRONG = {
    "empty.xy": ("", "is empty"),
    "words.xy": ("hello\nworld\n", "no rows of numbers"),
    "short.xy": ("10 5\n11 6\n12 7\n", "3 points"),
    "q.xy": ("q (1/Å), intensity\n" + columns(), "not over the angle"),
    "wide.xy": ("\n".join(f"{k} {k % 7}" for k in range(400)), "no angles"),
    "narrow.xy": ("\n".join(f"{20 + k / 100} {k % 7}" for k in range(400)), "too narrow"),
    "flat.xy": ("\n".join(f"{20 + k / 10} 5" for k in range(400)), "all are equal"),
    "numbers.txt": (listed(8), "no column of rising angles"),
    "bruker.raw": ("RAW1.01\0\0\0", "binary"),
    "broken.xrdml": ("<?xml version='1.0'?><xrdMeasurements><a>", "damaged"),
    "other.xrdml": ("<?xml version='1.0'?><svg/>", "no xrdml file"),
    "bomb.xrdml": ("<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><xrdMeasurements/>", "entities"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_sentence(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_pattern(tmp_path / name, "CuKa")
    assert "\n" not in raised.value.message


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        read_pattern(tmp_path / "a.xy")


@pytest.mark.parametrize("text", ["Cx", "CuKb", "1.5,1.6,1.7", "", "12", "-1", "Kα"])
def test_no_wavelength(text: str) -> None:
    with pytest.raises(CspError):
        Radiation.parse(text)


@pytest.mark.parametrize("text", ["CuKa", "Cu", "cu Kα", "Cu K-alpha", "1.5405929,1.5444274"])
def test_both_lines_of_copper(text: str) -> None:
    radiation = Radiation.parse(text)
    assert radiation.name == "Cu Kα"
    assert radiation.lines == ((1.5405929, pytest.approx(2 / 3)), (1.5444274, pytest.approx(1 / 3)))


def test_errors_of_counts_that_were_scaled() -> None:
    """Whatever counts were multiplied with: the scatter of the points tells."""
    grid = np.arange(10, 80, 0.02)
    expected = 200 + 3000 * np.exp(-(((grid - 40) / 0.3) ** 2))
    counts = np.random.default_rng(1).poisson(expected).astype(float)
    for factor in (1.0, 0.01, 50.0):
        found = Pattern.measured("a", grid, factor * counts, Radiation.parse("CuKa"))
        assert np.median(found.sigma / (factor * np.sqrt(expected))) == pytest.approx(1, abs=0.06)


def test_an_even_grid_keeps_the_intensity() -> None:
    x = np.sort(np.random.default_rng(0).uniform(10, 80, 9000))
    pattern = Pattern.measured("a", x, 100 + 10 * np.sin(x), Radiation.parse("CuKa"))
    even = pattern.even(0.05)
    assert np.ptp(np.diff(even.two_theta)) < 1e-9
    assert np.abs(even.intensity - 100 - 10 * np.sin(even.two_theta))[np.isfinite(even.sigma)].max() < 0.5
    gap = Pattern.measured(
        "a", np.append(x[x < 30], x[x > 50]), np.ones(((x < 30) | (x > 50)).sum()).cumsum(), pattern.radiation
    )
    assert np.isinf(
        gap.even(0.05).sigma[(gap.even(0.05).two_theta > 31) & (gap.even(0.05).two_theta < 49)]
    ).all()


@needs(SCANS)
def test_a_scan_of_a_laboratory() -> None:
    pattern = read_pattern(SCANS / "TiO2_0p4009-ZnO_0p6010--8min.xrdml")
    assert len(pattern) == 8282
    assert pattern.two_theta[[0, -1]] == pytest.approx([10.00943322, 99.99442286])
    assert pattern.radiation.lines == ((1.540598, pytest.approx(2 / 3)), (1.544426, pytest.approx(1 / 3)))
    strongest = pattern.two_theta[pattern.intensity.argmax()]
    assert strongest == pytest.approx(36.25, abs=0.1)  # 101 of zincite


def test_a_row_of_numbers_that_ends_in_a_word_is_read_in_no_time(tmp_path: Path) -> None:
    """A pattern that can split a number in many ways would try them all for each."""
    path = tmp_path / "a.xy"
    path.write_text(" ".join(["123456"] * 500) + " counts\n" + columns())
    assert len(read_pattern(path, "CuKa")) == len(X)


def test_a_wavelength_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "a.xrdml"
    path.write_text(
        "<xrdMeasurements><usedWavelength><kAlpha1>short</kAlpha1></usedWavelength><dataPoints>"
        "<positions axis='2Theta'><startPosition>10</startPosition><endPosition>20</endPosition></positions>"
        "<counts>1 2 3</counts></dataPoints></xrdMeasurements>"
    )
    with pytest.raises(InputError, match="its kAlpha1 are not all numbers"):
        read_pattern(path)
