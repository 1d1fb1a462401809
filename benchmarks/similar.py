"""Measure the search of `alexnet similar` among many features: python -m benchmarks.similar --help.

Vectors are made up, about 1,000 centres and half of their values zero, as fc7's are, and lie in a file as `similar` keeps them.
Each way answers in a process of its own, whose memory is its peak above the start, page cache aside: ours by blocks; NumPy's
product of all rows at once in float32; FAISS's flat index, and its lists. The time is that of the search, with the file in the
page cache; making the file and the indices is not counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet_cli.core import faiss_index
from alexnet_cli.core.faiss_index import FaissIndex
from alexnet_cli.core.features_writer import writing
from alexnet_cli.core.memory import used_memory
from alexnet_cli.core.nearest import Found, measured, nearest
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.stored_features import Key, StoredFeatures
from benchmarks.__main__ import machine

VALUES, TOP = 4096, 6
WAYS = {"ours": "`alexnet similar`, exact", "numpy": "NumPy, all at once", "flat": "FAISS, flat", "lists": "FAISS, lists"}
Search = Callable[[NDArray[np.float32]], list[NDArray[np.int64]]]


def features_of(folder: Path, count: int) -> StoredFeatures:
    """Return the file of so many vectors, made where it is missing."""
    features = StoredFeatures(folder, Key("fc7", VALUES, 1, "float16", "fp32", "0" * 32, {"count": count, "checksum": "made up"}))
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((1000, VALUES), np.float32)
    with writing(features) as writer:
        for part in features.missing():
            for first in range(part.start, part.stop, 1024):
                rows = min(1024, part.stop - first)
                noise = generator.standard_normal((rows, VALUES), np.float32)
                writer.add(first, np.maximum(centres[generator.integers(1000, size=rows)] + noise, 0))
    return features


def queries_of(features: StoredFeatures, count: int) -> NDArray[np.float32]:
    """Return vectors near some of the rows."""
    generator = np.random.default_rng(1)
    chosen = features.take(generator.integers(features.count, size=count)).astype(np.float32)
    return np.maximum(chosen + 0.5 * generator.standard_normal(chosen.shape, np.float32), 0)


def _ours(features: StoredFeatures) -> Search:
    return lambda queries_QU: _numbers(nearest(features, queries_QU, TOP))


def _numpy(features: StoredFeatures) -> Search:
    """Return a search that reads the file into memory as float32, and orders all distances."""

    def search(queries_QU: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        rows_NU = np.fromfile(features.path, features.dtype).reshape(-1, VALUES).astype(np.float32)
        scores_QN = (rows_NU * rows_NU).sum(axis=1) - 2 * queries_QU @ rows_NU.T
        return list(np.argsort(scores_QN, axis=1)[:, :TOP])

    return search


def _flat(features: StoredFeatures) -> Search:
    return _faiss(features, features.count)


def _lists(features: StoredFeatures) -> Search:
    return _faiss(features, 0)


def _faiss(features: StoredFeatures, fewest: int) -> Search:
    """Return a search by an index that is in memory; below `fewest` rows the flat one."""
    faiss_index.FEWEST = fewest
    index = FaissIndex(features, Reporter())
    return lambda queries_QU: _numbers(measured(features, queries_QU, index.candidates(queries_QU, TOP), TOP))


def _numbers(found: list[Found]) -> list[NDArray[np.int64]]:
    return [records for records, _ in found]


def measure(way: str, folder: Path, count: int, num_queries: int) -> None:
    """Print what one search took, as JSON: seconds, the peak above the start in MB, index included, and the rows named."""
    features = features_of(folder, count)
    queries_QU = queries_of(features, num_queries)
    start = _peak()
    search = {"ours": _ours, "numpy": _numpy, "flat": _flat, "lists": _lists}[way](features)
    search(queries_QU[:1])  # nothing is cold
    began = time.perf_counter()
    found = search(queries_QU)
    print(json.dumps({"seconds": time.perf_counter() - began, "peak": _peak() - start, "rows": np.stack(found).tolist()}))


def _peak() -> float:
    """Return the most memory that this process has had, in MB; unlike getrusage's it does not begin with the parent's."""
    used = used_memory()
    assert used is not None, "only Linux tells"
    return used[1] / 1e6


def main() -> None:
    """Print machine and table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similar", description=__doc__)
    parser.add_argument("--vectors", type=int, default=100_000, help="rows of 4,096 values (default: 100000)")
    parser.add_argument("--queries", type=int, nargs="*", default=[1, 100], help="searched for together (default: 1 100)")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), help="what to measure (default: all)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each, of which the best counts (default: 3)")
    parser.add_argument("--folder", type=Path, help="where the file is made and kept (default: a temporary folder)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a way and a number of queries, in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments.one[0], arguments.folder, arguments.vectors, int(arguments.one[1]))
        return
    print(machine(torch.device("cpu")), "\n", sep="")
    print(f"| {arguments.vectors:,} vectors, float16 | queries | seconds | memory | same rows |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        features_of(folder, arguments.vectors)
        for count in arguments.queries:
            rows: list[list[int]] = []
            for way in arguments.ways:
                runs = [_run(way, folder, arguments.vectors, count) for _ in range(arguments.repeats)]
                best = min(runs, key=lambda run: run["seconds"])
                rows = rows or best["rows"]  # the first way's are the others' measure
                same = f"{100 * np.mean([len(set(a) & set(b)) / TOP for a, b in zip(best['rows'], rows, strict=True)]):.1f} %"
                print(f"| {WAYS[way]} | {count} | {best['seconds']:.2f} | {best['peak']:,.0f} MB | {same} |", flush=True)


def _run(way: str, folder: Path, vectors: int, queries: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.similar", "--vectors", str(vectors), "--folder", str(folder)]
    result = subprocess.run([*command, "--one", way, str(queries)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


if __name__ == "__main__":
    main()
