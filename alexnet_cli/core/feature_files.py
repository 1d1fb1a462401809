"""Features as files for other programs: .npy, .npz, .safetensors or .parquet by the name's ending; docs/formats.md describes them.

Rows are written as they come and counted at the end, so that memory is that of one row, whatever their number. The file appears
whole, after those beside it. It must not import torch.
"""

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import require_place, write_atomically
from alexnet_cli.core.lock import held

FORMAT, FORMAT_VERSION = "alexnet-features", 1
BESIDE = {".npy": (".csv", ".json"), ".npz": (), ".safetensors": (".csv",), ".parquet": ()}  # what lies beside the file
DTYPES = ("float32", "float16")
TEXTS = ("path", "label", "name")
MOST_ROWS = 10**12  # more digits than any count here has
NPY_HEADER = 128  # bytes, a multiple of 64
PIECE = 1 << 22  # bytes copied, or collected for a group of parquet's, at a time


@dataclass(frozen=True)
class About:
    """What the rows are: of which layer, in which shape (flattened channel, y, x), of how many views the mean, by which weights."""

    layer: str
    shape: tuple[int, ...]
    views: int
    dtype: str
    recipe: str
    weights: str
    weights_checksum: str

    @property
    def values(self) -> int:
        """How many a row has."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Row:
    """One picture: its path, the id and the name of its class ("" where it is not known), and its float32 values, of any shape."""

    path: str
    label: str
    name: str
    values: NDArray[np.float32]


def require_writable_features(path: Path, dtype: str, listing: str | None = None) -> None:
    """Raise before long work whose file could not be written: for its place or its ending, or without pyarrow.

    listing: a file that names the pictures, which must not be overwritten.
    """
    if path.suffix not in BESIDE:
        raise AlexNetError(f"{path} ends in none of {', '.join(BESIDE)}", hint="the ending says what is written")
    assert dtype in DTYPES
    for place in (path, *beside(path)):
        require_place(place)
        if listing is not None and place.resolve() == Path(listing).resolve():
            raise AlexNetError(f"{place}, which names the pictures, would be overwritten", hint="choose another --out")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise AlexNetError("parquet files need pyarrow", hint="pip install 'alexnet-cli[parquet]', or name a .npy") from error


def beside(path: Path) -> list[Path]:
    """Return the files that are written beside a file of features, such as features.csv."""
    return [path.with_suffix(ending) for ending in BESIDE[path.suffix]]


def write_features(path: Path, rows: Iterable[Row], about: About) -> int:
    """Write rows as they come; return how many. What `require_writable_features` refuses must not come here.

    Raises DiskFullError, AlexNetError as `write_atomically`, where there is no row, where another process is at it, and for values
    that are not finite or beyond float16.
    """
    counts: list[int] = []
    writer = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet}[path.suffix]

    def write(partial: Path) -> None:
        with _sidecars(path) as texts:
            counts.append(writer(partial, _counted(rows, path), about, texts))
            if path.suffix == ".npy":
                _sidecar(path, ".json").write_text(json.dumps(_document(about, counts[0]), indent=2) + "\n", encoding="utf-8")

    with _alone(path):
        write_atomically(path, write)
    return counts[0]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep another process out, which would write into the same unfinished files; those of one stem share their table."""
    lock = path.with_name(f".{path.stem}.lock")
    busy = AlexNetError(f"another process writes {path}", hint="wait for it, or choose another --out")
    with held(lock, busy):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.rmdir()


def _counted(rows: Iterable[Row], path: Path) -> Iterator[Row]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise AlexNetError(f"no picture could be read: {path} is not written")


def _document(about: About, count: int) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(about), "count": count}


# What lies beside ------------------------------------------------------------------------------------------------------------


class Texts:
    """Path, label and name of each row as CSV, and the longest of each, for arrays of one width."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.longest = file, dict.fromkeys(TEXTS, 1)
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(TEXTS)

    def add(self, row: Row) -> None:
        """Write one line."""
        cells = (row.path, row.label, row.name)
        self._writer.writerow(cells)
        self.longest = {what: max(self.longest[what], len(cell)) for what, cell in zip(TEXTS, cells, strict=True)}

    def column(self, what: str) -> Iterator[str]:
        """Return the cells of a column, once all lines are written."""
        self.file.seek(0)
        return (line[what] for line in csv.DictReader(self.file))


def _sidecar(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.stem}{ending}.partial")


@contextmanager
def _sidecars(path: Path) -> Iterator[Texts]:
    """Collect the rows' texts; put what belongs beside the file into its place when all is written, and nothing otherwise."""
    wanted = {_sidecar(path, place.suffix): place for place in beside(path)}
    texts = _sidecar(path, ".csv")
    try:
        with texts.open("w+", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield Texts(file)
        for partial, place in wanted.items():
            partial.replace(place)
    finally:
        for partial in {texts, *wanted}:
            partial.unlink(missing_ok=True)


# The endings -----------------------------------------------------------------------------------------------------------------


def _npy(partial: Path, rows: Iterable[Row], about: About, texts: Texts) -> int:
    return _with_header(partial, rows, about, texts, lambda count: _npy_header((count, about.values), np.dtype(about.dtype)))


def _safetensors(partial: Path, rows: Iterable[Row], about: About, texts: Texts) -> int:
    return _with_header(partial, rows, about, texts, lambda count: _safetensors_header(about, count))


def _with_header(partial: Path, rows: Iterable[Row], about: About, texts: Texts, header: Callable[[int], bytes]) -> int:
    """Write rows behind a header whose length does not depend on their count, and the header at the end."""
    with partial.open("r+b") as file:
        file.write(bytes(len(header(0))))
        count = _write_rows(file, rows, about, texts)
        file.seek(0)
        file.write(header(count))
    return count


def _write_rows(file: IO[bytes], rows: Iterable[Row], about: About, texts: Texts) -> int:
    count = 0
    for row in rows:
        file.write(narrowed(row.values, about.dtype, about.layer).tobytes())
        texts.add(row)
        count += 1
    return count


def narrowed(values: NDArray[np.float32], dtype: str, layer: str) -> NDArray[Any]:
    """Return values in another type; raises AlexNetError where it cannot hold them, and where they are not finite."""
    if not np.isfinite(values).all():
        raise AlexNetError(
            f"{layer} has values that are not finite", hint="fp16 ends at 65,504: compute with --precision fp32, tf32 or bf16"
        )
    with np.errstate(over="ignore"):
        found = values.astype(np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(found).all():
        raise AlexNetError(
            f"{layer} has values up to {float(np.abs(values).max()):,.0f}, float16 ends at 65,504",
            hint="--dtype float32 keeps them",
        )
    return found


def _npy_header(shape: tuple[int, ...], dtype: "np.dtype[Any]", size: int = NPY_HEADER) -> bytes:
    """Return version 1.0 of NumPy's own header, always of one length, as its specification allows."""
    described = {"descr": dtype.newbyteorder("<").str, "fortran_order": False, "shape": shape}
    return b"\x93NUMPY\x01\x00" + (size - 10).to_bytes(2, "little") + repr(described).encode().ljust(size - 11) + b"\n"


def _safetensors_header(about: About, count: int) -> bytes:
    kind, width = ("F16", 2) if about.dtype == "float16" else ("F32", 4)

    def text(count: int) -> bytes:
        told = _document(about, count)
        metadata = {name: _utf8(value) if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
        tensor = {"dtype": kind, "shape": [count, about.values], "data_offsets": [0, count * about.values * width]}
        return json.dumps({"__metadata__": metadata, "features": tensor}, separators=(",", ":")).encode()

    length = len(text(MOST_ROWS)) + (-len(text(MOST_ROWS)) % 8)
    return length.to_bytes(8, "little") + text(count).ljust(length)


def _npz(partial: Path, rows: Iterable[Row], about: About, texts: Texts) -> int:
    """Write rows beside the archive first: the length of a member stands before it."""
    spool = partial.with_name(f"{partial.name}.rows")
    try:
        with spool.open("w+b") as file, zipfile.ZipFile(partial, "w") as archive:
            count = _write_rows(file, rows, about, texts)
            file.seek(0)
            pieces = iter(lambda: file.read(PIECE), b"")
            _member(archive, "features", _npy_header((count, about.values), np.dtype(about.dtype)), pieces)
            for what in TEXTS:
                width = texts.longest[what]
                cells = (cell.encode("utf-32-le", "surrogatepass").ljust(4 * width, b"\0") for cell in texts.column(what))
                _member(archive, what, _npy_header((count,), np.dtype(f"<U{width}")), cells)
            content = io.BytesIO()
            np.save(content, np.array(json.dumps(_document(about, count))))
            _member(archive, "about", content.getvalue(), ())
    finally:
        spool.unlink(missing_ok=True)
    return count


def _member(archive: zipfile.ZipFile, name: str, header: bytes, pieces: Iterable[bytes]) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:  # of 1980: the same rows, the same bytes
        member.write(header)
        for piece in pieces:
            member.write(piece)


def _parquet(partial: Path, rows: Iterable[Row], about: About, texts: Texts) -> int:
    """Write groups of rows; the document is known from the start but for the count, which parquet has itself."""
    import pyarrow
    from pyarrow import parquet

    document = {name: value for name, value in _document(about, 0).items() if name != "count"}
    kind = pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(about.dtype)), about.values)
    columns = [*((what, pyarrow.string()) for what in TEXTS), ("features", kind)]
    schema = pyarrow.schema(columns, metadata={FORMAT: json.dumps(document)})
    count = 0
    with parquet.ParquetWriter(partial, schema) as writer:
        for group in _groups(rows, max(1, PIECE // (4 * about.values))):
            values = narrowed(np.stack([row.values.reshape(-1) for row in group]), about.dtype, about.layer)
            arrays = [pyarrow.array([_utf8(getattr(row, what)) for row in group], pyarrow.string()) for what in TEXTS]
            arrays.append(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), about.values))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(group)
    return count


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _utf8(text: str) -> str:
    """Return a text in which what is no UTF-8 is replaced, for formats that can hold nothing else."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
