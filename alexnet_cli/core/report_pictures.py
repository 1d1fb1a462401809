"""Pictures of a report as files in memory: photographs as JPEG, what is made of numbers as PNG."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.report_parts import Picture

QUALITY = 82


def photograph(image_HWC: NDArray[np.uint8], side: int, alt: str, caption: str = "") -> Picture:
    """Return a photograph as JPEG, its longer side at most `side` pixels."""
    picture = Image.fromarray(image_HWC)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _picture(picture, "jpeg", alt, caption, pixels=False)


def numbers(picture: Image.Image, alt: str, caption: str = "") -> Picture:
    """Return a picture of numbers as PNG, a pixel for each: what was enlarged by repeating pixels is made small again."""
    return _picture(_without_enlargement(picture.convert("RGB")), "png", alt, caption, pixels=True)


def smooth(picture: Image.Image, alt: str, caption: str = "") -> Picture:
    """Return a picture of numbers that is to be looked at as a photograph is."""
    return _picture(picture.convert("RGB"), "jpeg", alt, caption, pixels=False)


def _picture(picture: Image.Image, kind: str, alt: str, caption: str, *, pixels: bool) -> Picture:
    file = io.BytesIO()
    if kind == "jpeg":
        picture.save(file, "JPEG", quality=QUALITY, optimize=True)
        return Picture(file.getvalue(), "jpeg", picture.size, alt, caption, pixels)
    picture.save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), "png", picture.size, alt, caption, pixels)


def _without_enlargement(picture: Image.Image) -> Image.Image:
    """Return one pixel for each block of equal ones, as large as all blocks of the picture are."""
    pixels_HWC = np.asarray(picture)
    rows = np.flatnonzero((pixels_HWC[1:] != pixels_HWC[:-1]).any(axis=(1, 2))) + 1
    columns = np.flatnonzero((pixels_HWC[:, 1:] != pixels_HWC[:, :-1]).any(axis=(0, 2))) + 1
    times = int(np.gcd.reduce([*rows, *columns, picture.height, picture.width]))
    return Image.fromarray(np.ascontiguousarray(pixels_HWC[::times, ::times]))
