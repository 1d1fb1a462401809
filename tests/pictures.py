"""Pictures and folders of pictures made on the spot, among them the odd and broken ones that real collections hold."""

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet_cli.core.prepare import prepare

CLASSES = {"train": {"cat": 5, "dog": 4}, "val": {"cat": 2, "dog": 1}}


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return soft blobs of colour with some grain, RGB, as unlike noise and as unlike flat colour as a photograph."""
    generator = np.random.default_rng(seed)
    blobs = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    grain = generator.integers(-12, 13, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(blobs).astype(int) + grain, 0, 255).astype(np.uint8))


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    """Return the picture as the content of a file."""
    file = BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """Lay a PNG file by hand, as the PNG specification says; the rows may be fewer than the header promises."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def make_source(root: Path, counts: Mapping[str, Mapping[str, int]] = CLASSES, *, size: tuple[int, int] = (40, 30)) -> Path:
    """Lay class folders with so many small JPEG photographs each, by split and class."""
    seed = 0
    for split, classes in counts.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                seed += 1
                (root / split / name / f"{name}_{index}.jpg").write_bytes(saved(photo(*size, seed), "JPEG", quality=90))
    return root


def prepared(folder: Path, counts: Mapping[str, Mapping[str, int]], **options: Any) -> Path:
    """Make pictures, prepare them, and return the folder of the stores."""
    prepare(make_source(folder / "source", counts), folder / "data", workers=1, **options)
    return folder / "data"
