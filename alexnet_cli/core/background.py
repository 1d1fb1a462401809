"""Files written beside the training: one thread, one file after the other (stdlib only)."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

WAITING = 2  # jobs at most that are running or to be begun, each with a copy of the weights


class BackgroundWriter:
    """Does jobs in the order in which they come; after one that failed, no other is begun.

    What a job raises comes out of the next call. Use it in a `with`: on leaving, what was given is done, also when another
    exception is on its way, unless that is Ctrl-C.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._jobs: deque[Future[None]] = deque()
        self._failed = False

    def submit(self, job: Callable[[], None]) -> None:
        """Do a job soon; wait first where two are still to be done. Raises what an earlier job has raised."""
        self.make_room()
        self._jobs.append(self._pool.submit(self._do, job))

    def make_room(self) -> None:
        """Wait until a job can be given: before a copy of the weights is made for it. Raises what a job has raised."""
        while self._jobs and (self._jobs[0].done() or len(self._jobs) >= WAITING):
            self._jobs.popleft().result()

    def finish(self) -> None:
        """Wait until all is done; raises what a job has raised."""
        while self._jobs:
            self._jobs.popleft().result()

    def _do(self, job: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        cancel = isinstance(error, KeyboardInterrupt)
        try:
            if error is None:
                self.finish()
        except KeyboardInterrupt:
            cancel = True
            raise
        finally:
            self._pool.shutdown(cancel_futures=cancel)
