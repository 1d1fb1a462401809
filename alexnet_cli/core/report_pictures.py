"""Pictures of a report as files in memory: photographs as JPEG, what is made of numbers as PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.report_parts import Picture

QUALITY, FINE = 82, 90


def photograph(image_HWC: NDArray[np.uint8], side: int, alt: str, caption: str = "") -> Picture:
    """Return a photograph as JPEG, its longer side at most `side` pixels."""
    picture = Image.fromarray(image_HWC)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return Picture(_file(picture, "JPEG", quality=QUALITY), "jpeg", picture.size, alt, caption)


def drawn(image_HWC: NDArray[np.uint8], alt: str, caption: str = "") -> Picture:
    """Return a small picture that was computed as JPEG that keeps its colours as fine as its light."""
    picture = Image.fromarray(image_HWC)
    return Picture(_file(picture, "JPEG", quality=FINE, subsampling=0), "jpeg", picture.size, alt, caption)


def numbers(picture: Image.Image, alt: str, caption: str = "") -> Picture:
    """Return a picture of numbers as PNG, a pixel for each: what was enlarged by repeating pixels is made small again."""
    small = _without_enlargement(picture.convert("RGB"))
    return Picture(_file(small, "PNG"), "png", small.size, alt, caption, pixels=True)


def _file(picture: Image.Image, format: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, optimize=True, **options)
    return file.getvalue()


def _without_enlargement(picture: Image.Image) -> Image.Image:
    """Return one pixel for each block of equal ones, as large as all blocks of the picture are."""
    pixels_HWC = np.asarray(picture)
    rows = np.flatnonzero((pixels_HWC[1:] != pixels_HWC[:-1]).any(axis=(1, 2))) + 1
    columns = np.flatnonzero((pixels_HWC[:, 1:] != pixels_HWC[:, :-1]).any(axis=(0, 2))) + 1
    times = int(np.gcd.reduce([*rows, *columns, picture.height, picture.width]))
    return Image.fromarray(np.ascontiguousarray(pixels_HWC[::times, ::times]))
