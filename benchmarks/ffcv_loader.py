"""Reads a file of `ffcv_squares` and prints the images per second of each epoch. Run by the Python of an environment with ffcv.

usage: python benchmarks/ffcv_loader.py FILE WAY BATCH WORKERS, and a line on stdin for every epoch; WAY is a key of WAYS
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import RandomHorizontalFlip, ToTensor

STORED, SIZE = 256, 224


class RandomCrop(Operation):
    """Cuts each image at a place of its own, compiled and parallel as FFCV's operations are, among which is no plain crop."""

    def generate_code(self) -> Any:
        parallel_range = Compiler.get_iterator()

        def crop(images, crops):  # type: ignore[no-untyped-def]
            places = np.random.randint(0, STORED - SIZE + 1, (images.shape[0], 2))
            for index in parallel_range(images.shape[0]):
                y, x = places[index]
                crops[index] = images[index, y : y + SIZE, x : x + SIZE]
            return crops[: images.shape[0]]

        crop.is_parallel = True  # type: ignore[attr-defined]
        return crop

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, AllocationQuery]:
        shape = (SIZE, SIZE, 3)
        return replace(previous_state, shape=shape, jit_mode=True), AllocationQuery(shape, previous_state.dtype)


def cut(images_BHWC: torch.Tensor, crops_BHWC: torch.Tensor) -> torch.Tensor:
    """Cut each image of a batch at a place of its own."""
    places = np.random.randint(0, STORED - SIZE + 1, (len(images_BHWC), 2)).tolist()
    for image, crop, (y, x) in zip(images_BHWC.numpy(), crops_BHWC.numpy(), places, strict=False):
        crop[:] = image[y : y + SIZE, x : x + SIZE]
    return crops_BHWC[: len(images_BHWC)]


def centre_decoder() -> Operation:
    """Return the decoder that cuts the centre; a random one FFCV has only with a change of size."""
    return CenterCropRGBImageDecoder((SIZE, SIZE), SIZE / STORED)


WAYS: dict[str, list[Callable[[], Operation]]] = {
    "crop-of-batch": [SimpleRGBImageDecoder, RandomHorizontalFlip, ToTensor],
    "crop-compiled": [SimpleRGBImageDecoder, RandomCrop, RandomHorizontalFlip, ToTensor],
    "centre": [centre_decoder, RandomHorizontalFlip, ToTensor],
}


if __name__ == "__main__":
    file, way, batch_size, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    pipelines = {"image": [make() for make in WAYS[way]], "label": [IntDecoder(), ToTensor()]}
    loader = Loader(file, batch_size, workers, order=OrderOption.RANDOM, os_cache=True, drop_last=False, pipelines=pipelines)
    buffer = torch.empty((batch_size, SIZE, SIZE, 3), dtype=torch.uint8)
    for _ in sys.stdin:
        count, began = 0, time.perf_counter()
        for images_BHWC, _labels in loader:
            crops_BHWC = cut(images_BHWC, buffer) if way == "crop-of-batch" else images_BHWC
            assert crops_BHWC.shape[1:] == (SIZE, SIZE, 3)
            count += len(crops_BHWC)
        print(count / (time.perf_counter() - began), flush=True)
