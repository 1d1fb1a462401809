"""Reads a store with `training_batches`, or files with torchvision, and prints images per second and memory of each epoch.

usage: python -m benchmarks.our_loader PLACE store|folder BATCH WORKERS, and a line on stdin for every epoch
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from alexnet_cli.core.batches import training_batches
from alexnet_cli.core.memory import reuse_memory
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.store import Store
from alexnet_cli.core.views import draw_views


def store_epochs(folder: Path, batch_size: int, workers: int) -> Callable[[int], int]:
    """Return a function that reads one epoch, mirrors half of it by torch, and returns the number of images.

    `alexnet train` mirrors on the device; here it is done so that all loaders do the same.
    """
    reuse_memory()  # as `alexnet train` does
    torch.set_num_threads(1)  # beside the workers
    store, recipe = Store(folder), Recipe(batch_size=batch_size, shuffle="full", crop_chunk=1)

    def read(epoch: int) -> int:
        count = 0
        mirrored = draw_views(recipe, 0, epoch, len(store)).mirrored
        with training_batches(store, recipe, seed=0, epoch=epoch, workers=workers) as batches:
            for batch in batches:
                for row in mirrored[batch.positions.start : batch.positions.stop].nonzero()[0].tolist():
                    batch.images_BHWC[row] = batch.images_BHWC[row].flip(1)
                count += len(batch.labels_B)
        return count

    return read


def folder_epochs(folder: Path, batch_size: int, workers: int) -> Callable[[int], int]:
    """Return a function that reads one epoch of class folders by torchvision, and returns the number of images."""
    steps = [transforms.Resize(256), transforms.RandomCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    files = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    loader: DataLoader = DataLoader(files, batch_size, shuffle=True, num_workers=workers, persistent_workers=True)

    def read(epoch: int) -> int:
        return sum(len(images_BCHW) for images_BCHW, _ in loader)

    return read


def own_memory() -> int:
    """Return the megabytes of this process that are its own, without files that are mapped (Linux; else 0)."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1000


if __name__ == "__main__":
    way = {"store": store_epochs, "folder": folder_epochs}[sys.argv[2]]
    read = way(Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4]))
    for epoch, _ in enumerate(sys.stdin):
        began = time.perf_counter()
        count = read(epoch)
        print(count / (time.perf_counter() - began), own_memory(), flush=True)
