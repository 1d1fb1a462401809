"""Pictures as files: class folders, and flat folders whose labels are known from elsewhere. Only lists; no picture is opened."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.imagenet import (
    KIT_WANTED,
    MAPPING,
    SOLUTION,
    WNID,
    ClassOf,
    find_upwards,
    read_solution,
    read_words,
    unknown_class,
    words_of,
)
from alexnet_cli.core.places import Files
from alexnet_cli.core.splits import NO_LABEL, Source, Split, everything

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2")
FOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
LAYOUT = "expected train/CLASS/*.jpg and val/CLASS/*.jpg (or validation/), perhaps test/CLASS/*.jpg, with two classes or more"


def list_folders(path: Path) -> Source:
    """List any folder of class folders: train/, val/ (or validation/) and perhaps test/, or the classes themselves.

    Hidden files and folders and files without a picture's suffix are left out; folders inside a class folder belong to that
    class. A flat test/ has no labels. Words come from synset_words.txt, LOC_synset_mapping.txt or words.txt (lines "ID words").
    Raises SourceError naming what is missing or superfluous.
    """
    if not (path / "train").is_dir() and len(_class_folders(path)) > 1 and not _has_split(path):
        return _list_classes_alone(path)
    return _list_tree(path, "", "folders", None, read_words(path))


def _list_classes_alone(path: Path) -> Source:
    """List class folders without splits. Every one must hold pictures itself, lest any two folders be taken for classes."""
    classes = _train_classes(path)
    splits = [name for name in classes if name.lower() in {other for names in FOLDERS.values() for other in names}]
    if splits:
        raise SourceError(f"{path} has {splits[0]}/, expected {splits[0].lower()}/ in small letters", hint=LAYOUT)
    without = [name for name in classes if not any(is_picture(entry) for entry in os.listdir(path / name))]
    if without:
        raise SourceError(f"{path} has no folder train/, and {some(without)} of it no pictures", hint=LAYOUT)
    return Source("folders", path, {"train": _class_split(path, "", classes)}, classes, words_of(classes, read_words(path)))


def kaggle_base(path: Path) -> str | None:
    """Return where below a folder Kaggle's train/ lies, None where it does not."""
    return next((base for base in KAGGLE if (path / base / "train").is_dir()), None)


def list_kaggle(path: Path) -> Source:
    """List Kaggle's layout of ImageNet: ILSVRC/Data/CLS-LOC/{train,val,test}, LOC_val_solution.csv, LOC_synset_mapping.txt."""
    base = kaggle_base(path)
    if base is None:
        raise SourceError(f"{path} has no {KAGGLE[0]}/train", hint="name the folder that Kaggle's archive was unpacked to")
    solution, mapping = (find_upwards(path, name) for name in (SOLUTION, MAPPING))
    class_of = read_solution(solution) if solution else unknown_class
    return _list_tree(path, base, "kaggle", class_of, read_words(mapping.parent) if mapping else {})


def _has_split(path: Path) -> bool:
    return any((path / name).is_dir() for names in FOLDERS.values() for name in names)


def list_train(path: Path, folder: str = "train") -> tuple[Split, tuple[str, ...]]:
    """List the class folders of the training pictures; return these and the classes."""
    classes = _train_classes(path / folder)
    train = _class_split(path, folder, classes)
    _refuse_empty_classes(train, classes)
    return train, classes


def _list_tree(path: Path, base: str, kind: str, class_of: ClassOf | None, known: dict[str, str]) -> Source:
    """List the splits under path/base; class_of: labels of pictures in a flat val/, None where val must have class folders."""
    folders = _split_folders(path / base)
    names = {split: f"{base}/{folder}".lstrip("/") for split, folder in folders.items()}
    train, classes = list_train(path, names["train"])
    splits = {"train": train}
    lacks: tuple[str, ...] = ()
    if "val" in names:
        splits["val"], lacks = list_val(path, names["val"], classes, class_of)
    if "test" in names:
        splits["test"] = list_test(path, names["test"], classes)
    return Source(kind, path, splits, classes, words_of(classes, known), lacks)


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
    """List validation pictures, in class folders or flat; return them and what they lack, a sentence each."""
    sorted_in = [name for name in _class_folders(path / folder) if name in classes or WNID.fullmatch(name)]
    if class_of is not None and sorted_in:
        flat = sum(is_picture(name) for name in os.listdir(path / folder))
        if flat:
            raise SourceError(
                f"{path / folder} has class folders ({len(sorted_in):,}) and pictures beside them ({flat:,})",
                hint="sort all of them into class folders, or none",
            )
    if class_of is None or sorted_in:
        return _class_split(path, folder, classes), ()
    return _flat_split(path, folder, classes, class_of)


def list_test(path: Path, folder: str, classes: tuple[str, ...]) -> Split:
    """List test pictures, in class folders, or flat and without labels."""
    if _class_folders(path / folder):
        return _class_split(path, folder, classes)
    return _flat_split(path, folder, classes, unknown_class)[0]


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


def _flat_split(path: Path, folder: str, classes: tuple[str, ...], class_of: ClassOf) -> tuple[Split, tuple[str, ...]]:
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
    without, foreign = labels.count(NO_LABEL), labels.count(None)
    if without:
        some_or_all = "has no labels" if without == len(labels) else f"has no labels for {without:,} of {len(labels):,} pictures"
        lacks.append(f"{folder} {some_or_all}: evaluate and the test after each epoch will lack them; {KIT_WANTED}")
    if foreign:
        lacks.append(f"left out of {folder}, as train lacks their classes: {foreign:,} of {len(labels):,} pictures")
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
            try:
                if entry.is_file():
                    yield f"{name}/{entry.name}", entry.stat().st_size
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    yield f"{name}/{entry.name}", -1  # kept, so that it is named among the rejected
            except OSError:  # a link to itself
                yield f"{name}/{entry.name}", -1


def is_picture(name: str) -> bool:
    """Say whether a file's name is that of a picture and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _refuse_empty_classes(train: Split, classes: tuple[str, ...]) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise SourceError(
            f"{train.folder}/ has no pictures in {some(empty)}",
            hint="fill or remove the empty class folders",
        )


def some(names: Iterable[str], shown: int = 3) -> str:
    """Name the first of some classes and count the others."""
    names = list(names)
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:shown])}{more}"
