"""Where the bytes of a picture are: a file, or a part of an archive. Nothing is decoded here.

A place is small, travels to a worker process, and reads itself there. A listing holds many of them as arrays.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST_PICTURE = 1 << 28  # bytes of one picture's file: it is read whole
OPEN_FILES = 32  # archives that a process keeps open; the oldest is closed for the next


class Place(Protocol):
    """Where one picture is."""

    def read(self) -> bytes | Path | Image.Image:
        """Return the picture: its bytes, the file to read it from, or decoded by others. Raises OSError or ImageError."""


class Listing(Protocol):
    """Where many pictures are, by position."""

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """Say which pictures can only be read together, such as the rows of a row group, int64 (N,); None where each can alone."""

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the places of these positions, in their order."""

    def facts(self) -> list[bytes]:
        """Return what else than names, labels and sizes would change if the pictures did, for a fingerprint."""


@dataclass(frozen=True)
class FilePlace:
    """A file of its own."""

    root: Path
    path: str

    def read(self) -> Path:
        """Return where it is: the decoder judges a file by its beginning before it reads all of it."""
        return self.root / self.path


@dataclass(frozen=True)
class RangePlace:
    """A part of a larger file, such as a member of a tar archive."""

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return its bytes; fewer where the file ends early."""
        descriptor, parts, start = _opened(self.file), [], self.offset
        while start < self.offset + self.size and (part := os.pread(descriptor, self.offset + self.size - start, start)):
            parts.append(part)  # one read may bring less than was asked for
            start += len(part)
        return b"".join(parts)


@dataclass(frozen=True, eq=False)
class Files:
    """Files under a folder. paths: relative to root, with forward slashes."""

    root: Path
    paths: Sequence[str]
    groups: None = None

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the places of these positions."""
        return (FilePlace(self.root, self.paths[position]) for position in positions)

    def facts(self) -> list[bytes]:
        """Return nothing: a file's time may change when it is copied."""
        return []


@dataclass(frozen=True, eq=False)
class Ranges:
    """Parts of files. which: int32 (N,), index into files; offsets, sizes: int64 (N,), bytes."""

    files: Sequence[Path]
    which: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    groups: None = None

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the places of these positions."""
        return (RangePlace(self.files[self.which[at]], int(self.offsets[at]), int(self.sizes[at])) for at in positions)

    def facts(self) -> list[bytes]:
        """Return where in which archive the pictures are, and the archives' sizes."""
        sizes = np.array([file.stat().st_size for file in self.files], dtype="<i8")
        return [self.which.astype("<i4").tobytes(), self.offsets.astype("<i8").tobytes(), sizes.tobytes()]


class _Descriptor:
    """An open file, closed with its last user."""

    def __init__(self, file: Path) -> None:
        self.number = os.open(file, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=OPEN_FILES)
def _kept_open(file: Path, process: int) -> _Descriptor:
    return _Descriptor(file)


def _opened(file: Path) -> int:
    return _kept_open(file, os.getpid()).number
