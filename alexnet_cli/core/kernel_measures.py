"""What the kernels of the first layer look for, in numbers: stripes of which orientation and width, and which colour.

It must not import torch. Legend: H, W, C the kernel's rows, columns and channels (RGB), F frequencies.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPECTRUM = 128  # a kernel is surrounded by zeros up to this side: frequencies in steps of 1/128 cycle per pixel
GROUPS = 8  # of orientations, 22.5 degrees each, the first around the horizontal
SELECTIVE = 0.4  # selectivity from which an orientation means something; noise of 11x11 pixels has 0.1 to 0.35
COLOURED = 0.25  # colourfulness from which a colour is seen; that of pure yellow on black is a third, of pure red two

# Rows are at right angles to each other: two of the plane of colours, red to the right of it, and the grey axis.
AXES = np.array([[2, -1, -1], [0, math.sqrt(3), -math.sqrt(3)], [math.sqrt(2)] * 3]) / math.sqrt(6)


@dataclass(frozen=True)
class KernelMeasures:
    """What one kernel looks for.

    orientation: of the stripes, degrees from 0 to below 180, counter-clockwise from the horizontal. frequency: of the wave across
    them, cycles per pixel. selectivity: 0 for a kernel that has no direction, 1 for a wave of one direction. hue: of its strongest
    colour, degrees, red 0, green 120, blue 240. colourfulness: share of its energy (the sum of its squares) off the grey axis,
    0-1. orientation and frequency are None where the kernel is flat, hue where it is grey.
    """

    orientation: float | None
    frequency: float | None
    selectivity: float
    hue: float | None
    colourfulness: float

    def by_orientation(self) -> tuple[float, ...]:
        """Return what to sort by: groups of orientations, coarse stripes first in each; what has no orientation last."""
        if self.orientation is None or self.frequency is None:
            return (2.0,)
        if self.selectivity < SELECTIVE:
            return (1.0, self.frequency)
        return (0.0, round(self.orientation / (180 / GROUPS)) % GROUPS, self.frequency)

    def by_hue(self) -> tuple[float, ...]:
        """Return what to sort by: the coloured by their hue from red on, then the others by their orientation."""
        if self.hue is not None and self.colourfulness >= COLOURED:
            return (0.0, self.hue)
        return (1.0, *self.by_orientation())


def measure(kernel_HWC: NDArray[np.floating]) -> KernelMeasures:
    """Measure a kernel of three channels, RGB.

    Orientation and frequency are those of the largest value of its power spectrum, the channels' taken together, after each
    channel's mean is removed.
    """
    exact_HWC = kernel_HWC.astype(np.float64)
    return KernelMeasures(*_stripes(exact_HWC), *_colour(exact_HWC))


def _stripes(kernel_HWC: NDArray[np.float64]) -> tuple[float | None, float | None, float]:
    centred_HWC = kernel_HWC - kernel_HWC.mean(axis=(0, 1))
    if not _is_there(centred_HWC, kernel_HWC):
        return None, None, 0.0
    spectrum_FFC = np.fft.fft2(centred_HWC, s=(SPECTRUM, SPECTRUM), axes=(0, 1))
    power_FF = np.fft.fftshift((np.abs(spectrum_FFC) ** 2).sum(axis=2))
    up_FF, right_FF = _frequencies()
    direction_FF = np.arctan2(up_FF, right_FF)
    # Squared, so that what stands out counts and not the noise that is spread over all frequencies. Opposite directions are one
    # and the same wave: twice the angle makes them equal.
    counts_FF = power_FF**2
    selectivity = float(np.abs((counts_FF * np.exp(2j * direction_FF)).sum()) / counts_FF.sum())
    up, right = _peak(power_FF)
    return math.degrees(math.atan2(up, right) + math.pi / 2) % 180, math.hypot(up, right), selectivity


def _frequencies() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the frequencies upwards and to the right of each value of a spectrum, cycles per pixel; rows go down."""
    steps_F = np.fft.fftshift(np.fft.fftfreq(SPECTRUM))
    down_FF, right_FF = np.meshgrid(steps_F, steps_F, indexing="ij")
    return -down_FF, right_FF


def _peak(power_FF: NDArray[np.float64]) -> tuple[float, float]:
    """Return where a spectrum is largest, up and to the right, finer than its steps: the top of a parabola through three values."""
    row, column = divmod(int(power_FF.argmax()), SPECTRUM)
    # The spectrum goes round: before its first value comes its last.
    down = row + _top(*(float(power_FF[(row + step) % SPECTRUM, column]) for step in (-1, 0, 1)))
    right = column + _top(*(float(power_FF[row, (column + step) % SPECTRUM]) for step in (-1, 0, 1)))
    return 0.5 - down / SPECTRUM, right / SPECTRUM - 0.5


def _top(before: float, middle: float, after: float) -> float:
    """Return where the parabola through three values at -1, 0 and 1 has its top."""
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend else 0.0


def _colour(kernel_HWC: NDArray[np.float64]) -> tuple[float | None, float]:
    parts_NA = kernel_HWC.reshape(-1, 3) @ AXES.T
    colours_N2 = parts_NA[:, :2]
    if not _is_there(colours_N2, kernel_HWC):
        return None, 0.0
    _, vectors = np.linalg.eigh(colours_N2.T @ colours_N2)
    axis = vectors[:, -1]  # along which most of the colour lies; its stronger end gives the hue
    along_N = colours_N2 @ axis
    right, up = axis if (along_N * np.abs(along_N)).sum() >= 0 else -axis
    return math.degrees(math.atan2(up, right)) % 360, float((colours_N2**2).sum() / (parts_NA**2).sum())


def _is_there(part: NDArray[np.float64], whole: NDArray[np.float64]) -> bool:
    """Say whether a part of a kernel is more than what rounding leaves."""
    return bool((part**2).sum() > 1e-12 * (whole**2).sum())
