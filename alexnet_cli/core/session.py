"""One process's part of a training: the loop, its epochs, its log and its checkpoints.

Every rank runs the same; rank 0 decides when to save, writes the files and reports; any rank can ask to stop.
"""

import math
import time
import zlib
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.background import BackgroundWriter
from alexnet_cli.core.batches import Batch, training_batches
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.devices import Precision, settle
from alexnet_cli.core.errors import ElsewhereError, RunError
from alexnet_cli.core.evaluate import Evaluation, evaluate
from alexnet_cli.core.health import DataWait, FlatLoss, LossWatch
from alexnet_cli.core.initial import initial_tensors, start_from
from alexnet_cli.core.memory import memory_in_use
from alexnet_cli.core.metrics import MetricsLog
from alexnet_cli.core.pace import CheckpointTimer, Pace, StopRequest
from alexnet_cli.core.recipe import Rates
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.resume import ResumeState, load_resume
from alexnet_cli.core.save import write_state, write_weights
from alexnet_cli.core.schedule import after_epoch, rates_at
from alexnet_cli.core.step import step_on
from alexnet_cli.core.store import Store, open_store, read_stats
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Ballot, Layout
from alexnet_cli.core.train_job import Job, TrainResult
from alexnet_cli.core.train_state import environment, last_change, load_state, new_state, take_state, take_weights
from alexnet_cli.core.update_ratios import update_ratios
from alexnet_cli.core.views import Colours, ViewDraws, draw_views

WEIGHTS_EVERY = 500  # steps between two looks at the weights, beside those at the end of each epoch
GO_ON, SAVE, STOP = 0, 1, 2  # what ranks agree on: the largest counts


def train_rank(job: Job, layout: Layout, reporter: Reporter, stop: StopRequest) -> TrainResult:
    """Train on one rank, from start to end."""
    with ExitStack() as ending, BackgroundWriter() as writer:
        session = Session(job, layout, reporter, stop, writer)
        if session.log:
            ending.callback(session.log.close)  # after the writer, which adds pictures to it
        session.announce()
        reporter.start("train", session.last_step, "steps", done=session.state.step)
        try:
            while session.state.step < session.last_step and not session.stopping:
                session.run_epoch()
            session.close()
        finally:
            reporter.finish()
    best = (session.state.best or session.tested).get("val_top1_error")
    return TrainResult(job.folder.path, session.state.step, session.total_steps, best, stop.signal if session.stopping else 0)


class Session:
    """One process's part of a run, between its start or resumption and its end."""

    def __init__(self, job: Job, layout: Layout, reporter: Reporter, stop: StopRequest, writer: BackgroundWriter) -> None:
        settle(job.precision, layout.device)
        self.job, self.layout, self.reporter, self.stop, self.writer = job, layout, reporter, stop, writer
        options = job.options
        self.train_store = open_store(options.data, "train", sequential=job.recipe.shuffle == "block")
        self.val_store = open_store(options.data, "val", sequential=True)
        self.testable = self.val_store.is_labelled
        self.steps_per_epoch = math.ceil(len(self.train_store) / job.recipe.batch_size)
        self.total_steps = job.recipe.epochs * self.steps_per_epoch
        self.last_step = min(self.total_steps, options.limit_steps or self.total_steps)
        place = place_from()
        self.workers = options.workers or max(1, usable_cores() // (place.local_world if place else layout.world))
        colours = _colours(options.data, layout.device, job.precision)
        self.state = new_state(job.recipe, len(self.train_store.classes), job.precision, colours, layout, job.seed)
        self.progress = self._take_up() if job.continued else {}
        if job.initial:
            own = initial_tensors(job.initial) if layout.rank == 0 else {}
            start_from(self.state.network, layout.tensors_from_first(own))
        self.log = self._open_log() if layout.rank == 0 else None
        self.timer, self.pace, self.ballot = CheckpointTimer(options.checkpoint_every), Pace(), Ballot(layout)
        self.losses, self.data_wait = LossWatch(layout, self.steps_per_epoch), DataWait()
        self.flat_loss = FlatLoss(len(self.train_store.classes))
        self.device_mark: torch.cuda.Event | None = None
        self.stopping = False
        self.tested: dict[str, float] = {}
        self.saved_step = self.state.step if job.continued else -1

    def _open_log(self) -> MetricsLog:
        kept_bytes = int(self.progress.get("metrics_bytes", 0))
        return MetricsLog(self.job.folder, kept_bytes, tensorboard=self.job.options.tensorboard, step=self.state.step)

    def _take_up(self) -> dict[str, Any]:
        """Go on from what rank 0 finds on its disk; the others need not see that disk."""
        saved: ResumeState | None = None
        failure: Exception | None = None
        if self.layout.rank == 0:
            try:
                saved = load_resume(self.job.folder.resume, self.reporter.warn)
                self._compare(saved.progress)
            except Exception as error:  # whatever it is, the others must not wait for what will not come
                failure = error
        progress = self.layout.from_first(saved.progress if saved and not failure else None)
        if failure:
            raise failure
        if progress is None:
            raise ElsewhereError("rank 0 could not read the state to be continued")
        load_state(self.state, ResumeState(self.layout.tensors_from_first(saved.tensors if saved else {}), progress))
        return progress

    def _compare(self, progress: dict[str, Any]) -> None:
        """Say what is not as it was when the state was saved; raise RunError for other pictures, unless overridden."""
        self.reporter.note(f"resuming at step {progress['step']}")
        before, now = progress["environment"], environment(self.state)
        for name in (name for name in now if before.get(name) != now[name]):
            self.reporter.warn(f"{name} is {now[name]}, was {before.get(name)}: the result may differ in its last digits")
        changes = _differences(progress["data"], self._data())
        if changes and not self.job.options.override:
            raise RunError(
                f"{self.train_store.folder.parent} is not the data that run {self.job.folder.path} was trained on: {changes}",
                hint="name that with --data, start another run, or go on with the other data by --override",
            )
        if changes:
            self.reporter.warn(f"going on with other data: {changes}")

    def announce(self) -> None:
        """Say what is trained where, and compile what can be compiled."""
        problem = compile_problem(self.layout.device) if self.state.step < self.last_step else "nothing to do"
        if not problem:
            self.state.network.compile_normalisation()
        counts = self.layout.numbers(sum(parameter.numel() for parameter in self.state.network.parameters()))
        if self.layout.rank != 0:
            return
        for line in _held(self.layout, counts):
            self.reporter.note(f"{line} ({self.layout.device.type}, {self.job.precision.name})")
        if self.state.step >= self.last_step:
            self.reporter.note(f"nothing left to do: step {self.state.step} of {self.total_steps} is reached")
        elif problem:
            self.reporter.warn(f"slower without torch.compile, same result: {problem}")
        if not self.testable:
            self.reporter.warn(f"{self.val_store.folder} has no labels: no test after each epoch, and best is always the newest")

    def run_epoch(self) -> None:
        """Train to the end of the current epoch, or to the last step, or until a stop is asked for."""
        epoch, first_batch = divmod(self.state.step, self.steps_per_epoch)
        drawn = draw_views(self.job.recipe, self.job.seed, epoch, len(self.train_store))
        batches = training_batches(
            self.train_store,
            self.job.recipe,
            seed=self.job.seed,
            epoch=epoch,
            first_batch=first_batch,
            workers=self.workers,
            share=(self.layout.rank, self.layout.world),
            pin=self.layout.device.type == "cuda",
        )
        with closing(batches):
            for batch in self.pace.timed(batches, self._idle):
                self._step(batch, drawn, epoch)
                if self.stopping or self.state.step >= self.last_step:
                    break

    def _step(self, batch: Batch, drawn: ViewDraws, epoch: int) -> None:
        rates = self._rates_at(self.state.step)
        self.losses.add(*step_on(self.state, batch, drawn, rates))
        self._mark_device()
        step = self.state.step
        logged = step % self.job.options.log_every == 0 or step == self.last_step
        figures = self.losses.read(step) if logged else None  # waits for the device, so before the clock is stopped
        self.pace.stepped(batch.size)
        self.reporter.advance(1)
        if figures and self.log:
            self._log_step(epoch + 1, *figures)
        if step % WEIGHTS_EVERY == 0 or step % self.steps_per_epoch == 0:
            self._log_weights(epoch + 1)
        if step % self.steps_per_epoch == 0:
            # Before any saving: a state at an epoch's end has that epoch's test behind it.
            self._end_epoch()
        self._decide()

    def _rates_at(self, step: int) -> Rates:
        return rates_at(self.job.recipe, step, self.total_steps, self.state.plateau)

    def _mark_device(self) -> None:
        if self.layout.device.type == "cuda":
            self.device_mark = torch.cuda.Event()
            self.device_mark.record(torch.cuda.current_stream(self.layout.device))

    def _idle(self) -> bool:
        """Whether the device has done all that it was given."""
        return self.device_mark is None or self.device_mark.query()

    def _log_step(self, epoch: int, loss: float, wrong: float) -> None:
        assert self.log is not None
        rates = self._rates_at(self.state.step - 1)
        pace = self.pace.row()
        row = {
            "kind": "step",
            "step": self.state.step,
            "epoch": epoch,
            "loss": loss,
            "top1_error": wrong,
            "learning_rate": rates.weights[self.job.recipe.layers[-1]],
            "bias_learning_rate": rates.biases[self.job.recipe.layers[-1]],
            **pace,
        }
        self.log.write(row)
        figures = {"epoch": epoch, "loss": loss, "error": wrong, "rate": rates.weights[self.job.recipe.layers[-1]], **pace}
        figures |= memory_in_use(torch.cuda.memory_reserved(self.layout.device) if self.layout.device.type == "cuda" else 0)
        self.reporter.advance(0, **{name: value for name, value in figures.items() if value is not None})
        for warning in (self.flat_loss.warning(self.state.step, loss), self.data_wait.warning(pace["data_wait"], self.workers)):
            if warning:
                self.reporter.warn(warning)

    def _log_weights(self, epoch: int) -> None:
        """Log for each parameter how much the last step changed it; every rank must call it."""
        ratios = update_ratios(*last_change(self.state), self.layout.total)
        if self.log:
            row = {"kind": "weights", "step": self.state.step, "epoch": epoch}
            for name, figures in ratios.items():
                self.log.write({**row, "parameter": name, **figures})

    def _decide(self) -> None:
        """Save or stop where a rank finds it time; all ranks do so after the same step."""
        due = self.layout.rank == 0 and self.timer.due(self.state.step) and not self.timer.by_steps
        decision = self.ballot.cast(STOP if self.stop.signal else SAVE if due else GO_ON)
        self.stopping = decision == STOP
        if decision == SAVE or (self.timer.by_steps and self.timer.due(self.state.step)):
            self.save()

    def save(self) -> None:
        """Take the state that `--resume` starts from, and let it be written."""
        self.losses.read(self.state.step)
        snapshot, own = take_state(self.state)
        if self.log:
            write_state(self.writer, self.job, snapshot, {"data": self._data(), **own}, self.log)
        self.saved_step = self.state.step
        self.timer.restart()

    def _data(self) -> dict[str, dict[str, object]]:
        return {"train": _fingerprint(self.train_store), "val": _fingerprint(self.val_store)}

    def _end_epoch(self) -> None:
        self.losses.read(self.state.step)
        accuracy, better = self._evaluate()
        if better:
            self.state.best = accuracy
        self._watch_plateau(accuracy)
        self._write_weights(accuracy, best=better)

    def _watch_plateau(self, accuracy: dict[str, float]) -> None:
        drops = self.state.plateau.drops
        if accuracy:
            self.state.plateau = after_epoch(self.state.plateau, self.job.recipe, accuracy["val_top1_error"])
        if self.log and self.state.plateau.drops > drops:
            self.reporter.note(
                f"the error has stopped improving: the rates drop, time {drops + 1} of {self.job.recipe.plateau_drops}"
            )

    def _evaluate(self) -> tuple[dict[str, float], bool]:
        """Test on the centre crop, log it, and say whether it is the best so far; without labels it always is."""
        row = {"kind": "epoch", "epoch": self.state.step // self.steps_per_epoch, "step": self.state.step}
        if not self.testable:
            if self.log:
                self.log.write(row)
            return {}, True
        start = time.perf_counter()
        figures = self._measure()
        self.losses.require_finite(figures.loss, self.state.step, "the loss on val")
        self.tested = accuracy = {
            "val_top1_error": figures.top1_error,
            "val_top5_error": figures.top5_error,
            "val_loss": figures.loss,
        }
        if self.log:
            self.reporter.advance(0, val_error=figures.top1_error)
            self.log.write({**row, **accuracy, "val_images": figures.images, "val_seconds": time.perf_counter() - start})
            self.reporter.note(
                f"epoch {row['epoch']} of {self.job.recipe.epochs}, step {self.state.step}: "
                f"val top-1 error {figures.top1_error:.2%}, loss {figures.loss:.4f}"
            )
        return accuracy, figures.top1_error < self.state.best.get("val_top1_error", math.inf)

    def _measure(self) -> Evaluation:
        return evaluate(
            self.state.network,
            self.state.colours.mean_CHW,
            [self.val_store],
            classes=self.train_store.classes,
            crops=1,
            device=self.layout.device,
            precision=self.job.precision,
            batch_size=self.job.recipe.batch_size,
            workers=self.workers,
        )

    def _write_weights(self, accuracy: dict[str, float], *, best: bool) -> None:
        snapshot = take_weights(self.state)
        if self.log:
            epoch = self.state.step // self.steps_per_epoch
            write_weights(self.writer, self.job, snapshot, self.state, self.train_store, epoch, accuracy, self.log, best=best)

    def close(self) -> None:
        """Leave a run that can be continued and used: its state, and both weights files even after less than an epoch."""
        self.ballot.close()
        if self.saved_step != self.state.step:
            self.save()
        if self.testable and not self.state.best:
            # Not remembered as the best: an uninterrupted run would not have tested here.
            accuracy, _ = self._evaluate()
            self._write_weights(accuracy, best=True)
        elif self.state.step % self.steps_per_epoch:
            self._write_weights({}, best=not self.testable)
        self._report_sent()

    def _report_sent(self) -> None:
        kinds = {kind: self.layout.numbers(sent) for kind, sent in self.layout.sent_bytes.items()}
        if self.layout.rank != 0 or self.layout.world == 1:
            return
        for rank in range(self.layout.world):
            parts = ", ".join(f"{sent[rank]:,.0f} of {kind}" for kind, sent in kinds.items() if sent[rank])
            total = sum(sent[rank] for sent in kinds.values())
            self.reporter.note(f"{_named(self.layout, rank)} sent {total:,.0f} bytes{f': {parts}' if parts else ''}")


def _named(layout: Layout, rank: int) -> str:
    return Layout(rank, layout.world, towers=layout.towers).name


def _held(layout: Layout, counts: list[float]) -> list[str]:
    """Say how many parameters each rank holds."""
    if layout.world == 1:
        return [f"both towers on one device: {counts[0]:,.0f} parameters"]
    return [f"{_named(layout, rank)}: {count:,.0f} parameters" for rank, count in enumerate(counts)]


def _differences(before: Any, now: dict[str, dict[str, object]]) -> str:
    """Say in what two data sets differ, by split; classes by their number and first difference."""
    changes = []
    for split, values in now.items():
        there = before.get(split, {})
        for name, value in values.items():
            if there.get(name) != value:
                changes.append(
                    f"{split}'s {name}"
                    if name in ("classes", "labels")
                    else f"{split}'s {name} {there.get(name)} then, {value} now"
                )
    return ", ".join(changes)


def _colours(data: Path, device: torch.device, precision: Precision) -> Colours:
    stats = read_stats(data)
    return Colours(
        *(torch.from_numpy(part).to(device, precision.dtype) for part in (stats.mean, stats.color_stdevs, stats.color_components))
    )


def _fingerprint(store: Store) -> dict[str, object]:
    """Return what tells one store from another."""
    made = {key: store.meta.get(key) for key in ("format", "quality", "seed")}
    return {"count": len(store), "classes": list(store.classes), "labels": zlib.crc32(store.labels.tobytes()), **made}
