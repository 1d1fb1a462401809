"""Reads the whole of a store and says what is damaged in it, for `alexnet info --verify`.

Threads decode, as Pillow unpacks JPEG without holding Python's lock; memory is that of a few chunks of records. It must not
import torch.
"""

import re
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.errors import ImageError, StoreError
from alexnet_cli.core.images import decode_record
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import LABELS_KEY, META_KEY, NAMES_KEY, STATS_FILE, Stats, Store, checksum_text, read_stats
from alexnet_cli.core.sums import PixelSums

CHUNK = 16  # records a task
CHUNKS_AHEAD = 2  # tasks a thread, so that none waits for the reader
NAMED = 5  # damaged records in one line
RECORD_KEY = re.compile(rb"[0-9]{8}")
MISSING, SURPLUS, BROKEN, MISLABELLED = "missing", "beyond the count in meta", "damaged", "mislabelled"
EXPLAINED = (BROKEN, MISLABELLED)  # the others say it all
LAST_PLACE = 2.0**-23  # of float32, for a number of 1 to 2
ROUNDINGS = 8 * LAST_PLACE  # what a few of them in a row may come to

Chunk = list[tuple[int, bytes]]
Agreement = Literal["ok", "differs", "absent"]


@dataclass(frozen=True)
class Damage:
    """What is wrong with one record: its number, the kind of damage, and the reason in detail."""

    record: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Verification:
    """What a store's verification found.

    records: in the file. damaged: by number; one record can be there twice. unexpected: keys that do not belong there.
    checksum: of the records, against meta. statistics: of the training set's pictures, against stats.safetensors; "absent"
    for other stores, which have none. complaints: one line for each kind of damage, none where all is whole.
    """

    folder: Path
    records: int
    damaged: tuple[Damage, ...]
    unexpected: tuple[str, ...]
    checksum: Agreement
    statistics: Agreement
    complaints: tuple[str, ...]


def verify(store: Store, *, workers: int | None = None, reporter: Reporter | None = None) -> Verification:
    """Read every record of a store, and compare checksum and statistics with what the pictures give.

    A store named train is the training set's, with stats.safetensors beside it. workers: threads, None for one per core.
    Damage is returned, not raised; raises StoreError where the file itself cannot be read on.
    """
    reporter = reporter or Reporter()
    walk, sums = _Walk(store), PixelSums.of_size(store.size) if store.folder.name == "train" else None
    damaged = _label_damage(store)
    reporter.start(f"verifying {store.folder.name}", len(store), "records")
    with closing(_checked(walk.chunks(), store, sums is not None, workers or usable_cores())) as chunks:
        for checked in chunks:
            damaged += checked.damaged
            if sums is not None and checked.sums is not None:
                sums.merge(checked.sums)
            reporter.advance(checked.count)
    reporter.finish()
    damaged = sorted(walk.damaged + damaged, key=lambda damage: damage.record)
    checksum, checksum_complaint = _compare_checksum(store, checksum_text(walk.checksum))
    statistics, statistics_complaint = _compare_statistics(store, sums)
    complaints = [*_complaints(store, damaged, walk.unexpected), checksum_complaint, statistics_complaint]
    return Verification(
        folder=store.folder,
        records=walk.records,
        damaged=tuple(damaged),
        unexpected=tuple(walk.unexpected),
        checksum=checksum,
        statistics=statistics,
        complaints=tuple(line for line in complaints if line),
    )


class _Walk:
    """One pass over the keys of a store, which notes what they alone tell."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records, self.checksum = 0, 0
        self.damaged: list[Damage] = []
        self.unexpected: list[str] = []

    def chunks(self) -> Iterator[Chunk]:
        """Yield the records that meta counts, with their numbers, some at a time."""
        with closing(self._records()) as records:
            while chunk := list(islice(records, CHUNK)):
                yield chunk

    def _records(self) -> Generator[tuple[int, bytes], None, None]:
        count, expected = len(self.store), 0
        with closing(self.store.entries()) as entries:
            for key, value in entries:
                if not RECORD_KEY.fullmatch(key):
                    self._note_other(key)
                    continue
                index = int(key)
                self.records += 1
                self.checksum = zlib.crc32(value, self.checksum)
                self._note_missing(range(expected, min(index, count)))
                expected = index + 1
                if index < count:
                    yield index, value
                else:
                    self.damaged.append(Damage(index, SURPLUS, f"meta counts {count} records"))
        self._note_missing(range(expected, count))

    def _note_other(self, key: bytes) -> None:
        if key not in (LABELS_KEY, NAMES_KEY, META_KEY):
            self.unexpected.append(repr(key)[2:-1])  # whatever is in it, it prints

    def _note_missing(self, indices: range) -> None:
        self.damaged += [Damage(index, MISSING, "it is not in the file") for index in indices]


@dataclass(frozen=True)
class _Checked:
    """What became of a chunk: its records, which of them are damaged, sums over the others if they were asked for."""

    count: int
    damaged: list[Damage]
    sums: PixelSums | None


def _checked(chunks: Iterable[Chunk], store: Store, with_sums: bool, workers: int) -> Generator[_Checked, None, None]:
    """Check chunks by so many threads, in order; closing the iterator drops what was not begun."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="verify")
    running: deque[Future[_Checked]] = deque()
    try:
        for chunk in chunks:
            running.append(pool.submit(_check, chunk, store, with_sums))
            if len(running) >= workers * CHUNKS_AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check(chunk: Chunk, store: Store, with_sums: bool) -> _Checked:
    damaged: list[Damage] = []
    sums = PixelSums.of_size(store.size) if with_sums else None
    for index, value in chunk:
        try:
            image_HWC = decode_record(value, store.format, store.size)
        except ImageError as error:
            damaged.append(Damage(index, BROKEN, error.message))
            continue
        if sums is not None:
            sums.add(image_HWC)
    return _Checked(len(chunk), damaged, sums)


def _label_damage(store: Store) -> list[Damage]:
    """Find labels that are no class; -1 stands for a picture without a label."""
    labels, last = store.labels, len(store.classes) - 1
    wrong = np.flatnonzero((labels < -1) | (labels > last)).tolist()
    return [Damage(index, MISLABELLED, f"its label is {labels[index]}, expected 0 to {last}, or -1 for none") for index in wrong]


def _compare_checksum(store: Store, found: str) -> tuple[Agreement, str]:
    expected = store.meta.get("checksum")
    if expected is None:
        return "absent", ""
    if found == expected:
        return "ok", ""
    return "differs", f"{store.folder}: the checksum of the records is {found}, expected {expected} as in meta"


def _compare_statistics(store: Store, sums: PixelSums | None) -> tuple[Agreement, str]:
    if sums is None:
        return "absent", ""
    path = store.folder.parent / STATS_FILE
    try:
        expected = read_stats(path.parent)
    except StoreError as error:
        return ("differs" if path.is_file() else "absent"), error.message
    if sums.count and sums.pixels.shape[0] == expected.mean.shape[-1] and _agree(sums.stats(), expected):
        return "ok", ""
    return "differs", f"{path} is not what the pictures of {store.folder} give"


def _agree(one: Stats, two: Stats) -> bool:
    """Compare statistics to the rounding of float32.

    Components are compared by the covariance that they stand for: where deviations are equal, as the two zeros of grey pictures
    are, any vectors at right angles will do.
    """
    largest = float(one.color_stdevs[0])
    with np.errstate(invalid="ignore", over="ignore"):  # a damaged file may hold anything
        differences = (
            (one.mean - two.mean, 128 * LAST_PLACE),
            (one.color_stdevs - two.color_stdevs, largest * ROUNDINGS),
            (_covariance(one) - _covariance(two), largest**2 * ROUNDINGS),
            (_products(two.color_components) - np.eye(3), ROUNDINGS),
        )
    return all(bool(np.abs(difference).max() <= tolerance) for difference, tolerance in differences)


def _covariance(stats: Stats) -> NDArray[np.float64]:
    components = stats.color_components.astype(np.float64)
    return np.asarray((components.T * stats.color_stdevs.astype(np.float64) ** 2) @ components)


def _products(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(vectors.astype(np.float64) @ vectors.T.astype(np.float64))


def _complaints(store: Store, damaged: Sequence[Damage], unexpected: Sequence[str]) -> list[str]:
    """Say in one line for each kind of damage how many records have it, which the first are, and how it looks."""
    lines = []
    for kind in (MISSING, SURPLUS, BROKEN, MISLABELLED):
        some = [damage for damage in damaged if damage.kind == kind]
        if some:
            counted = "1 record is" if len(some) == 1 else f"{len(some):,} records are"
            detail = f"; record {some[0].record}: {some[0].reason}" if kind in EXPLAINED else ""
            lines.append(f"{store.folder}: {counted} {kind}: {_named([str(damage.record) for damage in some])}{detail}")
    if unexpected:
        counted = "1 key is" if len(unexpected) == 1 else f"{len(unexpected):,} keys are"
        lines.append(f"{store.folder}: {counted} neither a record nor labels, names or meta: {_named(unexpected)}")
    return lines


def _named(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
