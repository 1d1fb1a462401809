"""Pictures to records in several processes, in the order in which they come, for `prepare`.

The workers read, scale and encode; they never write. They end when their parent dies, however it dies.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal

from alexnet_cli.core.errors import DataError, ImageError, SourceError
from alexnet_cli.core.images import STORED_SIZE, decode_record, encode_jpeg, square
from alexnet_cli.core.memory import reuse_memory
from alexnet_cli.core.places import Place
from alexnet_cli.core.sums import PixelSums

CHUNK = 16  # pictures a task: a few hundredths of a second of work for some thousandths of passing it around
CHUNKS_AHEAD = 4  # tasks a worker, so that none waits for the writer


@dataclass(frozen=True)
class Conversion:
    """How to make records: from which source, in which format ("jpeg" or "raw"), and whether to sum the pixels.

    size: of the squares. resize: how `images.square` makes them.
    """

    source: Path
    format: Literal["jpeg", "raw"]
    quality: int
    with_sums: bool
    size: int = STORED_SIZE
    resize: Literal["short_side", "warp"] = "short_side"


@dataclass
class Converted:
    """What became of one chunk: records in order, rejected pictures with the reason, sums if they were asked for."""

    records: list[bytes]
    rejected: list[tuple[str, str]]
    sums: PixelSums | None


Picture = tuple[str, Place]  # its path inside the source, and where it is


def convert(pictures: Sequence[Picture], how: Conversion) -> Converted:
    """Convert some pictures, here and now.

    Raises SourceError when the whole source has gone, which must not pass for a folder of damaged pictures.
    """
    result = Converted([], [], PixelSums.of_few(how.size) if how.with_sums else None)
    for path, place in pictures:
        try:
            _convert_one(place, how, result)
        except ImageError as error:
            if not how.source.is_dir():
                raise SourceError(
                    f"{how.source} has gone while it was read", hint="bring it back and run the same again"
                ) from error
            result.rejected.append((path, error.message))
    return result


def convert_all(pictures: Iterable[Picture], how: Conversion, workers: int) -> Generator[Converted, None, None]:
    """Convert all pictures in chunks, in order, by so many processes; one worker means this process.

    Pictures are taken from the iterable as they are needed, so that memory does not grow with their number. Closing the
    iterator stops the workers.
    """
    chunks = _in_chunks(pictures)
    if workers <= 1:
        reuse_memory()
        yield from (convert(chunk, how) for chunk in chunks)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once, for all workers
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield from _in_order(pool, chunks, how, ahead=workers * CHUNKS_AHEAD)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was ended from outside, perhaps for lack of memory",
            hint="run the same again, with fewer --workers; it continues where it stopped",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_chunks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    left = iter(pictures)
    while chunk := list(itertools.islice(left, CHUNK)):
        yield chunk


def _in_order(pool: ProcessPoolExecutor, chunks: Iterable[list[Picture]], how: Conversion, ahead: int) -> Iterator[Converted]:
    running: deque[Future[Converted]] = deque()
    for chunk in chunks:
        with _interrupts_held():
            running.append(pool.submit(convert, chunk, how))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _convert_one(place: Place, how: Conversion, result: Converted) -> None:
    try:
        picture = place.read()
    except OSError as error:
        raise ImageError(f"cannot be opened: {error.strerror or error}") from error
    image_HWC = square(picture, size=how.size, resize=how.resize)
    record = encode_jpeg(image_HWC, how.quality) if how.format == "jpeg" else image_HWC.tobytes()
    if result.sums is not None:
        # The mean is that of what training will see: the picture as it comes out of the store.
        result.sums.add(decode_record(record, how.format, how.size))
    result.records.append(record)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that never see Ctrl-C, from their first instruction on: a blocked signal stays blocked in a child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Set up a worker process."""
    reuse_memory()  # a picture passes through blocks of half a megabyte, whose pages the system would else clear each time
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_wait_and_exit, args=(parent.sentinel,), daemon=True).start()


def _wait_and_exit(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
