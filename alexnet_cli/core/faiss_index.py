"""FAISS's indices over a store's features, kept beside them; the only file that imports faiss. It must not import torch.

Up to FEWEST rows it is a flat index of all, made anew each time, as that takes no longer than reading it. Above, the rows' 128
principal components in lists by nearest of 512 centres, one byte each: 128 bytes a row; what it names is measured by the rows.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.stored_features import StoredFeatures

FEWEST = 50_000  # rows above which an index is made and kept
COMPONENTS, LISTS, PER_LIST = 128, 512, 40  # FAISS wants 39 rows or more of each list to learn from
FOR_COMPONENTS = 2048  # rows, about
PROBED = 32  # lists looked into
CANDIDATES = 200  # rows measured again, besides ten for each that is asked for


def require_faiss() -> None:
    """Raise AlexNetError where it is not installed."""
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        raise AlexNetError("--index faiss needs FAISS, which is not installed", hint="pip install 'alexnet-cli[faiss]'") from error


class FaissIndex:
    """Names candidates for the nearest rows. kind: "faiss-flat", among all rows, or "faiss-ivf", which may miss some."""

    def __init__(self, features: StoredFeatures, reporter: Reporter) -> None:
        require_faiss()
        self._features = features
        self._flat = features.count <= FEWEST
        self.kind = "faiss-flat" if self._flat else "faiss-ivf"
        self._index = self._filled(self._flat_index(), reporter) if self._flat else self._kept(reporter)

    def candidates(self, queries_QU: NDArray[np.float32], top: int) -> NDArray[np.int64]:
        """Return numbers of rows for each query, int64 (Q, C), -1 where there are no more."""
        count = min(self._features.count, 10 * top + CANDIDATES)
        _, records_QC = self._index.search(np.ascontiguousarray(queries_QU, np.float32), count)
        if not self._flat and (records_QC[:, : min(top, self._features.count)] < 0).any():  # more than the lists looked into hold
            _set_probed(self._index, LISTS)
            _, records_QC = self._index.search(np.ascontiguousarray(queries_QU, np.float32), count)
            _set_probed(self._index, PROBED)
        return np.asarray(records_QC, np.int64)

    def _flat_index(self) -> Any:
        import faiss

        values = self._features.key.values
        if self._features.key.dtype == "float32":
            return faiss.IndexFlatL2(values)
        return faiss.IndexScalarQuantizer(values, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)

    def _filled(self, index: Any, reporter: Reporter) -> Any:
        reporter.start("index", self._features.count, "pictures")
        for _, values in self._features.scan():
            index.add(values.astype(np.float32))
            reporter.advance(len(values))
        reporter.finish()
        return index

    def _kept(self, reporter: Reporter) -> Any:
        """Return the index beside the features, made anew where it is missing, damaged or of other rows."""
        path = self._features.path.with_suffix(f"{self._features.path.suffix}.faiss")
        found = _read(path, self._features.digest())
        if found is None:
            reporter.note(f"{path} is made of {self._features.count:,} rows")
            found = self._filled(self._trained(), reporter)
            try:
                _write(path, found, self._features.digest())
            except AlexNetError as error:
                reporter.warn(f"{error.message}: the index is used, and not kept")
        _set_probed(found, PROBED)
        return found

    def _trained(self) -> Any:
        import faiss

        features = self._features
        components = min(COMPONENTS, features.key.values)
        index: Any = faiss.index_factory(features.key.values, f"PCAR{components},IVF{LISTS},SQ8")
        sample = np.linspace(0, features.count - 1, LISTS * PER_LIST).astype(np.int64)
        rows = features.take(np.unique(sample)).astype(np.float32)
        # Of fewer rows than values FAISS decomposes the smaller matrix, of rows: seconds where all values would take minutes.
        components_of = faiss.downcast_VectorTransform(index.chain.at(0))
        components_of.train(np.ascontiguousarray(rows[:: max(1, len(rows) // FOR_COMPONENTS)]))
        index.train(rows)
        return index


def _set_probed(index: Any, lists: int) -> None:
    import faiss

    faiss.extract_index_ivf(index).nprobe = lists


def _write(path: Path, index: Any, of: str) -> None:
    """Write an index behind a line of JSON that says of which rows it is, and its checksum."""
    import faiss

    content = faiss.serialize_index(index)
    head = json.dumps({"format": "alexnet-faiss", "of": of, "crc32": zlib.crc32(content.data)}).encode() + b"\n"

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(head)
            file.write(content.data)

    write_atomically(path, write)


def _read(path: Path, of: str) -> Any:
    import faiss

    try:
        with path.open("rb") as file:
            head = json.loads(file.readline(1 << 12))
            content = np.frombuffer(file.read(), np.uint8)
        whole = head["of"] == of and head["crc32"] == zlib.crc32(content.data)  # before FAISS trusts what it says
        return faiss.deserialize_index(content) if whole else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # the last by FAISS, of another version's index
        return None
