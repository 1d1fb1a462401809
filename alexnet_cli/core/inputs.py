"""Which pictures are meant: files, folders, patterns, addresses and lists of them become a stream; nothing is decoded here.

The stream is as long as it must be and in memory only where it is: one folder's names, one piece of a list. It must not import
torch.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BufferedIOBase
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.folders import is_picture
from alexnet_cli.core.images import begins_like_picture
from alexnet_cli.core.input_places import Nowhere, PixelPlace, RecordPlace, StreamPlace, UrlPlace
from alexnet_cli.core.places import FilePlace, Place
from alexnet_cli.core.store import Store, record_key

# From Python: a file, folder, pattern or address, the content of a file, or pixels.
Picture = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

STDIN = "-"
SCHEMES = ("http://", "https://")
PIECE = 1 << 16  # bytes of a list read at a time


@dataclass(frozen=True)
class Input:
    """A picture to look at: what it is called, where it is, and the id of its class where that is known."""

    name: str
    place: Place
    truth: str | None = None


@dataclass(frozen=True)
class Inputs:
    """All pictures that a command line means; it can be iterated more than once, but for what standard input holds.

    sources: files, folders, patterns, addresses; "-" is a picture on `stdin`. listed: a file with one file, folder or address a
    line; "-" for `stdin`. null: zero bytes end them instead of line ends. A source that gives nothing becomes an input of its
    own that cannot be read, so that it is named where its pictures would be.
    """

    sources: Sequence[str] = ()
    listed: str | None = None
    null: bool = False
    stdin: BufferedIOBase | None = None

    def __iter__(self) -> Iterator[Input]:
        for source in self.sources:
            if source == STDIN and self.stdin is not None:
                yield Input(STDIN, StreamPlace(self._standard_input))
            else:
                yield from find_pictures(source)
        if self.listed is not None:
            yield from self._from_list(self.listed)

    def count(self) -> int | None:
        """Return how many pictures there are, None where only reading standard input would tell."""
        if self.listed is not None and (self.listed == STDIN or not os.path.isfile(self.listed)):
            return None
        return sum(1 for _ in self)

    def _standard_input(self) -> AbstractContextManager[BufferedIOBase]:
        assert self.stdin is not None
        return nullcontext(self.stdin)  # which is not ours to close

    def _from_list(self, listed: str) -> Iterator[Input]:
        empty = True
        try:
            with open(listed, "rb") if listed != STDIN else self._standard_input() as file:
                for name in _ended(file, b"\0" if self.null else b"\n"):
                    name = name if self.null else name.removesuffix(b"\r")
                    if name:
                        empty = False
                        yield from _url_or_path(os.fsdecode(name))
        except OSError as error:
            yield _unreadable(listed, f"the list cannot be opened: {error.strerror}")
            return
        if empty:
            yield _unreadable(listed, "the list names no picture")


def find_pictures(source: str) -> Iterator[Input]:
    """Return the pictures of a file, a folder with all below it, a pattern (of glob, ** for folders) or an address, sorted.

    Of a folder hidden files and what is no picture by its name's ending, or else by its content, are passed over; links to
    folders are not followed.
    """
    if not _is_url(source) and glob.has_magic(source) and not os.path.lexists(source):
        matches = _matches(source)
        for match in matches:
            yield from _path(match)
        if not matches:
            yield _unreadable(source, "no file has a name like this")
    else:
        yield from _url_or_path(source)


def given(pictures: Picture | Input | Iterable[Picture | Input]) -> Iterator[Input]:
    """Return what Python code means by a picture or several; one without a name is called by its place, such as "[0]"."""
    if isinstance(pictures, (str, os.PathLike, bytes, Image.Image, np.ndarray, Input)):
        pictures = (pictures,)
    for index, picture in enumerate(pictures):
        if isinstance(picture, Input):
            yield picture
        elif isinstance(picture, (str, os.PathLike)):
            yield from find_pictures(os.fspath(picture))
        else:
            own_name = getattr(picture, "filename", "")
            yield Input(str(own_name or f"[{index}]"), PixelPlace(picture))


@dataclass(frozen=True)
class StoredPictures:
    """The pictures of a store, with their classes, under the names that it keeps, or else their keys."""

    store: Store

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[Input]:
        store = self.store
        names = store.names()
        for index in range(len(store)):
            label = int(store.labels[index])
            truth = store.classes[label] if 0 <= label < len(store.classes) else None
            yield Input(names[index] if names else record_key(index).decode(), RecordPlace(store, index), truth)


@dataclass(frozen=True)
class Together:
    """Pictures of several kinds of source, one after the other."""

    parts: Sequence[Inputs | StoredPictures]

    def __iter__(self) -> Iterator[Input]:
        return chain.from_iterable(self.parts)

    def count(self) -> int | None:
        """Return how many there are, None where that is not known."""
        counts = [len(part) if isinstance(part, StoredPictures) else part.count() for part in self.parts]
        return None if None in counts else sum(count or 0 for count in counts)

    def words(self) -> dict[str, str]:
        """Return the names of the stores' classes by their ids."""
        stores = [part.store for part in self.parts if isinstance(part, StoredPictures)]
        return {id: words for store in stores for id, words in zip(store.classes, store.words, strict=True)}


# Files -----------------------------------------------------------------------------------------------------------------------


def _is_url(source: str) -> bool:
    return source.lower().startswith(SCHEMES)


def _url_or_path(source: str) -> Iterator[Input]:
    if _is_url(source):
        yield Input(source, UrlPlace(source))
    else:
        yield from _path(source)


def _path(path: str) -> Iterator[Input]:
    if "\0" in path:
        yield _unreadable(path, "a zero byte cannot be in a file's name")
    elif not os.path.isdir(path):
        yield Input(path, _file_place(path))
    else:
        empty = True
        for found in _folder(path):
            empty = False
            yield found
        if empty:
            yield _unreadable(path, "no picture in this folder")


def _matches(pattern: str) -> list[str]:
    """Return what fits a pattern, sorted, once; a hidden name only where its own part of the pattern begins with a dot too.

    Pathlib's, as the glob module's ** walks along links, also in circles.
    """
    pattern += "/*" if pattern.endswith("**") else ""
    anchor, parts = Path(pattern).anchor, Path(pattern).parts
    deep = "**" in parts
    try:
        found = Path(anchor).glob(pattern.removeprefix(anchor))
        matches = sorted({str(path) for path in found if not (deep and path.is_dir())})  # whose pictures fit by themselves
    except (ValueError, NotImplementedError):
        return []
    return [match for match in matches if _shows(Path(match).parts, parts)]


def _shows(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether a path fits a pattern without a wildcard that stands for a hidden name."""
    if not pattern or not names:
        return not names and all(part == "**" for part in pattern)
    visible = not names[0].startswith(".")
    if pattern[0] == "**":
        return _shows(names, pattern[1:]) or (visible and _shows(names[1:], pattern))
    fits = fnmatch(names[0], pattern[0]) and (visible or pattern[0].startswith("."))
    return (fits or names[0] == pattern[0]) and _shows(names[1:], pattern[1:])


def _file_place(path: str) -> Place:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return FilePlace(Path(), path)  # whose reading says why
    return FilePlace(Path(), path) if stat.S_ISREG(mode) else StreamPlace(lambda: open(path, "rb"))


def _folder(folder: str) -> Iterator[Input]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        yield _unreadable(folder, f"cannot be opened: {error.strerror}")
        return
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            yield from _folder(path)
        elif is_picture(name) or _has_picture(path):
            yield Input(path, _file_place(path))


def _has_picture(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return begins_like_picture(file.read(12))
    except OSError:
        return False


def _ended(file: BufferedIOBase, end: bytes) -> Iterator[bytes]:
    """Return the parts of a stream that end so, and what is left at its end."""
    rest = b""
    while piece := file.read1(PIECE):  # what a pipe holds so far, as more may come only after our answers
        *whole, rest = (rest + piece).split(end)
        yield from whole
    if rest:
        yield rest


def _unreadable(name: str, reason: str) -> Input:
    return Input(name, Nowhere(reason))
