"""The sections of a report that tell of the training itself: its outcome, curves, recipe, data and machine (no torch)."""

import json
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from alexnet_cli.core.curves import read_curves
from alexnet_cli.core.errors import StoreError
from alexnet_cli.core.plot import LABELS, draw_curves
from alexnet_cli.core.recipes import ENTRIES, difference, spoken
from alexnet_cli.core.report_parts import Absent, Drawing, Drawings, Facts, More, Part, Table, Text
from alexnet_cli.core.report_sources import NO_STORE, Sources
from alexnet_cli.core.report_svg import to_svg
from alexnet_cli.core.store import DATA_FILE, SPLITS, Store, open_store

DRAWN = ("error", "loss")
INCHES = (4.8, 3.3)  # small, so that letters can be read where it is as wide as a telephone
MOST_ROWS = 100  # of epochs
SQUARES = {"short_side": "the shorter side cut to its central square", "warp": "warped to squares"}
LABELS_OF_RUN = {"gpus": "devices", "init": "began with"}
NONE = "-"  # where a table has nothing to say

Content = Sequence[Part] | Absent


def percent(share: float | None) -> str:
    """Write a share of 0-1 as a percentage; NONE for None."""
    return NONE if share is None else f"{100 * share:.2f} %"


def plain(number: float | None, digits: int = 3) -> str:
    """Write a number with so many decimals, NONE for None."""
    return NONE if number is None else f"{number:.{digits}f}"


# At a glance -----------------------------------------------------------------------------------------------------------------


def glance(sources: Sources) -> Content:
    """Say how far the training came and how good it is."""
    figures = [*_errors(sources), ("epochs", _epochs(sources)), ("steps", f"{_steps_made(sources):,}")]
    facts = [("recipe", _of_recipe(sources)), ("state", _state(sources))]
    if sources.weights is not None and sources.weights.path is not None:
        weights = sources.weights
        figures.append(("parameters", f"{sum(value.numel() for value in weights.tensors.values()):,}"))
        named = f"{sources.weights.path.name}, of step {weights.step:,} (epoch {weights.epoch})"
        facts += [("weights", named), ("classes", f"{len(weights.classes):,}")]
    else:
        facts.append(("weights", sources.no_weights))
    return [Facts(tuple(figures), large=True), Facts(tuple(facts))]


def _errors(sources: Sources) -> list[tuple[str, str]]:
    """Return the errors of the weights on the split that was asked for, else those of the training's best test."""
    if sources.assessment is not None:
        found, where = sources.assessment.evaluation, sources.options.split
        return [
            (f"top-1 error, {where}", percent(found.top1_error)),
            (f"top-{found.top_k} error, {where}", percent(found.top5_error)),
        ]
    best = best_epoch(sources)
    if best is None:
        return []
    return [
        ("top-1 error, best epoch", percent(best["val_top1_error"])),
        ("top-5 error, same epoch", percent(best.get("val_top5_error"))),
    ]


def best_epoch(sources: Sources) -> dict[str, Any] | None:
    """Return the first row with the lowest top-1 error on the validation pictures, None where there was no test."""
    tested = [row for row in sources.epochs if isinstance(row.get("val_top1_error"), int | float)]
    return min(tested, key=lambda row: row["val_top1_error"], default=None)


def _epochs_made(sources: Sources) -> int:
    return max((row.get("epoch") or 0 for row in sources.epochs), default=0)


def _steps_made(sources: Sources) -> int:
    return max((row.get("step") or 0 for row in sources.rows), default=0)


def _epochs(sources: Sources) -> str:
    return f"{_epochs_made(sources)} of {sources.recipe.epochs}"


def _state(sources: Sources) -> str:
    made, planned = _epochs_made(sources), sources.recipe.epochs
    if made >= planned:
        return "finished"
    if not sources.rows:
        return "just begun: nothing has been logged yet"
    return f"under way or stopped in epoch {made + 1} of {planned}; what follows is as of step {_steps_made(sources):,}"


def _of_recipe(sources: Sources) -> str:
    entry = ENTRIES.get(sources.recipe.name)
    return f"{sources.recipe.name} (published: {entry.effect})" if entry and entry.effect else sources.recipe.name


# Curves ----------------------------------------------------------------------------------------------------------------------


def curves(sources: Sources) -> Content:
    """Draw errors and loss over the epochs, with their numbers below."""
    if not sources.steps and not sources.epochs:
        return Absent("nothing has been logged yet: wait until --log-every steps are made")
    drawings = tuple(_drawing(sources, what) for what in DRAWN)
    text = (
        "Training: the mean over each step's batch, as it was met, cut, mirrored and with dropout. "
        f"Validation: whole test passes after each epoch, {sources.recipe.test_crops} views of each picture averaged."
        if sources.recipe.test_crops > 1
        else "Training: the mean over each step's batch, as it was met. Validation: whole test passes after each epoch."
    )
    numbers = More("The numbers, epoch by epoch", (_epoch_table(sources),))
    return [Text(text), Drawings(drawings), *([numbers] if _epochs_made(sources) else [])]


def _drawing(sources: Sources, what: str) -> Drawing:
    found = read_curves(sources.options.folder, what)
    figure = draw_curves([found], what)
    figure.set_size_inches(*INCHES)
    figure.axes[0].set_title("")
    ends = [(name, curve.values_N) for name, curve in (("training", found.train), ("validation", found.val)) if len(curve.values_N)]
    spoken_ends = "; ".join(f"{name} from {_value(what, values[0])} to {_value(what, values[-1])}" for name, values in ends)
    label = LABELS[what].split(" (")[0]
    return Drawing(to_svg(figure, f"curve-{what}"), f"Curves of the {label}: {spoken_ends}.", label[0].upper() + label[1:])


def _value(what: str, value: float) -> str:
    return plain(value) if what == "loss" else f"{100 * value:.1f} %"


def _epoch_table(sources: Sources) -> Table:
    rows = [row for row in sources.epochs if row.get("epoch")]
    apart = -(-len(rows) // MOST_ROWS)
    shown = [row for index, row in enumerate(rows, start=1) if index % apart == 0 or index == len(rows)]
    by_epoch: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for step in sources.steps:
        by_epoch[step["epoch"]].append(step)
    header = ("epoch", "step", "training error", "training loss", "validation top-1", "top-5", "validation loss")
    caption = "Means of the logged steps of each epoch, and the test after it" + (f"; one of {apart} is shown" if apart > 1 else "")
    return Table(caption, header, tuple(_epoch_row(row, by_epoch[row["epoch"]]) for row in shown))


def _epoch_row(row: dict[str, Any], steps: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    error, loss = (fmean(step[name] for step in steps) if steps else None for name in ("top1_error", "loss"))
    return (
        str(row["epoch"]),
        f"{row['step']:,}",
        percent(error),
        plain(loss),
        percent(row.get("val_top1_error")),
        percent(row.get("val_top5_error")),
        plain(row.get("val_loss")),
    )


# Recipe, data, machine -------------------------------------------------------------------------------------------------------


def recipe(sources: Sources) -> Content:
    """List in what the run's recipe is not the authors' net."""
    found = difference(sources.recipe)
    if not found:
        return [Text("The run's recipe is original, the authors' net #145, in every field.")]
    rows = tuple((field, spoken(field, own), spoken(field, base)) for field, (own, base) in found.items())
    fields = "one field" if len(rows) == 1 else f"{len(rows)} fields"
    caption = f"Recipe {sources.recipe.name} differs in {fields} from original, the authors' net #145"
    return [Table(caption, ("field", "this run", "original"), rows, texts=(0, 1, 2))]


def data(sources: Sources) -> Content:
    """Describe the stores."""
    if sources.options.data is None:
        trained = f"; the run was trained on {sources.begun['data']}" if "data" in sources.begun else ""
        return Absent(f"{NO_STORE} what is in its splits{trained}")
    stores = _stores(sources)
    first = next(iter(stores.values()))
    squares = f"{first.size}x{first.size} pixels, {SQUARES[first.resize]}, kept as {first.format}"
    facts = [("folder", str(sources.options.data)), ("pictures", squares)]
    if sources.begun.get("data", str(sources.options.data)) != str(sources.options.data):
        facts.append(("trained on", str(sources.begun["data"])))
    header = ("split", "pictures", "classes", "smallest class", "largest class")
    rows = tuple(_split_row(split, store) for split, store in stores.items())
    return [Facts(tuple(facts)), Table("Pictures of each split", header, rows)]


def _stores(sources: Sources) -> dict[str, Store]:
    """Return the whole stores of the folder by split; the one that was asked for is among them."""
    found, folder = {}, sources.options.data
    assert folder is not None
    for split in SPLITS:
        if (folder / split / DATA_FILE).is_file():
            try:
                found[split] = open_store(folder, split)
            except StoreError as error:
                sources.reporter.warn(error.message)
    return found


def _split_row(split: str, store: Store) -> tuple[str, ...]:
    counts = store.class_counts()
    return split, f"{len(store):,}", f"{len(store.classes):,}", f"{min(counts, default=0):,}", f"{max(counts, default=0):,}"


def machine(sources: Sources) -> Content:
    """Say where and with what the run was made, as far as its files tell."""
    known = {name: value for name, value in {**sources.begun, **_environment(sources)}.items() if name != "data"}
    facts = [(LABELS_OF_RUN.get(name, name.replace("_", " ")), _of_machine(name, value)) for name, value in known.items()]
    speeds = [row["images_per_second"] for row in sources.steps if isinstance(row.get("images_per_second"), int | float)]
    if speeds:
        facts.append(("pictures a second", f"{median(speeds):,.1f}, the median of the logged steps"))
    return [Facts(tuple(facts))] if facts else Absent("the run's files do not tell on what machine it was made")


def _of_machine(name: str, value: Any) -> str:
    if name == "towers":
        return {1: "both on each device", 2: "one on each of two devices"}.get(value, str(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _environment(sources: Sources) -> dict[str, Any]:
    """Return what the newest state for a resume says of the machine; nothing where there is none, or a damaged one."""
    folder = sources.options.folder.resume
    steps = sorted((int(path.stem) for path in folder.glob("*.json") if path.stem.isdigit()), reverse=True)
    for step in steps:
        try:
            found = json.loads((folder / f"{step}.json").read_text(encoding="utf-8"))["environment"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        return found if isinstance(found, dict) else {}
    return {}
