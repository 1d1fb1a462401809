"""How fast a training goes, how much of the time it waits for data, and when it is asked to stop (stdlib only)."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")
ONE_ASKING = 1.0  # seconds
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Pace:
    """Sums of time since the last row of the log.

    A step that meets a batch size for the first time compiles for it, so neither its time nor its images count.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._start = self._arrived = 0.0
        self._reset()

    def _reset(self) -> None:
        self._images, self._counted, self._waiting = 0, 0.0, 0.0

    def timed(self, batches: Iterable[Item], idle: Callable[[], bool]) -> Iterator[Item]:
        """Pass batches on, timing the wait for each.

        idle: whether the device has nothing left to do; while it has, it waits for nothing, and neither does the training.
        """
        source = iter(batches)
        while True:
            self._start = time.perf_counter()
            batch = next(source, None)
            if batch is None:
                return
            self._arrived = time.perf_counter() if idle() else self._start
            yield batch

    def stepped(self, images: int) -> None:
        """Take note that the step of the batch that `timed` passed on last is made."""
        if images in self._seen:
            self._images += images
            self._counted += time.perf_counter() - self._start
            self._waiting += self._arrived - self._start
        self._seen.add(images)

    def row(self) -> dict[str, float | None]:
        """Return images per second and the share of time spent waiting for data, then start anew; None where nothing counted."""
        rate = self._images / self._counted if self._counted else None
        wait = self._waiting / self._counted if self._counted else None
        self._reset()
        return {"images_per_second": rate, "data_wait": wait}


class CheckpointTimer:
    """Says when the next checkpoint is due.

    every: minutes, such as "10", or steps, such as "500steps".
    """

    def __init__(self, every: str) -> None:
        steps = every.removesuffix("steps")
        self._steps = int(steps) if steps != every else 0
        self._seconds = 0.0 if self._steps else 60 * float(every)
        self._last = time.monotonic()

    @property
    def by_steps(self) -> bool:
        """Whether steps are counted, so that every rank finds by itself when it is due."""
        return self._steps > 0

    def due(self, step: int) -> bool:
        """Whether a checkpoint belongs after this step."""
        if self._steps:
            return step % self._steps == 0
        return time.monotonic() - self._last >= self._seconds

    def restart(self) -> None:
        """Count the minutes from now."""
        self._last = time.monotonic()


class StopRequest:
    """Ctrl-C, SIGTERM or SIGUSR1 (as Slurm sends it before the time is up), asked once: finish the step, save, stop. Twice: now.

    signal: the number of the one that came, 0 before; SIGTERM for SIGUSR1, as both are the system's. The same one often comes
    twice at once, to the process and to its group; that is one asking.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.signal = 0
        self._asked_at = 0.0
        self._announce = announce

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            if time.monotonic() - self._asked_at < ONE_ASKING:
                return
            raise KeyboardInterrupt
        self.signal, self._asked_at = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM, time.monotonic()
        self._announce("stopping after this step; once more to stop at once, without saving")

    @contextlib.contextmanager
    def watching(self) -> Iterator["StopRequest"]:
        """Take the signals while the training runs; outside the main thread there are none to take."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = STOPPING
        before = [signal.signal(number, self._handle) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
