"""The features of a store, computed once and kept beside it, block by block; docs/formats.md describes the files.

    data/train/features/fc7-0123456789abcdef.f16       rows, one for each record
    data/train/features/fc7-0123456789abcdef.f16.json  of what they are, and a checksum of each block that is done

A block without a checksum is still to be done, so that an interruption costs what was not yet committed. Reading goes through
buffers of one size rather than a mapping: memory stays the same however large the file. This file reads, `features_writer` writes.
It must not import torch.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.public_weights import cache_folder
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import DATA_FILE, Store

FORMAT, FORMAT_VERSION = "alexnet-stored-features", 1
FOLDER = "features"
ENDINGS = {"float16": ".f16", "float32": ".f32"}
BLOCK = 256  # rows with one checksum
SCANNED = 1 << 24  # values read at a time: 64 MB as float32


@dataclass(frozen=True)
class Key:
    """What decides every row: layer and shape, of how many views the mean, types, the weights, the store."""

    layer: str
    values: int
    views: int
    dtype: str
    precision: str
    weights_checksum: str
    store: dict[str, Any]

    @property
    def stem(self) -> str:
        """The name of the files without an ending; another store of the same place has the same."""
        layer = re.sub(r"[^\w.-]", "_", self.layer)
        return f"{layer}-{self.weights_checksum[:16]}" + (f"-{self.precision}" if self.precision != "fp32" else "")


class DamagedBlocksError(AlexNetError):
    """Blocks that are not what was written; they are to be computed again."""

    def __init__(self, path: Path, blocks: list[int]) -> None:
        super().__init__(f"{path} is damaged in {len(blocks)} of its blocks, the first at row {blocks[0] * BLOCK:,}")
        self.blocks = blocks


def identify(store: Store) -> dict[str, Any]:
    """Return what tells a store's pictures from others: its checksum, or of early versions size and time of its file."""
    checksum = store.meta.get("checksum")
    if checksum is None:
        status = (store.folder / DATA_FILE).stat()
        checksum = f"{status.st_size} bytes of {status.st_mtime_ns}"
    return {"count": len(store), "checksum": checksum}


class StoredFeatures:
    """Rows of one width in a file, some of them perhaps still to be done.

    folder: where they lie. key: what they must be of; others of that name are begun anew, with a note. checksums: of each block,
    None where it is to be done.
    """

    def __init__(self, folder: Path, key: Key, reporter: Reporter | None = None) -> None:
        self.key, self.count = key, int(key.store["count"])
        self.path = folder / f"{key.stem}{ENDINGS[key.dtype]}"
        self.meta = folder / f"{self.path.name}.json"
        self.dtype = np.dtype(key.dtype).newbyteorder("<")
        self.row_bytes = self.dtype.itemsize * key.values
        self.checksums: list[int | None] = []
        self.reload(reporter)

    def reload(self, reporter: Reporter | None = None) -> None:
        """Take up what is on the disk."""
        blocks = -(-self.count // BLOCK)
        found, problem = self._read_meta(blocks)
        self.checksums = found or [None] * blocks
        if problem and reporter:
            reporter.note(f"{self.path} {problem}: computed anew")

    def missing(self) -> list[range]:
        """Return the rows that are still to be done."""
        ranges: list[range] = []
        for block, checksum in enumerate(self.checksums):
            if checksum is None:
                rows = self._rows_of(block)
                joined = bool(ranges) and ranges[-1].stop == rows.start
                ranges[-1:] = [range(ranges[-1].start, rows.stop)] if joined else [*ranges[-1:], rows]
        return ranges

    def forget(self, blocks: list[int]) -> None:
        """Have blocks done again."""
        for block in blocks:
            self.checksums[block] = None
        self.write_meta()

    def digest(self) -> str:
        """Return what tells these rows from others, once all are done."""
        return hashlib.blake2b(json.dumps([asdict(self.key), self.checksums]).encode(), digest_size=16).hexdigest()

    def write_meta(self) -> None:
        """Say what is done."""
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **asdict(self.key),
            "block": BLOCK,
            "blocks": self.checksums,
        }
        write_atomically(self.meta, lambda partial: partial.write_text(json.dumps(document) + "\n", encoding="utf-8"))

    # Reading -----------------------------------------------------------------------------------------------------------------

    def scan(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield all rows in order, some thousand at a time, with the number of the first; each array is good until the next.

        Raises DamagedBlocksError at the end when some were not what was written: what was made of them is void.
        """
        size = max(1, SCANNED // self.key.values // BLOCK) * BLOCK
        starts = range(0, self.count, size)
        buffers = [np.empty((min(size, self.count), self.key.values), self.dtype) for _ in range(2)]
        damaged: list[int] = []
        with self._opened() as descriptor, ThreadPoolExecutor(1) as ahead:  # reads and checks while the last ones are used

            def read(index: int) -> NDArray[Any]:
                rows = range(starts[index], min(starts[index] + size, self.count))
                values = buffers[index % 2][: len(rows)]
                damaged.extend(self._read(descriptor, rows, values))
                return values

            coming = ahead.submit(read, 0)
            for index, start in enumerate(starts):
                values = coming.result()
                if index + 1 < len(starts):
                    coming = ahead.submit(read, index + 1)
                yield start, values
        if damaged:
            raise DamagedBlocksError(self.path, damaged)

    def take(self, records: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows; raises DamagedBlocksError where the file ends before them."""
        found = np.empty((len(records), self.key.values), self.dtype)
        with self._opened() as descriptor:
            for row, record in zip(found, records.tolist(), strict=True):
                if not _fill(descriptor, row, record * self.row_bytes):
                    raise DamagedBlocksError(self.path, [record // BLOCK])
        return found

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise AlexNetError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, descriptor: int, rows: range, values: NDArray[Any]) -> list[int]:
        """Read rows that begin with a block; return the blocks among them that are damaged."""
        _fill(descriptor, values, rows.start * self.row_bytes)
        first = rows.start // BLOCK
        parts = [values[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        return [first + number for number, part in enumerate(parts) if crc_of(part) != self.checksums[first + number]]

    def _rows_of(self, block: int) -> range:
        return range(block * BLOCK, min((block + 1) * BLOCK, self.count))

    def _read_meta(self, blocks: int) -> tuple[list[int | None], str]:
        """Return the checksums of what is done, or nothing and, where that is not as it should be, the reason."""
        try:
            document = json.loads(self.meta.read_bytes())
            expected = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self.key), "block": BLOCK}
            changed = [name for name, value in expected.items() if document.get(name) != value]
            if changed:
                return [], f"is of another {' and '.join(changed)}"
            checksums = document["blocks"]
            if len(checksums) != blocks or not all(one is None or isinstance(one, int) for one in checksums):
                raise ValueError("wrong blocks")
            size = self.path.stat().st_size
        except FileNotFoundError:
            return [], "has lost its description or its rows" if self.meta.exists() or self.path.exists() else ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [], "has a damaged description"
        cut = [self._rows_of(block).stop * self.row_bytes > size for block in range(blocks)]
        problem = "is cut short" if any(short and one is not None for short, one in zip(cut, checksums, strict=True)) else ""
        return [None if short else one for short, one in zip(cut, checksums, strict=True)], problem


def find_features(store: Store, key: Key, reporter: Reporter | None = None) -> StoredFeatures:
    """Return a store's features: those in its own folder, or in the cache where they are not done and nothing can be written."""
    folder = store.folder / FOLDER
    found = StoredFeatures(folder, key, reporter)
    if not found.missing() or os.access(folder if folder.is_dir() else store.folder, os.W_OK):
        return found
    return cached_features(store, key, reporter)


def cached_features(store: Store, key: Key, reporter: Reporter | None = None) -> StoredFeatures:
    """Return a store's features in the cache, whatever lies beside the store."""
    place = hashlib.blake2b(os.fsencode(store.folder.resolve()), digest_size=8).hexdigest()
    return StoredFeatures(cache_folder() / FOLDER / place, key, reporter)


def _fill(descriptor: int, values: NDArray[Any], offset: int) -> bool:
    """Read from a place in a file until an array is full; the rest is zeros, and the answer False, where the file ends before."""
    content = values.reshape(-1).view(np.uint8).data
    while content:
        read = os.preadv(descriptor, [content], offset)
        if not read:
            np.frombuffer(content, np.uint8)[:] = 0
            return False
        content, offset = content[read:], offset + read
    return True


def crc_of(values: NDArray[Any]) -> int:
    """Return the checksum of a block."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
