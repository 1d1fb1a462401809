"""`alexnet features`: what a layer makes of pictures, as a file for other programs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_cli.cli.command import running
from alexnet_cli.cli.features_options import (
    Dtype,
    DtypeOption,
    FeaturesOutOption,
    LayerOption,
    SourcesArgument,
    StoreSplitOption,
    Views,
    ViewsOption,
)
from alexnet_cli.cli.given_pictures import (
    Tally,
    load_model,
    pictures_or_stores,
    refuse_contradictions,
    stored_pictures,
    with_truth,
)
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
    BatchSizeOption,
    DebugOption,
    Device,
    DeviceOption,
    Precision,
    PrecisionOption,
    QuietOption,
    RunsOption,
    WeightsOption,
    WorkersOption,
    YesOption,
)
from alexnet_cli.cli.predict_options import FilesFromOption, NullOption, PreparedOption, Truth, TruthOption
from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from alexnet_cli.core.feature_files import About, Row
    from alexnet_cli.core.features import Features
    from alexnet_cli.core.inputs import Together
    from alexnet_cli.core.predict import Model


def features(
    sources: SourcesArgument = None,
    files_from: FilesFromOption = None,
    null: NullOption = False,
    data: PreparedOption = None,
    split: StoreSplitOption = "train",
    layer: LayerOption = None,
    out: FeaturesOutOption = Path("features.npy"),
    dtype: DtypeOption = Dtype.FLOAT32,
    views: ViewsOption = Views.CENTRE,
    truth: TruthOption = Truth.NONE,
    weights: WeightsOption = None,
    runs: RunsOption = Path("runs"),
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = Precision.FP32,
    batch_size: BatchSizeOption = 128,
    workers: WorkersOption = None,
    yes: YesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write what a layer makes of pictures, as descriptors for use elsewhere.

    One row a picture, maps flattened channel, row, column. A picture that cannot be read is named on stderr and left out, and the
    exit code is 1.
    """
    nothing = "nothing to look at: name pictures, a store, a --files-from list, or --data"
    refuse_contradictions(sources or [], files_from, data, nothing)
    with running(quiet=quiet, debug=debug) as reporter:
        from alexnet_cli.core.feature_files import require_writable_features, write_features

        require_writable_features(out, dtype.value, files_from)
        model = load_model(bring(weights, runs, reporter, yes=yes), runs, device, precision, reporter)
        crops = 10 if views is Views.TEN else 1
        about = _about(model, layer, crops, dtype)
        inputs = (
            _stored(data, split, model, reporter) if data else pictures_or_stores(sources or [], files_from, null, model, reporter)
        )
        found = model.features(
            with_truth(inputs, model) if truth is Truth.FOLDER else inputs,
            layer=layer,
            crops=crops,
            batch_size=batch_size,
            workers=workers,
            total=None if quiet else inputs.count(),
            reporter=reporter,
        )
        tally = Tally()
        words = {**dict(zip(model.weights.classes, model.weights.words, strict=True)), **inputs.words()}
        count = write_features(out, _rows(tally.answers(found), words), about)
        reporter.finish()
        reporter.note(f"{count:,} rows of {about.values:,} values: {about.layer}, {' x '.join(map(str, about.shape))}")
        print(out)
        tally.end()


def _stored(data: Path, split: str, model: "Model", reporter: Reporter) -> "Together":
    from alexnet_cli.core.inputs import Together
    from alexnet_cli.core.store import open_store

    return Together([stored_pictures(open_store(data, split, sequential=True), model, reporter)])


def _about(model: "Model", layer: str | None, crops: int, dtype: Dtype) -> "About":
    from alexnet_cli.core.feature_files import About
    from alexnet_cli.core.features import feature_shape, last_hidden
    from alexnet_cli.core.files import checksum
    from alexnet_cli.core.views import num_views

    weights = model.weights
    assert weights.path is not None  # they were loaded
    layer = last_hidden(weights.recipe) if layer is None else layer
    shape = feature_shape(weights.recipe, len(weights.classes), layer)
    views = num_views(weights.recipe, crops)
    return About(layer, shape, views, dtype.value, weights.recipe.name, str(weights.path), checksum(weights.path))


def _rows(found: "Iterable[Features]", words: Mapping[str, str]) -> "Iterator[Row]":
    from alexnet_cli.core.feature_files import Row

    for one in found:
        label = one.truth or ""
        yield Row(one.path, label, words.get(label) or label, one.values)
