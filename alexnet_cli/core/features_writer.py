"""Filling a store's features: rows become blocks on the disk, which count as done only once they are there.

It must not import torch.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError, DiskFullError
from alexnet_cli.core.feature_files import narrowed
from alexnet_cli.core.files import write_error
from alexnet_cli.core.lock import held
from alexnet_cli.core.stored_features import BLOCK, StoredFeatures, crc_of

SECONDS_BETWEEN_COMMITS = 2.0


@contextmanager
def writing(features: StoredFeatures) -> Iterator["Writer"]:
    """Hold the folder against another process while what is missing is written; what was done is kept however this ends.

    Raises AlexNetError when another process is at it, DiskFullError, or AlexNetError where nothing can be written.
    """
    path = features.path
    busy = AlexNetError(f"another process computes features in {path.parent}", hint="wait for it, then run this again")
    with held(path.parent, busy):
        features.reload()
        _refuse_small_disk(features)
        try:
            with path.open("r+b" if path.exists() else "w+b") as file:
                features.write_meta()  # an interruption before the first block leaves no rows of which nothing is known
                file.truncate(min(path.stat().st_size, features.count * features.row_bytes))
                writer = Writer(features, file.fileno())
                try:
                    yield writer
                except BaseException:
                    with suppress(OSError, AlexNetError):  # the failure itself is the one to tell
                        writer.break_off()
                    raise
                writer.commit()
        except OSError as error:
            raise write_error(path, error.errno or errno.EIO) from error


def _refuse_small_disk(features: StoredFeatures) -> None:
    folder, path = features.path.parent, features.path
    there = path.stat().st_size if path.exists() else 0
    missing = sum(map(len, features.missing())) * features.row_bytes
    need = min(missing, max(0, features.count * features.row_bytes - there))
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DiskFullError(
            f"{folder} needs {need / 1e6:,.1f} MB for features of {features.count:,} pictures, {free / 1e6:,.1f} MB are free",
            hint="free some space, or compare by a layer of fewer values",
        )


class Writer:
    """Puts rows into blocks; `commit` brings them to the disk before it says that they are done."""

    def __init__(self, features: StoredFeatures, descriptor: int) -> None:
        self._features, self._descriptor = features, descriptor
        self._rows: list[NDArray[Any]] = []
        self._done: dict[int, int] = {}
        self._committed = time.monotonic()

    def add(self, first: int, values: NDArray[np.float32]) -> None:
        """Take the next rows, from `first` on; a part's first row begins a block, its last one ends one or is the last of all."""
        key = self._features.key
        self._rows.extend(narrowed(values.reshape(len(values), -1), key.dtype, key.layer))
        stop = first + len(values)
        whole = len(self._rows) if stop == self._features.count else len(self._rows) // BLOCK * BLOCK
        begin = stop - len(self._rows)
        for start in range(0, whole, BLOCK):
            self._write((begin + start) // BLOCK, np.stack(self._rows[start : min(start + BLOCK, whole)]))
        del self._rows[:whole]
        if time.monotonic() - self._committed > SECONDS_BETWEEN_COMMITS:
            self.commit()

    def commit(self) -> None:
        """Count as done what was written so far."""
        if self._done:
            os.fsync(self._descriptor)
            for block, checksum in self._done.items():
                self._features.checksums[block] = checksum
            self._features.write_meta()
        self._done, self._committed = {}, time.monotonic()

    def break_off(self) -> None:
        """Commit after a failure, without the block that was begun: on a full disk its room is what the commit needs."""
        known = [block for block, checksum in enumerate(self._features.checksums) if checksum is not None]
        end = BLOCK * self._features.row_bytes * (max([*known, *self._done], default=-1) + 1)
        os.ftruncate(self._descriptor, min(end, os.fstat(self._descriptor).st_size))
        self.commit()

    def _write(self, block: int, values: NDArray[Any]) -> None:
        content, offset = memoryview(values.tobytes()), block * BLOCK * self._features.row_bytes
        while content:
            written = os.pwrite(self._descriptor, content, offset)
            content, offset = content[written:], offset + written
        self._done[block] = crc_of(values)
