"""`alexnet train --dry-run`: what a training would take, before a week is spent."""

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_cli.cli.exchange import alike, print_by_rank, print_sent
from alexnet_cli.cli.render import duration, print_facts, print_json, size, three_digits
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.dry_run import DryRun, StoreFacts
    from alexnet_cli.core.train_job import TrainOptions


def show_dry_run(options: "TrainOptions", reporter: Reporter, as_json: bool) -> None:
    """Find out what a training would take and print it; warnings go to stderr."""
    from alexnet_cli.core.dry_run import dry_run

    found = dry_run(options, reporter)
    warnings = list_warnings(found)
    if as_json:
        print_json(_document(found, warnings))
    else:
        _print(found)
    for warning in warnings:
        reporter.warn(warning)


def list_warnings(found: "DryRun") -> list[str]:
    """Return what will be too small or slow, each with what to do."""
    warnings = []
    needs = memory_needs(found)
    here = max(needs) if found.device.startswith("cuda") else sum(needs[: found.ranks_here])
    if found.free_memory is not None and here > found.free_memory:
        warnings.append(
            f"the training needs about {size(here)} of memory, {size(found.free_memory)} are free: "
            "a smaller --batch-size needs less"
        )
    disk = sum(found.disk.values())
    if disk > found.free_disk:
        warnings.append(
            f"{found.folder} needs {size(disk)} of disk, {size(found.free_disk)} are free: "
            "free some, choose --runs on another disk, or a smaller --keep"
        )
    if not _fits(found) and found.recipe.shuffle != "block":
        warnings.append(
            f"the training pictures, {size(found.train.num_bytes)}, do not fit into the memory that is left: "
            "every epoch reads them from the disk again; --shuffle block reads neighbours together"
        )
    if found.measured.problem:
        warnings.append(f"slower without torch.compile, same result: {found.measured.problem}")
    if not found.val.is_labelled:
        warnings.append(f"{found.val.folder} has no labels: no test after each epoch, and best is always the newest")
    return warnings


def memory_needs(found: "DryRun") -> list[int]:
    """Return the bytes that each rank needs: what is reckoned, or the peak that was measured where that is more.

    The program counts where the tensors lie beside it. The peak is rank 0's, without copies for files; others need no more.
    """
    program = 0 if found.device.startswith("cuda") else found.measured.program or 0
    peak = found.measured.peak or 0
    return [max(sum(need.memory.values()) + program, peak + need.memory.get("copies for files", 0)) for need in found.ranks]


def _fits(found: "DryRun") -> bool:
    return found.free_for_pictures is None or found.train.num_bytes <= found.free_for_pictures


def _document(found: "DryRun", warnings: list[str]) -> dict[str, Any]:
    course = found.course
    steps = {name: getattr(course, name) for name in ("steps_per_epoch", "total_steps", "last_step", "done", "steps_left")}
    plain = {**asdict(found), "recipe": found.recipe.to_dict(), "steps": steps, "ends": _end(found).isoformat(timespec="seconds")}
    plain["store_fits"] = _fits(found)
    plain["warnings"] = warnings
    return {"kind": "dry run", **_with_text_paths(plain)}


def _with_text_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_text_paths(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text_paths(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _end(found: "DryRun") -> datetime.datetime:
    return datetime.datetime.now().astimezone() + datetime.timedelta(seconds=found.duration.left)


def _print(found: "DryRun") -> None:
    print_facts(_facts(found))
    print()
    _print_ranks(found)
    print()
    _print_disk(found)
    print()
    print_facts(_times(found))


def _facts(found: "DryRun") -> list[tuple[str, object]]:
    course, recipe = found.course, found.recipe
    made = f", {course.done:,} made" if course.done else ""
    stop = f", stops after {course.last_step:,}" if course.last_step < course.total_steps else ""
    fit = "they fit" if _fits(found) else "they do not fit"
    place = "" if found.free_for_pictures is None else f"; {fit} into the {size(found.free_for_pictures)} of memory left"
    return [
        ("run", f"{found.folder}, {'to be continued' if found.continued else 'a new one'}; nothing is written now"),
        ("recipe", f"{recipe.name}, {recipe.epochs} epochs, batch {recipe.batch_size}"),
        ("classes", f"{found.classes:,}"),
        ("train", _store(found.train) + place),
        ("val", _store(found.val)),
        ("steps", f"{course.steps_per_epoch:,} an epoch, {course.total_steps:,} in all{made}{stop}"),
        ("ranks", f"{found.spread.world} on {found.device}, {found.spread.precision}"),
    ]


def _store(store: "StoreFacts") -> str:
    return f"{store.pictures:,} pictures, {'JPEG' if store.format == 'jpeg' else store.format}, {size(store.num_bytes)}"


def _print_ranks(found: "DryRun") -> None:
    names, firsts = alike(
        [need.name for need in found.ranks], [(need.parameters, need.memory, need.activations, need.sent) for need in found.ranks]
    )
    needs = [found.ranks[first] for first in firsts]
    for name, need in zip(names, needs, strict=True):
        layers = ", ".join(f"{layer} {size(num_bytes)}" for layer, num_bytes in need.activations.items())
        print_facts([(name, f"{need.parameters:,} parameters; activations: {layers}")])
    print()
    program = {"program": found.measured.program} if found.measured.program and not found.device.startswith("cuda") else {}
    print_by_rank("bytes of memory", names, [{**need.memory, **program} for need in needs])
    peak, free = found.measured.peak, found.free_memory
    print_facts(
        [
            ("peak of the steps measured", f"{size(peak)}, without copies for files" if peak else "unknown"),
            ("free now", size(free) if free is not None else "unknown"),
        ]
    )
    if found.spread.world > 1:
        print()
        print_sent(names, [need.sent for need in needs], found.spread.precision)


def _print_disk(found: "DryRun") -> None:
    facts: list[tuple[str, object]] = [(name, size(num_bytes)) for name, num_bytes in found.disk.items()]
    print_facts([*facts, ("disk in all", f"{size(sum(found.disk.values()))}, {size(found.free_disk)} are free")])


def _times(found: "DryRun") -> list[tuple[str, object]]:
    taken, speed = found.duration, found.measured.speed
    alone = "" if found.spread.world == 1 else "; rank 0's share alone, without the exchange"
    test = f", of which {duration(taken.test)} for the test" if taken.test else ", no test"
    return [
        ("a step", f"{three_digits(speed.step)} s, {three_digits(taken.images_per_second)} images/s{alone}; reading not included"),
        ("an epoch", f"{duration(taken.epoch)}{test}"),
        ("what is left", _long(taken.left)),
        ("would end", _end(found).strftime("%Y-%m-%d %H:%M")),
    ]


def _long(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:.1f} days" if days >= 2 else duration(seconds)
