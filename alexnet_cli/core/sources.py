"""A folder of pictures as lists of paths and labels: `train/`, `val/` and perhaps `test/`, each of one folder per class.

Only lists; no picture is opened here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import SourceError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
FOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
WORDS_FILES = ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt")
LAYOUT = "expected train/CLASS/*.jpg and val/CLASS/*.jpg (or validation/), perhaps test/CLASS/*.jpg, with two classes or more"


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of one split, in sorted order.

    folder: its name in the source ("validation" for the split "val", where it is called so). paths: relative to the source,
    with forward slashes. labels: int32 (N,), index into the classes. sizes: int64 (N,), bytes; -1 for a link that leads nowhere.
    """

    folder: str
    paths: tuple[str, ...]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """What `prepare` reads: splits "train", "val" and perhaps "test"; sorted class ids of train; their words, parallel."""

    path: Path
    splits: dict[str, Split]
    classes: tuple[str, ...]
    words: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a hash of every name, label, file size and class word; file contents and the source's own place are left out."""
        digest = hashlib.sha256(json.dumps([self.classes, self.words]).encode())
        for name, split in self.splits.items():
            digest.update(json.dumps([name, split.paths]).encode())
            digest.update(split.labels.astype("<i4").tobytes() + split.sizes.astype("<i8").tobytes())
        return digest.hexdigest()


def find_source(path: Path) -> Source:
    """List the pictures under `path`; hidden files and folders and files without a picture's suffix are left out.

    Folders inside a class folder belong to that class. Words come from synset_words.txt, LOC_synset_mapping.txt or words.txt
    (lines "ID words") in `path`; a class without a line there is called by its id.
    Raises SourceError naming what is missing or superfluous.
    """
    path = Path(path)
    if not path.exists():
        raise SourceError(f"{path} does not exist, expected a folder of pictures", hint=LAYOUT)
    if not path.is_dir():
        raise SourceError(f"{path} is a file, expected a folder of pictures", hint=LAYOUT)
    folders = _split_folders(path)
    classes = _train_classes(path / folders["train"])
    splits = {name: _list_split(path, folder, classes) for name, folder in folders.items()}
    _refuse_empty_classes(splits["train"], classes)
    known = _read_words(path)
    return Source(path, splits, classes, tuple(known.get(name, name) for name in classes))


def _split_folders(path: Path) -> dict[str, str]:
    found = {}
    for split, names in FOLDERS.items():
        present = [name for name in names if (path / name).is_dir()]
        if len(present) > 1:
            raise SourceError(f"{path} has both {present[0]}/ and {present[1]}/, expected one of them", hint="move one away")
        if not present and split != "test":
            raise SourceError(f"{path} has no folder {' or '.join(f'{name}/' for name in names)}", hint=LAYOUT)
        if present:
            found[split] = present[0]
    return found


def _train_classes(folder: Path) -> tuple[str, ...]:
    classes = _class_folders(folder)
    if not classes:
        raise SourceError(f"{folder} has no class folders", hint=LAYOUT)
    if len(classes) == 1:
        raise SourceError(f'{folder} has one class, "{classes[0]}"; there is nothing to tell apart', hint=LAYOUT)
    return tuple(classes)


def _class_folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _list_split(path: Path, folder: str, classes: tuple[str, ...]) -> Split:
    labels = {name: label for label, name in enumerate(classes)}
    found = _class_folders(path / folder)
    if not found:
        raise SourceError(f"{path / folder} has no class folders", hint=LAYOUT)
    unknown = [name for name in found if name not in labels]
    if unknown:
        raise SourceError(
            f"{path / folder} has {_some(unknown)}, which {path / 'train'} lacks",
            hint="every class must have pictures in train/",
        )
    pictures = [(*picture, labels[name]) for name in found for picture in _pictures(path / folder / name, f"{folder}/{name}")]
    if not pictures:
        raise SourceError(f"{path / folder} has class folders but no pictures in them", hint=LAYOUT)
    paths, sizes, indices = zip(*pictures, strict=True)
    return Split(folder, paths, np.array(indices, dtype=np.int32), np.array(sizes, dtype=np.int64))


def _pictures(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _pictures(Path(entry.path), f"{name}/{entry.name}")
        elif entry.name.lower().endswith(SUFFIXES):
            if entry.is_file():
                yield f"{name}/{entry.name}", entry.stat().st_size
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield f"{name}/{entry.name}", -1  # kept, so that it is named among the rejected


def _refuse_empty_classes(train: Split, classes: tuple[str, ...]) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise SourceError(f"{train.folder}/ has no pictures in {_some(empty)}", hint="fill or remove the empty class folders")


def _some(names: Iterable[str], shown: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:shown])}{more}"


def _read_words(path: Path) -> dict[str, str]:
    for name in WORDS_FILES:
        if (path / name).is_file():
            lines = (path / name).read_text(encoding="utf-8", errors="replace").splitlines()
            return dict(_id_and_words(line) for line in lines if line.strip())
    return {}


def _id_and_words(line: str) -> tuple[str, str]:
    """Split at the first tab, as class ids may hold spaces, or else at the first blank."""
    name, _, words = line.strip().partition("\t" if "\t" in line.strip() else " ")
    return name, words.strip() or name
