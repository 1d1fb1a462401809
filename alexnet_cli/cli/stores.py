"""What `alexnet info` says of stores: how they were made, how large their classes are, whether they are whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alexnet_cli.cli.command import FAILED
from alexnet_cli.cli.render import print_error, print_facts, print_json, print_table, size
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.store import Store
    from alexnet_cli.core.verify import Verification

CLASSES_SHOWN = 10
RANGES = 10  # of class sizes, at most
BAR = 40  # characters of the longest
KNOWN_FROM_META = ("format", "quality", "format_version", "size", "resize")
FOR_MACHINES = ("listing",)  # a checksum


@dataclass(frozen=True)
class _Answer:
    """What is to be said: each store with its verification, None without --verify; `prepare.json`; the sheet that was drawn."""

    stores: "Sequence[tuple[Store, Verification | None]]"
    plan: dict[str, Any]
    contact_sheet: Path | None


def show_stores(
    folders: Sequence[Path], *, verify: bool, contact_sheet: Path | None, seed: int, as_json: bool, reporter: Reporter
) -> None:
    """Describe stores, perhaps after reading them whole and drawing pictures of the first; exits with FAILED on damage."""
    from alexnet_cli.core.output import read_plan
    from alexnet_cli.core.store import Store
    from alexnet_cli.core.verify import verify as verify_store

    opened = [Store(folder) for folder in folders]
    stores = [(store, verify_store(store, reporter=reporter) if verify else None) for store in opened]
    if contact_sheet:
        _draw(opened[0], contact_sheet, seed)
    answer = _Answer(stores, read_plan(folders[0].parent) or {}, contact_sheet)
    print_json(_document(answer)) if as_json else _print(answer)
    _report([verification for _, verification in stores if verification])


def _draw(store: "Store", path: Path, seed: int) -> None:
    from alexnet_cli.core.contact_sheet import draw_contact_sheet
    from alexnet_cli.core.files import write_atomically

    sheet = draw_contact_sheet(store, seed=seed)
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def _document(answer: _Answer) -> dict[str, Any]:
    document = {"kind": "store", "stores": [_entry(*one) for one in answer.stores], "prepare": answer.plan}
    return {**document, "contact_sheet": str(answer.contact_sheet)} if answer.contact_sheet else document


def _entry(store: "Store", verification: "Verification | None") -> dict[str, Any]:
    entry = {"folder": str(store.folder), **store.meta, "class_counts": store.class_counts()}
    if verification is None:
        return entry
    verified = {
        "records": verification.records,
        "damaged": [{"record": damage.record, "reason": damage.reason} for damage in verification.damaged],
        "unexpected": list(verification.unexpected),
        "checksum": verification.checksum,
        "statistics": verification.statistics,
    }
    return {**entry, "verified": verified}


def _print(answer: _Answer) -> None:
    for store, verification in answer.stores:
        verified = [("verified", _verdict(verification))] if verification else []
        print_facts([*_store_facts(store), *verified, *_class_facts(store)])
        print()
        _print_class_sizes(store.class_counts())
    first, _ = answer.stores[0]
    facts = _plan_facts(first.folder.parent, answer.plan)
    if answer.contact_sheet:
        facts.append(("contact sheet", answer.contact_sheet))
    if facts:
        print_facts(facts)
        print()
    _print_classes(first)


def _store_facts(store: "Store") -> list[tuple[str, object]]:
    meta = store.meta
    coded = f"JPEG, quality {meta['quality']}" if store.format == "jpeg" else "raw RGB"
    made = "whole pictures warped" if store.resize == "warp" else "cut from the centre"
    return [
        ("store", store.folder),
        ("pictures", f"{len(store):,} of {store.size}x{store.size}, {coded}, {made}"),
        ("file", size((store.folder / "data.mdb").stat().st_size)),
        ("classes", f"{len(store.classes):,}"),
        ("seed", meta["seed"]),
        ("made with", ", ".join(f"{name} {version}" for name, version in meta["versions"].items())),
        ("checksum", meta.get("checksum", "none")),
    ]


def _verdict(verification: "Verification") -> str:
    unchecked = ", no checksum to compare with" if verification.checksum == "absent" else ""
    state = "not whole" if verification.complaints else "all whole"
    return f"{verification.records:,} records, {state}{unchecked}"


def _class_facts(store: "Store") -> list[tuple[str, object]]:
    """Name the smallest and the largest class, or say how large each is where all are alike."""
    counts = store.class_counts()
    facts: list[tuple[str, object]] = []
    if len(set(counts)) > 1:
        facts = [("smallest", _class_size(store, counts, min(counts))), ("largest", _class_size(store, counts, max(counts)))]
    elif counts:
        facts = [("each class", _pictures(counts[0]))]
    unnamed = len(store) - sum(counts)
    return [*facts, ("no class", _pictures(unnamed))] if unnamed else facts


def _class_size(store: "Store", counts: Sequence[int], count: int) -> str:
    others = counts.count(count) - 1
    also = f" and {others:,} other{'s' * (others > 1)}" if others else ""
    return f"{_pictures(count)}: {store.words[counts.index(count)]}{also}"


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' * (count != 1)}"


def _print_class_sizes(counts: Sequence[int]) -> None:
    """Print how many classes have how many pictures, in ranges of one width; nothing where all have the same."""
    if len(set(counts)) <= 1:
        return
    rows = histogram(counts)
    most, digits = max(count for _, _, count in rows), len(f"{max(counts):,}")
    several = any(first != last for first, last, _ in rows)
    cells = []
    for first, last, count in rows:
        size_range = f"{first:>{digits},}" + f" to {last:>{digits},}" * several
        bar = "#" * (max(1, round(BAR * count / most)) if count else 0)
        cells.append((size_range, f"{count:,}", bar.ljust(BAR)))
    print_table(("pictures", "classes", ""), cells)
    print()


def histogram(numbers: Sequence[int]) -> list[tuple[int, int, int]]:
    """Count whole numbers in up to ten ranges of one width: the first and last number of each, and how many are there.

    The first range begins at the smallest number; the last may be narrower, as it ends at the largest.
    """
    low, high = min(numbers), max(numbers)
    width = -(-(high - low + 1) // RANGES)
    counts = Counter((number - low) // width for number in numbers)
    return [(first, min(first + width - 1, high), counts[place]) for place, first in enumerate(range(low, high + 1, width))]


def _plan_facts(data: Path, plan: dict[str, Any]) -> list[tuple[str, object]]:
    """Say what `prepare` was asked for: limit and seed, and whatever else is set."""
    if not plan:
        return []
    left_out = (*KNOWN_FROM_META, *FOR_MACHINES)
    shown: list[tuple[str, object]] = [
        (key.replace("_", " "), _spoken(value))
        for key, value in plan.items()
        if key not in left_out and (value is not None or key == "limit")
    ]
    return [("arguments", data / "prepare.json"), *shown]


def _spoken(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_spoken(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(_spoken, value))
    return {True: "yes", False: "no", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)


def _print_classes(store: "Store") -> None:
    shown = list(zip(store.classes, store.words, store.class_counts(), strict=True))[:CLASSES_SHOWN]
    print_table(("class", "name", f"in {store.folder.name}"), [(one, words, f"{count:,}") for one, words, count in shown], left=2)
    if len(store.classes) > len(shown):
        print(f"... and {len(store.classes) - len(shown):,} more; --json lists them all")


def _report(verifications: Sequence["Verification"]) -> None:
    """Print every kind of damage, and once what to do."""
    from alexnet_cli.core.store import REBUILD

    complaints = [line for verification in verifications for line in verification.complaints]
    for line in complaints:
        print_error(line, hint=REBUILD if line is complaints[-1] else "")
    if complaints:
        raise typer.Exit(FAILED)
