"""Dropout's hash against the same hash in plain Python integers, and against what a coin would give."""

import pytest
import torch

from alexnet_cli.core.dropout import kept_units, step_keys

CPU = torch.device("cpu")


def mixed(value: int) -> int:
    """Return lowbias32 of a number, in Python's unbounded integers."""
    value = ((value ^ (value >> 16)) * 0x7FEB352D) % 2**32
    value = ((value ^ (value >> 15)) * 0x846CA68B) % 2**32
    return value ^ (value >> 16)


def test_agrees_with_plain_integers():
    """Every unit lives or dies as the hash in Python says."""
    keys = step_keys(7, 123, "fc6", CPU)
    first, second, third = keys.tolist()
    kept = kept_units(keys, 5, 30, 9, 0.5)
    for image in range(5):
        row = mixed(mixed((image + first) % 2**32) ^ second)
        for column in range(9):
            number = mixed(mixed((row + (30 + column) * 0x9E3779B1) % 2**32) ^ third)
            assert kept[image, column].item() == (number >= 2**31)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_share_of_dropped_units(rate):
    """Of half a million units, the wanted share is dropped, to five standard deviations."""
    kept = kept_units(step_keys(0, 1, "fc6", CPU), 128, 0, 4096, rate)
    deviation = (rate * (1 - rate) / kept.numel()) ** 0.5
    assert abs(1 - kept.double().mean().item() - rate) < 5 * deviation


def test_neighbours_and_steps_are_independent():
    """Neighbouring units, images, layers and steps agree half of the time."""
    kept = kept_units(step_keys(0, 1, "fc6", CPU), 128, 0, 4096, 0.5)
    others = [
        (kept[:, 1:], kept[:, :-1]),
        (kept[1:], kept[:-1]),
        (kept, kept_units(step_keys(0, 2, "fc6", CPU), 128, 0, 4096, 0.5)),
        (kept, kept_units(step_keys(0, 1, "fc7", CPU), 128, 0, 4096, 0.5)),
        (kept, kept_units(step_keys(1, 1, "fc6", CPU), 128, 0, 4096, 0.5)),
    ]
    for one, other in others:
        assert abs((one == other).double().mean().item() - 0.5) < 5 * 0.5 / one.numel() ** 0.5


def test_a_tower_draws_its_own_half():
    """A rank that holds units 32 to 63 alone drops the same ones as a device that holds all."""
    keys = step_keys(3, 9, "fc7", CPU)
    assert torch.equal(kept_units(keys, 6, 0, 64, 0.5)[:, 32:], kept_units(keys, 6, 32, 32, 0.5))


def test_compiled_is_the_same():
    """torch.compile changes no decision, and one compiled function serves all steps."""
    compiled = torch.compile(lambda keys: kept_units(keys, 6, 0, 64, 0.5), backend="aot_eager", fullgraph=True)
    for step in range(3):
        keys = step_keys(0, step, "fc6", CPU)
        assert torch.equal(compiled(keys), kept_units(keys, 6, 0, 64, 0.5))
