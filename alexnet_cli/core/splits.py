"""What `prepare` is to read: the pictures of each split with their labels, whatever they come from. Nothing is opened here."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core import draws
from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.places import Listing, Place

NO_LABEL = -1
OTHER = -2  # in passing: the label of a class that is not wanted
WINDOW = 2048  # pictures that are mixed at a time where they can only be read in groups


@dataclass(frozen=True, eq=False)
class Split:
    """The pictures of one split.

    folder: where they are in the source, for messages. paths: of each, relative to the source. labels: int32 (N,), index into
    the classes, NO_LABEL where unknown. sizes: int64 (N,), bytes, 0 where unknown (rows of shards, items of data sets), -1 for a
    link that leads nowhere. listing: how to read them, at the positions chosen, int64 (N,). refused: path and reason of what
    will not be read.
    """

    folder: str
    paths: Sequence[str]
    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
    listing: Listing
    chosen: NDArray[np.int64]
    refused: tuple[tuple[str, str], ...] = ()

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """Return the split with these of its pictures alone."""
        paths = [self.paths[index] for index in indices]
        parts = {name: getattr(self, name)[indices] for name in ("labels", "sizes", "chosen")}
        return replace(self, paths=paths, **parts)

    def order(self, seed: int, counter: int, limit: int | None = None) -> NDArray[np.int64]:
        """Return `limit` of the pictures, None for all, drawn from all of them, in random order, int64 (n,).

        counter: another one for each split. Where pictures can only be read in groups the groups are put in random order, and
        the pictures of about WINDOW neighbouring places are mixed.
        """
        drawn = draws.permutation(len(self.paths), seed, "records", counter)[:limit]
        if self.listing.groups is None or not len(drawn):
            return drawn
        _, own = np.unique(self.listing.groups[self.chosen[drawn]], return_inverse=True)
        places = np.argsort(draws.permutation(int(own.max()) + 1, seed, "groups", counter))[own]
        windows = places // max(1, WINDOW // int(np.bincount(own).max()))
        return drawn[np.argsort(windows, kind="stable")]  # drawn is in random order already

    def stream(self, order: NDArray[np.int64]) -> Iterator[tuple[str, Place]]:
        """Return path and place of these pictures, in this order."""
        return zip((self.paths[index] for index in order), self.listing.stream(self.chosen[order].tolist()), strict=True)


@dataclass(frozen=True, eq=False)
class Source:
    """What `prepare` reads.

    kind: one of `sources.KINDS`. path: its place. splits: "train", "val" and perhaps "test". classes: sorted ids of train's
    classes; words: their names, in parallel. lacks: what a user should know is missing, a sentence each.
    """

    kind: str
    path: Path
    splits: dict[str, Split]
    classes: tuple[str, ...]
    words: tuple[str, ...]
    lacks: tuple[str, ...] = ()

    def fingerprint(self) -> dict[str, str]:
        """Return a hash for the classes with their words, and for each split of every name, label, size and place.

        The contents of files and the source's own place are left out.
        """
        found = {"classes": _digest(text.encode("utf-8", "surrogateescape") for text in (*self.classes, *self.words))}
        for name, split in self.splits.items():
            arrays = [
                split.labels.astype("<i4").tobytes(),
                split.sizes.astype("<i8").tobytes(),
                split.chosen.astype("<i8").tobytes(),
            ]
            texts = (path.encode("utf-8", "surrogateescape") for path in split.paths)
            found[name] = _digest(itertools.chain(texts, arrays, split.listing.facts()))
        return found


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True)
class Selection:
    """Which part of a source is wanted; the defaults are all of it.

    classes: their ids, or how many to draw. per_class: pictures of each class in train, at most. holdout: share of train, 0 to
    below 1, that becomes val, the same of every class, where the source has no val.
    """

    classes: tuple[str, ...] | int | None = None
    per_class: int | None = None
    holdout: float | None = None


def select(source: Source, wanted: Selection, seed: int) -> Source:
    """Return the part of a source that is wanted; the seed draws what is left to chance. Raises SourceError."""
    if wanted.classes is not None:
        source = _with_classes(source, _chosen_classes(source, wanted.classes, seed))
    if wanted.holdout is not None:
        source = _held_out(source, wanted.holdout, seed)
    if wanted.per_class is not None:
        train = source.splits["train"]
        kept = np.concatenate([own[: wanted.per_class] for own in _by_class(train, len(source.classes), seed, "per class")])
        source = replace(source, splits={**source.splits, "train": train.take(np.sort(kept))})
    return source


def _chosen_classes(source: Source, wanted: tuple[str, ...] | int, seed: int) -> tuple[str, ...]:
    found = len(source.classes)
    if isinstance(wanted, int):
        if not 2 <= wanted <= found:
            raise SourceError(f"{wanted} classes asked for, expected 2 to {found}, those of {source.path}", hint="change --classes")
        return tuple(source.classes[index] for index in np.sort(draws.permutation(found, seed, "classes")[:wanted]))
    unknown = sorted(set(wanted) - set(source.classes))
    if unknown:
        raise SourceError(
            f"{source.path} has no class {', '.join(unknown[:3])}", hint=f"its classes are {', '.join(source.classes[:5])}, ..."
        )
    if len(set(wanted)) < 2:
        raise SourceError("one class asked for; there is nothing to tell apart", hint="name two or more in --classes")
    return tuple(sorted(set(wanted)))


def _with_classes(source: Source, classes: tuple[str, ...]) -> Source:
    """Keep the pictures of these classes; those without a label are kept too, as nobody knows theirs."""
    places = [source.classes.index(name) for name in classes]
    new_labels = np.full(len(source.classes), OTHER, dtype=np.int32)
    new_labels[places] = np.arange(len(classes))
    splits = {}
    for name, split in source.splits.items():
        labels = relabelled(split.labels, new_labels)
        kept = np.flatnonzero(labels != OTHER)
        if not len(kept):
            raise SourceError(f"{split.folder} has no picture of {', '.join(classes[:3])}", hint="choose other --classes")
        splits[name] = replace(split.take(kept), labels=labels[kept])
    words = tuple(source.words[place] for place in places)
    return replace(source, splits=splits, classes=classes, words=words)


def relabelled(labels: NDArray[np.integer], new_labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the new label of each label, int32 (N,); NO_LABEL stays. new_labels: by old label."""
    return np.where(labels == NO_LABEL, NO_LABEL, new_labels[labels]).astype(np.int32)


def sorted_by_id(ids: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the class ids in their order, and each one's place there, int64 (K,): the new label of each old one."""
    order = sorted(range(len(ids)), key=lambda label: ids[label])
    return tuple(ids[label] for label in order), np.argsort(order)


def _held_out(source: Source, share: float, seed: int) -> Source:
    if "val" in source.splits and (source.splits["val"].labels != NO_LABEL).any():
        raise SourceError(f"{source.path} has validation pictures of its own", hint="leave out --holdout")
    train = source.splits["train"]
    classes = _by_class(train, len(source.classes), seed, "holdout")
    # At least one picture of each class, but one must be left to learn from.
    counts = [min(max(1, round(share * len(own))), len(own) - 1) for own in classes]
    if not sum(counts):
        raise SourceError("no class has two pictures, of which one could be held out", hint="leave out --holdout")
    held = np.concatenate([own[:count] for own, count in zip(classes, counts, strict=True)])
    kept = np.setdiff1d(np.arange(len(train.paths)), held)
    splits = {"train": train.take(kept), "val": replace(train.take(np.sort(held)), refused=())}
    return replace(source, splits=splits | {name: split for name, split in source.splits.items() if name == "test"}, lacks=())


def _by_class(split: Split, num_classes: int, seed: int, purpose: str) -> list[NDArray[np.int64]]:
    """Return the pictures of each class, int64 (n,), each in random order."""
    mixed = draws.permutation(len(split.paths), seed, purpose)
    labels = split.labels[mixed]
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return np.split(mixed[np.argsort(labels, kind="stable")], ends[:-1])


def everything(folder: str, paths: Sequence[str], labels: Iterable[int], sizes: Iterable[int], listing: Listing) -> Split:
    """Return a split of all pictures of a listing."""
    return Split(
        folder,
        tuple(paths),
        np.fromiter(labels, dtype=np.int32),
        np.fromiter(sizes, dtype=np.int64),
        listing,
        np.arange(len(paths), dtype=np.int64),
    )


def padded_numbers(count: int) -> list[str]:
    """Return 0 to count - 1 as class ids, padded so that their order as texts is that of the numbers."""
    return [f"{number:0{len(str(count - 1))}}" for number in range(count)]
