"""What is in a picture: its place > the decoder of `prepare` > ten views > the most probable classes, a stream from end to end.

Legend: B images, H, W stored size, C channels, K classes, T named classes.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.checkpoint import Weights, build_network, load_weights, resolve_weights
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, settle
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.features import Features, describe, last_hidden
from alexnet_cli.core.inputs import Input, Picture
from alexnet_cli.core.layers import require_layer
from alexnet_cli.core.readers import Pixels, Seen, passes
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.truths import ClassNames
from alexnet_cli.core.views import num_views


@dataclass(frozen=True)
class ClassProbability:
    """A class, its name in words, and how probable the network finds it, 0-1."""

    class_id: str
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a picture, first things first.

    path: as it was given. truth: the true class where it is known and one of the network's. image: what the network saw,
    uint8 (H, W, 3), where it was asked for.
    """

    path: str
    predictions: tuple[ClassProbability, ...]
    truth: ClassProbability | None = None
    image: Pixels | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read, and why. path: as it was given."""

    path: str
    reason: str


class Model:
    """A trained network on a device, ready to say what is in pictures; `load` makes one.

    weights: what it was made from, its recipe, classes and words among it.
    """

    def __init__(self, weights: Weights, device: torch.device, precision: Precision) -> None:
        self.weights, self.device, self.precision = weights, device, precision
        self._network = build_network(weights, device, precision, cast=True)
        self._mean_CHW = weights.mean.to(device, precision.dtype)
        self._names = ClassNames(weights.classes, weights.words)

    def predict(
        self,
        pictures: Picture | Input | Iterable[Picture | Input],
        *,
        top: int = 5,
        crops: int | None = None,
        batch_size: int = 128,
        workers: int | None = None,
    ) -> list[Prediction | Failure]:
        """Return what `stream` gives, as a list."""
        return list(self.stream(pictures, top=top, crops=crops, batch_size=batch_size, workers=workers))

    def stream(
        self,
        pictures: Picture | Input | Iterable[Picture | Input],
        *,
        top: int = 5,
        crops: int | None = None,
        batch_size: int = 128,
        workers: int | None = None,
        num_images: int = 0,
        total: int | None = None,
        reporter: Reporter | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Classify pictures one after the other; one that cannot be read becomes a Failure and does not stop the others.

        pictures: one or several: files, folders, patterns and addresses as on the command line, contents of files (bytes),
        Pillow's pictures, arrays (uint8, RGB). They are turned as their EXIF record says. top: how many classes to name, at
        most all. crops: 10, 1 for the centre, None for the recipe's. batch_size: views in one forward pass, at most. workers:
        threads that read. num_images: how many of the first predictions carry their image. total: how many pictures there are,
        where that is known, for the reporter.
        Returns one entry for each picture, in their order; memory is that of a few passes, whatever their number. A thread of its
        own goes through `pictures`, so that what was read is answered while the next one is long in coming.
        """
        recipe, reporter = self.weights.recipe, reporter or Reporter()
        crops = recipe.test_crops if crops is None else crops
        images_per_pass = max(1, batch_size // num_views(recipe, crops))
        reporter.start("predict", total, "pictures")
        with closing(passes(pictures, recipe, images=images_per_pass, workers=workers)) as batches:
            for batch in batches:
                answers = self._answer(batch, top, crops)
                reporter.advance(len(answers))
                for answer in answers:
                    with_image = isinstance(answer, Prediction) and num_images > 0
                    num_images -= with_image
                    yield answer if with_image else _without_image(answer)
        reporter.finish()

    def features(
        self,
        pictures: Picture | Input | Iterable[Picture | Input],
        *,
        layer: str | None = None,
        crops: int = 1,
        batch_size: int = 128,
        workers: int | None = None,
        num_images: int = 0,
        total: int | None = None,
        reporter: Reporter | None = None,
    ) -> Iterator[Features | Failure]:
        """Describe pictures by what a layer hands on to the next, one after the other; what cannot be read becomes a Failure.

        layer: its name, such as "conv5" or "fc7"; None for the last hidden one. crops: 1 for the centre view, 10 for the mean of
        the ten. Otherwise as `stream`. Raises AlexNetError where the network has no such layer.
        """
        recipe, reporter = self.weights.recipe, reporter or Reporter()
        layer = last_hidden(recipe) if layer is None else layer
        require_layer(recipe, layer)
        images_per_pass = max(1, batch_size // num_views(recipe, crops))
        reporter.start("features", total, "pictures")
        with closing(passes(pictures, recipe, images=images_per_pass, workers=workers)) as batches:
            for batch in batches:
                rows = self._described(batch, layer, crops)
                reporter.advance(len(batch))
                for one, image in batch:
                    if isinstance(image, str):
                        yield Failure(one.name, image)
                    else:
                        yield Features(one.name, next(rows), one.truth, image if num_images > 0 else None)
                        num_images -= 1
        reporter.finish()

    def describe(self, images_BHWC: Tensor, layer: str, *, crops: int = 1) -> NDArray[np.float32]:
        """Return what a layer hands on of squares of the stored size, uint8 (B, H, W, 3), in one pass: float32, (B, ...)."""
        found = describe(self._network, images_BHWC.to(self.device), self._mean_CHW, layer, crops, self.precision)
        return found.cpu().numpy()

    def _described(self, batch: list[Seen], layer: str, crops: int) -> Iterator[NDArray[np.float32]]:
        images = [image for _, image in batch if not isinstance(image, str)]
        yield from self.describe(torch.from_numpy(np.stack(images)), layer, crops=crops) if images else ()

    def _answer(self, batch: list[Seen], top: int, crops: int) -> list[Prediction | Failure]:
        images = [image for _, image in batch if not isinstance(image, str)]
        if not images:
            return [Failure(one.name, str(reason)) for one, reason in batch]
        images_BHWC = torch.from_numpy(np.stack(images)).to(self.device)
        scores_BK = average_probabilities(self._network, images_BHWC, self._mean_CHW, self.weights.recipe, crops, self.precision)
        assert scores_BK is not None  # one device, hence rank 0
        rows = self._rows(scores_BK.cpu(), top)
        return [
            Failure(one.name, image) if isinstance(image, str) else self._prediction(one, image, *next(rows))
            for one, image in batch
        ]

    def _rows(self, probabilities_BK: Tensor, top: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Return each picture's probabilities and its `top` outputs; of equally probable ones the file's first goes first."""
        order_BT = torch.sort(probabilities_BK, dim=1, descending=True, stable=True).indices[:, :top]
        return zip(probabilities_BK, order_BT.tolist(), strict=True)

    def _prediction(self, one: Input, image: Pixels, probabilities_K: Tensor, order: list[int]) -> Prediction:
        true_output = self._names.place(one.truth) if one.truth else None
        truth = None if true_output is None else self._class(true_output, probabilities_K)
        return Prediction(one.name, tuple(self._class(output, probabilities_K) for output in order), truth, image)

    def _class(self, output: int, probabilities_K: Tensor) -> ClassProbability:
        class_id = self.weights.classes[output]
        return ClassProbability(class_id, self.weights.words[output] or class_id, float(probabilities_K[output]))


def load(weights: str | Path | None = None, *, runs: str | Path = "runs", device: str = "auto", precision: str = "fp32") -> Model:
    """Load a trained network.

    weights: a weights file, a run's folder, or the name of a run in `runs`; None for the best of the newest run. device: "auto",
    "cuda", "cuda:1", "mps" or "cpu". precision: "fp32", "tf32", "bf16", "fp16", "fp64", or "auto" for bf16 where the hardware
    has it.
    Raises CheckpointError when there is none or it is damaged, DeviceError.
    """
    path = resolve_weights(None if weights is None else str(weights), Path(runs))
    where = choose_device(device)
    arithmetic = choose_precision(precision, where)
    settle(arithmetic, where)
    return Model(load_weights(path), where, arithmetic)


def _without_image(answer: Prediction | Failure) -> Prediction | Failure:
    return Prediction(answer.path, answer.predictions, answer.truth) if isinstance(answer, Prediction) else answer
