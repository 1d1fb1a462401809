"""Writes one store record by record, durable in steps, so that a killed `prepare` loses the last step at most.

Each commit is one LMDB transaction that holds the new records and how far the work has come. The transaction that ends the
work removes the progress and puts labels, names and then meta: a store with meta is complete.
"""

import errno
import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError, StoreError
from alexnet_cli.core.files import sync, write_error
from alexnet_cli.core.images import STORED_SIZE
from alexnet_cli.core.store import (
    DATA_FILE,
    HEAD_BYTES,
    LABELS_KEY,
    META_KEY,
    NAMES_KEY,
    PROGRESS_KEY,
    REBUILD,
    SUMS_KEY,
    checksum_text,
    pack_names,
    record_key,
    refuse_cut_short,
)
from alexnet_cli.core.sums import PixelSums

COMMIT_PICTURES = 1000
COMMIT_BYTES = 1 << 26  # raw pictures would else keep 200 MB waiting
FIRST_MAP_SIZE = 1 << 24  # doubled as it fills: a fantasy size would reserve address space that small machines lack


@dataclass
class Progress:
    """How far a store has come.

    total: pictures to convert. done: of these, converted or rejected. records: written ones. rejected: path and reason.
    sums: over the written pictures. checksum: CRC-32 of their records, one after the other.
    """

    total: int
    done: int = 0
    records: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)
    sums: PixelSums = field(default_factory=PixelSums)
    checksum: int = 0


class StoreWriter:
    """Appends to the store in `folder`, new or interrupted; a context manager that leaves the committed part on any exception.

    total: pictures to convert. size: their side. commit_pictures: how many may be lost to a kill. progress: where to go on.
    Raises StoreError when the file is damaged, DiskFullError when the disk is full; what was committed still stands.
    """

    def __init__(self, folder: Path, total: int, *, size: int = STORED_SIZE, commit_pictures: int = COMMIT_PICTURES) -> None:
        self.folder, self._size = folder, size
        self._commit_pictures = commit_pictures
        self._pending: list[bytes] = []
        self._environment = _open_for_writing(folder)
        self.progress = self._read_progress(total)
        self._committed = self.progress.done
        self.continued = self.progress.done > 0

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._environment.close()

    def add(self, records: Sequence[bytes], rejected: Sequence[tuple[str, str]], sums: PixelSums | None) -> None:
        """Append pictures and note rejected ones, the next of the order; commits now and then."""
        self._pending += records
        self.progress.done += len(records) + len(rejected)
        self.progress.records += len(records)
        self.progress.rejected += rejected
        for record in records:
            self.progress.checksum = zlib.crc32(record, self.progress.checksum)
        if sums is not None:
            self.progress.sums.merge(sums)
        waiting = self.progress.done - self._committed
        finished = self.progress.done == self.progress.total  # `finish` then commits
        if not finished and (waiting >= self._commit_pictures or sum(map(len, self._pending)) >= COMMIT_BYTES):
            sums = self.progress.sums
            self._commit({PROGRESS_KEY: self._progress_text(), SUMS_KEY: sums.to_bytes() if sums.count else None})

    def finish(self, labels: NDArray[np.int32], names: Sequence[str], meta: dict[str, Any]) -> None:
        """Write what is left, labels, names, and the meta with the records' checksum, which makes the store complete."""
        assert len(labels) == len(names) == self.progress.records == meta["count"]
        meta = {**meta, "checksum": checksum_text(self.progress.checksum)}
        ending = {LABELS_KEY: labels.astype("<i4").tobytes(), NAMES_KEY: pack_names(names), META_KEY: _json(meta)}
        self._commit({PROGRESS_KEY: None, SUMS_KEY: None, **ending})

    def _read_progress(self, total: int) -> Progress:
        with self._environment.begin() as transaction:
            text, sums = transaction.get(PROGRESS_KEY), transaction.get(SUMS_KEY)
        if text is None:
            self.progress = Progress(total, sums=PixelSums.of_size(self._size))
            self._commit({PROGRESS_KEY: self._progress_text()})  # names the total to whoever meets the store unfinished
            sync(self.folder)
            sync(self.folder.parent)
            return self.progress
        state = json.loads(text)
        state["rejected"] = [(path, reason) for path, reason in state["rejected"]]
        if "checksum" not in state:
            state["checksum"] = self._checksum(state["records"])
        return Progress(**state, sums=PixelSums.from_bytes(sums) if sums else PixelSums.of_size(self._size))

    def _checksum(self, count: int) -> int:
        """Make up for a version that kept no checksum: read what it has written."""
        checksum = 0
        with self._environment.begin() as transaction:
            for index in range(count):
                checksum = zlib.crc32(transaction.get(record_key(index)), checksum)
        return checksum

    def _progress_text(self) -> bytes:
        return _json({name: value for name, value in vars(self.progress).items() if name != "sums"})

    def _commit(self, values: dict[bytes, bytes | None]) -> None:
        while not self._try_commit(values):
            self._environment.set_mapsize(2 * self._environment.info()["map_size"])
        self._pending.clear()
        self._committed = self.progress.done

    def _try_commit(self, values: dict[bytes, bytes | None]) -> bool:
        """Write everything that waits in one synced transaction; False when the map is too small for it."""
        first = self.progress.records - len(self._pending)
        try:
            with self._environment.begin(write=True) as transaction:
                for index, value in enumerate(self._pending, start=first):
                    transaction.put(record_key(index), value, append=True)
                for key, text in values.items():
                    if text is None:
                        transaction.delete(key)
                    else:
                        transaction.put(key, text)
        except lmdb.MapFullError:
            return False
        except lmdb.Error as error:
            raise _refused(self.folder, error, sum(map(len, self._pending))) from error
        return True


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _open_for_writing(folder: Path) -> Any:
    file = folder / DATA_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size < HEAD_BYTES:
            file.unlink()
        # The folder's owner holds a lock of its own, so LMDB needs none, and a finished store is one file.
        environment = lmdb.open(str(folder), map_size=FIRST_MAP_SIZE, lock=False, meminit=False)
    except OSError as error:
        raise write_error(file, error.errno or errno.EIO) from error
    except lmdb.Error as error:
        raise _refused(folder, error, HEAD_BYTES) from error
    refuse_cut_short(environment, folder)
    return environment


def _refused(folder: Path, error: Exception, waiting: int) -> AlexNetError:
    # LMDB calls a write that the disk took only in part an input/output error.
    cut = "Input/output error" in str(error) and shutil.disk_usage(folder).free < waiting + (1 << 20)
    if cut or isinstance(error, lmdb.DiskError) or "No space left" in str(error):
        return write_error(folder / DATA_FILE, errno.ENOSPC)
    return StoreError(f"{folder} cannot be written: {error}", hint=REBUILD)
