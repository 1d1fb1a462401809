"""The folder that `prepare` writes: whose it is, what it was made with, and what of it may be deleted.

`prepare.json` is written first and marks the folder as ours. Nothing without it is ever deleted, and with it only files that
`prepare` itself makes.
"""

import csv
import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from alexnet_cli.core.errors import StoreError
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.images import STORED_SIZE
from alexnet_cli.core.lock import held
from alexnet_cli.core.store import (
    DATA_FILE,
    FORMAT_VERSION,
    HEAD_BYTES,
    SPLITS,
    STATS_FILE,
    Store,
    UnfinishedStoreError,
    read_stats,
)

PLAN_FILE = "prepare.json"
REJECTED_FILE = "rejected.csv"
MARK = "alexnet prepare"


@dataclass(frozen=True)
class Plan:
    """What decides every byte of an output; stored as `prepare.json`.

    kind: of the source. quality: None for raw pictures. limit: None for all. listing: the source's
    fingerprint, by part. pictures: to be
    converted, by split. classes, per_class, holdout: the selection, None for all.
    size, resize: of the stored squares.
    """

    kind: str
    format: str
    quality: int | None
    limit: int | None
    seed: int
    listing: dict[str, str]
    pictures: dict[str, int]
    format_version: int = FORMAT_VERSION
    classes: list[str] | int | None = None
    per_class: int | None = None
    holdout: float | None = None
    size: int = STORED_SIZE
    resize: str = "short_side"


def refuse_overlap(source: Path, out: Path) -> None:
    """Raise StoreError when the output is the source, lies in it or holds it."""
    source, out = source.resolve(), out.resolve()
    if source == out or source in out.parents or out in source.parents:
        raise StoreError(f"the output {out} and the source {source} overlap", hint="choose another --out")


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Make the folder and hold it against a second `prepare`."""
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file, expected a folder or nothing", hint="choose another --out")
    with held(out, StoreError(f"another alexnet prepare is writing to {out}", hint="wait for it, or choose another --out")):
        yield


State = Literal["new", "replaced", "interrupted", "complete"]


def examine(out: Path, plan: Plan, *, force: bool) -> State:
    """Say what is to be done with an output, without touching it.

    force: replace a complete or different output of `prepare`; an interrupted one with the same plan is still continued.
    Returns "complete" when there is nothing to do. Raises StoreError when something is in the way.
    """
    there = read_plan(out)
    if there is None:
        _refuse_others(out)
        return "new"
    state, obstacle = _state(out, plan, there)
    if state == "interrupted" or (state == "complete" and not force):
        return state
    if not force:
        raise obstacle
    return "replaced"


def claim(out: Path, plan: Plan, state: State) -> None:
    """Make an output ours, as `examine` said: clear what is to be replaced, and write the plan."""
    if state == "replaced":
        _clear(out)
    if state in ("new", "replaced"):
        write_atomically(out / PLAN_FILE, partial(_put, content=_plan_text(plan)))


def read_plan(out: Path) -> dict[str, Any] | None:
    """Return what `prepare.json` says, without the mark; None where there is none of ours."""
    try:
        content = json.loads((out / PLAN_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("made_by", None) != MARK:
        return None
    return content


def finished(folder: Path) -> bool:
    """Say whether a split is complete; raises StoreError when it is damaged."""
    if not (folder / DATA_FILE).is_file() or (folder / DATA_FILE).stat().st_size < HEAD_BYTES:
        return False
    try:
        Store(folder)
    except UnfinishedStoreError:
        return False
    return True


def write_rejected(out: Path, own: Collection[str], rejected: Sequence[tuple[str, str]]) -> None:
    """Bring the rows of one split up to date in `rejected.csv`; own: the paths of all its pictures."""
    before = read_rejected(out)
    rows = [row for row in before if row[0] not in own] + list(rejected)
    if not rows and not before:
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (("path", "reason"), *rows):
        (quoting if "\r" in "".join(row) else writer).writerow(row)  # a lone CR is a line's end to readers, not to this writer
    content = text.getvalue().encode("utf-8", "surrogateescape")  # file names are bytes, not always UTF-8
    write_atomically(out / REJECTED_FILE, partial(_put, content=content))


def read_rejected(out: Path) -> list[tuple[str, str]]:
    """Return path and reason of the rejected pictures of all splits."""
    try:
        text = (out / REJECTED_FILE).read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    return [(path, reason) for path, reason in list(csv.reader(io.StringIO(text, newline="")))[1:]]


def _state(out: Path, plan: Plan, there: dict[str, Any]) -> tuple[Literal["interrupted", "complete", "in the way"], StoreError]:
    """Judge an output of ours; the error says what is wrong with one that is in the way."""
    differences = _differences(there, asdict(plan))
    if differences:
        return "in the way", StoreError(f"{out} was prepared otherwise: {differences}", hint="choose another --out, or --force")
    try:
        complete = [finished(out / split) for split in plan.pictures]
        if complete[0]:
            read_stats(out)  # written before the training set was declared complete
    except StoreError as error:
        return "in the way", error
    return "complete" if all(complete) else "interrupted", StoreError("")


def _plan_text(plan: Plan) -> bytes:
    return json.dumps({"made_by": MARK, **asdict(plan)}, indent=2).encode() + b"\n"


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _refuse_others(out: Path) -> None:
    strangers = sorted(name for name in os.listdir(out) if name != f".{PLAN_FILE}.partial")
    if strangers:
        raise StoreError(
            f"{out} holds {', '.join(strangers[:3])}{' and more' * (len(strangers) > 3)}, which alexnet prepare did not write",
            hint="choose another --out; not even --force deletes files that are not its own",
        )


def _differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    changed = [f"{key} {there.get(key)} there, {now[key]} now" for key in now if key != "listing" and there.get(key) != now[key]]
    listed = there.get("listing")
    before: dict[str, str] = listed if isinstance(listed, dict) else {}
    parts = {"classes": "classes or words"}
    for name, digest in now["listing"].items():
        if before.get(name) != digest:
            what = parts.get(name, f"names, sizes or labels of {name}'s pictures")
            changed.append(f"{what} ({before.get(name, 'none')[:8]} there, {digest[:8]} now)")
    return "; ".join(changed)


def _clear(out: Path) -> None:
    """Delete what `prepare` writes and nothing else; `prepare.json` stays, so that a kill here leaves a folder that is ours."""
    for split in SPLITS:
        for name in (DATA_FILE, "lock.mdb"):
            (out / split / name).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or with something of the user's inside
            (out / split).rmdir()
    for name in (STATS_FILE, REJECTED_FILE):
        (out / name).unlink(missing_ok=True)
