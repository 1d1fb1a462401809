"""The nearest rows to some vectors, by Euclidean distance, in the memory of one block: exact, or among an index's candidates.

Legend: Q queries, N rows, B rows of a block, U values, T the nearest.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MARGIN = 32  # nearest rows more than asked for that are measured again: float32 may swap what is as good as equally far


class Rows(Protocol):
    """Vectors in a file."""

    count: int

    def scan(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield all of them in order, a block at a time, with the number of the first."""

    def take(self, records: NDArray[np.int64]) -> NDArray[Any]:
        """Return some of them."""


Found = tuple[NDArray[np.int64], NDArray[np.float64]]  # of one query: numbers of rows (T,) and their distances (T,), nearest first


def nearest(rows: Rows, queries_QU: NDArray[np.float32], top: int) -> list[Found]:
    """Return the nearest rows to each query; of equally far ones the first.

    top: T, or as many as there are. Blocks go through one matrix product in float32, |x|^2 - 2 qx, which orders the rows; the
    first ones are then measured again in float64.
    """
    return measured(rows, queries_QU, _candidates(rows, torch.from_numpy(queries_QU), min(top + MARGIN, rows.count)), top)


def measured(rows: Rows, queries_QU: NDArray[np.float32], candidates_QC: NDArray[np.int64], top: int) -> list[Found]:
    """Return the nearest among each query's candidates, by distances in float64; a number below 0 is none."""
    found = []
    for query_U, candidates_C in zip(queries_QU.astype(np.float64), candidates_QC, strict=True):
        numbers = np.unique(candidates_C[candidates_C >= 0])  # in order: of equals the first
        squares = ((rows.take(numbers).astype(np.float64) - query_U) ** 2).sum(axis=1)
        order = np.argsort(squares, kind="stable")[:top]
        found.append((numbers[order], np.sqrt(squares[order])))
    return found


def _candidates(rows: Rows, queries_QU: Tensor, count: int) -> NDArray[np.int64]:
    best_QC = torch.empty(len(queries_QU), 0)
    records_QC = torch.empty(len(queries_QU), 0, dtype=torch.int64)
    block_BU = torch.empty(0)
    for first, values in rows.scan():
        if not len(block_BU):
            block_BU = torch.empty(values.shape)
        x_BU = block_BU[: len(values)].copy_(torch.from_numpy(values))
        squares_B = torch.from_numpy(
            np.einsum("bu,bu->b", x_BU.numpy(), x_BU.numpy())
        )  # torch's own way takes twelve times as long
        scores_QB = torch.addmm(squares_B[None], queries_QU, x_BU.T, alpha=-2)
        scores_QC, places_QC = _first(scores_QB, count)
        best_QC, order_QC = _first(torch.cat([best_QC, scores_QC], dim=1), count)
        records_QC = torch.cat([records_QC, places_QC + first], dim=1).gather(1, order_QC)
    return records_QC.numpy()


def _first(scores_QB: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest scores and their places, in the order of the places; of equal ones the first, where topk takes any."""
    values_QC, places_QC = scores_QB.topk(min(count, scores_QB.shape[1]), dim=1, largest=False)
    tied_Q = (scores_QB <= values_QC[:, -1:]).sum(dim=1) > values_QC.shape[1]
    if tied_Q.any():
        places_QC[tied_Q] = scores_QB[tied_Q].sort(dim=1, stable=True).indices[:, :count]
    places_QC = places_QC.sort(dim=1).values
    return scores_QB.gather(1, places_QC), places_QC
