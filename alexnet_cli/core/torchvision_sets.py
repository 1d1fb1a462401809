"""torchvision's classification data sets by name, downloaded where they are not yet: `torchvision:Imagenette`.

Their constructors differ; what is common is looked up: `split` or `train`, `download`, `classes`, and where the labels are.
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.imagenet import words_of
from alexnet_cli.core.places import Place
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import Source, Split, everything

PREFIX = "torchvision:"
# What a split may be called, best first; the last are those with training and validation pictures together.
SPLIT_NAMES = {"train": ("train", "train-standard", "trainval"), "val": ("val", "valid"), "test": ("test",)}
LABELS = ("targets", "_labels", "labels", "_samples", "samples", "imgs")  # attributes that hold them, or pairs that end in them


@dataclass(frozen=True)
class DataSet:
    """One split of a data set. name: the class in torchvision.datasets. arguments: of its constructor, as pairs."""

    name: str
    arguments: tuple[tuple[str, Any], ...]

    def open(self, *, download: bool = False) -> Any:
        """Build it. Raises whatever its constructor raises."""
        from torchvision import datasets

        more = {"download": True} if download and "download" in _parameters(self.name) else {}
        return getattr(datasets, self.name)(**dict(self.arguments), **more)


@dataclass(frozen=True)
class Item:
    """One picture of a data set."""

    data_set: DataSet
    index: int

    def read(self) -> Image.Image:
        """Return it, decoded by torchvision."""
        return _opened(self.data_set, os.getpid())[self.index][0]


@dataclass(frozen=True, eq=False)
class Items:
    """The pictures of one split of a data set."""

    data_set: DataSet
    groups: None = None

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the places of these positions."""
        return (Item(self.data_set, position) for position in positions)


def list_data_set(name: str, root: Path, reporter: Reporter) -> Source:
    """List a data set, after downloading what is missing to root.

    A data set's test pictures serve as val where it has no others with labels. Raises SourceError for an unknown name, for one
    that is not made of pictures with one label each, and when it cannot be downloaded.
    """
    known = known_names()
    if name not in known:
        near = [one for one in known if one.lower() == name.lower()] or known[:5]
        raise SourceError(
            f"torchvision has no classification data set {name!r}", hint=f"names are spelt as there: {', '.join(near)}"
        )
    splits: dict[str, Split] = {}
    classes: tuple[str, ...] = ()
    words: dict[str, str] = {}
    for split, data_set in _data_sets(name, root).items():
        opened = _open(data_set, root, reporter)
        labels = _labels(opened, split, reporter)
        if not classes:
            ids, words = _classes(opened, labels)
            order = np.argsort(np.array(ids), kind="stable")
            places = np.argsort(order)
            classes = tuple(ids[index] for index in order)
        folder = f"{name} {split}"
        paths = [f"{split}/{index}" for index in range(len(labels))]
        splits[split] = everything(folder, paths, places[labels].tolist(), [0] * len(labels), Items(data_set))
    if "val" not in splits and "test" in splits:
        splits["val"] = splits.pop("test")
    return Source("torchvision", root, splits, classes, words_of(classes, words))


def known_names() -> list[str]:
    """Return the names of torchvision's data sets of pictures."""
    from torchvision import datasets

    found = {name: getattr(datasets, name) for name in datasets.__all__}
    pictures = [name for name, one in found.items() if isinstance(one, type) and issubclass(one, datasets.VisionDataset)]
    return sorted(name for name in pictures if "transform" in _parameters(name))


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    from torchvision import datasets

    return dict(inspect.signature(getattr(datasets, name).__init__).parameters)


def _data_sets(name: str, root: Path) -> dict[str, DataSet]:
    """Return the splits that the constructor knows; a data set without any is all training pictures."""
    parameters = _parameters(name)
    place = (("root", str(root)),) if "root" in parameters else ()
    if "train" in parameters:
        return {split: DataSet(name, (*place, ("train", split == "train"))) for split in ("train", "test")}
    if "split" not in parameters:
        return {"train": DataSet(name, place)}
    found = {}
    for split, names in SPLIT_NAMES.items():
        for called in names:
            if _knows_split(name, called):
                found[split] = DataSet(name, (*place, ("split", called)))
                break
    if "train" not in found:
        raise SourceError(f"torchvision's {name} has no training split", hint="choose another data set")
    return found


def _knows_split(name: str, called: str) -> bool:
    """Ask a constructor whether it knows a split, in a place where nothing is: it complains of the name first."""
    try:
        DataSet(name, (("root", os.devnull), ("split", called))).open()
    except ValueError as error:
        return "split" not in str(error)
    except Exception:  # it goes on to look for its files
        return True
    return True


def _open(data_set: DataSet, root: Path, reporter: Reporter) -> Any:
    try:
        root.mkdir(parents=True, exist_ok=True)
        try:
            return data_set.open()
        except (RuntimeError, OSError):  # not there yet
            reporter.note(f"downloading {data_set.name} to {root}")
            return data_set.open(download=True)
    except Exception as error:  # whatever a constructor, a network or an archive may raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"torchvision's {data_set.name} cannot be had: {lines[0]}",
            hint=f"it is looked for in {root}; put it there by hand, or choose another data set",
        ) from error


@lru_cache(maxsize=4)
def _opened(data_set: DataSet, process: int) -> Any:
    return data_set.open()


def _labels(opened: Any, split: str, reporter: Reporter) -> np.ndarray:
    """Return the label of each picture, int64 (N,): from the attribute that holds them, else by going through all of them."""
    for name in LABELS:
        held = getattr(opened, name, None)
        if held is not None and len(held) == len(opened):
            values = [
                one[-1] if isinstance(one, (tuple, list)) else one for one in (held.tolist() if hasattr(held, "tolist") else held)
            ]
            if all(isinstance(value, (int, np.integer)) for value in values):
                return np.array(values, dtype=np.int64)
    reporter.start(f"reading the labels of {split}", len(opened), "pictures")
    labels = []
    for index in range(len(opened)):
        label = opened[index][1]
        if np.ndim(label) != 0:
            raise SourceError(f"{type(opened).__name__} is no classification data set: its labels are {type(label).__name__}")
        labels.append(int(label))
        reporter.advance()
    reporter.finish()
    return np.array(labels, dtype=np.int64)


def _classes(opened: Any, labels: np.ndarray) -> tuple[list[str], dict[str, str]]:
    """Return the id of each label, and words by id: WordNet ids with their words, names, or numbers where there are none."""
    count = int(labels.max()) + 1
    names: Sequence[Any] = getattr(opened, "classes", None) or getattr(opened, "categories", None) or ()
    spoken = [", ".join(name) if isinstance(name, (tuple, list)) else str(name) for name in names]
    wnids = getattr(opened, "wnids", None)
    if wnids and len(wnids) == len(spoken) >= count:
        return list(wnids), dict(zip(wnids, spoken, strict=True))
    if len(set(spoken)) == len(spoken) >= count:
        return spoken, {}
    return [f"{label:0{len(str(count - 1))}}" for label in range(count)], {}
