from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.core.maximize import unit_sums
from alexnet_cli.core.model import AlexNet
from alexnet_cli.core.painting import Painter, Prior, fast_side, make_painter, prior_of, unit_rms
from alexnet_cli.core.recipes import original, preset
from tests.networks import narrow


def painter(side: int = 64, *, smoothness: float = 0.0, colour: float = 0.0, contrast: float = 5.0, mean: float = 127.5) -> Painter:
    """A painter of a plain mean, in float64, without margins."""
    mean_CHW = torch.full((3, side, side), mean, dtype=torch.float64)
    return make_painter(mean_CHW, range(side), Prior(smoothness, colour, 0), contrast)


def numbers(count: int = 8, side: int = 64) -> torch.Tensor:
    """White noise, in float64."""
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_without_a_prior_a_picture_is_its_numbers():
    """White numbers with colours turned, not weighted: the picture has their energy, and the contrast that was asked for."""
    painted = painter().paint(numbers())
    rms = painted.square().mean(dim=(1, 2, 3)).sqrt()
    np.testing.assert_allclose(rms, 5, rtol=0.01)  # small differences are hardly bent
    spectrum = np.abs(np.fft.fft2(painted.numpy())) ** 2
    low, high = spectrum[..., 1:4, 1:4].mean(), spectrum[..., 29:32, 29:32].mean()
    assert 0.8 < low / high < 1.25


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_frequencies_fall_as_asked(power):
    """The amplitude at a frequency f is f ** -power: the slope of the power spectrum on logarithmic axes is -2 power."""
    spectrum = np.abs(np.fft.fft2(painter(smoothness=power).paint(numbers()).numpy())) ** 2
    frequencies = np.fft.fftfreq(64)
    radius = np.hypot(frequencies[:, None], frequencies[None, :])
    inside = radius > 0
    slope = np.polyfit(np.log(radius[inside]), np.log(spectrum.mean(axis=(0, 1))[inside]), 1)[0]
    assert slope == pytest.approx(-2 * power, abs=0.05)


def test_colours_vary_as_in_photographs():
    """With power 1 the colours' covariance has the published standard deviations, and mostly light and dark."""
    painted = painter(colour=1.0).paint(numbers()).numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    variances, components = np.linalg.eigh(np.cov(painted))
    stdevs = np.sqrt(variances[::-1])
    np.testing.assert_allclose(stdevs / stdevs[0], np.array([121.7801, 37.0939, 19.7208]) / 121.7801, rtol=0.02)
    np.testing.assert_allclose(np.abs(components[:, 2]), 1 / np.sqrt(3), atol=0.03)  # all three channels together


@pytest.mark.parametrize("mean", [0.0, 3.0, 127.5, 250.0, 255.0])
def test_pictures_stay_within_the_pixels_values(mean):
    """However strong the contrast, mean and difference lie in 0-255; where there is no difference nothing is bent."""
    whole = painter(mean=mean, contrast=200.0)
    painted = whole.paint(numbers()) + mean
    assert painted.min() >= -1 and painted.max() <= 256  # 1 where there is no room at all: rounded pictures are clipped
    assert torch.equal(whole.paint(torch.zeros(1, 3, 64, 64, dtype=torch.float64)), torch.zeros(1, 3, 64, 64, dtype=torch.float64))


def test_the_mean_is_that_of_the_place():
    """Margins have the mean that lies there, and beyond the input its edge goes on."""
    ramp = torch.arange(20.0)[None, :, None].expand(3, 20, 20)
    found = make_painter(ramp, range(4, 18), Prior(0, 0, 6), 5.0).mean_CNN
    expected = [0, 0, *range(20), *[19] * 5]  # 14 and two margins of 6, and one more: 27 is 3 * 3 * 3
    assert found.shape == (3, 27, 27) and found[1, :, 7].tolist() == expected


@pytest.mark.parametrize("least, side", [(1, 1), (11, 12), (59, 60), (115, 120), (179, 180), (256, 256), (257, 270)])
def test_fast_sides(least, side):
    """The next number that is a product of 2, 3 and 5 alone."""
    assert fast_side(least) == side


def test_unit_rms():
    """Each picture gets a root mean square of 1 by itself; one of zeros stays."""
    values = torch.zeros(3, 2, 4, 4)
    values[0], values[1, 0] = 7.0, -3.0
    found = unit_rms(values)
    assert torch.equal(found[0], torch.ones(2, 4, 4)) and torch.equal(found[2], torch.zeros(2, 4, 4))
    np.testing.assert_allclose(found[1, 0], -np.sqrt(2), rtol=1e-6)


def test_gradient_agrees_with_finite_differences():
    """Along random ways a conv3 unit's sum changes as its gradient says, through norms, colours and bounds, in float64."""
    recipe = narrow()
    network = AlexNet(recipe, 7, seed=0).double().requires_grad_(False)
    whole = painter(100, smoothness=0.75, colour=0.75, contrast=50.0, mean=100.0)
    at = numbers(1, 100).requires_grad_()

    def value(values: torch.Tensor) -> torch.Tensor:
        return unit_sums(network, whole.paint(values), "conv3", [5], 2)

    (gradient,) = torch.autograd.grad(value(at).sum(), at)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        way = torch.randn(at.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            slope = (value(at + 1e-6 * way) - value(at - 1e-6 * way)) / 2e-6
        assert float(slope) == pytest.approx(float((gradient * way).sum()), rel=1e-4)


def test_priors_grow_with_depth():
    """conv1's kernels are left as they are; moved by half of what lies between two units, which is 8, 16 and, pooled, 32 pixels."""
    priors = [prior_of(original(), layer) for layer in original().layers]
    assert priors[0] == Prior(0, 0, 0)
    assert [prior.jitter for prior in priors] == [0, 4, 8, 8, 8, 16, 16, 16]
    assert [prior.smoothness for prior in priors] == sorted(prior.smoothness for prior in priors)
    assert prior_of(replace(preset("tiny")), "fc5").jitter == 2
