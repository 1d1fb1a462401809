"""Random draws: named by their purpose, stable, and distributed as they should be."""

import hashlib

import numpy as np
import pytest

from alexnet_cli.core import draws

ROUND = 0xD2E7470EE14C6C93, 0xCA5A826395121157  # Philox4x64's multipliers and Weyl constants (Salmon et al. 2011)
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
MASK = 2**64 - 1


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Return one block of Philox4x64-10, from its published definition."""
    for _ in range(10):
        one, two = counter[0] * ROUND[0], counter[2] * ROUND[1]
        counter = [(two >> 64) ^ counter[1] ^ key[0], two & MASK, (one >> 64) ^ counter[3] ^ key[1], one & MASK]
        key = [(key[0] + WEYL[0]) & MASK, (key[1] + WEYL[1]) & MASK]
    return counter


def test_raw_is_philox_under_a_hashed_name():
    """The bits are Philox's, keyed by the BLAKE2b hash of seed, purpose and counters."""
    digest = hashlib.blake2b(b"5/crop y/3", digest_size=16).digest()
    key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")]
    expected = philox([1, 0, 0, 0], key) + philox([2, 0, 0, 0], key)
    assert draws.raw(8, 5, "crop y", 3).tolist() == expected


def test_a_longer_draw_begins_like_a_shorter_one():
    """How many numbers are taken does not change the first ones."""
    assert np.array_equal(draws.raw(10, 0, "a"), draws.raw(1000, 0, "a")[:10])


@pytest.mark.parametrize("other", [(1, "order", 0), (0, "mirror", 0), (0, "order", 1), (0, "order", 0, 0)])
def test_other_names_draw_other_numbers(other):
    """Seed, purpose and counters all matter."""
    seed, purpose, *counters = other
    assert not np.array_equal(draws.raw(4, 0, "order", 0), draws.raw(4, seed, purpose, *counters))


def test_permutation_has_every_number_once():
    """A permutation loses and repeats nothing."""
    order = draws.permutation(1000, 0, "order", 4)
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != list(range(1000))


def test_integers_are_uniform():
    """Crop places from 0 to 32: each is drawn equally often, by a chi-square test."""
    counts = np.bincount(draws.integers(33_000, 33, 0, "crop y", 0), minlength=33)
    assert len(counts) == 33
    assert ((counts - 1000) ** 2 / 1000).sum() < 62.5  # the 99.9 % point for 32 degrees of freedom


@pytest.mark.parametrize("count", [1, 7, 200_001])
def test_normals(count):
    """Normal draws have the moments of the standard normal distribution."""
    numbers = draws.normals(count, 0, "weights", 1)
    assert numbers.shape == (count,)
    if count > 1000:
        assert abs(numbers.mean()) < 5 / count**0.5
        assert abs(numbers.var() - 1) < 5 * (2 / count) ** 0.5
        assert abs((numbers**4).mean() - 3) < 5 * (96 / count) ** 0.5


def test_normals_across_blocks(monkeypatch):
    """Numbers made block by block are numbers of the same distribution, and all of them."""
    monkeypatch.setattr(draws, "BLOCK", 1000)
    numbers = draws.normals(10_500, 0, "weights", 2, dtype=np.float32)
    assert numbers.dtype == np.float32
    assert len(np.unique(numbers)) > 10_000
    assert abs(numbers.std() - 1) < 0.05
