"""`alexnet predict`: what is in a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_cli.cli.command import FAILED, running
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    BatchSizeOption,
    CropsOption,
    DebugOption,
    Device,
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WeightsOption,
    WorkersOption,
    YesOption,
)
from alexnet_cli.cli.render import print_error, print_json

if TYPE_CHECKING:
    from alexnet_cli.core.predict import Failure, Prediction


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Picture files.")],
    weights: WeightsOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to name.")] = 5,
    crops: CropsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.FP32,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Name what is in pictures.

    A picture that cannot be read is named on stderr, the others are answered, and the exit code is 1.
    """
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core import checkpoint, devices
        from alexnet_cli.core.predict import Prediction
        from alexnet_cli.core.predict import predict as name_pictures

        path = checkpoint.resolve_weights(bring(weights, runs, reporter, yes=yes), runs)
        reporter.note(f"weights: {path}")
        where = devices.choose_device(device.value)
        arithmetic = devices.choose_precision(precision.value, where)
        devices.settle(arithmetic, where)
        answers = name_pictures(
            checkpoint.load_weights(path),
            images,
            top=top,
            crops=int(crops.value) if crops else None,
            device=where,
            precision=arithmetic,
            batch_size=batch_size,
            workers=workers,
            reporter=reporter,
        )
        predictions = [answer for answer in answers if isinstance(answer, Prediction)]
        print_json([_document(prediction) for prediction in predictions]) if as_json else _print(predictions)
        _report([answer for answer in answers if not isinstance(answer, Prediction)])


def _document(prediction: "Prediction") -> dict[str, Any]:
    classes = [{"class": one.class_id, "name": one.name, "probability": one.probability} for one in prediction.predictions]
    return {"path": prediction.path, "predictions": classes}


def _print(predictions: Sequence["Prediction"]) -> None:
    for prediction in predictions:
        print(prediction.path)
        for one in prediction.predictions:
            identity = f"  ({one.class_id})" if one.class_id != one.name else ""
            print(f"  {100 * one.probability:6.2f} %  {one.name}{identity}")


def _report(failures: Sequence["Failure"]) -> None:
    for failure in failures:
        print_error(f"{failure.path}: {failure.reason}")
    if failures:
        raise typer.Exit(FAILED)
