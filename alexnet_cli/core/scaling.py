"""A part of a picture > a square of so many pixels, by an antialiased bicubic filter: Pillow's, or the same one made faster.

Boxes are (left, top, right, bottom) in pixels of the picture, fractions allowed, as in Pillow.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import cykooz_resizer
except ImportError:  # there are processors that it has no wheel for
    cykooz_resizer = None

Box = tuple[float, float, float, float]

RESAMPLING = Image.Resampling.BICUBIC  # antialiased in Pillow: its support grows with the reduction
BICUBIC_REACH = 2  # the kernel's radius, in pixels of the smaller of the two pictures


def scaler() -> str:
    """Name what scales plain JPEG files here, with its version."""
    from importlib.metadata import version  # not for the workers, which it would keep from starting

    return f"cykooz-resizer {version('cykooz-resizer')}" if cykooz_resizer else f"pillow {version('pillow')}"


def whole(width: int, height: int) -> Box:
    """Return the box of all of a picture."""
    return 0, 0, width, height


def centre(width: int, height: int, size: int) -> Box:
    """Return what the central square of `size` pixels covers, once the shorter side is scaled to `size`.

    The longer side is then rounded to whole pixels, and the centre begins at floor((longer - size) / 2).
    """
    shorter, longer = sorted((width, height))
    scaled = (2 * longer * size + shorter) // (2 * shorter)  # longer * size / shorter, halves rounded up
    offset = (scaled - size) // 2
    start, stop = offset * longer / scaled, (offset + size) * longer / scaled
    return (start, 0, stop, shorter) if width >= height else (0, start, shorter, stop)


def scale_picture(picture: Image.Image, box: Box, size: int) -> NDArray[np.uint8]:
    """Scale by Pillow. picture: RGB. Returns uint8 [0, 255], (size, size, 3)."""
    # Cut what the filter can reach first: Pillow keeps a box in 32-bit floats, too coarse for a box far to the right.
    cut, box = _cut(box, picture.size, size)
    return np.array(picture.crop(cut).resize((size, size), RESAMPLING, box=box))


def scale_array(image_HWC: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    """Scale down by fast_image_resize, whose bits depend on no processor; up, or where it is not installed, by Pillow.

    It filters columns before rows, Pillow rows before columns, and both round in between: hence the difference between them,
    which is largest in pictures that are scaled up.
    image_HWC: uint8 (H, W, 3). Returns the same, (size, size, 3).
    """
    if cykooz_resizer is None or min(box[2] - box[0], box[3] - box[1]) < size:
        return scale_picture(Image.fromarray(image_HWC), box, size)
    (left, top, right, bottom), box = _cut(box, (image_HWC.shape[1], image_HWC.shape[0]), size)
    part_HWC = image_HWC[top:bottom, left:right]
    height, width, _ = part_HWC.shape
    source = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3, part_HWC.tobytes())
    square = cykooz_resizer.ImageData(size, size, cykooz_resizer.PixelType.U8x3)
    options = cykooz_resizer.ResizeOptions(
        resize_alg=cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.catmull_rom),  # Pillow's bicubic
        crop_box=cykooz_resizer.CropBox(box[0], box[1], min(box[2], width) - box[0], min(box[3], height) - box[1]),
        use_alpha=False,
    )
    cykooz_resizer.Resizer().resize(source, square, options)
    return np.frombuffer(square.get_buffer(), np.uint8).reshape(size, size, 3).copy()


def _cut(box: Box, sides: tuple[int, int], size: int) -> tuple[tuple[int, int, int, int], Box]:
    """Return the whole pixels that the filter can reach from a box, and the box seen from their upper left."""
    left, right, start, stop = _cut_side(box[0], box[2], sides[0], size)
    top, bottom, upper, lower = _cut_side(box[1], box[3], sides[1], size)
    return (left, top, right, bottom), (start, upper, stop, lower)


def _cut_side(start: float, stop: float, side: int, size: int) -> tuple[int, int, float, float]:
    margin = math.ceil(BICUBIC_REACH * max((stop - start) / size, 1)) + 1
    first, last = max(0, math.floor(start) - margin), min(side, math.ceil(stop) + margin)
    return first, last, start - first, stop - first
