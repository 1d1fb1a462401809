from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core import scaling
from alexnet_cli.core.images import square
from alexnet_cli.core.scaling import centre, scale_array, scale_picture, whole
from tests.pictures import photo, saved

SIZES = [
    (500, 375),
    (375, 500),
    (400, 533),
    (260, 300),
    (256, 256),
    (90, 60),
    (1, 7),
    (2000, 300),
    (1024, 1024),
    (2048, 2050),
    (3000, 2000),
]


@pytest.mark.parametrize("resize", ["short_side", "warp"])
@pytest.mark.parametrize("size", SIZES)
def test_within_a_grey_level_of_pillow(size, resize):
    """Of a photograph in a JPEG file, decoded smaller where it is large, the square is within 1 grey level of Pillow's on average.

    Pillow's: the whole picture decoded, its antialiased bicubic filter. Between them 8 grey levels at most in any place.
    """
    content = saved(photo(size[0], size[1], 3), "JPEG", quality=95)
    picture = Image.open(BytesIO(content))
    box = centre(size[0], size[1], 256) if resize == "short_side" else whole(size[0], size[1])
    difference = np.abs(square(content, resize=resize).astype(int) - scale_picture(picture, box, 256))
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_centre_by_hand():
    """Of 500x375 scaled to 341x256 the centre begins at column 42 of 341, at 42 * 500 / 341 of the picture."""
    assert centre(500, 375, 256) == (42 * 500 / 341, 0, 298 * 500 / 341, 375)
    assert centre(375, 500, 256) == (0, 42 * 500 / 341, 375, 298 * 500 / 341)


def test_nothing_to_scale():
    """A box of 256x256 whole pixels is copied as it is."""
    image = np.asarray(photo(400, 300))
    np.testing.assert_array_equal(scale_array(image, (30, 20, 286, 276), 256), image[20:276, 30:286])


def test_result_is_ones_own():
    """What comes back can be written to, and the picture stays as it was."""
    image = np.asarray(photo(300, 300))
    before = image.copy()
    scale_array(image, whole(300, 300), 256)[:] = 0
    np.testing.assert_array_equal(image, before)


def test_processor_does_not_matter(monkeypatch):
    """Without vector instructions the bits are those with this processor's."""
    cykooz_resizer = pytest.importorskip("cykooz_resizer", reason="it has no wheel for this processor")
    image = np.asarray(photo(500, 375))
    usual = scale_array(image, centre(500, 375, 256), 256)
    resizer = cykooz_resizer.Resizer()
    resizer.cpu_extensions = cykooz_resizer.CpuExtensions.none
    monkeypatch.setattr(cykooz_resizer, "Resizer", lambda: resizer)
    np.testing.assert_array_equal(scale_array(image, centre(500, 375, 256), 256), usual)


def test_without_the_resizer(monkeypatch):
    """Where the faster resizer is not installed, Pillow's filter scales the same box."""
    monkeypatch.setattr(scaling, "cykooz_resizer", None)
    picture = photo(500, 375)
    box = centre(500, 375, 256)
    np.testing.assert_array_equal(scale_array(np.asarray(picture), box, 256), scale_picture(picture, box, 256))
