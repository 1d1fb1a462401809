"""Losses that are no numbers, a loss that stays at chance, and a device that waits for its pictures."""

import math

import pytest
import torch

from alexnet_cli.core.errors import ElsewhereError, RunError
from alexnet_cli.core.health import DataWait, FlatLoss, LossWatch
from alexnet_cli.core.towers import ONE_DEVICE, Layout


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_the_first_broken_step_is_named(broken):
    """Of the steps since the last reading the first whose loss is no number is named, not the one at which it is noticed."""
    watch = LossWatch(ONE_DEVICE, 3)
    for loss in (2.0, 1.5):
        watch.add(torch.tensor(loss), torch.tensor(0.5))
    assert watch.read(2) == (1.5, 0.5)
    for loss in (1.0, broken, math.nan, 1.0):
        watch.add(torch.tensor(loss), torch.tensor(0.25))
    with pytest.raises(RunError, match=rf"the loss is {broken} at step 4: batch 1 of epoch 2$") as caught:
        watch.read(6)
    assert "--learning-rate" in caught.value.hint


def test_reading_twice_is_reading_once():
    """A second reading without a step between gives the same figures."""
    watch = LossWatch(ONE_DEVICE, 3)
    watch.add(torch.tensor(3.25), torch.tensor(0.75))
    assert watch.read(1) == watch.read(1) == (3.25, 0.75)


def test_one_rank_tells():
    """Of all ranks that find the loss broken the first one says so."""
    with pytest.raises(ElsewhereError):
        LossWatch(Layout(1, 2), 3).require_finite(math.nan, 3)


@pytest.mark.parametrize(
    ("losses", "warned"),
    [([6.91, 6.90, 6.908], True), ([6.91, 6.5, 6.908], False), ([6.91, 6.90, 7.3], False)],
    ids=["at chance", "below it once", "above it"],
)
def test_flat_loss(losses, warned):
    """Ln 1,000 = 6.908: steps 900 to 1,000 around it are a warning, said once; any other loss among them is none."""
    flat = FlatLoss(1000)
    assert not flat.warning(500, 6.908)
    found = [flat.warning(step, loss) for step, loss in zip((900, 950, 1000), losses, strict=True)]
    assert [bool(text) for text in found] == [False, False, warned]
    assert not flat.warning(1020, 6.908)
    assert not warned or ("6.908" in found[-1] and "1,000 classes" in found[-1])


def test_data_wait():
    """Three rows of the log above a tenth, one after the other, are told once."""
    wait = DataWait()
    shares = [0.5, 0.2, 0.05, 0.2, None, 0.2, 0.3, 0.4, 0.9, 0.9, 0.9, 0.9]
    found = [bool(wait.warning(share, 2)) for share in shares]
    assert found == [False] * 7 + [True] + [False] * 4
