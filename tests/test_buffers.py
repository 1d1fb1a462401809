import gc
import threading

import pytest
import torch

from alexnet_cli.core import buffers
from alexnet_cli.core.buffers import KEPT, lend


@pytest.fixture(autouse=True)
def nothing_free(monkeypatch):
    """Begin without what other tests have left."""
    monkeypatch.setattr(buffers, "_free", [])


def test_is_lent_again():
    """Memory that nobody refers to is the next borrower's, also of fewer bytes; more bytes are new memory."""
    first = lend(1000)
    place = first.data_ptr()
    assert (first.dtype, first.shape) == (torch.uint8, (1000,))
    del first
    second = lend(700)
    assert (second.data_ptr(), second.shape) == (place, (700,))
    del second
    assert lend(1001).shape == (1001,)


@pytest.mark.parametrize(
    "view",
    [
        lambda tensor: tensor[500:],
        lambda tensor: tensor.view(10, 100).permute(1, 0)[3],
        lambda tensor: tensor.numpy()[5:][5:],
        lambda tensor: tensor.detach(),
    ],
    ids=["slice", "permuted", "array", "detached"],
)
def test_views_hold_it(view):
    """As long as any view of borrowed memory is there, nobody else gets it."""
    borrowed = lend(1000)
    place = borrowed.data_ptr()
    kept = view(borrowed)
    del borrowed
    gc.collect()
    assert lend(1000).data_ptr() != place
    del kept
    assert place in {memory.data_ptr() for memory in buffers._free}


def test_keeps_few():
    """Of many that are given back at once only a few are kept."""
    borrowed = [lend(100) for _ in range(3 * KEPT)]
    assert len({tensor.data_ptr() for tensor in borrowed}) == 3 * KEPT
    del borrowed
    assert len(buffers._free) == KEPT


def test_threads():
    """Threads that borrow at the same time never share memory."""
    wrong = []

    def borrow(number: int) -> None:
        for _ in range(300):
            tensor = lend(64).fill_(number)
            wrong.extend([number] * int((tensor != number).any()))

    threads = [threading.Thread(target=borrow, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
