"""`alexnet similar`: which pictures of a store are most alike to others."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alexnet_cli.cli.command import running
from alexnet_cli.cli.features_options import (
    CsvSimilarOption,
    Dtype,
    ExcludeSelfOption,
    Index,
    IndexOption,
    KeptDtypeOption,
    LayerOption,
    LimitOption,
    NeighboursOption,
    QueriesArgument,
    SimilarOutOption,
    StoreSplitOption,
)
from alexnet_cli.cli.given_pictures import Tally, load_model, pictures_or_stores, refuse_contradictions, stored_pictures, with_truth
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    BatchSizeOption,
    DataOption,
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
from alexnet_cli.cli.predict_options import FilesFromOption, JsonLinesOption, NullOption, Truth, TruthOption
from alexnet_cli.cli.predictions import CsvPrinter, JsonLinesPrinter, JsonPrinter, TextPrinter
from alexnet_cli.cli.similar_answers import form
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.similar import Search, Similar

SHOWN = 24  # queries of a panel


def similar(
    queries: QueriesArgument = None,
    files_from: FilesFromOption = None,
    null: NullOption = False,
    data: DataOption = Path("data"),
    split: StoreSplitOption = "train",
    top: NeighboursOption = 6,
    limit: LimitOption = None,
    exclude_self: ExcludeSelfOption = False,
    layer: LayerOption = None,
    index: IndexOption = Index.EXACT,
    dtype: KeptDtypeOption = Dtype.FLOAT16,
    out: SimilarOutOption = None,
    truth: TruthOption = Truth.NONE,
    weights: WeightsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.FP32,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    as_csv: CsvSimilarOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Name the prepared pictures that are most alike to others.

    Nearest by Euclidean distance of the last hidden layer's values, as in the paper's figure 4, right. The store's are computed
    once and kept beside it; an interrupted computation goes on where it stopped.
    """
    refuse_contradictions(queries or [], files_from, None, "no query: name pictures, a store's folder, or a --files-from list")
    if as_json + as_jsonl + as_csv > 1:
        raise typer.BadParameter("--json, --jsonl and --csv exclude each other")
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.similar import Search
        from alexnet_cli.core.store import open_store

        _refuse_what_is_missing(out, index)
        model = load_model(bring(weights, runs, reporter, yes=yes), runs, device, precision, reporter)
        store = stored_pictures(open_store(data, split, sequential=True), model, reporter).store
        passes: Any = {"batch_size": batch_size, "workers": workers}
        search = Search(model, store, layer=layer, dtype=dtype.value, index=index.value, reporter=reporter, **passes)
        inputs = pictures_or_stores(queries or [], files_from, null, model, reporter)
        asked = islice(with_truth(inputs, model) if truth is Truth.FOLDER else inputs, limit)
        described = model.features(asked, layer=search.layer, num_images=SHOWN if out else 0, **passes)
        tally = Tally()
        found = tally.answers(search.answers(described, top=top, exclude_self=exclude_self))
        shown = _print(found, _printer(as_json, as_jsonl, as_csv)(form(search.kind)))
        if out:
            _draw(shown, search, out, reporter)
        tally.end()


def _refuse_what_is_missing(out: Path | None, index: Index) -> None:
    """Raise, before the network runs, what would spoil the end of its work."""
    if out is not None:
        from alexnet_cli.core.files import require_place
        from alexnet_cli.core.panel import prepare_to_draw

        prepare_to_draw()
        require_place(out)
    if index is Index.FAISS:
        from alexnet_cli.core.faiss_index import require_faiss

        require_faiss()


def _printer(as_json: bool, as_jsonl: bool, as_csv: bool) -> type[TextPrinter]:
    return JsonPrinter if as_json else JsonLinesPrinter if as_jsonl else CsvPrinter if as_csv else TextPrinter


def _print(found: "Iterable[Similar]", printer: TextPrinter) -> "list[Similar]":
    """Print all and return those whose image was kept."""
    shown = []
    with printer:
        for similar in found:
            printer.add(similar)
            if similar.image is not None:
                shown.append(similar)
    return shown


def _draw(shown: "list[Similar]", search: "Search", path: Path, reporter: Reporter) -> None:
    from alexnet_cli.core.similar_panel import MOST_NEIGHBOURS, draw_similar

    if not shown:
        reporter.warn(f"no picture could be read: {path} is not drawn")
        return
    named = max(len(similar.neighbours) for similar in shown)
    draw_similar(shown, search.store.image, path)
    some = f", the nearest {MOST_NEIGHBOURS} of {named}" if named > MOST_NEIGHBOURS else ""
    reporter.note(f"panel: {path}, {len(shown)} queries{some}")
