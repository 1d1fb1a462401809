"""Crops, mirroring, the mean and the colour noise, against NumPy by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alexnet_cli.core.recipes import original, paper, small
from alexnet_cli.core.views import Colours, ViewDraws, draw_views, num_views, test_views, training_views

test_views.__test__ = False  # type: ignore[attr-defined]  # a function of the library, not a test

GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.integers(0, 256, (256, 256, 3), dtype=np.uint8)
MEAN = GENERATOR.uniform(90, 130, (3, 256, 256)).astype(np.float32)
STDEVS = np.array([120.0, 37.0, 20.0])
COMPONENTS = np.linalg.qr(GENERATOR.normal(size=(3, 3)))[0]
COLOURS = Colours(torch.from_numpy(MEAN).double(), torch.from_numpy(STDEVS), torch.from_numpy(COMPONENTS))


def drawn(y=(3,), x=(7,), mirrored=(False,), colours=((0.0, 0.0, 0.0),)) -> ViewDraws:
    """Return draws chosen by hand."""
    return ViewDraws(np.array(y), np.array(x), np.array(mirrored), np.array(colours))


def crop(y: int, x: int, size: int = 224) -> np.ndarray:
    """Return a crop of the picture, float64 (3, size, size)."""
    return IMAGE[y : y + size, x : x + size].transpose(2, 0, 1).astype(np.float64)


def seen(recipe, draws_of_one: ViewDraws, noise: float = 0.0) -> np.ndarray:
    """Return the training view of the picture."""
    y, x, size = int(draws_of_one.y[0]), int(draws_of_one.x[0]), recipe.input_size
    pixels = torch.from_numpy(IMAGE[y : y + size, x : x + size].copy())[None]
    return training_views(pixels, draws_of_one, COLOURS, recipe, noise)[0].numpy()


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_means_centre_is_removed_everywhere(mirrored):
    """Whatever the crop's place, and after mirroring, the mean image's centre is what is subtracted."""
    expected = crop(3, 7)[:, :, ::-1] if mirrored else crop(3, 7)
    found = seen(original(), drawn(mirrored=(mirrored,)))
    np.testing.assert_allclose(found, expected - MEAN[:, 16:240, 16:240], rtol=1e-12)


def test_aligned_mean_is_removed_at_the_crops_place():
    """Caffe's way: the mean of the same place, mirrored with the picture."""
    recipe = replace(original(), mean_crop="aligned")
    expected = (crop(3, 7) - MEAN[:, 3:227, 7:231])[:, :, ::-1]
    np.testing.assert_allclose(seen(recipe, drawn(mirrored=(True,))), expected, rtol=1e-12)


def test_noise_moves_every_pixel_by_one_colour():
    """The 2012 code: x + 0.1 sum z sigma p, all divided by 1.1."""
    z = (0.5, -1.0, 2.0)
    shift = 0.1 * sum(z[i] * STDEVS[i] * COMPONENTS[i] for i in range(3))
    expected = (crop(3, 7) - MEAN[:, 16:240, 16:240] + shift[:, None, None]) / 1.1
    np.testing.assert_allclose(seen(original(), drawn(colours=(z,)), noise=0.1), expected, rtol=1e-12)


def test_noise_of_the_text():
    """The paper's text: eigenvalues, of pixels from 0 to 1, and no division."""
    z = (0.5, -1.0, 2.0)
    shift_of_unit_pixels = 0.1 * sum(z[i] * (STDEVS[i] / 255) ** 2 * COMPONENTS[i] for i in range(3))
    expected = crop(3, 7) - MEAN[:, 16:240, 16:240] + 255 * shift_of_unit_pixels[:, None, None]
    np.testing.assert_allclose(seen(paper(), drawn(colours=(z,)), noise=0.1), expected, rtol=1e-12)


def test_noise_switched_off_scales_nothing():
    """With a strength of 0 the view is the plain one, not divided by anything."""
    np.testing.assert_array_equal(
        seen(original(), drawn(colours=((1.0, 1.0, 1.0),)), noise=0.0), seen(original(), drawn(), noise=0.0)
    )


def test_ten_views_by_hand():
    """Four corners and the centre in the authors' order, then the same mirrored; the mean is never mirrored."""
    views = test_views(torch.from_numpy(IMAGE)[None], torch.from_numpy(MEAN).double(), original(), 10)
    assert views.shape == (1, 10, 3, 224, 224)
    mean = MEAN[:, 16:240, 16:240]
    for index, (y, x) in enumerate([(0, 0), (0, 32), (16, 16), (32, 0), (32, 32)]):
        np.testing.assert_allclose(views[0, index].numpy(), crop(y, x) - mean, rtol=1e-12)
        np.testing.assert_allclose(views[0, index + 5].numpy(), crop(y, x)[:, :, ::-1] - mean, rtol=1e-12)


def test_corners_of_227():
    """A 227 crop has its corners at 29 and its centre at 14."""
    recipe = replace(original(), input_size=227, mean_crop="aligned")
    views = test_views(torch.from_numpy(IMAGE)[None], torch.from_numpy(MEAN).double(), recipe, 10)
    np.testing.assert_allclose(views[0, 4].numpy(), crop(29, 29, 227) - MEAN[:, 29:, 29:], rtol=1e-12)
    np.testing.assert_allclose(views[0, 7].numpy(), (crop(14, 14, 227) - MEAN[:, 14:241, 14:241])[:, :, ::-1], rtol=1e-12)


def test_without_mirroring_five_views_are_left():
    """A recipe that does not mirror is not tested on mirrored views either."""
    recipe = replace(small(), mirror=False)
    views = test_views(torch.from_numpy(IMAGE)[None], torch.from_numpy(MEAN), recipe, 10)
    assert views.shape[1] == num_views(recipe, 10) == 5
    assert num_views(original(), 10) == 10
    assert num_views(original(), 1) == num_views(recipe, 1) == 1


def test_single_view_is_the_centre():
    """One crop is the central one, not mirrored."""
    views = test_views(torch.from_numpy(IMAGE)[None], torch.from_numpy(MEAN).double(), original(), 1)
    np.testing.assert_allclose(views[0, 0].numpy(), crop(16, 16) - MEAN[:, 16:240, 16:240], rtol=1e-12)


def test_bgr_and_scaled_pixels():
    """Other networks' inputs: channels reversed, divided by 255 and by each channel's deviation."""
    recipe = replace(original(), channel_order="bgr", pixel_scale=1 / 255, pixel_stdevs=(0.2, 0.25, 0.5), mean="channel")
    views = test_views(torch.from_numpy(IMAGE)[None], torch.from_numpy(MEAN).double(), recipe, 1)
    means = MEAN.astype(np.float64).mean(axis=(1, 2))[:, None, None]
    expected = ((crop(16, 16) - means) / 255 / np.array([0.2, 0.25, 0.5])[:, None, None])[::-1]
    np.testing.assert_allclose(views[0, 0].numpy(), expected, rtol=1e-6)


def test_chunks_of_32_share_crop_and_mirroring():
    """The 2012 code draws place and mirroring once for 32 consecutive images, and the colour for each."""
    draws_of_epoch = draw_views(original(), 0, 0, 320)
    for values in (draws_of_epoch.y, draws_of_epoch.x, draws_of_epoch.mirrored):
        chunks = values.reshape(10, 32)
        assert (chunks == chunks[:, :1]).all()
        assert len(set(chunks[:, 0].tolist())) > 1
    assert len(np.unique(draws_of_epoch.colours)) == 960


def test_all_33_places_and_both_sides():
    """Offsets run from 0 to 32 inclusive, in each direction by itself, and half of the views are mirrored."""
    draws_of_epoch = draw_views(small(), 0, 0, 40_000)
    assert set(draws_of_epoch.y.tolist()) == set(draws_of_epoch.x.tolist()) == set(range(33))
    assert abs(np.corrcoef(draws_of_epoch.y, draws_of_epoch.x)[0, 1]) < 0.025
    assert abs(draws_of_epoch.mirrored.mean() - 0.5) < 0.0125
    assert not draw_views(replace(small(), mirror=False), 0, 0, 1000).mirrored.any()


def test_epochs_differ_and_parts_fit():
    """Another epoch draws anew, and a batch's part is what the epoch drew at those positions."""
    first, second = draw_views(small(), 0, 0, 64), draw_views(small(), 0, 1, 64)
    assert not np.array_equal(first.y, second.y)
    part = first.part(range(16, 24))
    assert np.array_equal(part.x, first.x[16:24])
    assert np.array_equal(part.colours, first.colours[16:24])
