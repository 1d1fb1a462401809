"""The order in which an epoch meets the records of a store: a function of (seed, epoch) and of nothing else (numpy only)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core import draws

# 6 MB as JPEG, 50 MB raw: to find a block takes a hard disk a fraction of the time of reading it. A window of 8 blocks is 16
# batches of 128, 50 or 400 MB, which any machine that trains can hold.
BLOCK_RECORDS = 256
WINDOW_BLOCKS = 8


def epoch_order(shuffle: Literal["once", "full", "block"], num_records: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the records of one epoch, each once, in the order in which they are trained on, int64 (N,).

    shuffle: "once", one random order for all epochs; "full", a new one for each; "block", for each epoch the store's blocks of
    BLOCK_RECORDS neighbours in random order, and their records mixed within every WINDOW_BLOCKS of them.
    Source: once, the 2012 code.
    """
    if shuffle == "block":
        return _block_order(num_records, seed, epoch)
    return draws.permutation(num_records, seed, "order", 0 if shuffle == "once" else epoch)


def _block_order(num_records: int, seed: int, epoch: int) -> NDArray[np.int64]:
    blocks = -(-num_records // BLOCK_RECORDS)
    turns = np.argsort(draws.permutation(blocks, seed, "blocks", epoch))  # when each block's turn is
    windows = np.repeat(turns // WINDOW_BLOCKS, BLOCK_RECORDS)[:num_records]
    return np.lexsort((draws.raw(num_records, seed, "order", epoch), windows)).astype(np.int64)
