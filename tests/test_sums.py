import numpy as np
import pytest

from alexnet_cli.core.conversion import CHUNK
from alexnet_cli.core.sums import FEW, PixelSums
from tests.stores import random_images


def summed(images):
    """Sum pictures one by one."""
    sums = PixelSums()
    for image in images:
        sums.add(image)
    return sums


def flat(*colour):
    """A picture of one colour."""
    return np.broadcast_to(np.array(colour, np.uint8), (256, 256, 3))


def test_by_hand():
    """Of one black and one (6, 8, 0) picture the mean is (3, 4, 0) everywhere, and all variance, 25, lies along (0.6, 0.8, 0)."""
    stats = summed([flat(0, 0, 0), flat(6, 8, 0)]).stats()
    assert stats.mean.shape == (3, 256, 256)
    for channel, value in enumerate((3, 4, 0)):
        assert (stats.mean[channel] == value).all()
    np.testing.assert_allclose(stats.color_stdevs, [5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(stats.color_components[0], [0.6, 0.8, 0], atol=1e-6)


def test_sign():
    """Of each component the entry of largest magnitude is positive: red against a weaker green is (0.8, -0.6, 0)."""
    stats = summed([flat(0, 6, 0), flat(8, 0, 0)]).stats()
    np.testing.assert_allclose(stats.color_components[0], [0.8, -0.6, 0], atol=1e-6)


def test_against_numpy():
    """Mean and covariance equal numpy's float64 ones over all pixels; components are orthonormal, the largest first."""
    images = np.array(random_images(5))
    images[..., 1] = images[..., 0] // 2 + images[..., 1] // 4
    stats = summed(images).stats()
    np.testing.assert_allclose(stats.mean, images.astype(float).mean(axis=0).transpose(2, 0, 1), rtol=1e-6)
    components, stdevs = stats.color_components.astype(float), stats.color_stdevs.astype(float)
    covariance = np.cov(images.reshape(-1, 3).T.astype(float), bias=True)
    np.testing.assert_allclose(components.T @ np.diag(stdevs**2) @ components, covariance, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-6)
    assert (np.diff(stdevs) < 0).all()


def test_largest_products_fit():
    """The sums of a white picture, the largest there are, are exact: 255 * 255 * 65536 in each product."""
    sums = summed([flat(255, 255, 255)] * 3)
    assert (sums.products == 3 * 255 * 255 * 65536).all()
    assert (sums.pixels == 3 * 255).all()


@pytest.mark.parametrize("size", [257, 300, 1024])
def test_larger_pictures(size):
    """Sums over pictures of more than 65,536 pixels, whose products together pass 32 bits, are those of numpy in 64 bits."""
    white = np.full((size, size, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    sums = PixelSums.of_few(size)
    for image in (white, noise):
        sums.add(image)
    rows = np.concatenate([white.reshape(-1, 3), noise.reshape(-1, 3)]).astype(np.int64)
    np.testing.assert_array_equal(sums.products, rows.T @ rows)
    np.testing.assert_array_equal(sums.pixels, 255 + noise.astype(np.int64))
    assert sums.products.max() > 2**32


def test_order_and_partition_do_not_matter():
    """Sums merged from any partition, and through bytes, give the same bits as one sum over all."""
    images = random_images(6)
    whole = summed(images)
    parts = [summed(images[4:]), summed(images[:1]), summed(images[1:4])]
    merged = PixelSums.from_bytes(PixelSums().to_bytes())
    for part in parts:
        merged.merge(PixelSums.from_bytes(part.to_bytes()))
    assert merged.to_bytes() == whole.to_bytes()
    for name, values in vars(whole.stats()).items():
        assert getattr(merged.stats(), name).tobytes() == values.tobytes()


def test_sums_do_not_wrap():
    """The exact covariance survives the size of ImageNet: 1.3 million copies of the counts change no component."""
    small = summed([flat(10, 200, 30), flat(250, 20, 90), flat(7, 7, 7)])
    large = PixelSums(small.count * 1_300_000, small.pixels * 1_300_000, small.products * 1_300_000)
    np.testing.assert_allclose(large.stats().color_stdevs, small.stats().color_stdevs, rtol=1e-6)
    np.testing.assert_allclose(large.stats().color_components, small.stats().color_components, atol=1e-6)


def test_sums_of_few():
    """Sums in 16 bits, of as many white pictures as they are meant for, are those in 64 bits."""
    few = PixelSums.of_few()
    for _ in range(FEW):
        few.add(flat(255, 255, 255))
    merged = PixelSums()
    merged.merge(few)
    assert (merged.count, str(merged.pixels.dtype)) == (FEW, "int64")
    assert (merged.pixels == FEW * 255).all()
    assert merged.to_bytes() == few.to_bytes()
    assert CHUNK <= FEW
