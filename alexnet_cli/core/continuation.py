"""Taking up a run where it stopped: the saved state, and whether what surrounds it is still the same."""

import zlib
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.errors import DataError, ElsewhereError, RunError
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.resume import ResumeState, load_resume
from alexnet_cli.core.store import Store
from alexnet_cli.core.towers import Layout
from alexnet_cli.core.train_job import Job
from alexnet_cli.core.train_state import TrainState, environment, load_state

Fingerprints = dict[str, dict[str, object]]


def fingerprints(train_store: Store, val_store: Store) -> Fingerprints:
    """Return what tells the data of a run from other data, as plain JSON values."""
    return {"train": fingerprint(train_store), "val": fingerprint(val_store)}


def fingerprint(store: Store) -> dict[str, object]:
    """Return what tells a store from another, as plain JSON values."""
    made = {key: store.meta.get(key) for key in ("format", "quality", "seed", "checksum")}
    return {"count": len(store), "classes": list(store.classes), "labels": zlib.crc32(store.labels.tobytes()), **made}


def same_on_all(layout: Layout, own: Fingerprints, data: Path) -> Fingerprints:
    """Return what tells a rank's data from others; every rank must call it.

    Raises DataError on the ranks whose data are not rank 0's, as on a machine with another copy, ElsewhereError on the others.
    """
    differs = own != layout.from_first(own)
    if layout.total(torch.tensor([float(differs)])).item():
        kind = DataError if differs else ElsewhereError
        raise kind(f"{data} on rank {layout.rank} is not what rank 0 has there", hint="copy rank 0's data to this machine")
    return own


def take_up(state: TrainState, job: Job, data: Fingerprints, reporter: Reporter) -> dict[str, Any]:
    """Go on from what rank 0 finds on its disk, which the others need not see; every rank must call it. Returns the progress.

    Raises CheckpointError, RunError; ElsewhereError on the ranks that learn of a failure of rank 0.
    """
    saved: ResumeState | None = None
    failure: Exception | None = None
    if state.layout.rank == 0:
        try:
            saved = load_resume(job.folder.resume, reporter.warn)
            _compare(saved.progress, state, job, data, reporter)
        except Exception as error:  # whatever it is, the others must not wait for what will not come
            failure = error
    progress = state.layout.from_first(saved.progress if saved and not failure else None)
    if failure:
        raise failure
    if progress is None:
        raise ElsewhereError("rank 0 could not read the state to be continued")
    load_state(state, ResumeState(state.layout.tensors_from_first(saved.tensors if saved else {}), progress))
    return progress


def _compare(progress: dict[str, Any], state: TrainState, job: Job, data: Fingerprints, reporter: Reporter) -> None:
    """Say what is not as it was when the state was saved; raise RunError for other pictures, unless overridden."""
    reporter.note(f"resuming at step {progress['step']}")
    before, now = progress["environment"], environment(state)
    for name in (name for name in now if before.get(name) != now[name]):
        reporter.warn(f"{name} is {now[name]}, was {before.get(name)}: the result may differ in its last digits")
    changes = _differences(progress["data"], data)
    if changes and not job.options.override:
        raise RunError(
            f"{job.options.data} is not the data that run {job.folder.path} was trained on: {changes}",
            hint="name that with --data, start another run, or go on with the other data by --override",
        )
    if changes:
        reporter.warn(f"going on with other data: {changes}")


def _differences(before: Fingerprints, now: Fingerprints) -> str:
    """Say in what two data sets differ, by split; of classes and labels only that they do."""
    changes = []
    for split, values in now.items():
        there = before.get(split, {})
        for name in (name for name, value in values.items() if there.get(name, value) != value):
            what = "" if name in ("classes", "labels") else f" {there.get(name)} then, {values[name]} now"
            changes.append(f"{split}'s {name}{what}")
    return ", ".join(changes)
