"""What is in a picture: a file > the decoder of `prepare` > ten views > the most probable classes.

Legend: B images, H, W stored size, C channels, K classes.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.checkpoint import Weights, build_network
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.images import square
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.views import num_views


@dataclass(frozen=True)
class ClassProbability:
    """A class, its name in words, and how probable the network finds it, 0-1."""

    class_id: str
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a picture, first things first. path: as it was given."""

    path: str
    predictions: tuple[ClassProbability, ...]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, and why. path: as it was given."""

    path: str
    reason: str


Image = NDArray[np.uint8] | str  # or the reason why it could not be read


def predict(
    weights: Weights,
    paths: Sequence[str],
    *,
    top: int = 5,
    crops: int | None = None,
    device: torch.device,
    precision: Precision,
    batch_size: int = 128,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> list[Prediction | Failure]:
    """Classify picture files; one that cannot be read becomes a Failure and does not stop the others.

    top: how many classes to name, at most all. crops: 10, 1 for the centre, None for the recipe's. batch_size: views in one
    forward pass, at most. Pictures are turned as their EXIF record says.
    Returns one entry for each path, in their order.
    """
    recipe = weights.recipe
    crops = recipe.test_crops if crops is None else crops
    reporter = reporter or Reporter()
    images_per_pass = max(1, batch_size // num_views(recipe, crops))
    network = build_network(weights, device, precision)
    mean_CHW = weights.mean.to(device, precision.dtype)
    results: list[Prediction | Failure] = []
    reporter.start("predict", len(paths), "pictures")
    for some, images in _read_ahead(paths, images_per_pass, recipe, workers or usable_cores()):
        readable = [image for image in images if not isinstance(image, str)]
        probabilities_BK = torch.empty(0)
        if readable:
            images_BHWC = torch.from_numpy(np.stack(readable)).to(device)
            scores_BK = average_probabilities(network, images_BHWC, mean_CHW, recipe, crops, precision)
            assert scores_BK is not None  # one device, hence rank 0
            probabilities_BK = scores_BK.cpu()
        rows = iter(probabilities_BK)
        for path, image in zip(some, images, strict=True):
            results.append(Failure(path, image) if isinstance(image, str) else Prediction(path, _first(next(rows), top, weights)))
        reporter.advance(len(some))
    reporter.finish()
    return results


def _read_ahead(paths: Sequence[str], count: int, recipe: Recipe, workers: int) -> Iterator[tuple[Sequence[str], list[Image]]]:
    """Read `count` pictures at a time, the next ones while the network is busy with these; a reason where one cannot be read."""
    read = partial(_read, recipe=recipe)
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        ahead: list[tuple[Sequence[str], list[Future[Image]]]] = []
        for first in range(0, len(paths), count):
            some = paths[first : first + count]
            ahead.append((some, [pool.submit(read, path) for path in some]))
            if len(ahead) == 2:
                yield _finished(*ahead.pop(0))
        for some, futures in ahead:
            yield _finished(some, futures)


def _finished(paths: Sequence[str], futures: Sequence[Future[Image]]) -> tuple[Sequence[str], list[Image]]:
    return paths, [future.result() for future in futures]


def _read(path: str, *, recipe: Recipe) -> Image:
    try:
        return square(Path(path), size=recipe.stored_size, resize=recipe.resize, exif_orientation=True)
    except ImageError as error:
        return error.message


def _first(probabilities_K: Tensor, top: int, weights: Weights) -> tuple[ClassProbability, ...]:
    """Return the `top` most probable classes; of equally probable ones the first in the file's order goes first."""
    order = torch.sort(probabilities_K, descending=True, stable=True).indices[:top].tolist()
    return tuple(
        ClassProbability(weights.classes[k], weights.words[k] or weights.classes[k], float(probabilities_K[k])) for k in order
    )
