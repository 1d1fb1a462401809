"""`alexnet evaluate`: the error of trained weights on prepared pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    WEIGHTS_HELP,
    BatchSizeOption,
    CropsOption,
    DataOption,
    DebugOption,
    Device,
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WorkersOption,
    YesOption,
)
from alexnet_cli.cli.render import duration, percent, print_facts, print_json

if TYPE_CHECKING:
    from alexnet_cli.core.evaluate import Evaluation

SPLITS = ("train", "val", "test")


def check_splits(value: str) -> str:
    """Accept one split or several, with commas between."""
    names = ["val" if name.strip() == "validation" else name.strip() for name in value.split(",")]
    unknown = [name for name in names if name not in SPLITS]
    if unknown or len(set(names)) < len(names):
        raise typer.BadParameter(f"{value!r}, expected some of {', '.join(SPLITS)}, each once, with commas between")
    return ",".join(names)


def evaluate(
    weights: Annotated[
        str | None,
        typer.Argument(metavar="WEIGHTS", help=WEIGHTS_HELP, show_default="the best of the newest run"),
    ] = None,
    data: DataOption = Path("data"),
    split: Annotated[
        str, typer.Option("--split", help="train, val or test, or several with commas between.", callback=check_splits)
    ] = "val",
    crops: CropsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure the error of trained weights.

    Ten views of each picture are taken, and their probabilities averaged.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import checkpoint, devices
        from alexnet_cli.core.evaluate import evaluate as measure
        from alexnet_cli.core.store import open_store

        path = checkpoint.resolve_weights(bring(weights, runs, reporter, yes=yes), runs)
        reporter.note(f"weights: {path}")
        loaded = checkpoint.load_weights(path)
        stores = [open_store(data, name, sequential=True) for name in split.split(",")]
        where = devices.choose_device(device.value)
        arithmetic = devices.choose_precision(precision.value, where)
        devices.settle(arithmetic, where)
        evaluation = measure(
            checkpoint.build_network(loaded, where, arithmetic),
            loaded.mean,
            stores,
            classes=loaded.classes,
            crops=int(crops.value) if crops else None,
            device=where,
            precision=arithmetic,
            batch_size=batch_size,
            workers=workers,
            reporter=reporter,
        )
        result = _result(evaluation, path, data, split, len(loaded.classes))
        print_json(result) if as_json else _print(result)


def _result(evaluation: "Evaluation", weights: Path, data: Path, split: str, classes: int) -> dict[str, Any]:
    return {**asdict(evaluation), "classes": classes, "weights": str(weights), "data": str(data), "split": split}


def _print(result: dict[str, Any]) -> None:
    top_k = result["top_k"]
    fewer = "" if top_k == 5 else f"  (top-{top_k}: there are only {result['classes']} classes)"
    print_facts(
        [
            ("images", f"{result['images']:,} of {result['data']}, {result['split']}"),
            ("views", f"{result['crops']} of each picture"),
            ("top-1 error", percent(result["top1_error"])),
            (f"top-{top_k} error", percent(result["top5_error"]) + fewer),
            ("loss", f"{result['loss']:.4f}"),
            ("time", duration(result["seconds"])),
            ("weights", result["weights"]),
        ]
    )
