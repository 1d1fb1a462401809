"""One picture: a file or its bytes > RGB uint8 > a square, of 256x256 by default, and a stored picture to and from its bytes.

The only decoder of pictures, shared by `prepare` and `predict`, so that both see the same pixels. Most pictures are plain JPEG
files, which have a faster way of their own; all others, and all that are damaged, are Pillow's. It must not import torch.
"""

import math
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.jpeg import REDUCTIONS, decode_plain, plain_size, read_jpeg
from alexnet_cli.core.scaling import Box, centre, scale_array, scale_picture, whole

STORED_SIZE = 256
RESIZES = ("short_side", "warp")
ENOUGH = 2  # a picture is decoded no smaller than so many times what it is scaled to; see docs/decisions.md
ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
MAX_PIXELS = 89_478_485  # 256 MiB of RGB; more than any honest photograph here, and Pillow's own threshold

# Named one by one because Pillow would hand a PostScript file named .jpg to Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

# How files begin that are surely pictures; the marks of BMP and PPM are two letters, which texts may begin with too.
BEGINNINGS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)

# What Pillow's readers raise for damaged files; MemoryError is not among them, as it blames this machine, not the picture.
DAMAGE = (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError, EOFError, struct.error, zlib.error)

# Pillow warns about odd palettes, EXIF and sizes. What matters of it becomes an ImageError below; the rest would only
# interrupt a progress bar, and `catch_warnings` is not safe in the threads that decode.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(source: bytes | Path, *, exif_orientation: bool = False) -> NDArray[np.uint8]:
    """Read a whole picture as RGB; transparency is dropped and 16-bit grey is scaled to 8 bits.

    source: the path of a file or its content. exif_orientation: turn it as its EXIF record says; off for training data, as
    the usual ImageNet pipelines ignore the record.
    Returns uint8 [0, 255], (H, W, 3).
    Raises ImageError whose message is the reason, without the path.
    """
    return np.array(_read(source, exif_orientation))


def square(
    picture: bytes | Path | Image.Image,
    *,
    size: int = STORED_SIZE,
    resize: Literal["short_side", "warp"] = "short_side",
    exif_orientation: bool = False,
) -> NDArray[np.uint8]:
    """Scale a picture's shorter side to `size` and cut its centre, or warp the whole of it to a square.

    The longer side is rounded to whole pixels, the centre begins at floor((longer - size) / 2), the filter is antialiased and
    bicubic: Pillow's own, or within a grey level of it on average. Only the part that is kept is ever scaled, so a 1x30000
    strip needs no 256x7680000 picture.
    picture: a file, its content, or what another decoder made of it. Returns uint8 [0, 255], (size, size, 3). Raises
    ImageError as `decode` does.
    Source: paper 2; "warp" is what Caffe's tools did.
    """
    if not isinstance(picture, Image.Image):
        image_HWC = _square_plain_jpeg(picture, size, resize, exif_orientation)
        if image_HWC is not None:
            return image_HWC
    decoded = _read(picture, exif_orientation)
    return scale_picture(decoded, _box(*decoded.size, size, resize), size)


def begins_like_picture(content: bytes) -> bool:
    """Say whether a file is surely a picture, by its first twelve bytes; what it says of BMP and PPM is no."""
    return content.startswith(BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def encode_jpeg(image_HWC: NDArray[np.uint8], quality: int) -> bytes:
    """Return the picture, uint8 RGB (H, W, 3), as a plain JPEG file with 4:2:0 colours; quality 1-100."""
    file = BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def decode_record(
    value: bytes | memoryview,
    format: Literal["jpeg", "raw"],
    size: int = STORED_SIZE,
    into_HWC: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Read a stored picture, the value of one record of a store.

    into_HWC: contiguous memory of that shape, which a plain JPEG file is decoded to.
    Returns uint8 [0, 255], (size, size, 3), RGB: of a raw record a view of its bytes, of a plain JPEG file `into_HWC` where
    given. Raises ImageError when the value is no such picture.
    """
    expected = (size, size, 3)
    if format == "raw":
        if len(value) != math.prod(expected):
            raise ImageError(f"it has {len(value)} bytes, expected {math.prod(expected)}")
        return np.frombuffer(value, dtype=np.uint8).reshape(expected)
    decoded_HWC = decode_plain(value, expected[:2], into=into_HWC) if plain_size(value) == expected[:2] else None
    if decoded_HWC is not None:
        return decoded_HWC
    try:
        with Image.open(BytesIO(value), formats=("JPEG",)) as picture:
            shape = (picture.height, picture.width, len(picture.getbands()))
            if shape == expected:  # by the header, before memory is taken for the pixels
                return np.array(picture)
    except (*DAMAGE, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"it is not a whole JPEG file ({error})") from error
    raise ImageError(f"it has the shape {shape}, expected {expected}")


def _square_plain_jpeg(source: bytes | Path, size: int, resize: str, exif_orientation: bool) -> NDArray[np.uint8] | None:
    """Return the square of a plain JPEG file that need not be turned, None of any other."""
    content = read_jpeg(source)
    sides = plain_size(content) if content else None
    if content is None or sides is None or math.prod(sides) > MAX_PIXELS or (exif_orientation and _is_turned(content)):
        return None
    reduction = next((by for by in REDUCTIONS if min(sides) >= by * ENOUGH * size), 1)
    image_HWC = decode_plain(content, sides, reduction)
    if image_HWC is None:
        return None
    left, top, right, bottom = _box(sides[1], sides[0], size, resize)
    return scale_array(image_HWC, (left / reduction, top / reduction, right / reduction, bottom / reduction), size)


def _box(width: int, height: int, size: int, resize: str) -> Box:
    return whole(width, height) if resize == "warp" else centre(width, height, size)


def _is_turned(content: bytes) -> bool:
    try:
        with Image.open(BytesIO(content), formats=("JPEG",)) as picture:
            return picture.getexif().get(ORIENTATION, 1) != 1
    except (*DAMAGE, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return True  # whatever it is, it is not plain


def _read(source: bytes | Path | Image.Image, exif_orientation: bool) -> Image.Image:
    if isinstance(source, Image.Image):
        _refuse_bomb(source)
        return _rgb(source)
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
            _refuse_bomb(picture)
            return _rgb(ImageOps.exif_transpose(picture) if exif_orientation else picture)
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"too large: more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(_unknown(source)) from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"cannot be opened: {error.strerror}") from error
        raise ImageError(f"damaged or cut short: {error}") from error


def _refuse_bomb(picture: Image.Image) -> None:
    """Judge by the header, before a byte of pixels is unpacked."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large: {width}x{height} is more than {MAX_PIXELS:,} pixels")


def _unknown(source: bytes | Path) -> str:
    empty = not source if isinstance(source, bytes) else source.stat().st_size == 0
    known = "JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000"
    return "the file is empty" if empty else f"not a picture of a known format ({known})"


def _rgb(picture: Image.Image) -> Image.Image:
    picture.load()
    if picture.mode == "F":
        raise ImageError("floating-point pixels, whose white is unknown; expected 8 or 16 bits")
    if picture.mode.startswith("I"):
        # Pillow's own conversion clips at 255; integer modes hold 16 bits, of which Pillow keeps the upper 8 in colour.
        return Image.fromarray((np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB Pillow would warn
    return picture if picture.mode == "RGB" else picture.convert("RGB")
