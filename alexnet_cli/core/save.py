"""What of a training goes to the disk, written by another thread from a snapshot while the training goes on."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from alexnet_cli.core.background import BackgroundWriter
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.errors import RunError
from alexnet_cli.core.filters import draw_kernels
from alexnet_cli.core.health import DIVERGED
from alexnet_cli.core.kernel_history import cut_kernel_history, keep_kernels, why_not_kept
from alexnet_cli.core.metrics import MetricsLog
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.resume import ResumeState, save_resume
from alexnet_cli.core.snapshot import Snapshot
from alexnet_cli.core.store import Store
from alexnet_cli.core.train_job import Job
from alexnet_cli.core.train_state import TrainState, take_first_layer


def begin_kernel_history(writer: BackgroundWriter, job: Job, state: TrainState, epoch: int, reporter: Reporter) -> None:
    """Let the first layer's kernels be written as they are before the first step; continued, cut off those of later epochs.

    epoch: the last whole one. Every rank must call it.
    """
    first = state.layout.rank == 0
    problem = why_not_kept(job.recipe)
    if first:
        cut_kernel_history(job.folder, epoch if job.continued else -1)
    if first and problem:
        reporter.note(f"the kernels of {job.recipe.layers[0]} {problem}: they are not kept by epoch")
    if job.continued or problem:
        return
    snapshot = take_first_layer(state)
    if first:
        writer.submit(lambda: keep_kernels(job.folder, job.recipe, snapshot.on_cpu(), 0, 0))


def write_state(writer: BackgroundWriter, job: Job, snapshot: Snapshot, progress: dict[str, Any], log: MetricsLog) -> None:
    """Let a state for `--resume` be committed, with the length that the log has now."""
    progress = {**progress, "metrics_bytes": log.length()}

    def commit() -> None:
        log.sync()
        tensors = snapshot.on_cpu()
        _require_finite(tensors, progress["step"])
        save_resume(job.folder.resume, ResumeState(tensors, progress), keep=job.options.keep)

    writer.submit(commit)


def write_weights(
    writer: BackgroundWriter,
    job: Job,
    snapshot: Snapshot,
    state: TrainState,
    store: Store,
    epoch: int,
    accuracy: dict[str, float],
    log: MetricsLog,
    *,
    best: bool,
    ends_epoch: bool,
) -> None:
    """Let last.safetensors be written, best.safetensors too if told so, and conv1 be drawn where the log takes pictures.

    ends_epoch: whether the epoch is whole, so that its kernels are kept.
    """
    mean = state.colours.mean_CHW.to("cpu", torch.float32)
    complete = partial(Weights, state.network.recipe, store.classes, store.words, mean=mean, step=state.step, epoch=epoch)

    def write() -> None:
        tensors = snapshot.on_cpu()
        _require_finite(tensors, complete.keywords["step"])
        for path in (job.folder.last, job.folder.best) if best else (job.folder.last,):
            save_weights(path, complete(tensors=tensors, accuracy=accuracy))
        if ends_epoch:
            keep_kernels(job.folder, state.network.recipe, tensors, epoch, complete.keywords["step"])
        if log.takes_pictures:
            log.picture("conv1", draw_kernels(tensors["conv1.weight"].numpy(), state.network.recipe), complete.keywords["step"])

    writer.submit(write)


def _require_finite(tensors: dict[str, Tensor], step: int) -> None:
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise RunError(f"the weights are no longer finite after step {step}; nothing of them was saved", hint=DIVERGED)
