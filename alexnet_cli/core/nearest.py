"""The nearest rows to some vectors, by Euclidean distance, in the memory of one block: exact, or among an index's candidates.

Legend: Q queries, N rows, B rows of a block, U values, T the nearest.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Nearest rows more than asked for that are measured again, as float32 may swap what is as good as equally far; and how many where
# that was too few to be sure of, as among the frames of a film.
MARGIN, WIDE_MARGIN = 32, 4096
# Of the error of a sum of U products in float32, in sqrt(U) units of its last digit: the errors of single steps are as by chance.
SIGMAS, UNIT = 8, 2.0**-24
MEASURED = 1 << 22  # values at a time


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
    first ones are then measured again in float64. Where those left out could be nearer, by what float32 may be wrong, more are.
    """
    found, unsure = _searched(rows, queries_QU, top, MARGIN)
    if unsure:
        again, _ = _searched(rows, queries_QU[unsure], top, WIDE_MARGIN)
        for query, one in zip(unsure, again, strict=True):
            found[query] = one
    return found


def measured(rows: Rows, queries_QU: NDArray[np.float32], candidates_QC: NDArray[np.int64], top: int) -> list[Found]:
    """Return the nearest among each query's candidates, by distances in float64; a number below 0 is none."""
    found = []
    for query_U, candidates_C in zip(queries_QU.astype(np.float64), candidates_QC, strict=True):
        numbers = np.unique(candidates_C[candidates_C >= 0])  # in order: of equals the first
        squares = _squared_distances(rows, numbers, query_U)
        order = np.argsort(squares, kind="stable")[:top]
        found.append((numbers[order], np.sqrt(squares[order])))
    return found


def _squared_distances(rows: Rows, numbers: NDArray[np.int64], query_U: NDArray[np.float64]) -> NDArray[np.float64]:
    size = max(1, MEASURED // len(query_U))
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return np.concatenate([((rows.take(part).astype(np.float64) - query_U) ** 2).sum(axis=1) for part in parts] or [np.empty(0)])


def _searched(rows: Rows, queries_QU: NDArray[np.float32], top: int, margin: int) -> tuple[list[Found], list[int]]:
    """Return the nearest to each query among so many more than asked for, and which queries may have nearer ones beyond."""
    count = min(top + margin, rows.count)
    records_QC, last_Q, longest = _candidates(rows, torch.from_numpy(queries_QU), count)
    found = measured(rows, queries_QU, records_QC, top)
    if count == rows.count:
        return found, []
    lengths_Q = np.linalg.norm(queries_QU.astype(np.float64), axis=1)
    errors_Q = SIGMAS * np.sqrt(queries_QU.shape[1]) * UNIT * longest * (longest + 2 * lengths_Q)
    scores_Q = np.array([distances[-1] ** 2 for _, distances in found]) - lengths_Q**2
    return found, np.flatnonzero(scores_Q > last_Q - errors_Q).tolist()


def _candidates(rows: Rows, queries_QU: Tensor, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """Return the rows of the smallest scores, the largest score among them, and the length of the longest row of all."""
    best_QC = torch.empty(len(queries_QU), 0)
    records_QC = torch.empty(len(queries_QU), 0, dtype=torch.int64)
    block_BU, longest = torch.empty(0), 0.0
    for first, values in rows.scan():
        if not len(block_BU):
            block_BU = torch.empty(values.shape)
        x_BU = block_BU[: len(values)].copy_(torch.from_numpy(values))
        squares_B = torch.from_numpy(
            np.einsum("bu,bu->b", x_BU.numpy(), x_BU.numpy())
        )  # torch's own way takes twelve times as long
        longest = max(longest, float(squares_B.max()) ** 0.5)
        scores_QB = torch.addmm(squares_B[None], queries_QU, x_BU.T, alpha=-2)
        scores_QC, places_QC = _first(scores_QB, count)
        best_QC, order_QC = _first(torch.cat([best_QC, scores_QC], dim=1), count)
        records_QC = torch.cat([records_QC, places_QC + first], dim=1).gather(1, order_QC)
    return records_QC.numpy(), best_QC.max(dim=1).values.double().numpy(), longest


def _first(scores_QB: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest scores and their places, in the order of the places; of equal ones the first, where topk takes any."""
    values_QC, places_QC = scores_QB.topk(min(count, scores_QB.shape[1]), dim=1, largest=False)
    tied_Q = (scores_QB <= values_QC[:, -1:]).sum(dim=1) > values_QC.shape[1]
    if tied_Q.any():
        places_QC[tied_Q] = scores_QB[tied_Q].sort(dim=1, stable=True).indices[:, :count]
    places_QC = places_QC.sort(dim=1).values
    return scores_QB.gather(1, places_QC), places_QC
