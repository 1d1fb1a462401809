"""A prepared split as an LMDB folder, and the statistics of the training set beside it; `docs/formats.md` is the contract.

    data/train/    "00000000", "00000001", ... > the picture alone; "labels" > int32 each; "names" > where each came from;
                   "meta" > JSON, written last
    data/val/      likewise, and data/test/ where there is one
    data/stats.safetensors

This file reads, `store_writer` writes; no other file of the package imports lmdb. It must not import torch.
"""

import json
import mmap
import os
import threading
import weakref
import zlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from alexnet_cli.core.errors import ImageError, StoreError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.images import decode_record

Bytes = TypeVar("Bytes", bytes, memoryview)

FORMAT_VERSION = 1
FORMATS = ("jpeg", "raw")
SPLITS = ("train", "val", "test")
OTHER_NAMES = {"validation": "val"}
LABELS_KEY = b"labels"
NAMES_KEY = b"names"
META_KEY = b"meta"
PROGRESS_KEY = b"!progress"  # only while a store is written; "!" sorts before the digits, so that records can be appended
SUMS_KEY = b"!sums"
DATA_FILE = "data.mdb"
HEAD_BYTES = 2 * mmap.PAGESIZE  # LMDB's two head pages; a smaller file is what a full disk left of a beginning
STATS_FILE = "stats.safetensors"
REBUILD = 'make it anew with "alexnet prepare SOURCE --force"'
CONTINUE = 'run the same "alexnet prepare" again; it continues where it stopped'

# LMDB must not be opened twice in a process nor used across a fork, hence one environment per file and process, shared by
# every Store on it and closed with the last of them.
_environments: weakref.WeakValueDictionary[tuple[int, int, int], Any] = weakref.WeakValueDictionary()
_opening = threading.Lock()


class UnfinishedStoreError(StoreError):
    """A store whose `prepare` was interrupted and can go on."""


def record_key(index: int) -> bytes:
    """Return the key of a record: eight ASCII digits."""
    return b"%08d" % index


def checksum_text(crc: int) -> str:
    """Return how `meta` writes the CRC-32 of all records, in the order of their keys."""
    return f"crc32:{crc:08x}"


def pack_names(names: Iterable[str]) -> bytes:
    """Return names as a store keeps them: UTF-8, a zero byte after each, packed by zlib."""
    return zlib.compress(b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names))


def unpack_names(packed: bytes) -> tuple[str, ...]:
    """Undo `pack_names`; raises zlib.error or ValueError."""
    texts = zlib.decompress(packed).split(b"\0")
    if texts.pop() != b"":
        raise ValueError("the last name has no end")
    return tuple(text.decode("utf-8", "surrogateescape") for text in texts)


class Store:
    """The pictures and labels of one split, safe to share between threads, to fork and to pickle.

    folder: where it lies. sequential: whether records are read mostly in stored order, so that the system reads ahead of them;
    of several Stores on one file in a process the first decides. meta: what `docs/formats.md` lists. classes, words: ids and
    names, parallel, in label order. labels: int32 (N,). format: "jpeg" or "raw". size: side of the pictures. resize: how they
    became squares, "short_side" or "warp".
    Raises StoreError when there is none, when `prepare` has not finished it, or when the file is cut short.
    """

    def __init__(self, folder: Path, *, sequential: bool = False) -> None:
        self.folder, self.sequential = Path(folder), sequential
        self._opened: Any = None
        self._process = 0  # the one that opened it
        try:
            self.meta: dict[str, Any] = self._read_meta()
            self.labels: NDArray[np.int32] = self._read_labels()
        except StoreError:
            self._opened = None  # the exception keeps this object alive, and an open environment would bar a writer
            raise
        self.classes: tuple[str, ...] = tuple(self.meta["classes"])
        self.words: tuple[str, ...] = tuple(self.meta["words"])
        self.format = self.meta["format"]
        self.size: int = self.meta["size"]
        self.resize: str = self.meta.get("resize", "short_side")

    def __len__(self) -> int:
        return int(self.meta["count"])

    @property
    def is_labelled(self) -> bool:
        """Whether the class of every picture is known; -1 is stored where it is not."""
        return bool((self.labels >= 0).all())

    def __reduce__(self) -> tuple[Any, ...]:
        # The environment cannot travel: whoever unpickles opens its own.
        return partial(Store, sequential=self.sequential), (self.folder,)

    def names(self) -> tuple[str, ...] | None:
        """Return the path of every picture inside the source that it came from; None in stores of versions that kept none.

        Such as "ILSVRC2012_img_val.tar/ILSVRC2012_val_00000001.JPEG", with forward slashes; a name that is not UTF-8 keeps its
        bytes as `os.fsdecode` does. Raises StoreError when they are damaged.
        """
        packed = self._get(NAMES_KEY)
        if packed is None:
            return None
        try:
            names = unpack_names(packed)
        except (zlib.error, ValueError) as error:
            raise StoreError(f'"names" in {self.folder} is damaged: {error}', hint=REBUILD) from error
        if len(names) != len(self):
            raise StoreError(f"{self.folder} has {len(names)} names for {len(self)} records", hint=REBUILD)
        return names

    def record(self, index: int) -> bytes:
        """Return the stored picture as it is, a JPEG file or raw bytes; raises IndexError outside 0 to len - 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder} has records 0 to {len(self) - 1}, not {index}")
        return self._present(index, self._get(record_key(index)))

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return a picture as uint8 [0, 255], (size, size, 3), RGB; raises StoreError when the record is damaged."""
        return self._decode(index, self.record(index))

    def read_crops(self, indices: Sequence[int], y: Iterable[int], x: Iterable[int], crops_BHWC: NDArray[np.uint8]) -> None:
        """Read pictures cut at places, from the file's own pages to the rows of a batch, in one transaction.

        indices: records, 0 to len - 1. y, x: upper left corner of each crop. crops_BHWC: uint8 [0, 255], (B, S, S, 3), which
        receives them. Raises StoreError for the first record in this order that is damaged.
        """
        size = crops_BHWC.shape[1]
        # A whole picture is decoded in its place; a part is copied from here, which stays in the processor's cache.
        scratch_HWC = np.empty((self.size, self.size, 3), np.uint8)
        with self._transaction(buffers=True) as transaction:
            for index, top, left, crop_HWC in zip(indices, y, x, crops_BHWC, strict=True):
                into_HWC = crop_HWC if size == self.size else scratch_HWC
                image_HWC = self._decode(index, transaction.get(record_key(index)), into_HWC)
                if image_HWC is not crop_HWC:
                    crop_HWC[:] = image_HWC[top : top + size, left : left + size]

    def entries(self) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield every key and value of the file, whatever it is, in the order of the keys: records first, then labels and meta.

        Close the iterator if you leave it early: a transaction is open meanwhile. Raises StoreError when the file is damaged.
        """
        with self._transaction() as transaction:
            yield from transaction.cursor()

    def class_counts(self) -> list[int]:
        """Return how many pictures each class has, in label order; a label that names no class, such as -1, counts nowhere."""
        named = self.labels[(self.labels >= 0) & (self.labels < len(self.classes))]
        return [int(count) for count in np.bincount(named, minlength=len(self.classes))]

    def _decode(self, index: int, value: Bytes | None, into_HWC: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        try:
            return decode_record(self._present(index, value), self.format, self.size, into_HWC)
        except ImageError as error:
            raise StoreError(f"record {index} in {self.folder} is damaged: {error.message}", hint=REBUILD) from error

    def _present(self, index: int, value: Bytes | None) -> Bytes:
        if value is None:
            raise StoreError(f"record {index} is missing in {self.folder}", hint=REBUILD)
        return value

    def _get(self, key: bytes) -> bytes | None:
        with self._transaction() as transaction:
            value: bytes | None = transaction.get(key)
        return value

    @contextmanager
    def _transaction(self, *, buffers: bool = False) -> Generator[Any, None, None]:
        """Read in one state of the file; with `buffers`, values are its own pages and end with the transaction."""
        try:
            with self._environment().begin(buffers=buffers) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StoreError(f"{self.folder} cannot be read: {error}", hint=REBUILD) from error

    def _environment(self) -> Any:
        if self._process != os.getpid():
            self._opened, self._process = _open(self.folder, self.sequential), os.getpid()
        return self._opened

    def _read_meta(self) -> dict[str, Any]:
        text = self._get(META_KEY)
        if text is None:
            raise _unfinished(self.folder, self._get(PROGRESS_KEY))
        try:
            meta: dict[str, Any] = json.loads(text)
            version, format = meta["format_version"], meta["format"]
            _ = meta["count"], meta["classes"], meta["words"]
            if not isinstance(meta["size"], int) or meta["size"] < 1:
                raise ValueError(f"its size is {meta['size']!r}")
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(f'"meta" in {self.folder} is damaged: {error!r}', hint=REBUILD) from error
        if version != FORMAT_VERSION or format not in FORMATS:
            raise StoreError(
                f"{self.folder} has format version {version}, {format}, expected version {FORMAT_VERSION}, {' or '.join(FORMATS)}",
                hint=REBUILD,
            )
        return meta

    def _read_labels(self) -> NDArray[np.int32]:
        value, count = self._get(LABELS_KEY) or b"", len(self)
        if len(value) != 4 * count:
            raise StoreError(f"{self.folder} has {len(value) / 4:g} labels for {count} records", hint=REBUILD)
        return np.frombuffer(value, dtype="<i4").astype(np.int32)


def open_store(data: Path, split: str, *, sequential: bool = False) -> Store:
    """Open the store of a split, "train", "val" (or "validation") or "test", in a folder that `prepare` wrote.

    sequential: as for `Store`. Raises StoreError naming the splits that are there.
    """
    data, split = Path(data), OTHER_NAMES.get(split, split)
    if not data.exists():
        raise StoreError(f"{data} does not exist, expected a folder of stores", hint='make it with "alexnet prepare SOURCE"')
    if split in SPLITS and (data / split / DATA_FILE).is_file():
        return Store(data / split, sequential=sequential)
    present = [name for name in SPLITS if (data / name / DATA_FILE).is_file()]
    if not present:
        raise StoreError(f"{data} has no store", hint='make one with "alexnet prepare SOURCE"')
    raise StoreError(f"{data} has no split {split}, only {', '.join(present)}", hint=CONTINUE if split in ("train", "val") else "")


@dataclass(frozen=True, eq=False)
class Stats:
    """What training removes from and adds to pictures, of the training set's stored pictures, RGB, 0-255.

    mean: float32 (3, size, size). color_stdevs: float32 (3,), square roots of the eigenvalues of the covariance of all pixels,
    largest first. color_components: float32 (3, 3), row i the unit eigenvector of color_stdevs[i], its entry of largest
    magnitude positive.
    """

    mean: NDArray[np.float32]
    color_stdevs: NDArray[np.float32]
    color_components: NDArray[np.float32]


def read_stats(data: Path) -> Stats:
    """Read `stats.safetensors` in a folder that `prepare` wrote; raises StoreError when it is missing or damaged."""
    path = Path(data) / STATS_FILE
    if not path.is_file():
        raise StoreError(f"{path} does not exist", hint=REBUILD)
    try:
        tensors = load_file(path)
        size = tensors["mean"].shape[-1] if tensors["mean"].ndim else 0
        shapes = {"mean": (3, size, size), "color_stdevs": (3,), "color_components": (3, 3)}
        found = {name: tensors[name].shape for name in shapes}
    except (SafetensorError, KeyError, OSError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error!r}", hint=REBUILD) from error
    if found != shapes:
        raise StoreError(f"{path} has the shapes {found}, expected {shapes}", hint=REBUILD)
    return Stats(**{name: tensors[name].astype(np.float32) for name in shapes})


def write_stats(data: Path, stats: Stats) -> None:
    """Write `stats.safetensors`, whole or not at all."""
    tensors = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in vars(stats).items()}
    write_atomically(Path(data) / STATS_FILE, partial(save_file, tensors))


def _open(folder: Path, sequential: bool) -> Any:
    file = folder / DATA_FILE
    if not file.is_file():
        raise StoreError(f"{folder} has no store", hint='make one with "alexnet prepare SOURCE"')
    status = file.stat()
    with _opening:
        # By inode, so that a store made anew in the same place is not mistaken for the one that was there.
        place = (os.getpid(), status.st_dev, status.st_ino)
        environment = _environments.get(place)
        if environment is None:
            environment = _environments[place] = _open_environment(folder, sequential)
        return environment


def _open_environment(folder: Path, sequential: bool) -> Any:
    try:
        # Unlocked: read-only places have no room for a lock file.
        environment = lmdb.open(str(folder), readonly=True, lock=False, readahead=sequential, meminit=False, create=False)
    except lmdb.Error as error:
        raise StoreError(f"{folder} is not a store, or a damaged one: {error}", hint=REBUILD) from error
    refuse_cut_short(environment, folder)
    return environment


def refuse_cut_short(environment: Any, folder: Path) -> None:
    """Close the environment and raise StoreError when its file has fewer pages than it says.

    To read a page beyond the end of the file would end the process with SIGBUS.
    """
    expected = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (folder / DATA_FILE).stat().st_size
    if size < expected:
        environment.close()
        raise StoreError(f"{folder / DATA_FILE} is cut short: {size:,} bytes, expected {expected:,}", hint=REBUILD)


def _unfinished(folder: Path, progress: bytes | None) -> UnfinishedStoreError:
    if progress is None:
        return UnfinishedStoreError(f"{folder} is not a finished store of alexnet prepare: it has no meta", hint=CONTINUE)
    state = json.loads(progress)
    return UnfinishedStoreError(f"{folder} is incomplete: {state['records']} of {state['total']} records written", hint=CONTINUE)


def _begin_afresh() -> None:
    """Leave the parent its environments: close what a fork has copied, so that this process may open its own."""
    global _opening
    for environment in list(_environments.values()):
        environment.close()
    _environments.clear()
    _opening = threading.Lock()  # another thread may have held the old one at the fork, and would never release it here


os.register_at_fork(after_in_child=_begin_afresh)
