"""The verb `evaluate`: one weights file or an ensemble of several, on one device or on several ranks, against any labels."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet_cli.core.batches import resize_mismatch
from alexnet_cli.core.checkpoint import Weights, build_network, load_weights
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.devices import Precision, settle
from alexnet_cli.core.ensemble import search, top5_errors
from alexnet_cli.core.errors import CheckpointError, DataError
from alexnet_cli.core.evaluate import Member, answer, ask
from alexnet_cli.core.meeting import leave_ranks
from alexnet_cli.core.pace import StopRequest
from alexnet_cli.core.ranks import join_torchrun, plan_ranks, run_among_others, run_together
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.scoring import TOP, Answers, Evaluation
from alexnet_cli.core.store import Store, open_store
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.truths import ClassNames, match_classes, match_some_classes, read_truths, stored_truths
from alexnet_cli.core.views import num_views

# Half a minute of compiling saves 1.5 ms a view on two cores of a processor.
VIEWS_WORTH_COMPILING = 20_000
AGAIN = "start the same command again"


@dataclass(frozen=True)
class AssessOptions:
    """What a user asks for.

    weights: files; several are an ensemble. splits: tested together. crops: 10, 1, or None for what each recipe says. gpus: ranks,
    unless torchrun has started them; each holds the whole networks. labels: a file of other labels than the store's.
    restrict_classes: the store may lack classes of the weights, which then do not compete. tune_on: splits on which the ensemble's
    coefficients are searched; none to average plainly.
    """

    weights: tuple[Path, ...]
    data: Path
    splits: tuple[str, ...] = ("val",)
    crops: int | None = None
    device: str = "auto"
    precision: str = "auto"
    gpus: int = 1
    batch_size: int = 128
    workers: int | None = None
    labels: Path | None = None
    restrict_classes: bool = False
    tune_on: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Assessment:
    """What came of it.

    members: of each weights file, in order. evaluation: of all together, which is the member's own where there is one. answers: of
    all together. coefficients: what each member counts, of the sum 1. right_NL: the right classes of each picture, filled up by -1,
    as places in `classes`. words: the classes' names, in parallel. names: of the pictures, None where a store kept none.
    """

    members: tuple[Evaluation, ...]
    evaluation: Evaluation
    coefficients: tuple[float, ...]
    answers: Answers
    right_NL: NDArray[np.int64]
    classes: tuple[str, ...]
    words: tuple[str, ...]
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class _Job:
    options: AssessOptions
    precision: Precision


def assess(options: AssessOptions, reporter: Reporter | None = None) -> Assessment | None:
    """Measure weights on prepared pictures.

    Under torchrun every one of its processes calls this, and all but rank 0 get None. Raises CheckpointError, DataError,
    StoreError, DeviceError, and RunError when a rank is lost.
    """
    reporter = reporter or Reporter()
    ranks, precision = plan_ranks(options.gpus, 1, options.device, options.precision, place_from(), trains=False)
    job = _Job(options, precision)
    stop = StopRequest(lambda text: None)
    prepared = _prepare(options)  # whatever is wrong is said before other processes are started
    if ranks.place is None or ranks.place.rank == 0:
        _warn_of_resize(prepared, reporter)
    if ranks.place:
        try:
            layout = join_torchrun(ranks)
            quiet = reporter if layout.rank == 0 else Reporter()
            found = run_among_others(_assess_rank, job, layout, quiet, stop, hint=AGAIN)
            return found if layout.rank == 0 else None
        finally:
            leave_ranks()
    if ranks.world > 1:
        return run_together(_assess_rank, job, ranks, reporter, stop, hint=AGAIN)
    return _assess(job, prepared, Layout(device=ranks.devices[0]), reporter)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Weights and data that fit. outputs: for each weights file, which of its outputs are the classes, in their order."""

    weights: tuple[Weights, ...]
    stores: tuple[Store, ...]
    tuning_stores: tuple[Store, ...]
    classes: ClassNames
    outputs: tuple[list[int], ...]
    right_NL: NDArray[np.int64]


def _prepare(options: AssessOptions) -> _Prepared:
    if options.tune_on and len(options.weights) == 1:
        raise CheckpointError("--tune-weights with one weights file", hint="name two or more, whose probabilities are to be mixed")
    weights = tuple(load_weights(path) for path in options.weights)
    stores = tuple(open_store(options.data, split, sequential=True) for split in options.splits)
    tuning_stores = tuple(open_store(options.data, split, sequential=True) for split in options.tune_on)
    first = ClassNames(weights[0].classes, weights[0].words)
    classes = _those_of_the_stores(first, (*stores, *tuning_stores)) if options.restrict_classes else first
    outputs = tuple(_outputs(one, classes, exactly=not options.restrict_classes) for one in weights)
    if options.labels:
        right_NL = _among(read_truths(options.labels, stores, first), first.places(classes), len(first.ids))
    else:
        right_NL = stored_truths(stores, [match_classes(store, classes.ids, classes.words) for store in stores])
    return _Prepared(weights, stores, tuning_stores, classes, outputs, right_NL)


def _among(right_NL: NDArray[np.int64], places: Sequence[int | None], count: int) -> NDArray[np.int64]:
    """Return right classes of `count` as those of a part of them; what is not among them is right no more."""
    new = np.full(count + 1, -1, dtype=np.int64)  # the last one for -1
    new[[place for place in places if place is not None]] = np.arange(len(places))
    return -np.sort(-new[right_NL], axis=1)  # filled up by -1


def _those_of_the_stores(ours: ClassNames, stores: Sequence[Store]) -> ClassNames:
    places = sorted({int(place) for store in stores for place in match_some_classes(store, ours.ids, ours.words)})
    return ClassNames([ours.ids[place] for place in places], [ours.words[place] for place in places])


def _outputs(weights: Weights, classes: ClassNames, *, exactly: bool) -> list[int]:
    """Return the outputs of the classes. Raises DataError where weights lack one, or have more and may not."""
    places = ClassNames(weights.classes, weights.words).places(classes)
    missing = [name for name, place in zip(classes.ids, places, strict=True) if place is None]
    if missing or (exactly and len(weights.classes) != len(classes.ids)):
        raise DataError(
            f"{weights.path} has other classes than the first weights: {len(weights.classes)} against {len(classes.ids)}"
            + (f", none is {missing[0]!r}" if missing else ""),
            hint="an ensemble needs networks of the same classes",
        )
    return [place for place in places if place is not None]


def _warn_of_resize(prepared: _Prepared, reporter: Reporter) -> None:
    """Say where pictures became squares in another way than a network was trained for: its error is then not its own."""
    for store in prepared.stores:
        for weights in prepared.weights:
            mismatch = resize_mismatch(store, weights.recipe)
            if mismatch:
                reporter.warn(f"{mismatch}: the error of {weights.path} on such pictures is another")


def _assess_rank(job: _Job, layout: Layout, reporter: Reporter, stop: StopRequest) -> Assessment:
    return _assess(job, _prepare(job.options), layout, reporter)


def _assess(job: _Job, prepared: _Prepared, layout: Layout, reporter: Reporter) -> Assessment:
    began = time.perf_counter()
    options, precision = job.options, job.precision
    settle(precision, layout.device)
    members = [_member(one, own, layout, precision) for one, own in zip(prepared.weights, prepared.outputs, strict=True)]
    _compile(members, prepared, options, layout)
    coefficients = _coefficients(job, prepared, members, layout, reporter)
    answers = answer(
        members,
        prepared.stores,
        prepared.right_NL,
        coefficients=coefficients,
        crops=options.crops,
        device=layout.device,
        precision=precision,
        batch_size=options.batch_size,
        workers=options.workers,
        reporter=reporter,
    )
    seconds = time.perf_counter() - began
    top_k = min(TOP, len(prepared.classes.ids))
    views = [num_views(one.recipe, one.recipe.test_crops if options.crops is None else options.crops) for one in prepared.weights]
    found = [own.evaluation(most, top_k, seconds) for own, most in zip(answers, [*views, max(views)], strict=False)]
    return Assessment(
        tuple(found[: len(members)]),
        found[-1],
        tuple(coefficients),
        answers[-1],
        prepared.right_NL,
        tuple(prepared.classes.ids),
        tuple(prepared.classes.words),
        _names(prepared.stores),
    )


def _member(weights: Weights, outputs: Sequence[int], layout: Layout, precision: Precision) -> Member:
    network = build_network(weights, layout.device, precision, layout, cast=True)
    all_of_them = list(outputs) == list(range(len(weights.classes)))
    return Member(network, weights.mean, weights.recipe, None if all_of_them else torch.tensor(outputs))


def _compile(members: Sequence[Member], prepared: _Prepared, options: AssessOptions, layout: Layout) -> None:
    """Have the normalisation compiled where that takes less time than it saves."""
    images = sum(len(store) for store in (*prepared.stores, *prepared.tuning_stores)) // layout.replicas
    for member in members:
        crops = member.recipe.test_crops if options.crops is None else options.crops
        if images * num_views(member.recipe, crops) >= VIEWS_WORTH_COMPILING and not compile_problem(layout.device):
            member.network.compile_normalisation(tests=True)


def _coefficients(job: _Job, prepared: _Prepared, members: Sequence[Member], layout: Layout, reporter: Reporter) -> list[float]:
    """Return what each member counts: all alike, or what is best on the split that the user has named for it."""
    options = job.options
    if not options.tune_on:
        return [1 / len(members)] * len(members)
    classes, stores = prepared.classes, prepared.tuning_stores
    right_NL = torch.from_numpy(stored_truths(stores, [match_classes(store, classes.ids, classes.words) for store in stores]))
    passes = ask(
        members,
        stores,
        options.crops,
        device=layout.device,
        precision=job.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        reporter=reporter,
    )
    parts = [(probabilities_MBK.cpu().float(), right_NL[positions]) for positions, probabilities_MBK in passes]
    return search(top5_errors(parts, layout), len(members))


def _names(stores: Sequence[Store]) -> tuple[str, ...] | None:
    names = [store.names() for store in stores]
    return None if None in names else tuple(name for own in names if own is not None for name in own)
