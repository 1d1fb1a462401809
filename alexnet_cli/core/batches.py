"""Store > uint8 batches, read ahead by threads: in an epoch's random order for training, in stored order for testing.

What a batch holds depends on (seed, epoch, number of the batch) alone: not on the workers, not on the rank, and a stream can
begin at any batch. Threads do, as neither decoding nor copying holds Python's lock; memory is that of a few batches.
Legend: B images of this rank's share, H, W, C channels RGB.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.buffers import lend
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.order import epoch_order
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.store import Store
from alexnet_cli.core.views import draw_views

BATCHES_AHEAD = 2  # read while the current one is used
IMAGES_PER_TASK = 32  # at most: worth the hand-over, and a batch is still shared among the threads
WHOLE_BATCH = (0, 1)


@dataclass(frozen=True)
class Batch:
    """Images and labels of one batch, or of this rank's share of it.

    images_BHWC: uint8 [0, 255], (B, S, S, 3), in page-locked memory where asked for. labels_B: int64 (B,). size: images of the
    whole batch, over all ranks. positions: those of the whole batch in the order of the epoch or of the stores.
    """

    images_BHWC: Tensor
    labels_B: Tensor
    size: int
    positions: range


class BatchStream(Iterator[Batch]):
    """Batches in order, the next ones already being read; use it in a `with`, or close it, to stop its threads at once.

    Raises, from `next`, the StoreError of the first record in order that cannot be read; the stream is closed then.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        read: Callable[[range, NDArray[np.uint8]], object],
        *,
        side: int,
        batch_size: int,
        first_batch: int,
        workers: int | None,
        share: tuple[int, int],
        pin: bool,
    ) -> None:
        workers = usable_cores() if workers is None else workers
        assert workers >= 1 and batch_size >= 1
        self._labels, self._read, self._side = labels, read, side
        self._batch_size, self._share, self._pin = batch_size, share, pin
        self._per_task = min(IMAGES_PER_TASK, -(-batch_size // (workers * share[1])))
        self._starts = iter(range(first_batch * batch_size, len(labels), batch_size))
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        self._ahead: deque[tuple[Batch, list[Future[object]]]] = deque()
        for _ in range(BATCHES_AHEAD):
            self._begin_next()

    def __next__(self) -> Batch:
        if not self._ahead:
            self.close()
            raise StopIteration
        batch, tasks = self._ahead.popleft()
        self._begin_next()
        try:
            for task in tasks:
                task.result()
        except BaseException:
            self.close()
            raise
        return batch

    def close(self) -> None:
        """Stop reading; what was begun is waited for, what was not is dropped."""
        self._ahead.clear()
        self._starts = iter(range(0))
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _begin_next(self) -> None:
        start = next(self._starts, None)
        if start is None:
            return
        positions = range(start, min(start + self._batch_size, len(self._labels)))
        own = _share_of(positions, *self._share)
        images_BHWC = self._memory()[: len(own)]
        labels_B = torch.from_numpy(self._labels[own.start : own.stop].astype(np.int64))
        rows = images_BHWC.numpy()
        parts = (slice(first, first + self._per_task) for first in range(0, len(own), self._per_task))
        tasks = [self._pool.submit(self._read, own[part], rows[part]) for part in parts]
        self._ahead.append((Batch(images_BHWC, labels_B, len(positions), positions), tasks))

    def _memory(self) -> Tensor:
        """Return memory for the largest share of a batch, also where the share is a rest, so that all are of one size."""
        shape = (-(-self._batch_size // self._share[1]), self._side, self._side, 3)
        if self._pin:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)  # PyTorch lends it again when the copy is done
        return lend(math.prod(shape)).view(shape)


def training_batches(
    store: Store,
    recipe: Recipe,
    *,
    seed: int,
    epoch: int,
    first_batch: int = 0,
    workers: int | None = None,
    share: tuple[int, int] = WHOLE_BATCH,
    pin: bool = False,
) -> BatchStream:
    """Read one epoch's batches in its random order, each image cut to the recipe's input size at its drawn place.

    first_batch: where to begin, for a resume; the epoch's last batch is the short rest. workers: threads, None for one per
    core. share: (rank, ranks), for the rows of each batch that are read here. pin: page-locked memory, from which CUDA copies
    without waiting.
    Source: paper 4.1; the order is the recipe's `shuffle`.
    """
    order = epoch_order(recipe.shuffle, len(store), seed, epoch)
    drawn = draw_views(recipe, seed, epoch, len(store))

    def read(positions: range, crops_BHWC: NDArray[np.uint8]) -> None:
        part = slice(positions.start, positions.stop)
        store.read_crops(order[part].tolist(), drawn.y[part].tolist(), drawn.x[part].tolist(), crops_BHWC)

    return BatchStream(
        store.labels[order],
        read,
        side=recipe.input_size,
        batch_size=recipe.batch_size,
        first_batch=first_batch,
        workers=workers,
        share=share,
        pin=pin,
    )


def stored_batches(
    stores: Sequence[Store],
    *,
    batch_size: int,
    workers: int | None = None,
    share: tuple[int, int] = WHOLE_BATCH,
    pin: bool = False,
    part: range | None = None,
) -> BatchStream:
    """Read whole stored images in stored order, the stores, of one size, one after the other; arguments as above.

    part: consecutive images to read, all by default; the batches' positions count from its first.
    """
    ends = np.cumsum([len(store) for store in stores])
    part = range(int(ends[-1])) if part is None else part

    def read(positions: range, images_BHWC: NDArray[np.uint8]) -> None:
        positions = part[positions.start : positions.stop]
        for store, end in zip(stores, ends.tolist(), strict=True):
            begin = end - len(store)
            first, last = max(positions.start, begin), min(positions.stop, end)
            if first < last:
                zeros = [0] * (last - first)
                rows = images_BHWC[first - positions.start : last - positions.start]
                store.read_crops(range(first - begin, last - begin), zeros, zeros, rows)

    return BatchStream(
        np.concatenate([store.labels for store in stores])[part.start : part.stop],
        read,
        side=stores[0].size,
        batch_size=batch_size,
        first_batch=0,
        workers=workers,
        share=share,
        pin=pin,
    )


def require_size(store: Store, recipe: Recipe) -> None:
    """Raise DataError when a store's pictures are not of the size that a network expects."""
    if store.size != recipe.stored_size:
        raise DataError(
            f"{store.folder} has pictures of {store.size}x{store.size}, recipe {recipe.name} expects"
            f" {recipe.stored_size}x{recipe.stored_size}",
            hint=f'make another store with "alexnet prepare --size {recipe.stored_size} --out FOLDER", or take another recipe',
        )


def resize_mismatch(store: Store, recipe: Recipe) -> str:
    """Say that a store's pictures became squares in another way than a recipe expects, in a sentence; "" where they did not."""
    made, wanted = (value.replace("_", "-") for value in (store.resize, recipe.resize))
    return "" if made == wanted else f"{store.folder} was prepared with --resize {made}, recipe {recipe.name} expects {wanted}"


def require_prepared(store: Store, recipe: Recipe) -> None:
    """Raise DataError when a store was not made as a recipe says: its pictures' size, and how they became squares."""
    require_size(store, recipe)
    mismatch = resize_mismatch(store, recipe)
    if mismatch:
        wanted = recipe.resize.replace("_", "-")
        raise DataError(
            mismatch,
            hint=f'make another store with "alexnet prepare --resize {wanted} --out FOLDER", or set resize = "{store.resize}"'
            " in a file for --config",
        )


def _share_of(positions: range, rank: int, ranks: int) -> range:
    """Return the consecutive part of a batch that a rank reads; the first ranks' parts are the larger ones."""
    each = -(-len(positions) // ranks)
    return positions[rank * each : (rank + 1) * each]
