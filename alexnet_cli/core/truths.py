"""What is right for each picture: its label in the store or in a file, as one of the classes that a network is asked about.

Classes of weights and of data are matched by id, else by name, never by position. It must not import torch.
Legend: N pictures of all stores, L right classes of a picture.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import DataError
from alexnet_cli.core.imagenet import ilsvrc_classes
from alexnet_cli.core.store import Store

PICTURE, LABEL = "picture", "label"  # columns of a file of labels; `evaluate --predictions` writes them too
BETWEEN = ";"  # several right classes of one picture
FORM = f'a CSV file with the columns {PICTURE},{LABEL} ("{BETWEEN}" between several labels), or a JSON list as ReaL\'s'
VAL_NAME = "ILSVRC2012_val_{:08d}"


@dataclass(frozen=True)
class ClassNames:
    """Classes in some order: their ids and their names in words, in parallel."""

    ids: Sequence[str]
    words: Sequence[str]

    def places(self, other: "ClassNames") -> list[int | None]:
        """Return the place here of each class of another list: that of its id, else of a name that only one class here has."""
        found = []
        for id, words in zip(other.ids, other.words, strict=True):
            place = self._by_id.get(id)
            found.append(_one_place(self._by_name, id, words) if place is None else place)
        return found

    def place(self, name: str) -> int | None:
        """Return the place of the class of an id or a name, None where there is none or more than one."""
        return self.places(ClassNames([name], [name]))[0]

    def namesakes(self, name: str) -> list[int]:
        """Return the places of all classes of an id or a name, in order."""
        return sorted(self._by_name.get(_plain(name), ()))

    @cached_property
    def _by_id(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}

    @cached_property
    def _by_name(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for place, (id, words) in enumerate(zip(self.ids, self.words, strict=True)):
            for name in _names(id, words):
                found.setdefault(name, set()).add(place)
        return found


def _names(id: str, words: str) -> list[str]:
    """Return what a class may be called: "n01440764", "tench, Tinca tinca" give both and each synonym, in small letters."""
    names = [_plain(name) for name in (id, words, *words.split(","))]
    return [name for name in names if name]  # a class without words is not called ""


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def _one_place(by_name: Mapping[str, set[int]], id: str, words: str) -> int | None:
    return next((next(iter(by_name[name])) for name in _names(id, words) if len(by_name.get(name, ())) == 1), None)


def match_classes(store: Store, classes: Sequence[str], words: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Return, for each label of a store, the network's output of that class, int64.

    classes, words: those of the weights, in the order of the outputs. Raises DataError when the two do not have the same classes,
    naming the first that only one of them has.
    """
    places = _matched(store, ClassNames(classes, words or classes))
    if len(places) < len(classes):
        _refuse(store, classes, only_here=_left_over(classes, places.tolist()))
    return places


def match_some_classes(store: Store, classes: Sequence[str], words: Sequence[str]) -> NDArray[np.int64]:
    """Do the same where the store may lack classes of the weights, but not the other way about."""
    return _matched(store, ClassNames(classes, words))


def _matched(store: Store, ours: ClassNames) -> NDArray[np.int64]:
    places = ours.places(ClassNames(store.classes, store.words))
    missing = sorted(name for name, place in zip(store.classes, places, strict=True) if place is None)
    if missing:
        _refuse(store, ours.ids, only_there=missing, only_here=_left_over(ours.ids, places))
    found = [place for place in places if place is not None]
    twice = next((place for place in found if found.count(place) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        both = [name for name, place in zip(store.classes, found, strict=True) if place == twice]
        raise DataError(
            f"{store.folder} has {' and '.join(both[:2])}, which are both class {ours.ids[twice]!r} of the weights",
            hint="prepare the pictures anew with one folder for each class",
        )
    return np.array(found, dtype=np.int64)


def _left_over(classes: Sequence[str], places: Iterable[int | None]) -> list[str]:
    return sorted(set(classes) - {classes[place] for place in places if place is not None})


def _refuse(store: Store, classes: Sequence[str], *, only_there: Sequence[str] = (), only_here: Sequence[str] = ()) -> None:
    first = min([*only_there, *only_here])
    owner = "the store has" if first in only_there else "the weights have"
    hint = "evaluate on data that was prepared with the same classes"
    if not only_there:
        hint = "--restrict-classes lets the network choose among the store's classes alone"
    raise DataError(
        f"{store.folder} has {len(store.classes)} classes, the weights have {len(classes)}; "
        f"the first difference: only {owner} {first!r}",
        hint=hint,
    )


def stored_truths(stores: Sequence[Store], places: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the stores' own labels as right_NL, of one class each, int64 (N, 1).

    places: for each store, the class that each of its labels stands for. Raises DataError where a label is unknown or there is no
    picture.
    """
    for store in stores:
        if not store.is_labelled:
            unknown = int((store.labels < 0).sum())
            raise DataError(
                f"{store.folder} has no label for {unknown:,} of {len(store):,} pictures",
                hint="evaluate another --split, or prepare it from a source with labels",
            )
    truths = np.concatenate([own[store.labels] for store, own in zip(stores, places, strict=True)])
    if len(truths) == 0:
        raise DataError(f"no images in {', '.join(str(store.folder) for store in stores)}")
    return truths[:, None]


# Labels from a file ----------------------------------------------------------------------------------------------------------


def read_truths(path: Path, stores: Sequence[Store], classes: ClassNames) -> NDArray[np.int64]:
    """Return the labels that a file gives to the stores' pictures as right_NL, filled up by -1, int64 (N, L).

    A picture that the file does not name, or gives no label, has none and is not counted. The file is FORM; pictures are found by
    their path in the store, or by its last part with or without the ending. Raises DataError.
    """
    names = [name for store in stores for name in _named(store)]
    given = _read_json(path, classes) if _begins_like_json(path) else _read_csv(path, classes)
    places = _places_of_pictures(names)
    unknown = [picture for picture in given if picture not in places]
    if len(unknown) == len(given):
        example = f"such as {unknown[0]!r}" if unknown else "it names none"
        raise DataError(
            f"{path} names no picture of {', '.join(str(store.folder) for store in stores)}, {example}",
            hint=f"the store's pictures are called {names[0]!r} and the like" if names else "",
        )
    by_place: dict[int, list[int]] = {}
    for picture, labels in given.items():
        if picture in places:
            own = by_place.setdefault(places[picture], [])
            own += [label for label in labels if label not in own]
    right_NL = np.full((len(names), max(1, *map(len, by_place.values()))), -1, dtype=np.int64)
    for place, labels in by_place.items():
        right_NL[place, : len(labels)] = labels
    return right_NL


def _named(store: Store) -> tuple[str, ...]:
    names = store.names()
    if names is None:
        raise DataError(
            f"{store.folder} was made by an earlier version, which kept no names of pictures",
            hint='make it anew with "alexnet prepare SOURCE --force" to use --labels',
        )
    return names


def _places_of_pictures(names: Sequence[str]) -> dict[str, int]:
    """Return the place of each picture by its names: whole path, last part, last part without ending; ambiguous ones left out."""
    found: dict[str, int] = {}
    for short_names in ([PurePosixPath(name).stem for name in names], [PurePosixPath(name).name for name in names], names):
        counts = Counter(short_names)
        found |= {name: place for place, name in enumerate(short_names) if counts[name] == 1}
    return found


def _begins_like_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).lstrip()[:1] == b"["
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}", hint=f"expected {FORM}") from error


def _read_csv(path: Path, classes: ClassNames) -> dict[str, list[int]]:
    given: dict[str, list[int]] = {}
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            if PICTURE not in header or LABEL not in header:
                raise DataError(f"{path} has the columns {','.join(header)[:80]!r}", hint=f"expected {FORM}")
            for row in rows:
                texts = [text.strip() for text in (row[LABEL] or "").split(BETWEEN)]
                own = given.setdefault(row[PICTURE] or "", [])
                own += [label for label in _labels(texts, classes, path, rows.line_num) if label not in own]
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"{path} is no CSV file: {error}", hint=f"expected {FORM}") from error
    return given


def _labels(texts: Iterable[str], classes: ClassNames, path: Path, line: int) -> list[int]:
    found = []
    for text in texts:
        if not text:
            continue
        place = classes.place(text)
        if place is None:
            raise DataError(
                f"{path}, line {line}: {text!r} is no class of the weights",
                hint=f"their classes are {', '.join(classes.ids[:5])}, ...",
            )
        found.append(place)
    return found


def _read_json(path: Path, classes: ClassNames) -> dict[str, list[int]]:
    """Read the form of "Are we done with ImageNet?": for each validation image by number, the places of its labels among 1,000."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}", hint=f"expected {FORM}") from error
    challenge, _ = ilsvrc_classes()
    if set(classes.ids) != set(challenge):
        raise DataError(
            f"{path} numbers ILSVRC-2012's {len(challenge):,} classes, but the weights have others",
            hint=f"name the classes: a CSV file with the columns {PICTURE},{LABEL}",
        )
    order = [classes.ids.index(name) for name in challenge]
    given = {}
    for number, labels in enumerate(lists, start=1):
        if not isinstance(labels, list) or any(not isinstance(k, int) or not 0 <= k < len(order) for k in labels):
            raise DataError(
                f"{path}: entry {number} is {str(labels)[:40]}, expected a list of numbers from 0 to {len(order) - 1}",
                hint=f"expected {FORM}",
            )
        given[VAL_NAME.format(number)] = [order[k] for k in labels]
    return given
