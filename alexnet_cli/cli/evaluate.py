"""`alexnet evaluate`: the error of trained weights on prepared pictures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_cli.cli.command import running
from alexnet_cli.cli.evaluate_options import (
    ConfusionOption,
    GpusOption,
    LabelsOption,
    PerClassOption,
    PredictionsOption,
    RestrictOption,
    SplitsOption,
    TuneOption,
    WeightsArgument,
)
from alexnet_cli.cli.given_weights import bring
from alexnet_cli.cli.options import (
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
from alexnet_cli.cli.render import duration, percent, print_facts, print_json, print_table
from alexnet_cli.core.files import require_place
from alexnet_cli.core.imagenet import NUM_VAL
from alexnet_cli.core.intervals import wilson_interval
from alexnet_cli.core.published import is_ilsvrc2012_val, published_rows
from alexnet_cli.core.torchrun import place_from

if TYPE_CHECKING:
    from alexnet_cli.core.assess import Assessment, AssessOptions
    from alexnet_cli.core.confusion import ClassResult, Confusions, Pair

SHOWN, PAIRS = 3, 10  # classes and pairs in the summary, pairs in the document


def evaluate(
    weights: WeightsArgument = None,
    data: DataOption = Path("data"),
    split: SplitsOption = "val",
    crops: CropsOption = None,
    labels: LabelsOption = None,
    restrict_classes: RestrictOption = False,
    tune_weights: TuneOption = None,
    predictions: PredictionsOption = None,
    per_class: PerClassOption = None,
    confusion: ConfusionOption = None,
    gpus: GpusOption = 1,
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

    Ten views of each picture are taken, and their probabilities averaged; those of several weights too, as the paper's 5 and 7
    CNNs. Intervals are of 95 %.
    """
    place = place_from()
    silent = place is not None and place.rank > 0  # rank 0 speaks for all that torchrun has started
    with running(quiet=quiet or silent, debug=debug) as reporter:
        from alexnet_cli.core.assess import AssessOptions, assess
        from alexnet_cli.core.checkpoint import resolve_weights

        _require_writable([predictions, per_class], confusion)
        paths = tuple(
            # Ranks would meet in the cache.
            resolve_weights(bring(name, runs, reporter, yes=yes and place is None, ask=place is None), runs)
            for name in weights or (None,)
        )
        for path in paths:
            reporter.note(f"weights: {path}")
        options = AssessOptions(
            weights=paths,
            data=data,
            splits=tuple(split.split(",")),
            crops=int(crops.value) if crops else None,
            device=device.value,
            precision=precision.value,
            gpus=gpus,
            batch_size=batch_size,
            workers=workers,
            labels=labels,
            restrict_classes=restrict_classes,
            tune_on=tuple(tune_weights.split(",")) if tune_weights else (),
        )
        found = assess(options, reporter)
        if found is None:
            return
        if set(options.tune_on) & set(options.splits):
            reporter.warn("the ensemble was tuned on the pictures that it is tested on: its error is better than on others")
        mistakes = _mistakes(found)
        result = _result(found, options, mistakes)
        print_json(result) if as_json else _print(result)
        _write_files(found, mistakes, predictions, per_class, confusion)


def _require_writable(tables: Sequence[Path | None], picture: Path | None) -> None:
    """Raise, before the network runs, what would keep a result from being written after it."""
    from alexnet_cli.core.answer_files import require_writable_table
    from alexnet_cli.core.plot import require_matplotlib

    for table in tables:
        if table:
            require_writable_table(table)
    if picture:
        require_place(picture)
        require_matplotlib("confusions")


@dataclass(frozen=True)
class _Mistakes:
    """What the answers say of the classes: how often each was named each, and their results, in their order."""

    confusions: "Confusions"
    classes: "list[ClassResult]"


def _mistakes(found: "Assessment") -> _Mistakes:
    from alexnet_cli.core.confusion import attributed, class_results, count_confusions

    named_N = found.answers.named_NT[:, 0]
    truth_N = attributed(found.right_NL, named_N)
    confusions = count_confusions(truth_N, named_N, len(found.classes))
    results = class_results(confusions, truth_N, (found.answers.top1_N, found.answers.top5_N), found.classes, found.words)
    return _Mistakes(confusions, results)


def _write_files(
    found: "Assessment", mistakes: _Mistakes, predictions: Path | None, per_class: Path | None, confusion: Path | None
) -> None:
    from alexnet_cli.core.answer_files import write_class_results, write_predictions
    from alexnet_cli.core.confusion import draw_confusions
    from alexnet_cli.core.plot import save_figure

    if predictions:
        write_predictions(predictions, found)
    if per_class:
        write_class_results(per_class, mistakes.classes)
    if confusion:
        save_figure(draw_confusions(mistakes.confusions, found.words), confusion)


def _result(found: "Assessment", options: "AssessOptions", mistakes: _Mistakes) -> dict[str, Any]:
    """Return the JSON document: the figures of all together, then the members' and the classes'."""
    from alexnet_cli.core.confusion import confused_pairs

    splits = list(options.splits)
    ordered = sorted(mistakes.classes, key=lambda one: (one.top1_error, one.class_id))
    published = is_ilsvrc2012_val(found.classes, splits) and not options.labels
    members = [
        {"weights": str(path), "coefficient": share, **_figures(one)}
        for path, share, one in zip(options.weights, found.coefficients, found.members, strict=True)
    ]
    return {
        **_figures(found.evaluation),
        "seconds": found.evaluation.seconds,
        "classes": len(found.classes),
        "weights": ", ".join(str(path) for path in options.weights),
        "data": str(options.data),
        "split": ",".join(splits),
        "labels": str(options.labels) if options.labels else None,
        "tuned_on": ",".join(options.tune_on) or None,
        "members": members,
        "best_classes": [_class(one) for one in ordered[:SHOWN]],
        "worst_classes": [_class(one) for one in ordered[::-1][:SHOWN]],
        "confused": [_pair(one, found.classes) for one in confused_pairs(mistakes.confusions, PAIRS)],
        "expected_images": NUM_VAL if published else None,
        "published": [asdict(row) for row in published_rows(found.evaluation.crops)] if published else [],
    }


def _figures(evaluation: Any) -> dict[str, Any]:
    errors = {name: getattr(evaluation, name) for name in ("top1_error", "top5_error")}
    intervals = {name.replace("error", "interval"): wilson_interval(error, evaluation.images) for name, error in errors.items()}
    return {
        "images": evaluation.images,
        "crops": evaluation.crops,
        **errors,
        **intervals,
        "top_k": evaluation.top_k,
        "loss": evaluation.loss,
    }


def _class(one: "ClassResult") -> dict[str, Any]:
    return {"class": one.class_id, "name": one.name, "images": one.images, "top1_error": one.top1_error}


def _pair(pair: "Pair", classes: Sequence[str]) -> dict[str, Any]:
    return {"class": classes[pair.truth], "named": classes[pair.named], "images": pair.count, "share": pair.share}


# Text ------------------------------------------------------------------------------------------------------------------------


def _print(result: dict[str, Any]) -> None:
    top_k = result["top_k"]
    fewer = "" if top_k == 5 else f"  (top-{top_k}: there are only {result['classes']} classes)"
    labels = f", labels of {result['labels']}" if result["labels"] else ""
    print_facts(
        [
            ("images", f"{result['images']:,} of {result['data']}, {result['split']}{labels}"),
            ("views", f"{result['crops']} of each picture"),
            ("top-1 error", _with_interval(result, "top1")),
            (f"top-{top_k} error", _with_interval(result, "top5") + fewer),
            ("loss", f"{result['loss']:.4f}"),
            *_classes(result),
            ("time", duration(result["seconds"])),
            ("weights", result["weights"]),
        ]
    )
    _print_members(result)
    _print_published(result)


def _with_interval(figures: dict[str, Any], top: str) -> str:
    low, high = figures[f"{top}_interval"]
    return f"{percent(figures[f'{top}_error'])}  ({100 * low:.1f} to {100 * high:.1f})"


def _classes(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the classes that are named best and worst, and what is mistaken most, where there is something to compare."""
    if result["classes"] < 2 * SHOWN:
        return []
    rows = [(kind, _listed(result[f"{kind}_classes"])) for kind in ("best", "worst")]
    facts = [(f"{kind} classes", text) for kind, text in rows]
    if result["confused"]:
        pairs = [f"{pair['class']} named {pair['named']} ({pair['images']:,})" for pair in result["confused"][:SHOWN]]
        facts.append(("mistaken most", ", ".join(pairs)))
    return facts


def _listed(classes: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{one['name'].split(',')[0]} {percent(one['top1_error'])}" for one in classes)


def _print_members(result: dict[str, Any]) -> None:
    members = result["members"]
    if len(members) < 2:
        return
    how = f"tuned on {result['tuned_on']}" if result["tuned_on"] else "averaged"
    together = {**result, "weights": f"all together, {how}", "coefficient": 1.0}
    rows = [
        (
            one["weights"],
            f"{one['coefficient']:.3f}",
            _with_interval(one, "top1"),
            _with_interval(one, "top5"),
            f"{one['loss']:.4f}",
        )
        for one in [*members, together]
    ]
    print()
    print_table(("weights", "counts", "top-1 error", f"top-{result['top_k']} error", "loss"), rows)


def _print_published(result: dict[str, Any]) -> None:
    """Put what was published beside it, or say why the two cannot be compared."""
    if not result["published"]:
        return
    print()
    if result["images"] != result["expected_images"]:
        print(f"{result['images']:,} pictures, not ILSVRC-2012's {NUM_VAL:,} for validation: published results do not compare")
        return
    rows = [("these weights", percent(result["top1_error"]), percent(result["top5_error"]))]
    rows += [(row["name"], percent(row["top1_error"]), percent(row["top5_error"])) for row in result["published"]]
    print_table(("ILSVRC-2012 validation", "top-1 error", "top-5 error"), rows)
