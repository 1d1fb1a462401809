"""Whether a training is well: losses that are no numbers, a loss that does not leave chance, a device that waits for data."""

import math

import torch
from torch import Tensor

from alexnet_cli.core.errors import DivergedError, ElsewhereError
from alexnet_cli.core.towers import Layout

DIVERGED = "start again with a lower --learning-rate, or with --precision fp32"
FLAT_AFTER = 1000  # steps
FLAT_FROM = 900
FLAT_SHARE = 0.005  # of ln(classes): a thousandth of a nat above it is noise, as the loss of a batch of 128 scatters by more
WAITS = 0.1  # share of the time from which a remedy is named
WAITING_ROWS = 3  # of the log, one after the other: the first steps of an epoch always wait


class LossWatch:
    """Losses and errors of the steps, kept on the device until somebody reads them, so that no step waits for the device."""

    def __init__(self, layout: Layout, steps_per_epoch: int) -> None:
        self._layout = layout
        self._steps_per_epoch = steps_per_epoch
        self._unread: list[Tensor] = []
        self._last = (math.nan, math.nan)

    def add(self, loss: Tensor, wrong: Tensor) -> None:
        """Take this rank's part of a step's loss and top-1 error."""
        self._unread.append(torch.stack([loss, wrong]))

    def read(self, step: int) -> tuple[float, float]:
        """Return loss and error of the last step, summed over the ranks; every rank must call it.

        step: steps made. Raises DivergedError naming the first step since the last reading whose loss was no number; on all ranks
        but the first ElsewhereError, as one message is enough.
        """
        if self._unread:
            losses_N2 = self._layout.total(torch.stack(self._unread))
            first = step - len(losses_N2) + 1
            self._unread.clear()
            for number, loss in enumerate(losses_N2[:, 0].tolist(), start=first):
                self.require_finite(loss, number)
            self._last = (float(losses_N2[-1, 0]), float(losses_N2[-1, 1]))
        return self._last

    def require_finite(self, loss: float, step: int, where: str = "the loss") -> None:
        """Raise when a loss is no number, naming the step and its batch, so that they can be made again from a checkpoint."""
        if not math.isfinite(loss):
            kind = DivergedError if self._layout.rank == 0 else ElsewhereError
            epoch, batch = divmod(step - 1, self._steps_per_epoch)
            raise kind(f"{where} is {loss} at step {step}: batch {batch + 1} of epoch {epoch + 1}", hint=DIVERGED)


class FlatLoss:
    """Notices once when the loss is that of guessing after a thousand steps."""

    def __init__(self, num_classes: int) -> None:
        self._chance = math.log(num_classes)
        self._losses: list[float] = []
        self._told = False

    def warning(self, step: int, loss: float) -> str:
        """Take the loss of a logged step; return what to warn of, mostly nothing."""
        if step >= FLAT_FROM and not self._told:
            self._losses.append(loss)
        if step < FLAT_AFTER or self._told:
            return ""
        self._told = True
        if any(abs(loss - self._chance) > FLAT_SHARE * self._chance for loss in self._losses):
            return ""
        return (
            f"the loss is still {loss:.3f} after {step:,} steps, that of guessing among {math.exp(self._chance):,.0f} classes. "
            "On ImageNet it may leave that level after 2,000 steps only. Known causes: the initial weights of --recipe paper; a "
            "--learning-rate too low or too high; pixels scaled to 0-1; labels that do not belong to the pictures (look at: "
            "alexnet info DATA --contact-sheet FILE)"
        )


class DataWait:
    """Notices once when the device spends its time waiting for pictures."""

    def __init__(self) -> None:
        self._rows = 0

    def warning(self, share: float | None, workers: int) -> str:
        """Take the share of a row of the log; return what to warn of, mostly nothing."""
        self._rows = self._rows + 1 if share is not None and share > WAITS else min(self._rows, 0)
        if self._rows < WAITING_ROWS:
            return ""
        self._rows = -(1 << 60)  # never again
        return (
            f"{share:.0%} of the time goes into waiting for pictures ({workers} workers). Remedies: more --workers where there "
            "are cores; alexnet prepare --format raw, which needs no decoding; the data on a local disk; --shuffle block where "
            "it is larger than the memory"
        )
