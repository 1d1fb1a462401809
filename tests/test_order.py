import numpy as np
import pytest

from alexnet_cli.core import draws
from alexnet_cli.core.order import BLOCK_RECORDS, WINDOW_BLOCKS, epoch_order

WINDOW = BLOCK_RECORDS * WINDOW_BLOCKS
COUNT = 10 * WINDOW + 3 * BLOCK_RECORDS + 17  # neither whole windows nor whole blocks


@pytest.mark.parametrize("shuffle", ["once", "full", "block"])
@pytest.mark.parametrize("count", [0, 1, 5, BLOCK_RECORDS, COUNT])
def test_every_record_once(shuffle, count):
    """An epoch has every record once, however many there are."""
    order = epoch_order(shuffle, count, 3, 2)
    assert order.dtype == np.int64
    assert np.sort(order).tolist() == list(range(count))


@pytest.mark.parametrize(("shuffle", "same"), [("once", True), ("full", False), ("block", False)])
def test_epochs_and_seeds(shuffle, same):
    """Shuffled once, all epochs have one order; else each has its own; another seed always has another."""
    first, later, other = (epoch_order(shuffle, 2000, *which).tolist() for which in ((0, 0), (0, 7), (1, 0)))
    assert (first == later) is same
    assert first != other


def test_once_and_full_are_plain_permutations():
    """The first epoch has one order by either name, and a full order is the epoch's permutation."""
    np.testing.assert_array_equal(epoch_order("once", 500, 4, 9), draws.permutation(500, 4, "order", 0))
    np.testing.assert_array_equal(epoch_order("full", 500, 4, 9), draws.permutation(500, 4, "order", 9))


def test_blocks_are_read_near_each_other():
    """As many records in a row as the smallest window holds touch no more blocks than two windows have, wherever they begin."""
    blocks = epoch_order("block", COUNT, 0, 0) // BLOCK_RECORDS
    smallest = WINDOW - BLOCK_RECORDS  # the one with the last block, which is short
    touched = [len(set(blocks[start : start + smallest].tolist())) for start in range(0, COUNT, 97)]
    assert max(touched) <= 2 * WINDOW_BLOCKS
    full = epoch_order("full", COUNT, 0, 0)[:smallest] // BLOCK_RECORDS
    assert len(set(full.tolist())) > 4 * WINDOW_BLOCKS  # the check above can fail


def test_blocks_are_read_once():
    """Between the first and the last record of a block lies no more than a window: none is come back to later."""
    blocks = epoch_order("block", COUNT, 5, 1) // BLOCK_RECORDS
    for block in range(blocks.max() + 1):
        places = np.flatnonzero(blocks == block)
        assert places[-1] - places[0] < WINDOW


def test_blocks_are_mixed():
    """The blocks come in a random sequence, and neighbours of the store are not neighbours in the order."""
    order = epoch_order("block", COUNT, 0, 0)
    firsts = [int(np.flatnonzero(order // BLOCK_RECORDS == block)[0]) for block in range(COUNT // BLOCK_RECORDS)]
    assert firsts != sorted(firsts)
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.01
    batch = order[:128] // BLOCK_RECORDS
    assert len(set(batch.tolist())) >= WINDOW_BLOCKS - 2


def test_order_of_blocks_by_hand(monkeypatch):
    """Five records in blocks of two and windows of two blocks, sorted by what the generator gives."""
    monkeypatch.setattr("alexnet_cli.core.order.BLOCK_RECORDS", 2)
    monkeypatch.setattr("alexnet_cli.core.order.WINDOW_BLOCKS", 2)
    monkeypatch.setattr(draws, "permutation", lambda *_: np.array([2, 0, 1]))  # the short block first
    monkeypatch.setattr(draws, "raw", lambda *_: np.array([30, 10, 5, 4, 20], np.uint64))
    assert epoch_order("block", 5, 0, 0).tolist() == [1, 4, 0, 3, 2]
