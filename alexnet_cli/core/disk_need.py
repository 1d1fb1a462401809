"""How much disk a source will need once it is prepared, and whether there is so much."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.conversion import Conversion, convert
from alexnet_cli.core.errors import DiskFullError
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.splits import Split

SAMPLE = 32  # pictures whose records are made on trial
PAGE = 4096  # of LMDB: a picture begins on a page of its own, after a head of 16 bytes
HEAD = 16


def refuse_small_disk(
    out: Path, wanted: Sequence[tuple[Split, NDArray[np.int64]]], how: Conversion, written: int, reporter: Reporter
) -> None:
    """Say how much the pictures will need and how much is free; raise DiskFullError where that is less.

    wanted: splits, one or more, and the pictures of each in the order in which they will be written; the need is reckoned from
    the first SAMPLE of them. written: bytes that a part of their stores takes already, which count as free.
    """
    count = sum(len(order) for _, order in wanted)
    split, order = wanted[0]
    records = convert(list(split.stream(order[:SAMPLE])), how).records
    if not records:
        return
    need = count * float(np.mean([-(-(len(record) + HEAD) // PAGE) * PAGE for record in records]))
    free = shutil.disk_usage(out).free + written
    reporter.note(f"{count:,} pictures will need about {_spoken(need)}; {_spoken(free)} are free in {out}")
    if need > free:
        raise DiskFullError(
            f"{out} needs about {_spoken(need)} for {count:,} pictures, {_spoken(free)} are free",
            hint="free some space, or choose --out on another disk, --format jpeg, a lower --quality or fewer --classes",
        )


def _spoken(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
