"""The verb `prepare`: a source of pictures > one store per split, with the training set's mean and colour components.

It can be killed at any moment; the same call continues and ends with the same records, labels, meta and statistics.
"""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import features

from alexnet_cli import __version__
from alexnet_cli.core.archives import verify_archives
from alexnet_cli.core.conversion import CHUNK, Conversion, convert_all
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.disk_need import refuse_small_disk
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.images import RESIZES, STORED_SIZE
from alexnet_cli.core.output import (
    REJECTED_FILE,
    Plan,
    State,
    claim,
    examine,
    exclusive,
    finished,
    read_rejected,
    refuse_overlap,
    write_rejected,
)
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.scaling import scaler
from alexnet_cli.core.sources import find_source, require_val
from alexnet_cli.core.splits import NO_LABEL, Selection, Source, Split, select
from alexnet_cli.core.store import DATA_FILE, FORMAT_VERSION, FORMATS, SPLITS, Store, write_stats
from alexnet_cli.core.store_writer import COMMIT_PICTURES, StoreWriter

SILENT = Reporter()
EVERYTHING = Selection()
SIZES = range(8, 1025)
SKIP = 'repair or remove it, or skip such pictures with "--on-error skip"'


@dataclass(frozen=True)
class SplitSummary:
    """One split: records in its store, pictures rejected, bytes of its file."""

    records: int
    rejected: int
    bytes: int


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare` made or found.

    splits: by name, in the order of writing. classes: number of them. rejected_file: lists rejected pictures, None without any.
    unchanged: it was complete already. images: converted by this call. seconds: of this call. images_per_second: their ratio.
    """

    out: Path
    splits: dict[str, SplitSummary]
    classes: int
    rejected_file: Path | None
    unchanged: bool
    images: int
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class _Job:
    source: Source
    out: Path
    plan: Plan
    workers: int
    stop_on_error: bool
    max_rejected: int | None
    commit_pictures: int
    reporter: Reporter


def prepare(
    source: str | Path,
    out: Path,
    *,
    kind: str | None = None,
    selection: Selection = EVERYTHING,
    format: Literal["jpeg", "raw"] = "jpeg",
    quality: int = 95,
    size: int = STORED_SIZE,
    resize: Literal["short_side", "warp"] = "short_side",
    workers: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    force: bool = False,
    on_error: Literal["skip", "stop"] = "skip",
    max_rejected: int | None = None,
    verify: bool = False,
    downloads: Path = Path("downloads"),
    reporter: Reporter = SILENT,
    commit_pictures: int = COMMIT_PICTURES,
) -> PrepareSummary:
    """Make a store of every split in `source`, or continue, or leave alone what is complete.

    source, kind, downloads: as `find_source` takes them. selection: the part of it that is wanted. format, quality: of the
    stored pictures, JPEG 1-100 or raw RGB. size: side of the stored squares, SIZES. resize: the shorter side becomes `size` and
    the centre is kept, or the whole is warped. workers: processes, None for one per processor core. limit: so many pictures per
    split at most, drawn from all classes. seed: of the records' order and of the selection. force: replace what an earlier
    `prepare` left in `out`. on_error: "stop" at the first picture that cannot be read, or "skip" and list it. max_rejected: how
    many of these are borne. verify: compare the official archives with their published sums first. commit_pictures: how much
    work a kill may cost.
    Raises SourceError, StoreError, DiskFullError, and DataError when pictures cannot be read.
    """
    began = time.monotonic()
    _check_arguments(format, quality, workers, limit)
    _check_squares(size, resize)
    found = _find(source, kind, downloads, selection, seed, reporter)
    if verify:
        _verify(found, reporter)
    plan = replace(_plan(found, format, quality, limit, seed, selection), size=size, resize=resize)
    job = _Job(found, Path(out), plan, workers or usable_cores(), on_error == "stop", max_rejected, commit_pictures, reporter)
    refuse_overlap(found.path, job.out)
    with exclusive(job.out):
        state = examine(job.out, plan, force=force)
        images = 0
        if state == "complete":
            reporter.note(f"{job.out} is complete, from the same source with the same arguments: nothing to do")
        else:
            images = _prepare_all(job, state)
        summary = _summary(job, images, time.monotonic() - began, unchanged=state == "complete")
        _refuse_rejected(job, sum(split.rejected for split in summary.splits.values()))
        return summary


def _verify(source: Source, reporter: Reporter) -> None:
    names = verify_archives(source.path, reporter) if source.kind in ("archives", "imagenet") else []
    if not names:
        raise DataError(f"{source.path} has none of ImageNet's official archives", hint="leave out --verify-archives")
    reporter.note(f"MD5 as published: {', '.join(names)}")


def _find(source: str | Path, kind: str | None, downloads: Path, selection: Selection, seed: int, reporter: Reporter) -> Source:
    found = find_source(source, kind=kind, downloads=downloads, reporter=reporter)
    found = select(found, selection, seed)
    require_val(found)
    for lack in found.lacks:
        reporter.warn(lack)
    return found


def _check_arguments(format: str, quality: int, workers: int | None, limit: int | None) -> None:
    if format not in FORMATS:
        raise DataError(f'format "{format}", expected {" or ".join(FORMATS)}')
    if not 1 <= quality <= 100:
        raise DataError(f"quality {quality}, expected 1 to 100")
    if workers is not None and workers < 1:
        raise DataError(f"{workers} workers, expected 1 or more")
    if limit is not None and limit < 1:
        raise DataError(f"limit {limit}, expected 1 or more")


def _check_squares(size: int, resize: str) -> None:
    if size not in SIZES:
        raise DataError(f"size {size}, expected {SIZES.start} to {SIZES.stop - 1}")
    if resize not in RESIZES:
        raise DataError(f'resize "{resize}", expected {" or ".join(RESIZES)}')


def _plan(source: Source, format: str, quality: int, limit: int | None, seed: int, selection: Selection) -> Plan:
    pictures = {name: min(len(split.paths), limit or len(split.paths)) for name, split in source.splits.items()}
    classes = sorted(selection.classes) if isinstance(selection.classes, tuple) else selection.classes
    return Plan(
        source.kind,
        format,
        quality if format == "jpeg" else None,
        limit,
        seed,
        source.fingerprint(),
        pictures,
        classes=classes,
        per_class=selection.per_class,
        holdout=selection.holdout,
    )


def _order(job: _Job, name: str) -> NDArray[np.int64]:
    """Mix the classes once and for all: whoever reads the store from its start then meets all of them."""
    return job.source.splits[name].order(job.plan.seed, SPLITS.index(name), job.plan.limit)


def _prepare_all(job: _Job, state: State) -> int:
    """Write or continue all stores; returns how many pictures this call has converted."""
    _refuse_refused(job)
    left = [name for name in job.plan.pictures if state != "interrupted" or not finished(job.out / name)]
    orders = {name: _order(job, name) for name in left}
    wanted = [(job.source.splits[name], order) for name, order in orders.items()]
    written = sum(file.stat().st_size for name in left if (file := job.out / name / DATA_FILE).exists())
    refuse_small_disk(job.out, wanted, _conversion(job), written, job.reporter)
    claim(job.out, job.plan, state)
    return sum(_prepare_split(job, name, order) for name, order in orders.items())


def _refuse_refused(job: _Job) -> None:
    """Fail before anything is written where members of archives are not to be read and none may be left out."""
    refused = [one for split in job.source.splits.values() for one in split.refused]
    if refused and job.stop_on_error:
        raise DataError(f"{job.source.path / refused[0][0]}: {refused[0][1]}", hint=SKIP)


def _prepare_split(job: _Job, name: str, order: NDArray[np.int64]) -> int:
    split = job.source.splits[name]
    with StoreWriter(job.out / name, len(order), size=job.plan.size, commit_pictures=job.commit_pictures) as writer:
        before = writer.progress.done
        if writer.continued:
            job.reporter.note(f"continuing at record {writer.progress.records} of {len(order)} of {name}")
        job.reporter.start(f"preparing {name}", len(order), "images", done=before)
        try:
            _write_records(job, name, writer, order[before:])
        finally:
            job.reporter.finish()
        _finish(job, name, split, writer, order)
        return writer.progress.done - before


def _conversion(job: _Job, *, with_sums: bool = False) -> Conversion:
    plan = job.plan
    return Conversion(job.source.path, plan.format, plan.quality or 0, with_sums, plan.size, plan.resize)  # type: ignore[arg-type]


def _write_records(job: _Job, name: str, writer: StoreWriter, order: NDArray[np.int64]) -> None:
    pictures = job.source.splits[name].stream(order)
    workers = min(job.workers, -(-len(order) // CHUNK))  # a worker takes a quarter of a second to start
    with closing(convert_all(pictures, _conversion(job, with_sums=name == "train"), workers)) as chunks:
        for chunk in chunks:
            if chunk.rejected and job.stop_on_error:
                path, reason = chunk.rejected[0]
                raise DataError(f"{job.source.path / path}: {reason}", hint=SKIP)
            writer.add(chunk.records, chunk.rejected, chunk.sums)
            job.reporter.advance(len(chunk.records) + len(chunk.rejected))
            if job.max_rejected is not None and len(writer.progress.rejected) > job.max_rejected:
                _list_rejected(job, job.source.splits[name], writer)
                _refuse_rejected(job, len(writer.progress.rejected))


def _refuse_rejected(job: _Job, count: int) -> None:
    most = 0 if job.stop_on_error else job.max_rejected
    if most is not None and count > most:
        asked = "--on-error stop allows" if job.stop_on_error else f"--max-rejected {most}"
        raise DataError(
            f"pictures that cannot be read: {count:,}, more than {asked}; they are listed in {job.out / REJECTED_FILE}",
            hint="raise the number, or repair the source and make the store anew with --force",
        )


def _list_rejected(job: _Job, split: Split, writer: StoreWriter) -> None:
    rejected = [*writer.progress.rejected, *split.refused]
    own = {*split.paths, *(path for path, _ in split.refused)} if rejected or read_rejected(job.out) else ()
    write_rejected(job.out, own, sorted(rejected))


def _finish(job: _Job, name: str, split: Split, writer: StoreWriter, order: NDArray[np.int64]) -> None:
    """Close a store: first what lies beside it, as the progress that it is made from goes with the last transaction."""
    progress = writer.progress
    rejected = dict(progress.rejected)
    _list_rejected(job, split, writer)
    if not progress.records:
        raise DataError(
            f"none of the {progress.total} pictures in {job.source.path / split.folder} can be read",
            hint=_example(progress.rejected),
        )
    kept = [index for index in order if split.paths[index] not in rejected]
    labels = split.labels[kept]
    if name == "train":
        write_stats(job.out, progress.sums.stats())
    writer.finish(labels, [split.paths[index] for index in kept], _meta(job, len(labels)))
    _warn(job, name, labels, len(rejected) + len(split.refused))


def _example(rejected: list[tuple[str, str]]) -> str:
    path, reason = rejected[0]
    return f"the first: {path}: {reason}"


def _warn(job: _Job, name: str, labels: NDArray[np.int32], num_rejected: int) -> None:
    if num_rejected:
        listed = f"they are listed in {job.out / REJECTED_FILE}"
        job.reporter.warn(f"{num_rejected} of {num_rejected + len(labels)} pictures of {name} cannot be read; {listed}")
    absent = len(job.source.classes) - len(np.unique(labels[labels != NO_LABEL]))
    if absent and name == "train":
        job.reporter.warn(f"{absent} of {len(job.source.classes)} classes have no picture in {name}")


def _meta(job: _Job, count: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "count": count,
        "format": job.plan.format,
        "size": job.plan.size,
        "resize": job.plan.resize,
        "resampling": "bicubic",
        "quality": job.plan.quality,
        "classes": job.source.classes,
        "words": job.source.words,
        "seed": job.plan.seed,
        "versions": {
            "alexnet_cli": __version__,
            "jpeg": features.version("libjpeg_turbo") or features.version("jpg"),
            "resizer": scaler(),
            **{package: version(package) for package in ("lmdb", "numpy", "pillow", "simplejpeg")},
        },
    }


def _summary(job: _Job, images: int, seconds: float, *, unchanged: bool) -> PrepareSummary:
    rejected = {path for path, _ in read_rejected(job.out)}
    splits = {}
    for name, split in job.source.splits.items():
        num_rejected = sum(path in rejected for path in split.paths) + len(split.refused) if rejected else 0
        splits[name] = SplitSummary(len(Store(job.out / name)), num_rejected, (job.out / name / DATA_FILE).stat().st_size)
    return PrepareSummary(
        out=job.out,
        splits=splits,
        classes=len(job.source.classes),
        rejected_file=job.out / REJECTED_FILE if rejected else None,
        unchanged=unchanged,
        images=images,
        seconds=seconds,
        images_per_second=images / seconds,
    )
