"""One process's part of a training: the loop, its epochs, its log and its checkpoints.

Every rank runs the same; rank 0 decides when to save, writes the files and reports; any rank can ask to stop.
"""

import math
import time
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from alexnet_cli.core.background import BackgroundWriter
from alexnet_cli.core.batches import Batch, training_batches
from alexnet_cli.core.compiler import compile_problem
from alexnet_cli.core.continuation import fingerprints, same_on_all, take_up
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.devices import Precision, settle
from alexnet_cli.core.evaluate import evaluate
from alexnet_cli.core.health import DataWait, FlatLoss, LossWatch
from alexnet_cli.core.initial import initial_tensors, start_from
from alexnet_cli.core.memory import memory_in_use
from alexnet_cli.core.metrics import MetricsLog
from alexnet_cli.core.pace import CheckpointTimer, Pace, StopRequest
from alexnet_cli.core.rates import Rates
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_recipe import write_run_recipe
from alexnet_cli.core.save import begin_kernel_history, write_state, write_weights
from alexnet_cli.core.schedule import after_epoch, rates_at
from alexnet_cli.core.scoring import Evaluation
from alexnet_cli.core.step import step_on
from alexnet_cli.core.store import open_store, read_stats
from alexnet_cli.core.telling import tell_what_is_held, tell_what_was_sent
from alexnet_cli.core.torchrun import place_from
from alexnet_cli.core.towers import Ballot, Layout
from alexnet_cli.core.train_job import Job, TrainResult
from alexnet_cli.core.train_state import last_change, new_state, take_state, take_weights
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
        begin_kernel_history(writer, job, session.state, session.state.step // session.steps_per_epoch, reporter)
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
        self.data = same_on_all(layout, fingerprints(self.train_store, self.val_store), options.data)
        self.progress = take_up(self.state, job, self.data, reporter) if job.continued else {}
        if job.continued and options.override and layout.rank == 0:
            write_run_recipe(job, layout.world, layout.towers)
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

    def announce(self) -> None:
        """Say what is trained where, and compile what can be compiled."""
        problem = compile_problem(self.layout.device) if self.state.step < self.last_step else "nothing to do"
        if not problem:
            self.state.network.compile_normalisation()
        tell_what_is_held(self.state, self.reporter)
        if self.layout.rank != 0:
            return
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
        ends_epoch, weighed = step % self.steps_per_epoch == 0, step % WEIGHTS_EVERY == 0
        saves = self.timer.by_steps and self.timer.due(step)
        # What waits for the device does so here, before the clock is stopped: its time is that of the steps.
        figures = self.losses.read(step) if logged or ends_epoch or weighed or saves else None
        self.pace.stepped(batch.size)
        self.reporter.advance(1)
        if logged and figures and self.log:
            self._log_step(epoch + 1, *figures)
        if weighed or ends_epoch:
            self._log_weights(epoch + 1)
        if ends_epoch:
            # Before any saving: a state at an epoch's end has that epoch's test behind it.
            self._end_epoch()
        self._decide(saves)

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
        rates, last_layer = self._rates_at(self.state.step - 1), self.job.recipe.layers[-1]
        pace = self.pace.row()
        row = {
            "kind": "step",
            "step": self.state.step,
            "epoch": epoch,
            "loss": loss,
            "top1_error": wrong,
            "learning_rate": rates.weights[last_layer],
            "bias_learning_rate": rates.biases[last_layer],
            **pace,
        }
        self.log.write(row)
        figures = {"epoch": epoch, "loss": loss, "error": wrong, "rate": rates.weights[last_layer], **pace}
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

    def _decide(self, saves: bool) -> None:
        """Save or stop where a rank finds it time; all ranks do so after the same step. saves: whether all know of it already."""
        due = self.layout.rank == 0 and self.timer.due(self.state.step) and not self.timer.by_steps
        if due:
            self.timer.restart()  # the saving comes a step later where ranks agree on it
        decision = self.ballot.cast(STOP if self.stop.signal else SAVE if due else GO_ON)
        self.stopping = decision == STOP
        if decision == SAVE or saves:
            self.save()

    def save(self) -> None:
        """Take the state that `--resume` starts from, and let it be written."""
        self.losses.read(self.state.step)
        self.writer.make_room()
        snapshot, own = take_state(self.state)
        if self.log:
            write_state(self.writer, self.job, snapshot, {"data": self.data, **own}, self.log)
        self.saved_step = self.state.step
        self.timer.restart()

    def _end_epoch(self) -> None:
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
        self.writer.make_room()
        snapshot = take_weights(self.state)
        if self.log:
            epoch, rest = divmod(self.state.step, self.steps_per_epoch)
            what = (self.writer, self.job, snapshot, self.state, self.train_store, epoch, accuracy, self.log)
            write_weights(*what, best=best, ends_epoch=rest == 0)

    def close(self) -> None:
        """Leave a run that can be continued and used: its state, and both weights files even after less than an epoch."""
        self.ballot.close()
        if self.saved_step != self.state.step:
            self.save()
        if self.testable and not self.state.best and not self.stopping:  # who stops a training does not wait for a test
            # Not remembered as the best: an uninterrupted run would not have tested here.
            accuracy, _ = self._evaluate()
            self._write_weights(accuracy, best=True)
        elif self.state.step % self.steps_per_epoch:
            self._write_weights({}, best=not self.testable)
        tell_what_was_sent(self.layout, self.reporter)


def _colours(data: Path, device: torch.device, precision: Precision) -> Colours:
    stats = read_stats(data)
    return Colours(
        *(torch.from_numpy(part).to(device, precision.dtype) for part in (stats.mean, stats.color_stdevs, stats.color_components))
    )
