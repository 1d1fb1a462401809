"""Files that are either whole or not there: written beside their place, synced, renamed (stdlib only)."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from alexnet_cli.core.errors import AlexNetError, DiskFullError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Give a path new content in one step; whoever looks, at any moment, finds the old file or the new one.

    write: puts the content into the file that it is given, which lies in the same folder. Missing folders are made.
    Raises DiskFullError when the disk is full and AlexNetError when it refuses for another reason (a folder in the way, no
    permission); the old file is then untouched and nothing else remains.
    """
    partial = path.with_name(f".{path.name}.partial")  # one name: what a kill leaves behind, the next attempt overwrites
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(b"")
        usual_mode = partial.stat().st_mode  # some writers, safetensors among them, make files that only their owner can read
        write(partial)
        partial.chmod(usual_mode)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except BaseException as error:
        _remove(partial)
        number = error_number(error)
        if number is None:
            raise
        raise write_error(path, number) from error


def require_place(path: Path, *read: Path) -> None:
    """Raise AlexNetError where a file could not be written later, before long work whose result it is to hold.

    read: files that are read for it, none of which it may replace.
    """
    if path.is_dir():
        raise write_error(path, errno.EISDIR)
    if path.exists() and not path.is_file():  # a device or a pipe, which a file would replace
        raise AlexNetError(f"cannot write {path}: it is no ordinary file", hint="choose another place for it")
    if any(path.exists() and path.samefile(one) for one in read):
        raise AlexNetError(f"{path} is the file to be read", hint="choose another place for what is written")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise write_error(path, errno.ENOTDIR)
    if not os.access(above, os.W_OK):
        raise write_error(path, errno.EACCES)


def write_error(path: Path, number: int) -> AlexNetError:
    """Return what to raise when the system refused to write a file, for the reason of that number (errno)."""
    if number in DISK_FULL:
        return DiskFullError(
            f"the disk is full: {path} could not be written ({_free(path)})",
            hint="free some space, then run the same command again",
        )
    return AlexNetError(f"cannot write {path}: {os.strerror(number)}", hint="choose another place for it")


def error_number(error: BaseException) -> int | None:
    """Return the system's reason (errno) in an exception, also when a library in Rust hides it in its text; None without."""
    if isinstance(error, OSError):
        return error.errno
    hidden = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, Exception) else None
    return int(hidden.group(1)) if hidden else None


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path, *more: bytes) -> str:
    """Return the BLAKE2b-128, in hexadecimal, of a file's bytes and of what is added to them."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    for part in more:
        digest.update(part)
    return digest.hexdigest()


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free in {path.parent}"
    except OSError:
        return f"in {path.parent}"


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the folder is missing, or no folder at all: nothing was written
        path.unlink(missing_ok=True)
