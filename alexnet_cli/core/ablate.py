"""Ablations: recipes trained alike with several seeds, and by how much each is better or worse than the first."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alexnet_cli.core.architecture import layer_table
from alexnet_cli.core.checkpoint import build_network, load_weights
from alexnet_cli.core.continuation import fingerprint
from alexnet_cli.core.devices import choose_device, choose_precision, settle
from alexnet_cli.core.evaluate import evaluate
from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.metrics import read_rows
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.recipes import ENTRIES
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.store import open_store
from alexnet_cli.core.train_job import TrainOptions
from alexnet_cli.core.trials import Trial, check_trials


@dataclass(frozen=True)
class AblateOptions:
    """What a user asks for.

    train: what all trainings have in common. recipes: by name, the one that the others are compared with first. seeds: trainings
    of each, with seeds from 0 on. splits: to test on, taken together. crops: 10, 1, or None for each recipe's.
    """

    train: TrainOptions
    recipes: Mapping[str, Recipe]
    seeds: int = 1
    splits: tuple[str, ...] = ("val",)
    crops: int | None = None


@dataclass(frozen=True)
class Score:
    """What came of one training, tested with its newest weights.

    top1_error, top5_error: 0-1, the latter of `top_k` classes. images_per_second: the median of its log, None where it has none.
    """

    run: str
    seed: int
    images: int
    crops: int
    top1_error: float
    top5_error: float
    top_k: int
    loss: float
    images_per_second: float | None


@dataclass(frozen=True)
class Summary:
    """A figure over the seeds: mean, and sample standard deviation, None for one seed."""

    mean: float
    spread: float | None


@dataclass(frozen=True)
class Effect:
    """One recipe over its seeds.

    top1, top5: errors, 0-1. top1_change, top5_change: theirs less the first recipe's, seed by seed; None for the first.
    published: what its authors measured, as text.
    """

    name: str
    published: str
    parameters: int
    top1: Summary
    top5: Summary
    top1_change: Summary | None
    top5_change: Summary | None
    images_per_second: float | None
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class Ablation:
    """All recipes, in their order; none where a signal of that number stopped it before its end."""

    effects: tuple[Effect, ...]
    stopped_by: int = 0


def ablate(options: AblateOptions, reporter: Reporter | None = None) -> Ablation:
    """Train each recipe with each seed and test it; what an earlier call has finished is taken from there.

    Raises what `check_trials` raises before anything is trained, and what `train` and `evaluate` raise later.
    """
    reporter = reporter or Reporter()
    trials = [
        (name, Trial(f"ablate-{name}-{seed}", recipe, seed))
        for name, recipe in options.recipes.items()
        for seed in range(options.seeds)
    ]
    check_trials([trial for _, trial in trials], options.train, options.splits)
    data = {split: fingerprint(open_store(options.train.data, split)) for split in ("train", *options.splits)}
    scores: dict[str, list[Score]] = {name: [] for name in options.recipes}
    for number, (name, trial) in enumerate(trials, start=1):
        reporter.note(f"training {number} of {len(trials)}: {trial.run}")
        stopped_by = _finish(trial, options, data, reporter)
        if stopped_by:
            return Ablation((), stopped_by)
        scores[name].append(_score(trial, trial.folder(options.train)))
    num_classes = len(open_store(options.train.data, "train").classes)
    counts = {name: sum(row.parameters for row in layer_table(one, num_classes)) for name, one in options.recipes.items()}
    return Ablation(compare(scores, counts))


def _finish(trial: Trial, options: AblateOptions, data: Mapping[str, Any], reporter: Reporter) -> int:
    """Train and test unless that is done; return the signal that stopped the training, or 0."""
    folder = trial.folder(options.train)
    wanted = {
        "recipe": trial.recipe.to_dict(),
        "seed": trial.seed,
        "data": data,
        "splits": options.splits,
        "crops": options.crops,
    }
    wanted = json.loads(json.dumps(wanted))  # as it reads in a file: lists for tuples
    if folder.last.is_file() and _read(folder).get("of") == wanted:
        return 0
    result = trial.train(options.train, reporter)
    if result.stopped_by:
        return result.stopped_by
    text = json.dumps({"of": wanted, "result": _measure(folder, options, reporter)}, indent=1) + "\n"
    write_atomically(folder.evaluation, lambda partial: partial.write_text(text, encoding="utf-8"))
    return 0


def _measure(folder: RunFolder, options: AblateOptions, reporter: Reporter) -> dict[str, Any]:
    common = options.train
    device = choose_device(common.device)
    precision = choose_precision(common.precision, device)
    settle(precision, device)
    weights = load_weights(folder.last)
    evaluation = evaluate(
        build_network(weights, device, precision, cast=True),
        weights.mean,
        [open_store(common.data, split, sequential=True) for split in options.splits],
        classes=weights.classes,
        crops=options.crops,
        device=device,
        precision=precision,
        workers=common.workers,
        reporter=reporter,
    )
    return asdict(evaluation)


def _read(folder: RunFolder) -> dict[str, Any]:
    """Return what an earlier call has measured; nothing where there is no such file, or one that cannot be used."""
    try:
        found = json.loads(folder.evaluation.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("result"), dict) else {}


def _score(trial: Trial, folder: RunFolder) -> Score:
    measured = {name: value for name, value in _read(folder)["result"].items() if name != "seconds"}
    return Score(run=trial.run, seed=trial.seed, images_per_second=_speed(folder), **measured)


def _speed(folder: RunFolder) -> float | None:
    speeds = [row["images_per_second"] for row in read_rows(folder.metrics) if row.get("images_per_second")]
    return statistics.median(speeds) if speeds else None


# Numbers ---------------------------------------------------------------------------------------------------------------------


def compare(scores: Mapping[str, Sequence[Score]], parameters: Mapping[str, int]) -> tuple[Effect, ...]:
    """Sum up each recipe over its seeds, and what it changes against the first one at the same seeds."""
    base = next(iter(scores.values()))
    effects = []
    for name, own in scores.items():
        speeds = [score.images_per_second for score in own if score.images_per_second is not None]
        effects.append(
            Effect(
                name=name,
                published=ENTRIES[name].effect if name in ENTRIES else "",
                parameters=parameters[name],
                top1=summarise([score.top1_error for score in own]),
                top5=summarise([score.top5_error for score in own]),
                top1_change=_change([s.top1_error for s in own], [s.top1_error for s in base]) if own is not base else None,
                top5_change=_change([s.top5_error for s in own], [s.top5_error for s in base]) if own is not base else None,
                images_per_second=statistics.fmean(speeds) if speeds else None,
                scores=tuple(own),
            )
        )
    return tuple(effects)


def _change(own: Sequence[float], base: Sequence[float]) -> Summary:
    return summarise([one - other for one, other in zip(own, base, strict=True)])


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and sample standard deviation, which divides by n - 1."""
    return Summary(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)
