"""What is in a picture: its place > the decoder of `prepare` > ten views > the most probable classes, a stream from end to end.

Legend: B images, H, W stored size, C channels, K classes, T named classes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.checkpoint import Weights, build_network, load_weights, resolve_weights
from alexnet_cli.core.cores import usable_cores
from alexnet_cli.core.devices import Precision, choose_device, choose_precision, settle
from alexnet_cli.core.errors import DataError
from alexnet_cli.core.evaluate import average_probabilities
from alexnet_cli.core.images import square
from alexnet_cli.core.inputs import Input, Picture, given
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.truths import ClassNames
from alexnet_cli.core.views import num_views

PAUSE = 0.5  # seconds without anything new, after which the pictures that are read wait no longer for a full pass
GRACE = 0.5  # seconds for readers to come to their end

Pixels = NDArray[np.uint8]
Read = tuple[Input, "Future[Pixels | str]"]  # or the reason why it could not be read


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
        self._network = build_network(weights, device, precision)
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
        read = partial(_read, recipe=recipe)
        with closing(_Readers(given(pictures), read, images_per_pass, workers or usable_cores())) as readers:
            while batch := readers.take(images_per_pass):
                answers = self._answer(batch, top, crops)
                reporter.advance(len(answers))
                for answer in answers:
                    with_image = isinstance(answer, Prediction) and num_images > 0
                    num_images -= with_image
                    yield answer if with_image else _without_image(answer)
        reporter.finish()

    def _answer(self, batch: list[Read], top: int, crops: int) -> list[Prediction | Failure]:
        read = [(one, future.result()) for one, future in batch]
        images = [image for _, image in read if not isinstance(image, str)]
        if not images:
            return [Failure(one.name, str(reason)) for one, reason in read]
        images_BHWC = torch.from_numpy(np.stack(images)).to(self.device)
        scores_BK = average_probabilities(self._network, images_BHWC, self._mean_CHW, self.weights.recipe, crops, self.precision)
        assert scores_BK is not None  # one device, hence rank 0
        rows = self._rows(scores_BK.cpu(), top)
        return [
            Failure(one.name, image) if isinstance(image, str) else self._prediction(one, image, *next(rows)) for one, image in read
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


class _Readers:
    """Threads that read pictures ahead: as many as a pass has while the network is busy with another, or one each.

    They are daemons, so that one that waits for a pipe or a server holds up neither what breaks the work off nor the end of Python.
    """

    def __init__(self, inputs: Iterable[Input], read: Callable[[Input], Pixels | str], count: int, workers: int) -> None:
        self._inputs, self._read, self._most = inputs, read, max(count, workers)
        self._changed = Condition()  # guards what the threads share
        self._ahead: deque[Read] = deque()
        self._is_listed = False
        self._is_closed = False
        self._error: BaseException | None = None
        self._tasks: SimpleQueue[Read | None] = SimpleQueue()
        self._threads = [Thread(target=target, daemon=True) for target in (self._list, *[self._work] * workers)]
        for thread in self._threads:
            thread.start()

    def take(self, count: int) -> list[Read]:
        """Return the next pictures, which are read: `count`, or fewer where the next one is long in coming, none at the end.

        Raises what the stream of inputs raised, behind the pictures that came before.
        """
        with self._changed:
            while True:
                ready = self._count_ready(count)
                if ready == count or (self._is_listed and ready == len(self._ahead)):
                    break
                if not self._changed.wait(PAUSE if ready else None):
                    break
            taken = [self._ahead.popleft() for _ in range(ready)]
            self._changed.notify_all()
        if not taken and self._error is not None:
            raise self._error
        return taken

    def close(self) -> None:
        """Stop reading, without waiting for what may never come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for _ in self._threads:
            self._tasks.put(None)
        ends = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _count_ready(self, count: int) -> int:
        waiting = (place for place, (_, future) in enumerate(self._ahead) if place == count or not future.done())
        return next(waiting, len(self._ahead))

    def _has_room(self) -> bool:
        """Wait until another picture may be asked for: none is taken from the caller before it can be read. False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ahead) < self._most or self._is_closed)
            return not self._is_closed

    def _list(self) -> None:
        try:
            inputs = iter(self._inputs)
            while self._has_room() and (one := next(inputs, None)) is not None:
                with self._changed:
                    self._ahead.append((one, Future()))
                    self._tasks.put(self._ahead[-1])
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._is_listed = True
                self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._tasks.get()) and not self._is_closed:
            one, future = task
            try:
                future.set_result(self._read(one))
            except BaseException as error:
                future.set_exception(error)
            with self._changed:
                self._changed.notify_all()


def _read(one: Input, *, recipe: Recipe) -> Pixels | str:
    try:
        return square(one.place.read(), size=recipe.stored_size, resize=recipe.resize, exif_orientation=True)
    except DataError as error:
        return error.message
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
