"""torchvision's classification data sets by name, downloaded where they are not yet: `torchvision:Imagenette`.

Their constructors differ; what is common is looked up: `split` or `train`, `download`, `classes`, and where the labels are.
"""

import difflib
import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_cli.core.errors import ImageError, SourceError
from alexnet_cli.core.imagenet import words_of
from alexnet_cli.core.images import DAMAGE
from alexnet_cli.core.places import Files, Listing, Place
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import NO_LABEL, Source, Split, everything, padded_numbers, relabelled, sorted_by_id

PREFIX = "torchvision:"
# What a split may be called, best first; the last are those with training and validation pictures together.
SPLIT_NAMES = {"train": ("train", "train-standard", "trainval"), "val": ("val", "valid"), "test": ("test",)}
ANOTHER = "choose another data set"
FILES = ("_samples", "samples", "imgs", "_image_files", "_images")  # attributes that hold files, or pairs that begin with them
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
        """Return it, decoded by torchvision. Raises ImageError."""
        try:
            return _opened(self.data_set, os.getpid())[self.index][0]
        except (*DAMAGE, Image.DecompressionBombError) as error:
            raise ImageError(f"torchvision cannot decode it: {error}") from error


@dataclass(frozen=True, eq=False)
class Items:
    """The pictures of one split of a data set."""

    data_set: DataSet
    groups: None = None

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the places of these positions."""
        return (Item(self.data_set, position) for position in positions)

    def facts(self) -> list[bytes]:
        """Return which data set it is."""
        return [repr(self.data_set).encode()]


def list_data_set(name: str, root: Path, reporter: Reporter) -> Source:
    """List a data set, after downloading what is missing to root.

    A data set's test pictures serve as val where it has no others with labels. Raises SourceError for an unknown name, for one
    that is not made of pictures with one label each, and when it cannot be downloaded.
    """
    _require_known(name)
    splits: dict[str, Split] = {}
    classes: tuple[str, ...] = ()
    for split, data_set in _data_sets(name, root).items():
        opened = _open(data_set, root, reporter)
        labels = _labels(opened, split, reporter)
        if not classes:  # those of train, which comes first
            ids, words = _classes(opened, labels)
            classes, places = sorted_by_id(ids)
        if labels.max(initial=0) >= len(classes):
            raise SourceError(f"{name}'s {split} has label {labels.max()}, train has 0 to {len(classes) - 1}", hint=ANOTHER)
        listing, paths = _listing(data_set, opened, root, split)
        splits[split] = everything(f"{name} {split}", paths, relabelled(labels, places), [0] * len(labels), listing)
    if "val" not in splits and "test" in splits:
        splits["val"] = splits.pop("test")
    return Source("torchvision", root, splits, classes, words_of(classes, words))


def _require_known(name: str) -> None:
    known = known_names()
    if name not in known:
        near = set(difflib.get_close_matches(name.lower(), [one.lower() for one in known], cutoff=0.7))
        spelt = [one for one in known if one.lower() in near] or known
        raise SourceError(
            f"{name!r} is none of torchvision's data sets that need no more than a name", hint=f"these are {', '.join(spelt)}"
        )


def known_names() -> list[str]:
    """Return the names of torchvision's data sets of pictures."""
    from torchvision import datasets

    found = {name: getattr(datasets, name) for name in datasets.__all__}
    pictures = [name for name, one in found.items() if isinstance(one, type) and issubclass(one, datasets.VisionDataset)]
    return sorted(name for name in pictures if "transform" in (known := _parameters(name)) and not _asks_more(known))


def _asks_more(parameters: dict[str, inspect.Parameter]) -> bool:
    """Say whether a constructor must be told more than where the files are."""
    needed = {name for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    generic = "loader" in parameters and not {"download", "split"} & set(parameters)  # any folder, no data set of a name
    return bool(needed - {"self", "root"}) or generic


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
        raise SourceError(f"torchvision's {name} has no training split", hint=ANOTHER)
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


def _listing(data_set: DataSet, opened: Any, root: Path, split: str) -> tuple[Listing, list[str]]:
    """Return how to read the pictures, and their paths: as files by our own decoder, where the data set lists files."""
    for name in FILES:
        held = getattr(opened, name, None)
        if held is not None and len(held) == len(opened) > 0:
            files = [str(one[0] if isinstance(one, (tuple, list)) else one) for one in held]
            if all(Path(file).is_relative_to(root) for file in files):
                paths = [Path(file).relative_to(root).as_posix() for file in files]
                return Files(root, paths), paths
    return Items(data_set), [f"{split}/{index}" for index in range(len(opened))]


def _labels(opened: Any, split: str, reporter: Reporter) -> NDArray[np.int64]:
    """Return the label of each picture, int64 (N,): from the attribute that holds them, else by going through all of them."""
    for name in LABELS:
        held = getattr(opened, name, None)
        if held is not None and len(held) == len(opened):
            held = held.tolist() if hasattr(held, "tolist") else held
            values = [one[-1] if isinstance(one, (tuple, list)) else one for one in held]
            if all(isinstance(value, (int, np.integer)) for value in values):
                return np.array(values, dtype=np.int64)
    reporter.start(f"reading the labels of {split}", len(opened), "pictures")
    labels = []
    for index in range(len(opened)):
        label = opened[index][1]
        label = label.item() if hasattr(label, "item") and np.ndim(label) == 0 else label
        if not isinstance(label, (int, type(None))):
            raise SourceError(f"{type(opened).__name__} is no classification data set: a label is {label!r:.40}", hint=ANOTHER)
        labels.append(NO_LABEL if label is None else label)
        reporter.advance()
    reporter.finish()
    return np.array(labels, dtype=np.int64)


def _classes(opened: Any, labels: NDArray[np.int64]) -> tuple[list[str], dict[str, str]]:
    """Return the id of each label, and words by id: WordNet ids with their words, names, or numbers where there are none."""
    count = int(labels.max()) + 1
    names: Sequence[Any] = getattr(opened, "classes", None) or getattr(opened, "categories", None) or ()
    spoken = [", ".join(name) if isinstance(name, (tuple, list)) else str(name) for name in names]
    wnids = getattr(opened, "wnids", None)
    if wnids and len(wnids) == len(spoken) >= count:
        return list(wnids), dict(zip(wnids, spoken, strict=True))
    if len(set(spoken)) == len(spoken) >= count:
        return spoken, {}
    return padded_numbers(count), {}
