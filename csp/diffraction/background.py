"""What lies below the peaks, and how wide these are."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, peak_widths

from csp.diffraction.pattern import Floats, Pattern

__all__ = ["background_columns", "baseline", "peak_width"]

WIDEST = 4.0  # degrees; what is narrower is a peak
DEGREE = 6  # of the polynomial that the fit adds to the baseline
STRONG = 0.1  # of the highest peak, for a peak whose width counts


def baseline(pattern: Pattern) -> Floats:
    """[N]: the pattern with all that is narrower than `WIDEST` clipped off.

    SNIP (Ryan et al., Nucl. Instrum. Methods B 34, 396, 1988) on the logarithms of the logarithms of the
    roots, windows shrinking (Morháč and Matoušek, Appl. Spectrosc. 62, 91, 2008).
    """
    step = pattern.step
    smooth = gaussian_filter1d(pattern.intensity, max(1.0, 0.05 / step), mode="nearest")
    lowest = min(smooth.min(), 0.0)
    v = np.log(np.log(np.sqrt(smooth - lowest + 1) + 1) + 1)
    for window in range(max(2, round(WIDEST / 2 / step)), 0, -1):
        padded = np.pad(v, window, mode="edge")
        v = np.minimum(v, (padded[: -2 * window] + padded[2 * window :]) / 2)
    return (np.exp(np.exp(v) - 1) - 1) ** 2 - 1 + lowest


def background_columns(pattern: Pattern, below: Floats) -> Floats:
    """[N, C]: what the fit may add up to a background: the baseline, Chebyshev polynomials, and 1/2θ for the
    air that scatters at low angles."""
    x = pattern.two_theta
    scaled = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    return np.column_stack(
        [below / max(np.abs(below).max(), 1e-12), chebyshev.chebvander(scaled, DEGREE), x[0] / x]
    )


def peak_width(pattern: Pattern, below: Floats) -> float:
    """Full width at half maximum of a typical strong peak, degrees: the median of the narrower half."""
    net = gaussian_filter1d(pattern.intensity - below, 1.0)
    height = max(STRONG * float(net.max()), 6 * float(np.median(pattern.sigma)))
    peaks, _ = find_peaks(net, height=min(height, 0.9 * float(net.max())), prominence=height / 2)
    if not len(peaks):
        return 8 * pattern.step
    widths = np.sort(peak_widths(net, peaks, rel_height=0.5)[0]) * pattern.step
    return float(np.clip(np.median(widths[: (len(widths) + 1) // 2]), 2 * pattern.step, 2.0))
