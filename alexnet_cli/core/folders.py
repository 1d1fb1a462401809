"""Pictures as files: class folders, and flat folders whose labels are known from elsewhere. Only lists; no picture is opened."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.imagenet import ClassOf, read_annotations, read_devkit, read_solution, read_words, words_of
from alexnet_cli.core.places import Files
from alexnet_cli.core.splits import NO_LABEL, Source, Split, everything

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
FOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
KAGGLE = "ILSVRC/Data/CLS-LOC"
LAYOUT = "expected train/CLASS/*.jpg and val/CLASS/*.jpg (or validation/), perhaps test/CLASS/*.jpg, with two classes or more"


def list_folders(path: Path) -> Source:
    """List any folder of class folders: train/, val/ (or validation/) and perhaps test/, or the classes themselves.

    Hidden files and folders and files without a picture's suffix are left out; folders inside a class folder belong to that
    class. A flat test/ has no labels. Words come from synset_words.txt, LOC_synset_mapping.txt or words.txt (lines "ID words").
    Raises SourceError naming what is missing or superfluous.
    """
    if not (path / "train").is_dir() and len(_class_folders(path)) > 1 and not _has_split(path):
        classes = _train_classes(path)
        train = _class_split(path, "", classes)
        _refuse_empty_classes(train, classes)
        return Source("folders", path, {"train": train}, classes, words_of(classes, read_words(path)))
    return _list(path, "", "folders", None, [read_words(path)])


def list_imagenet(path: Path) -> Source:
    """List ImageNet's extracted archives: train/WNID/, and val/ as class folders or flat beside the development kit.

    Tiny ImageNet is laid out like it, with a file of its own for val's labels.
    """
    kit, annotations = read_devkit(path), path / "val" / "val_annotations.txt"
    class_of = kit.class_of if kit else read_annotations(annotations) if annotations.is_file() else _unknown
    return _list(path, "", "imagenet", class_of, [kit.words if kit else {}, read_words(path)])


def list_kaggle(path: Path) -> Source:
    """List Kaggle's layout of ImageNet: ILSVRC/Data/CLS-LOC/{train,val,test}, LOC_val_solution.csv, LOC_synset_mapping.txt."""
    solution = path / "LOC_val_solution.csv"
    return _list(path, KAGGLE, "kaggle", read_solution(solution) if solution.is_file() else _unknown, [read_words(path)])


def _unknown(name: str) -> None:
    return None


def _has_split(path: Path) -> bool:
    return any((path / name).is_dir() for names in FOLDERS.values() for name in names)


def _list(path: Path, base: str, kind: str, class_of: ClassOf | None, known: list[dict[str, str]]) -> Source:
    """List the splits under path/base; class_of: labels of pictures in a flat val/, None where val must have class folders."""
    folders = _split_folders(path / base)
    names = {split: f"{base}/{folder}".lstrip("/") for split, folder in folders.items()}
    classes = _train_classes(path / names["train"])
    splits = {"train": _class_split(path, names["train"], classes)}
    _refuse_empty_classes(splits["train"], classes)
    lacks: tuple[str, ...] = ()
    if "val" in names:
        splits["val"], lacks = list_val(path, names["val"], classes, class_of)
    if "test" in names:
        flat = not _class_folders(path / names["test"])
        splits["test"] = (
            flat_split(path, names["test"], classes, _unknown)[0] if flat else _class_split(path, names["test"], classes)
        )
    return Source(kind, path, splits, classes, words_of(classes, *known), lacks)


def _split_folders(path: Path) -> dict[str, str]:
    found = {}
    for split, names in FOLDERS.items():
        present = [name for name in names if (path / name).is_dir()]
        if len(present) > 1:
            raise SourceError(f"{path} has both {present[0]}/ and {present[1]}/, expected one of them", hint="move one away")
        if not present and split == "train":
            raise SourceError(f"{path} has no folder train/", hint=LAYOUT)
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


def has_class_folders(folder: Path) -> bool:
    """Say whether a folder has folders that are not hidden."""
    return folder.is_dir() and bool(_class_folders(folder))


def list_val(path: Path, folder: str, classes: tuple[str, ...], class_of: ClassOf | None) -> tuple[Split, tuple[str, ...]]:
    """List validation pictures, in class folders or else flat; return them and what they lack, a sentence each."""
    if class_of is None or set(_class_folders(path / folder)) & set(classes):
        return _class_split(path, folder, classes), ()
    return flat_split(path, folder, classes, class_of)


def _class_split(path: Path, folder: str, classes: tuple[str, ...]) -> Split:
    labels = {name: label for label, name in enumerate(classes)}
    found = _class_folders(path / folder)
    if not found:
        raise SourceError(f"{path / folder} has no class folders", hint=LAYOUT)
    unknown = [name for name in found if name not in labels]
    if unknown:
        raise SourceError(
            f"{path / folder} has {some(unknown)}, which {path / 'train'} lacks",
            hint="every class must have pictures in train/",
        )
    prefix = f"{folder}/" if folder else ""
    pictures = [(*one, labels[name]) for name in found for one in _pictures(path / folder / name, f"{prefix}{name}")]
    if not pictures:
        raise SourceError(f"{path / folder} has class folders but no pictures in them", hint=LAYOUT)
    return _split(path, folder, pictures)


def flat_split(path: Path, folder: str, classes: tuple[str, ...], class_of: ClassOf) -> tuple[Split, tuple[str, ...]]:
    """List the pictures of a folder without class folders; return them and what they lack, a sentence each."""
    found = list(_pictures(path / folder, folder))
    if not found:
        raise SourceError(f"{path / folder} has no pictures", hint=LAYOUT)
    names = [class_of(name) for name, _ in found]
    labels, lacks = label_flat(folder, names, classes)
    pictures = [(*one, label) for one, label in zip(found, labels, strict=True) if label is not None]
    return _split(path, folder, pictures), lacks


def label_flat(folder: str, names: list[str | None], classes: tuple[str, ...]) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the label of each class id, NO_LABEL where that is unknown, None where train lacks it; and what a user should know."""
    places = {name: label for label, name in enumerate(classes)}
    labels = [NO_LABEL if name is None else places.get(name) for name in names]
    lacks = []
    without = labels.count(NO_LABEL)
    if without:
        some_or_all = "has no labels" if without == len(labels) else f"has no labels for {without:,} of {len(labels):,} pictures"
        lacks.append(f"{folder} {some_or_all}: training cannot be tested on it, nor evaluated")
    if None in labels:
        lacks.append(f"{labels.count(None):,} pictures of {folder} are of classes that train lacks: left out")
    return labels, tuple(lacks)


def _split(path: Path, folder: str, pictures: list[tuple[str, int, int]]) -> Split:
    paths, sizes, labels = zip(*pictures, strict=True) if pictures else ((), (), ())
    return everything(folder, paths, labels, sizes, Files(path, paths))


def _pictures(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from _pictures(Path(entry.path), f"{name}/{entry.name}")
        elif is_picture(entry.name):
            if entry.is_file():
                yield f"{name}/{entry.name}", entry.stat().st_size
            elif entry.is_symlink() and not os.path.exists(entry.path):
                yield f"{name}/{entry.name}", -1  # kept, so that it is named among the rejected


def is_picture(name: str) -> bool:
    """Say whether a file's name is that of a picture and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _refuse_empty_classes(train: Split, classes: tuple[str, ...]) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise SourceError(
            f"{f'{train.folder}/' if train.folder else 'the source'} has no pictures in {some(empty)}",
            hint="fill or remove the empty class folders",
        )


def some(names: Iterable[str], shown: int = 3) -> str:
    """Name the first of some classes and count the others."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:shown])}{more}"
