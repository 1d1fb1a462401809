"""Exact sums over stored pictures, and the mean image and colour components that follow from them.

Sums of integers do not depend on the order of the pictures, so any number of workers and interruptions gives the same bits.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.images import STORED_SIZE

if TYPE_CHECKING:
    from alexnet_cli.core.store import Stats

FEW = 257  # pictures whose sums fit 16 bits: 257 * 255 = 65,535


@dataclass(eq=False)
class PixelSums:
    """Sums over `count` pictures.

    pixels: int64 (size, size, 3), per place and channel; uint16 in sums `of_few`. products: int64 (3, 3), of channel times channel
    over all pixels; it holds 2.1 thousand million pictures.
    """

    count: int = 0
    pixels: NDArray[np.int64] | NDArray[np.uint16] = field(default_factory=lambda: np.zeros(_shape(STORED_SIZE), dtype=np.int64))
    products: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 3), dtype=np.int64))

    @classmethod
    def of_size(cls, size: int) -> "PixelSums":
        """Return empty sums for pictures of that side."""
        return cls(pixels=np.zeros(_shape(size), dtype=np.int64))

    @classmethod
    def of_few(cls, size: int = STORED_SIZE) -> "PixelSums":
        """Return empty sums for at most FEW pictures, in 16 bits: quick to add to, small to hand to another process."""
        return cls(pixels=np.zeros(_shape(size), dtype=np.uint16))

    def add(self, image_HWC: NDArray[np.uint8]) -> None:
        """Add one picture, uint8 (size, size, 3), of up to 256x256 pixels."""
        self.count += 1
        self.pixels += image_HWC
        # One picture's products fit 32 bits (255 * 255 * 256 * 256 < 2**32), and integers keep BLAS and its threads out.
        channels = np.empty((3, image_HWC.shape[0] * image_HWC.shape[1]), dtype=np.uint32)
        channels[:] = image_HWC.reshape(-1, 3).T
        for row in range(3):
            self.products[row, row:] += np.einsum("n,jn->j", channels[row], channels[row:])
            self.products[row:, row] = self.products[row, row:]

    def merge(self, other: "PixelSums") -> None:
        """Add what another worker has summed."""
        self.count += other.count
        self.pixels += other.pixels
        self.products += other.products

    def to_bytes(self) -> bytes:
        """Return all sums as little-endian int64."""
        return np.concatenate([[self.count], self.pixels.ravel(), self.products.ravel()]).astype("<i8").tobytes()

    @classmethod
    def from_bytes(cls, value: bytes) -> "PixelSums":
        """Return the sums that `to_bytes` wrote."""
        numbers = np.frombuffer(value, dtype="<i8").astype(np.int64)
        size = math.isqrt((len(numbers) - 10) // 3)
        return cls(int(numbers[0]), numbers[1:-9].reshape(_shape(size)), numbers[-9:].reshape(3, 3))

    def stats(self) -> "Stats":
        """Return the mean image and the principal components of all pixels' colours, of one picture or more.

        Source: paper 4.1 (components of the RGB values throughout the training set), paper 2 (mean).
        """
        from alexnet_cli.core.store import Stats  # not for the workers, which only add

        number = self.count * self.pixels.shape[0] * self.pixels.shape[1]
        totals = [int(total) for total in self.pixels.sum(axis=(0, 1))]
        # N*sum(xy) - sum(x)*sum(y) passes 64 bits: Python's integers keep it exact until the one division.
        covariance = [[(number * int(self.products[i, j]) - totals[i] * totals[j]) / number**2 for j in range(3)] for i in range(3)]
        variances, columns = np.linalg.eigh(np.array(covariance))
        components = columns.T[::-1]  # eigh sorts upwards
        largest = np.argmax(np.abs(components), axis=1)
        components = components * np.sign(components[np.arange(3), largest])[:, None]
        return Stats(
            mean=(self.pixels.transpose(2, 0, 1) / self.count).astype(np.float32),
            color_stdevs=np.sqrt(np.maximum(variances[::-1], 0)).astype(np.float32),
            color_components=components.astype(np.float32),
        )


def _shape(size: int) -> tuple[int, int, int]:
    return size, size, 3
