"""One writer at a time: a folder is held while a process writes to it (stdlib only)."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_error


@contextmanager
def held(folder: Path, busy: AlexNetError) -> Iterator[None]:
    """Make the folder and hold it against a second writer; the lock ends with the process, so a kill leaves none behind.

    Raises `busy` when another process holds it, and DiskFullError or AlexNetError when it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error.errno or errno.EIO) from error
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, busy)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, busy: AlexNetError) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    except OSError:
        pass  # a file system without locks; LMDB is not for those, but a single writer does no harm
