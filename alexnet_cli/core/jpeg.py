"""Plain JPEG files, bit for bit as Pillow decodes them, in less time: straight into an array, and smaller where that will do.

Plain is whole, of three colours and 8 bits. Of everything else the functions say None, so that Pillow can judge it: it knows
more kinds of files, and its messages are the ones that users read. Decoding does not hold Python's lock.
"""

import os
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from alexnet_cli.core.places import LARGEST_PICTURE

START = b"\xff\xd8\xff"
PLAIN_COLOURS = ("YCbCr", "RGB")
REDUCTIONS = (4, 2)  # 8 is too coarse, and libjpeg-turbo has no fast code for eighths such as 5/8


def read_jpeg(source: bytes | Path) -> bytes | None:
    """Return the content of a file that begins like a JPEG file, None if it does not, is too large or cannot be read."""
    if isinstance(source, bytes):
        return source if source.startswith(START) else None
    try:
        with source.open("rb") as file:
            begins = file.peek(len(START)).startswith(START)
            return file.read() if begins and os.fstat(file.fileno()).st_size <= LARGEST_PICTURE else None
    except OSError:
        return None


def plain_size(content: bytes | memoryview) -> tuple[int, int] | None:
    """Return (height, width) of a plain JPEG file, judged by its header alone."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (height, width) if colours in PLAIN_COLOURS else None


def decode_plain(
    content: bytes | memoryview, size: tuple[int, int], reduction: int = 1, into: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8] | None:
    """Decode a file whose `plain_size` is `size`, None where anything in it is odd, such as an end that is missing.

    reduction: 1, or one of REDUCTIONS: the picture's sides are divided by it, rounded up, inside the JPEG transform.
    into: contiguous memory for the picture, of its size and 3 colours; what it holds where None is returned is undefined.
    Returns uint8 [0, 255], (H, W, 3), RGB, writable.
    """
    height, width = (-(-side // reduction) for side in size)
    try:
        # libjpeg-turbo's defaults, which are Pillow's: the accurate transform and smooth colours. Strict: a warning is an error.
        image_HWC: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, "RGB", fastdct=False, fastupsample=False, min_height=height, min_width=width, buffer=into, strict=True
        )
    except ValueError:
        return None
    if image_HWC.shape != (height, width, 3):
        return None
    return image_HWC if into is None else into
