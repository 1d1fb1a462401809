"""Pictures read ahead by threads while the network is busy with those before them: `predict` and what else looks at a stream.

It must not import torch.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from queue import SimpleQueue
from threading import Condition, Thread

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.images import square
from alexnet_cli.core.inputs import Input, Picture, given
from alexnet_cli.core.recipe import Recipe

PAUSE = 0.5  # seconds without anything new, after which the pictures that are read wait no longer for a full pass
GRACE = 0.5  # seconds for readers to come to their end

Pixels = NDArray[np.uint8]
Seen = tuple[Input, Pixels | str]  # as the network sees it, or the reason why it could not be read
_Read = tuple[Input, "Future[Pixels | str]"]


def passes(
    pictures: Picture | Input | Iterable[Picture | Input], recipe: Recipe, *, images: int, workers: int | None
) -> Generator[list[Seen], None, None]:
    """Yield pictures as squares of the recipe's size, `images` at a time, in their order; fewer where the next is long in coming.

    workers: threads that read, None for one per core. Memory is that of a few passes; a thread of its own goes through `pictures`.
    """
    read = partial(_read, recipe=recipe)
    with closing(_Readers(given(pictures), read, images, workers or usable_cores())) as readers:
        while batch := readers.take(images):
            yield [(one, future.result()) for one, future in batch]


class _Readers:
    """Threads that read pictures ahead: as many as a pass has while the network is busy with another, or one each.

    They are daemons, so that one that waits for a pipe or a server holds up neither what breaks the work off nor the end of Python.
    """

    def __init__(self, inputs: Iterable[Input], read: Callable[[Input], Pixels | str], count: int, workers: int) -> None:
        self._inputs, self._read, self._most = inputs, read, max(count, workers)
        self._changed = Condition()  # guards what the threads share
        self._ahead: deque[_Read] = deque()
        self._is_listed = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._tasks: SimpleQueue[_Read | None] = SimpleQueue()
        self._threads = [Thread(target=target, daemon=True) for target in (self._list, *[self._work] * workers)]
        for thread in self._threads:
            thread.start()

    def take(self, count: int) -> list[_Read]:
        """Return the next pictures, which are read: `count`, or fewer where the next one is long in coming, none at the end.

        Raises what the stream of inputs raised, behind the pictures that came before.
        """
        with self._changed:
            while True:
                ready = self._count_ready(count)
                if ready == count or (self._is_listed and ready == len(self._ahead)):
                    break
                if not self._changed.wait(PAUSE if ready else None):
                    break
            taken = [self._ahead.popleft() for _ in range(ready)]
            self._changed.notify_all()
        if not taken and self._error is not None:
            raise self._error
        return taken

    def close(self) -> None:
        """Stop reading, without waiting for what may never come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for _ in self._threads:
            self._tasks.put(None)
        ends = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _count_ready(self, count: int) -> int:
        waiting = (place for place, (_, future) in enumerate(self._ahead) if place == count or not future.done())
        return next(waiting, len(self._ahead))

    def _has_room(self) -> bool:
        """Wait until another picture may be asked for: none is taken from the caller before it can be read. False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ahead) < self._most or self._is_closed)
            return not self._is_closed

    def _list(self) -> None:
        try:
            inputs = iter(self._inputs)
            while self._has_room() and (one := next(inputs, None)) is not None:
                with self._changed:
                    self._ahead.append((one, Future()))
                    self._tasks.put(self._ahead[-1])
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._is_listed = True
                self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._tasks.get()) and not self._is_closed:
            one, future = task
            try:
                future.set_result(self._read(one))
            except BaseException as error:
                future.set_exception(error)
            with self._changed:
                self._changed.notify_all()


def _read(one: Input, *, recipe: Recipe) -> Pixels | str:
    try:
        return square(one.place.read(), size=recipe.stored_size, resize=recipe.resize, exif_orientation=True)
    except DataError as error:
        return error.message
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
