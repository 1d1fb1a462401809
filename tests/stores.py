"""Stores laid byte by byte as docs/formats.md says, without the package's own writer."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import lmdb
import numpy as np
from PIL import Image

from alexnet_cli.core.store import Store


def write_store(
    folder: Path,
    images: Sequence[np.ndarray | bytes],
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    format: str = "raw",
    **meta_too: object,
) -> Store:
    """Write 256x256 uint8 images (or records' bytes as they are) and labels as one store; meta_too: more for its meta."""
    folder.mkdir(parents=True)
    meta = {
        "format_version": 1,
        "count": len(images),
        "format": format,
        "size": 256,
        "resampling": "bicubic",
        "quality": 95,
        "classes": list(classes),
        "words": [f"word {name}" for name in classes],
        "seed": 0,
        "versions": {},
        **meta_too,
    }
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for index, image in enumerate(images):
            transaction.put(f"{index:08d}".encode(), image if isinstance(image, bytes) else _record(image, format))
        transaction.put(b"labels", np.array(labels, "<i4").tobytes())
        transaction.put(b"meta", json.dumps(meta).encode())
    return Store(folder)


def change(folder: Path, key: bytes, value: bytes | None) -> None:
    """Overwrite or delete one key of a store."""
    with lmdb.open(str(folder), map_size=1 << 28, lock=False) as environment, environment.begin(write=True) as transaction:
        if value is None:
            transaction.delete(key)
        else:
            transaction.put(key, value)


def _record(image_HWC: np.ndarray, format: str) -> bytes:
    if format == "raw":
        return image_HWC.tobytes()
    file = BytesIO()
    Image.fromarray(image_HWC).save(file, "JPEG", quality=95)
    return file.getvalue()


def random_images(count: int, seed: int = 0) -> list[np.ndarray]:
    """Make images of noise, uint8 (256, 256, 3)."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(count)]
