"""Hugging Face's parquet shards: data/train-00000-of-00294.parquet with the columns image (bytes, path) and label.

Rows can be read only in row groups, so pictures are mixed within some neighbouring groups (see `Split.order`), and a few groups
are kept in memory. Needs pyarrow, the extra `parquet`.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import SourceError
from alexnet_cli.core.imagenet import WNID, read_words, words_of
from alexnet_cli.core.places import Place
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import NO_LABEL, WINDOW, Source, Split, everything

SHARD = re.compile(r"(train|val|valid|validation|test)-(\d+-of-\d+|\d+)\.parquet")
SPLITS = {"valid": "val", "validation": "val"}
FOLDERS = ("data", ".")
COLUMNS = "expected the columns image (bytes and path) and label"


@dataclass(frozen=True)
class Content:
    """A picture's bytes themselves."""

    content: bytes

    def read(self) -> bytes:
        """Return them."""
        return self.content


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of shards. groups: int64 (N,), number of the row group over all shards; rows: int64 (N,), within it.

    first_groups: of each shard.
    """

    files: Sequence[Path]
    first_groups: NDArray[np.int64]
    groups: NDArray[np.int64]
    rows: NDArray[np.int64]

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
        file = _open(self.files[shard])
        table = file.read_row_group(group - int(self.first_groups[shard]), columns=["image.bytes"])
        return table.column("image").combine_chunks().field("bytes")


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


def list_parquet(path: Path, reporter: Reporter) -> Source:
    """List the rows of the shards in a folder.

    A class's id is the WordNet id in its pictures' names, where they have one, else its name. Raises SourceError for shards of
    another shape, and when pyarrow is missing.
    """
    shards = find_shards(path)
    if "train" not in shards:
        raise SourceError(f"{path} has no train-*.parquet", hint="expected data/train-00000-of-00294.parquet and so on")
    reporter.start("reading labels", sum(map(len, shards.values())), "shards")
    tables = {name: _Table(path, shards[name], reporter) for name in ("train", "val", "test") if name in shards}
    reporter.finish()
    ids, words = _classes(path, tables["train"])
    order = sorted(range(len(ids)), key=lambda label: ids[label])
    new = np.full(len(ids) + 1, NO_LABEL, dtype=np.int32)
    new[order] = np.arange(len(ids))
    splits: dict[str, Split] = {}
    lacks = []
    for name, table in tables.items():
        if table.labels.max(initial=NO_LABEL) >= len(ids):
            raise SourceError(f"{table.folder} has label {table.labels.max()}, train has 0 to {len(ids) - 1}", hint=COLUMNS)
        splits[name] = table.split(new[table.labels])
        if name == "val" and (table.labels == NO_LABEL).any():
            lacks.append(f"{table.folder} has pictures without labels: training cannot be tested on it, nor evaluated")
    classes = tuple(ids[label] for label in order)
    names = {ids[label]: words[label] for label in order} if words else {}
    return Source("parquet", path, splits, classes, words_of(classes, read_words(path), names), tuple(lacks))


class _Table:
    """Labels and names of one split's shards."""

    def __init__(self, path: Path, files: Sequence[Path], reporter: Reporter) -> None:
        self.files = files
        self.folder = files[0].relative_to(path).as_posix()
        groups, rows, first, labels = [], [], [0], []
        self.paths: list[str] = []
        self.names: list[str] = []
        self.schema = _open(files[0]).schema_arrow
        for shard in files:
            file = _open(shard)
            stem = shard.relative_to(path).as_posix()
            for group in range(file.num_row_groups):
                table = _columns(file, shard, group)
                groups.append(np.full(len(table), first[-1] + group))
                rows.append(np.arange(len(table)))
                labels.append(np.array(table.column("label").to_pylist(), dtype=object))
                names = table.column("image").combine_chunks().field("path").to_pylist()
                self.paths += [f"{stem}/{len(self.paths) + row}{f'/{name}' if name else ''}" for row, name in enumerate(names)]
                self.names += [name or "" for name in names]
            first.append(first[-1] + file.num_row_groups)
            reporter.advance()
        self.groups, self.rows = (np.concatenate(parts).astype(np.int64) for parts in (groups, rows))
        self.first = np.array(first[:-1], dtype=np.int64)
        self.labels = np.array([NO_LABEL if one is None else one for one in np.concatenate(labels)], dtype=np.int64)

    def split(self, labels: NDArray[np.int32]) -> Split:
        """Return the split; sizes are not known without reading the pictures."""
        listing = Rows(self.files, self.first, self.groups, self.rows)
        return everything(self.folder, self.paths, labels.tolist(), [0] * len(labels), listing)


def _columns(file: Any, shard: Path, group: int) -> Any:
    try:
        table = file.read_row_group(group, columns=["image.path", "label"])
        if set(table.column_names) != {"image", "label"}:
            raise KeyError(table.column_names)
        return table
    except (KeyError, ValueError, OSError) as error:
        raise SourceError(f"{shard} has the columns {', '.join(file.schema_arrow.names)}", hint=COLUMNS) from error


def _open(file: Path) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(
            "parquet files need pyarrow, which is not installed", hint="pip install 'alexnet-cli[parquet]'"
        ) from error
    try:
        return parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file} is not a whole parquet file: {error}", hint="download it again") from error


def _classes(path: Path, train: _Table) -> tuple[list[str], list[str]]:
    """Return id and words of each of train's labels; no words where the shards name no classes."""
    if (train.labels == NO_LABEL).any():
        raise SourceError(f"{train.folder} has pictures without labels", hint=COLUMNS)
    names = _class_names(train.schema)
    count = len(names) or int(train.labels.max()) + 1
    missing = sorted(set(range(count)) - set(train.labels.tolist()))
    if missing and not names:
        raise SourceError(f"train has no picture of label {missing[0]}", hint="labels must be 0, 1, 2 and so on")
    found: dict[int, set[str]] = {}
    for label, name in zip(train.labels.tolist(), train.names, strict=True):
        found.setdefault(label, set()).update(WNID.findall(name)[:1])
    ids = [next(iter(found[label])) if len(found.get(label, ())) == 1 else "" for label in range(count)]
    if not all(ids) or len(set(ids)) < count:
        # Padded, so that the order of the ids is that of the labels.
        ids = names if names == sorted(set(names)) else [f"{label:0{len(str(count - 1))}}" for label in range(count)]
    if count < 2:
        raise SourceError(f"{path} has one class; there is nothing to tell apart", hint=COLUMNS)
    return ids, names


def _class_names(schema: Any) -> list[str]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features["label"]["names"]]
    except (KeyError, ValueError, TypeError):
        return []
