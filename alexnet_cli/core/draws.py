"""Every random number, as a function of what it is for and of nothing else (numpy only).

A draw is named by (seed, purpose, counters), for example (0, "order", epoch), and comes from the counter-based generator
Philox under a key hashed from that name. It therefore does not depend on the process, the worker or the order that asks for it,
and a resumed run or a second rank draws the same. Only raw bits are taken from NumPy, whose distributions may change from
version to version.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20  # numbers made at a time, so that 38 million initial weights need no gigabyte on the way


def _generator(seed: int, purpose: str, counters: tuple[int, ...]) -> np.random.Philox:
    name = "/".join(map(str, (seed, purpose, *counters)))
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.Philox(key=np.frombuffer(digest, dtype="<u8").astype(np.uint64))


def raw(count: int, seed: int, purpose: str, *counters: int) -> NDArray[np.uint64]:
    """Return `count` independent 64-bit numbers, uint64 (count,)."""
    return np.asarray(_generator(seed, purpose, counters).random_raw(count), dtype=np.uint64)


def permutation(count: int, seed: int, purpose: str, *counters: int) -> NDArray[np.int64]:
    """Return the numbers 0 to count - 1 in random order, int64 (count,)."""
    return np.argsort(raw(count, seed, purpose, *counters), kind="stable").astype(np.int64)


def integers(count: int, high: int, seed: int, purpose: str, *counters: int) -> NDArray[np.int64]:
    """Return `count` numbers, uniform in 0 to high - 1 (their bias is below high / 2**64), int64 (count,)."""
    return (raw(count, seed, purpose, *counters) % np.uint64(high)).astype(np.int64)


def normals(count: int, seed: int, purpose: str, *counters: int, dtype: type[np.floating] = np.float64) -> NDArray[np.floating]:
    """Return `count` numbers of the standard normal distribution, (count,), by the method of Box and Muller (1958)."""
    generator = _generator(seed, purpose, counters)
    numbers = np.empty(count, dtype=dtype)
    for start in range(0, count, BLOCK):
        block = min(BLOCK, count - start)
        pairs = (block + 1) // 2
        bits = np.asarray(generator.random_raw(2 * pairs), dtype=np.uint64) >> np.uint64(11)
        uniforms = (bits.astype(np.float64) + 0.5) * 2.0**-53  # inside (0, 1): its logarithm is finite
        radius = np.sqrt(-2.0 * np.log(uniforms[:pairs]))
        angle = 2.0 * np.pi * uniforms[pairs:]
        numbers[start : start + block] = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:block]
    return numbers
