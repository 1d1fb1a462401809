"""Makes the pictures that `benchmarks.prepare` measures with, from a folder of photographs or from generated ones."""

import random
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.pictures import photo

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
CLASSES = 10
QUALITIES = range(60, 101)


def photographs(folder: Path | None, seed: int = 0) -> Iterator[Image.Image]:
    """Return RGB pictures without end: those under a folder in a random order, again and again, or generated ones."""
    if folder is None:
        while True:
            yield photo(700, 525, seed)
            seed += 1
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"error: {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    random.Random(seed).shuffle(paths)
    while True:
        for path in paths:
            with Image.open(path) as picture:
                yield picture.convert("RGB")


def resized(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Return the picture in this size, lying or standing as it was."""
    size = (width, height) if picture.width >= picture.height else (height, width)
    return picture.resize(size, Image.Resampling.BICUBIC)


def mosaic(pictures: Iterator[Image.Image], width: int, height: int) -> Image.Image:
    """Return a large picture as sharp as a camera's: photographs side by side, none enlarged."""
    large, left = Image.new("RGB", (width, height)), 0
    while left < width:
        top, column = 0, 0
        while top < height:
            picture = next(pictures)
            large.paste(picture, (left, top))
            top, column = top + picture.height, max(column, picture.width)
        left += column
    return large


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """Return the content of a JPEG file."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def jpeg_of(picture: Image.Image, num_bytes: int) -> bytes:
    """Return a JPEG file of about so many bytes, by a search among QUALITIES; fewer where the highest gives fewer."""
    low, high = QUALITIES.start, QUALITIES.stop - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if len(jpeg(picture, middle)) < num_bytes else (low, middle)
    return jpeg(picture, low)


def make_source(root: Path, folder: Path | None, count: int, num_bytes: int) -> int:
    """Lay class folders of `count` JPEG files of 500x375 or 375x500; returns their mean number of bytes."""
    total = 0
    for index, picture in zip(range(count), photographs(folder), strict=False):
        content = jpeg_of(resized(picture, 500, 375), num_bytes)
        place = root / "train" / f"class{index % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:05}.JPEG").write_bytes(content)
        total += len(content)
    (root / "val" / "class0").mkdir(parents=True)
    (root / "val" / "class0" / "0.JPEG").write_bytes(content)
    return total // count
