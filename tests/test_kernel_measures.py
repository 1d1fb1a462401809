"""What kernels look for: stripes of known angle and width, and colours of known hue, as the measures see them."""

import colorsys
import math

import numpy as np
import pytest

from alexnet_cli.core.kernel_measures import SELECTIVE, measure


def gabor(orientation: float, frequency: float, phase: float, *, side: int = 11) -> np.ndarray:
    """Return stripes at an angle to the horizontal, counter-clockwise, under a Gaussian; grey, (side, side, 3)."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    across = math.radians(orientation) + math.pi / 2
    wave = np.cos(2 * math.pi * frequency * (columns * math.cos(across) - rows * math.sin(across)) + phase)
    return np.repeat((wave * np.exp(-(rows**2 + columns**2) / 18))[..., None], 3, axis=2)


@pytest.mark.parametrize("frequency", [0.15, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("phase", [0, 0.7, math.pi / 2])
def test_stripes(frequency, phase):
    """At every tenth degree the angle comes out within a degree and the frequency within 0.005 cycles per pixel."""
    for orientation in range(0, 180, 10):
        found = measure(gabor(orientation, frequency, phase))
        assert found.orientation is not None and found.frequency is not None
        assert abs((found.orientation - orientation + 90) % 180 - 90) < 1.5, orientation
        assert abs(found.frequency - frequency) < 0.006
        assert found.selectivity > 0.9 and found.colourfulness == 0 and found.hue is None


def test_horizontal_is_0_and_vertical_90():
    """Rows of light and dark are 0 degrees, columns 90, a rising diagonal 45: the angle is that of the stripes, not of the wave."""
    rows = np.repeat(np.repeat(np.array([[1.0, 1, -1, -1] * 3])[:, :11].T, 11, axis=1)[..., None], 3, axis=2)
    rising = np.fromfunction(lambda y, x, _: np.sign(np.cos(math.pi / 3 * (x + y))), (11, 11, 3))
    for kernel, angle in ((rows, 0), (rows.transpose(1, 0, 2), 90), (rising, 45), (rising[:, ::-1], 135)):
        found = measure(kernel)
        assert found.orientation is not None
        assert abs((found.orientation - angle + 90) % 180 - 90) < 1


def test_odd_kernels_and_coloured_stripes():
    """A kernel of 5x5 has angles too, and stripes of two colours of the same lightness are seen as well as grey ones."""
    assert measure(gabor(60, 0.25, 0.5, side=5)).orientation == pytest.approx(60, abs=6)
    opponent = gabor(120, 0.2, 0) * np.array([1, -1, 0])
    found = measure(opponent)
    assert found.orientation == pytest.approx(120, abs=1.5) and found.colourfulness == pytest.approx(1)


def test_what_has_no_direction():
    """A blob and most noise are not selective; a flat kernel has neither angle nor frequency, and nothing has no colour."""
    rows, columns = np.mgrid[-5:6, -5:6]
    blob = np.repeat(np.exp(-(rows**2 + columns**2) / 8)[..., None], 3, axis=2)
    assert measure(blob).selectivity < 1e-6
    generator = np.random.default_rng(0)
    noise = [measure(generator.normal(size=(11, 11, 3))).selectivity for _ in range(100)]
    assert max(noise) < SELECTIVE
    flat = measure(np.full((11, 11, 3), 0.3))
    assert (flat.orientation, flat.frequency, flat.selectivity, flat.hue) == (None, None, 0, None)
    assert measure(np.zeros((3, 3, 3))).colourfulness == 0


@pytest.mark.parametrize(
    "colour", [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (0.9, 0.4, 0.1), (0.2, 0.3, 0.8)]
)
def test_hue(colour):
    """A kernel of one colour has its hue, as the six corners and within the few degrees by which the circle is no hexagon."""
    found = measure(np.ones((11, 11, 1)) * np.array(colour, dtype=float))
    assert found.hue is not None
    assert abs((found.hue - 360 * colorsys.rgb_to_hsv(*colour)[0] + 180) % 360 - 180) < (1e-9 if set(colour) <= {0, 1} else 1.2)
    stronger = np.concatenate([np.ones((11, 7, 1)), -np.ones((11, 4, 1))], axis=1) * np.array(colour, dtype=float)
    assert measure(stronger).hue == pytest.approx(found.hue)  # the larger of two opposite colours counts


def test_colourfulness_by_hand():
    """Of red's energy 1 a third lies on the grey axis, of yellow's 2 two thirds; a negative weight's colour is the opposite."""
    assert measure(np.ones((3, 3, 1)) * np.array([1.0, 0, 0])).colourfulness == pytest.approx(2 / 3)
    assert measure(np.ones((3, 3, 1)) * np.array([1.0, 1, 0])).colourfulness == pytest.approx(1 / 3)
    assert measure(np.ones((3, 3, 1)) * np.array([-1.0, 0, 0])).hue == pytest.approx(180)
