"""Hugging Face's parquet shards: data/train-00000-of-00294.parquet with the columns image (bytes, path) and label.

Rows can be read only in row groups, so pictures are mixed within some neighbouring groups (see `Split.order`), and a few groups
are kept in memory. Needs pyarrow, the extra `parquet`.
"""

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import ImageError, SourceError
from alexnet_cli.core.imagenet import WNID, read_words, words_of
from alexnet_cli.core.places import LARGEST_PICTURE, Place
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import NO_LABEL, WINDOW, Source, Split, everything, padded_numbers, relabelled, sorted_by_id

SHARD = re.compile(r"(train|val|valid|validation|test)-(\d+)(?:-of-(\d+))?(?:-[0-9a-f]+)?\.parquet")
SPLITS = {"valid": "val", "validation": "val"}
FOLDERS = ("data", ".")
COLUMNS = "expected the columns image: struct<bytes: binary, path: string> and label: int64"
LARGEST_GROUP = 1 << 30  # bytes: row groups are read whole


@dataclass(frozen=True)
class Content:
    """A picture's bytes themselves."""

    content: bytes

    def read(self) -> bytes:
        """Return them. Raises ImageError where there are too many."""
        if len(self.content) > LARGEST_PICTURE:
            raise ImageError(f"a file of {len(self.content):,} bytes, more than {LARGEST_PICTURE:,}")
        return self.content


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of shards. groups: int64 (N,), number of the row group over all shards; rows: int64 (N,), within it.

    first_groups: of each shard. group_bytes: int64, of each group as it is read.
    """

    files: Sequence[Path]
    first_groups: NDArray[np.int64]
    groups: NDArray[np.int64]
    rows: NDArray[np.int64]
    group_bytes: NDArray[np.int64]

    def facts(self) -> list[bytes]:
        """Return where in which group the pictures are, and the groups' sizes."""
        return [values.astype("<i8").tobytes() for values in (self.groups, self.rows, self.group_bytes)]

    def stream(self, positions: Iterable[int]) -> Iterator[Place]:
        """Return the pictures at these positions; groups are kept as long as they may be needed in `Split.order`'s orders."""
        kept: OrderedDict[int, Any] = OrderedDict()
        for position in positions:
            group = int(self.groups[position])
            if group not in kept:
                kept[group] = self._read(group)
                while len(kept) > max(1, WINDOW // len(kept[group])):
                    kept.popitem(last=False)
            kept.move_to_end(group)
            content = kept[group][int(self.rows[position])].as_py()
            yield Content(content or b"")

    def _read(self, group: int) -> Any:
        shard = int(np.searchsorted(self.first_groups, group, side="right")) - 1
        number = group - int(self.first_groups[shard])
        try:
            table = _open(self.files[shard]).read_row_group(number, columns=["image.bytes"])
        except OSError as error:
            raise SourceError(
                f"row group {number} of {self.files[shard]} cannot be read: {error}", hint="download it again"
            ) from error
        return table.flatten().column(0)


def find_shards(path: Path) -> dict[str, list[Path]]:
    """Return the shards in a folder or its data/, by split, in order; empty where there are none."""
    for folder in FOLDERS:
        found: dict[str, list[Path]] = {}
        for file in sorted((path / folder).glob("*.parquet")):
            name = SHARD.fullmatch(file.name)
            if name:
                found.setdefault(SPLITS.get(name[1], name[1]), []).append(file)
        if found:
            return found
    return {}


def _refuse_missing(shards: list[Path]) -> None:
    """Raise SourceError when the shards of a split are not all that their names count."""
    parts = [match for file in shards if (match := SHARD.fullmatch(file.name))]
    numbers, counts = [int(part[2]) for part in parts], {part[3] for part in parts}
    if len(counts) > 1:
        raise SourceError(f"{shards[0].parent} has {shards[0].name} and {shards[-1].name}", hint="expected shards of one count")
    count = int(parts[0][3]) if parts[0][3] else len(parts)
    missing = sorted(set(range(count)) - set(numbers)) if parts[0][3] else []
    if missing or len(numbers) > count:
        wrong = f"number {missing[0]} is not there" if missing else "some are there twice"
        raise SourceError(
            f"{shards[0].parent} has {len(numbers):,} of {count:,} {parts[0][1]} shards: {wrong}", hint="download them all"
        )


def list_parquet(path: Path, reporter: Reporter) -> Source:
    """List the rows of the shards in a folder.

    A class's id is the WordNet id in its pictures' names, where they have one, else its name, else its number. Raises SourceError
    for shards of another shape, for missing ones, and when pyarrow is missing.
    """
    shards = find_shards(path)
    if "train" not in shards:
        raise SourceError(f"{path} has no train-*.parquet", hint="expected data/train-00000-of-00294.parquet and so on")
    for files in shards.values():
        _refuse_missing(files)
    reporter.start("reading labels", sum(map(len, shards.values())), "shards")
    tables = {name: _Table(path, shards[name], reporter) for name in ("train", "val", "test") if name in shards}
    reporter.finish()
    _warn_of_large_groups(tables.values(), reporter)
    ids, names, lacks = _classes(tables["train"])
    classes, places = sorted_by_id(ids)
    splits: dict[str, Split] = {}
    for name, table in tables.items():
        _refuse_labels(table, len(ids))
        splits[name] = table.split(relabelled(table.labels, places))
        if name == "val" and (table.labels == NO_LABEL).any():
            lacks.append(f"{table.folder} has pictures without labels: evaluate and the test after each epoch will lack them")
    words = words_of(classes, read_words(path), dict(zip(ids, names, strict=False)))
    return Source("parquet", path, splits, classes, words, tuple(lacks))


def _warn_of_large_groups(tables: Iterable["_Table"], reporter: Reporter) -> None:
    largest = max(int(table.group_bytes.max(initial=0)) for table in tables)
    if largest > LARGEST_GROUP:
        size = f"{largest / 1e9:.1f} GB"
        reporter.warn(f"the shards have row groups of up to {size}, which are read whole: memory must hold some of them")


def _refuse_labels(table: "_Table", num_classes: int) -> None:
    """Raise SourceError for a split without rows, and for labels that are no class of train."""
    if not len(table.labels):
        raise SourceError(f"{table.folder} has no rows", hint="download it again, or move it away")
    wrong = table.labels[(table.labels >= num_classes) | (table.labels < NO_LABEL)]
    if len(wrong):
        raise SourceError(
            f"{table.folder} has label {wrong[0]}, train has 0 to {num_classes - 1}", hint="-1 stands for an unknown label"
        )


class _Table:
    """Labels and names of one split's shards. first_groups: of each shard. group_bytes: of each row group."""

    def __init__(self, path: Path, files: Sequence[Path], reporter: Reporter) -> None:
        self.files = files
        self.folder = files[0].relative_to(path).as_posix()
        self.schema = _open(files[0]).schema_arrow
        self.paths: list[str] = []
        self.names: list[str] = []
        self._groups: list[int] = []
        self._rows: list[int] = []
        self._labels: list[int] = []
        starts, sizes = [0], []
        for shard in files:
            file = _open(shard)
            for number in range(file.num_row_groups):
                self._add(path, shard, number, starts[-1] + number, _columns(file, shard, number))
                sizes.append(file.metadata.row_group(number).total_byte_size)
            starts.append(starts[-1] + file.num_row_groups)
            reporter.advance()
        self.group_bytes, self.first_groups = np.array(sizes, dtype=np.int64), np.array(starts[:-1], dtype=np.int64)
        self.labels = np.array(self._labels, dtype=np.int64)

    def _add(self, path: Path, shard: Path, number: int, group: int, table: Any) -> None:
        names = table.flatten().column("image.path").to_pylist()
        labels = table.column("label").to_pylist() if "label" in table.column_names else [NO_LABEL] * len(names)
        stem = shard.relative_to(path).as_posix()
        self.paths += [f"{stem}/{number}/{row}{f'/{name}' if name else ''}" for row, name in enumerate(names)]
        self.names += [name or "" for name in names]
        self._groups += [group] * len(names)
        self._rows += range(len(names))
        self._labels += [NO_LABEL if label is None else label for label in labels]

    def split(self, labels: NDArray[np.int32]) -> Split:
        """Return the split; sizes are not known without reading the pictures."""
        groups, rows = (np.array(values, dtype=np.int64) for values in (self._groups, self._rows))
        listing = Rows(self.files, self.first_groups, groups, rows, self.group_bytes)
        return everything(self.folder, self.paths, labels.tolist(), [0] * len(labels), listing)


def _columns(file: Any, shard: Path, number: int) -> Any:
    """Return names and labels of a row group; no labels where the shard has none, as a test split may."""
    schema = {field.name: str(field.type) for field in file.schema_arrow}
    kinds = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "null")
    image = schema.get("image", "")
    if not ("bytes: " in image and "path: " in image) or schema.get("label", "int64") not in kinds:
        found = ", ".join(f"{name}: {kind}" for name, kind in schema.items())
        raise SourceError(f"{shard} has the columns {found}", hint=COLUMNS)
    try:
        return file.read_row_group(number, columns=["image.path", *(["label"] if "label" in schema else [])])
    except OSError as error:
        raise SourceError(f"row group {number} of {shard} cannot be read: {error}", hint="download it again") from error


def _open(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(
            "parquet files need pyarrow, which is not installed", hint="pip install 'alexnet-cli[parquet]'"
        ) from error
    try:
        return parquet.ParquetFile(file, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file} is not a whole parquet file: {error}", hint="download it again") from error


def _classes(train: _Table) -> tuple[list[str], list[str], list[str]]:
    """Return the id of each of train's labels, their names where the shards have them, and what a user should know."""
    if not len(train.labels) or (train.labels == NO_LABEL).any():
        raise SourceError(f"{train.folder} has pictures without labels", hint=COLUMNS)
    names = _class_names(train.schema)
    count = len(names) or int(train.labels.max()) + 1
    if count < 2:
        raise SourceError(f"{train.folder} has one class; there is nothing to tell apart", hint=COLUMNS)
    wnids, others = _wnids(train, count)
    if wnids:
        told = f"{train.folder}: pictures that bear another class's id in their names: {others:,}; their labels count"
        return wnids, names, [told] if others else []
    if names and names == sorted(set(names)):
        return names, names, []
    return padded_numbers(count), names, []


def _wnids(train: _Table, count: int) -> tuple[list[str], int]:
    """Return the id that most of each class's pictures bear in their names, and how many bear another; none if a class has none."""
    found = [Counter[str]() for _ in range(count)]
    for label, name in zip(train.labels.tolist(), train.names, strict=True):
        if 0 <= label < count:
            found[label].update(WNID.findall(name)[:1])
    wnids = [borne.most_common(1)[0][0] for borne in found if borne]
    if len(set(wnids)) < count:
        return [], 0
    return wnids, sum(borne.total() - borne[wnid] for borne, wnid in zip(found, wnids, strict=True))


def _class_names(schema: Any) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (KeyError, ValueError, TypeError):
        return []
