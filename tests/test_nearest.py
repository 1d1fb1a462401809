from collections.abc import Iterator

import numpy as np
import pytest

from alexnet_cli.core.nearest import measured, nearest


class Blocks:
    """Rows in memory, a few at a time, in one buffer as a file's are."""

    def __init__(self, rows: np.ndarray, size: int) -> None:
        self.rows, self.size, self.count = rows, size, len(rows)

    def scan(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield them in one buffer."""
        buffer = np.empty((self.size, self.rows.shape[1]), self.rows.dtype)
        for first in range(0, self.count, self.size):
            part = self.rows[first : first + self.size]
            buffer[: len(part)] = part
            yield first, buffer[: len(part)]

    def take(self, records: np.ndarray) -> np.ndarray:
        """Return some."""
        return self.rows[records]


def brute_force(rows: np.ndarray, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Every distance in float64, one difference at a time; of equals the first."""
    distances = np.array([[np.sqrt(((row.astype(np.float64) - query) ** 2).sum()) for row in rows] for query in queries])
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.mark.parametrize(("count", "size", "top"), [(1, 5, 6), (5, 5, 5), (103, 10, 6), (103, 200, 103), (103, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_agrees_with_brute_force(count, size, top, dtype):
    """Whatever the blocks, the nearest and their distances are those of a search through all differences in float64."""
    generator = np.random.default_rng(count)
    rows = np.maximum(generator.standard_normal((count, 40)) * 30, 0).astype(dtype)
    queries = np.maximum(generator.standard_normal((7, 40)) * 30, 0).astype(np.float32)
    expected, distances = brute_force(rows, queries.astype(np.float64), top)
    found = nearest(Blocks(rows, size), queries, top)
    np.testing.assert_array_equal([records for records, _ in found], expected)
    np.testing.assert_allclose([one for _, one in found], distances, rtol=1e-12)


def test_near_duplicates_far_from_zero():
    """Rows that differ by less than float32's sums can tell, far from the origin, still come in the right order."""
    generator = np.random.default_rng(1)
    base = np.full(64, 1000.0, np.float32)
    rows = np.tile(base, (50, 1))
    rows[np.arange(50), np.arange(50)] += generator.permutation(50).astype(np.float32) / 8  # |x|^2 is 6e7, the distances below 7
    expected, _ = brute_force(rows, base[None].astype(np.float64), 6)
    ((records, distances),) = nearest(Blocks(rows, 16), base[None], 6)
    np.testing.assert_array_equal(records, expected[0])
    np.testing.assert_allclose(distances, np.arange(6) / 8)


@pytest.mark.parametrize("size", [64, 2000])
def test_many_near_duplicates(size):
    """Of a thousand rows that float32's sums cannot tell apart, as frames of a film, the nearest are named."""
    generator = np.random.default_rng(3)
    rows = generator.standard_normal((1500, 512)).astype(np.float32) * 100
    rows[200:1200] = 100
    steps = generator.permutation(1000).astype(np.float32) / 4096
    rows[np.arange(200, 1200), generator.integers(512, size=1000)] += steps  # |x|^2 is 5e6, the squared distances below 0.06
    queries = np.stack([rows[0], np.full(512, 100, np.float32), rows[1300]])
    found = nearest(Blocks(rows, size), queries, 6)
    order = 200 + np.argsort(steps)[:6]
    expected, _ = brute_force(rows, queries[[0, 2]].astype(np.float64), 6)
    np.testing.assert_array_equal([records for records, _ in found], [expected[0], order, expected[1]])
    np.testing.assert_allclose(found[1][1], np.arange(6) / 4096)


def test_of_equals_the_first():
    """Equal rows come in the order of their numbers."""
    rows = np.zeros((500, 4), np.float16)
    ((records, distances),) = nearest(Blocks(rows, 130), np.ones((1, 4), np.float32), 5)
    assert records.tolist() == [0, 1, 2, 3, 4] and distances.tolist() == [2.0] * 5


@pytest.mark.parametrize("size", [1, 3, 50, 400])
def test_of_many_equals_the_first(size):
    """Among whole numbers, where hundreds of rows are equally far, the order is by distance and then by number, in any blocks."""
    rows = np.random.default_rng(2).integers(0, 3, (400, 3)).astype(np.float16)
    queries = np.array([[0, 0, 0], [1, 2, 0], [5, 5, 5]], np.float32)
    expected, _ = brute_force(rows, queries.astype(np.float64), 20)
    np.testing.assert_array_equal([records for records, _ in nearest(Blocks(rows, size), queries, 20)], expected)


def test_candidates_that_are_none():
    """Numbers below 0, as an index gives where it has no more, and numbers twice are left out."""
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    ((records, _),) = measured(Blocks(rows, 4), np.zeros((1, 3), np.float32), np.array([[2, -1, 2, 0]]), 6)
    assert records.tolist() == [0, 2]
