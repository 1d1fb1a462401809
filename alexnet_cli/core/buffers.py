"""Memory for batches, large and asked for again and again: lent once more when nothing refers to it any longer.

Freed and allocated anew it would be cleared by the system each time, or leave gaps in the memory that a process keeps.
"""

import weakref

import torch
from torch import Tensor

KEPT = 4  # free ones; a training uses one batch while the next two are read

_free: list[Tensor] = []  # without a lock, as a finaliser may run anywhere: appending and popping are each in one piece


def lend(num_bytes: int) -> Tensor:
    """Return memory of any content, uint8 (num_bytes,); it is the borrower's as long as that tensor, or a view of it, is there."""
    try:
        memory = _free.pop()
    except IndexError:  # asked before, another thread could still take the last
        memory = torch.empty(num_bytes, dtype=torch.uint8)
    if len(memory) < num_bytes:
        memory = torch.empty(num_bytes, dtype=torch.uint8)
    # The storage of a tensor made from an array keeps the array, and views share the storage: it ends with the last of them.
    lent = memory.numpy()
    weakref.finalize(lent, _take_back, memory).atexit = False
    return torch.from_numpy(lent)[:num_bytes]


def _take_back(memory: Tensor) -> None:
    if len(_free) < KEPT:
        _free.append(memory)
