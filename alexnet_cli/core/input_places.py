"""Where the pictures of `predict` are, besides files: addresses, pipes, memory, a store; each reads itself when its turn comes.

It must not import torch.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.images import DAMAGE
from alexnet_cli.core.places import LARGEST_PICTURE
from alexnet_cli.core.store import Store


@dataclass(frozen=True)
class UrlPlace:
    """An address."""

    url: str

    def read(self) -> bytes:
        """Return what lies there."""
        from alexnet_cli.core.urls import fetch  # http and TLS take a while to import

        return fetch(self.url)


@dataclass(frozen=True)
class StreamPlace:
    """What can only be read once and from its beginning, such as a pipe. open: returns it."""

    open: Callable[[], AbstractContextManager[BufferedIOBase]]

    def read(self) -> bytes:
        """Return all of it, unless there is no end to it."""
        with self.open() as stream:
            content = stream.read(LARGEST_PICTURE + 1)
        if len(content) > LARGEST_PICTURE:
            raise ImageError(f"too large: more than {LARGEST_PICTURE:,} bytes")
        return content


@dataclass(frozen=True, eq=False)
class PixelPlace:
    """A picture in memory: the content of a file, Pillow's, or uint8 [0, 255], (H, W, 3) in RGB or (H, W) in grey."""

    picture: object

    def read(self) -> bytes | Image.Image:
        """Return it, turned upright where it is Pillow's and says how."""
        if isinstance(self.picture, bytes):
            return self.picture
        if isinstance(self.picture, np.ndarray):
            return _from_array(self.picture)
        if not isinstance(self.picture, Image.Image):
            raise ImageError(f"{type(self.picture).__name__}, expected a path, bytes, a picture of Pillow's or an array")
        try:
            return ImageOps.exif_transpose(self.picture)
        except DAMAGE as error:
            raise ImageError(f"damaged or cut short: {error}") from error


@dataclass(frozen=True, eq=False)
class RecordPlace:
    """A record of a store."""

    store: Store
    index: int

    def read(self) -> Image.Image:
        """Return the stored picture, a square already."""
        return Image.fromarray(self.store.image(self.index))


@dataclass(frozen=True)
class Nowhere:
    """Where no picture is, and why."""

    reason: str

    def read(self) -> bytes:
        """Raise ImageError with the reason."""
        raise ImageError(self.reason)


def _from_array(pixels: NDArray[np.uint8]) -> Image.Image:
    grey, colours = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (grey or colours) or 0 in pixels.shape:
        raise ImageError(f"an array of {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3)")
    return Image.fromarray(pixels)
