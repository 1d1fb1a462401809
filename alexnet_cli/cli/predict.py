"""`alexnet predict`: what is in pictures."""

import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.given_pictures import STDIN, Tally, load_model, named_pictures, stored_pictures, with_truth
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
from alexnet_cli.cli.predict_options import (
    CsvOption,
    DevkitOption,
    FilesFromOption,
    ImagesArgument,
    JsonLinesOption,
    NullOption,
    PanelOption,
    PreparedOption,
    SplitOption,
    SubmissionOption,
    TopOption,
    Truth,
    TruthOption,
)
from alexnet_cli.cli.predictions import CsvPrinter, JsonLinesPrinter, JsonPrinter, TextPrinter
from alexnet_cli.cli.render import TerminalReporter, is_terminal
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.inputs import StoredPictures
    from alexnet_cli.core.predict import Failure, Model, Prediction
    from alexnet_cli.core.submission import Submission

SHOWN = 5  # classes in a panel and in a submission


def predict(
    images: ImagesArgument = None,
    files_from: FilesFromOption = None,
    null: NullOption = False,
    data: PreparedOption = None,
    split: SplitOption = "test",
    weights: WeightsOption = None,
    top: TopOption = 5,
    crops: CropsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.FP32,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    truth: TruthOption = Truth.NONE,
    panel: PanelOption = None,
    submission: SubmissionOption = None,
    devkit: DevkitOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    as_csv: CsvOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Name what is in pictures.

    Answers are printed as they come. A picture that cannot be read is named on stderr, the others are answered, and the exit
    code is 1.
    """
    _refuse_contradictions(
        (bool(images), files_from is not None, data is not None),
        (as_json, as_jsonl, as_csv),
        submission=submission is not None,
        devkit=devkit is not None,
        only_stdin=files_from == STDIN and STDIN in (images or []),
    )
    with running(quiet=quiet, debug=debug) as reporter:
        num_images = _images_for(panel)
        model = load_model(bring(weights, runs, reporter, yes=yes), runs, device, precision, reporter)
        lines = _lines_of(submission, devkit, model)
        inputs = _stored(data, split, model, reporter, lines) if data else named_pictures(images or [], files_from, null)
        pictures = with_truth(inputs, model) if truth is Truth.FOLDER else inputs
        answers = model.stream(
            lines.numbered(pictures) if lines else pictures,
            top=max(top, SHOWN) if panel or submission else top,
            crops=int(crops.value) if crops else None,
            batch_size=batch_size,
            workers=workers,
            num_images=num_images,
            total=len(inputs) if isinstance(inputs, Sized) else None if quiet else inputs.count(),
            # On a terminal the answers themselves show the progress, and a bar would get in their way.
            reporter=Reporter() if is_terminal(sys.stdout) and not submission else reporter,
        )
        tally = _Tally()
        if lines and submission:
            _submit(lines, tally.predictions(answers), submission, reporter)
        else:
            _print(tally.predictions(answers), top, _printer(as_json, as_jsonl, as_csv))
        if panel:
            _draw(tally, panel, reporter)
        tally.end()


def _refuse_contradictions(
    sources: tuple[bool, bool, bool], forms: tuple[bool, bool, bool], *, submission: bool, devkit: bool, only_stdin: bool
) -> None:
    if not any(sources):
        raise typer.BadParameter("nothing to look at: name pictures, a --files-from list, or --data")
    if sources[2] and any(sources[:2]):
        raise typer.BadParameter("--data and pictures by name exclude each other")
    if only_stdin:
        raise typer.BadParameter("standard input is either a picture or the list, not both")
    if sum(forms) > 1 or (submission and any(forms)):
        raise typer.BadParameter("--json, --jsonl, --csv and --submission exclude each other")
    if submission != devkit:
        raise typer.BadParameter("--submission and --devkit belong together: the kit numbers the challenge's classes")


def _stored(data: Path, split: str, model: "Model", reporter: Reporter, lines: "Submission | None") -> "StoredPictures":
    from alexnet_cli.core.store import open_store
    from alexnet_cli.core.submission import require_names

    store = open_store(data, split, sequential=True)
    pictures = stored_pictures(store, model, reporter)
    if lines:
        require_names(store)
    return pictures


def _lines_of(submission: Path | None, devkit: Path | None, model: "Model") -> "Submission | None":
    """Return what collects the lines of a submission, before the work of hours, or None where there is to be none."""
    if submission is None or devkit is None:
        return None
    from alexnet_cli.core.submission import Submission, class_numbers

    return Submission(class_numbers(devkit, model.weights.classes))


def _submit(lines: "Submission", predictions: "Iterable[Prediction]", path: Path, reporter: TerminalReporter) -> None:
    for prediction in predictions:
        lines.add(prediction.path, [one.class_id for one in prediction.predictions])
    count, missing = lines.write(path)
    reporter.finish()
    reporter.note(f"{count:,} lines, for the pictures 1 to {count:,}; ILSVRC-2012's test has 100,000")
    if missing:
        reporter.warn(f"no answer for {missing:,} of these numbers: their lines are {lines.filler}")
    print(path)


def _images_for(panel: Path | None) -> int:
    """Return how many pictures a panel will show; raises AlexNetError where it could not be drawn."""
    if panel is None:
        return 0
    from alexnet_cli.core.panel import MOST_PICTURES, prepare_to_draw

    prepare_to_draw()
    return MOST_PICTURES


def _print(predictions: "Iterable[Prediction]", top: int, printer: TextPrinter) -> None:
    with printer:
        for prediction in predictions:
            printer.add(replace(prediction, predictions=prediction.predictions[:top]))


def _printer(as_json: bool, as_jsonl: bool, as_csv: bool) -> TextPrinter:
    return JsonPrinter() if as_json else JsonLinesPrinter() if as_jsonl else CsvPrinter() if as_csv else TextPrinter()


def _draw(tally: "_Tally", path: Path, reporter: TerminalReporter) -> None:
    from alexnet_cli.core.panel import draw_panel

    if not tally.shown:
        reporter.warn(f"no picture could be read: {path} is not drawn")
        return
    draw_panel(tally.shown, path)
    some = f", the first {len(tally.shown)} of {tally.answered:,} pictures" if tally.answered > len(tally.shown) else ""
    reporter.note(f"panel: {path}{some}")


class _Tally(Tally):
    """Keeps those predictions that carry their image, too."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Prediction] = []

    def predictions(self, answers: "Iterable[Prediction | Failure]") -> "Iterator[Prediction]":
        for answer in self.answers(answers):
            if answer.image is not None:
                self.shown.append(answer)
            yield answer
