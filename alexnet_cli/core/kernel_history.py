"""The first layer's kernels after each epoch of a training, one small file each: how they came to be what they are.

kernels/epoch-0000.safetensors holds the initial ones. They lie beside the states for `--resume` and belong to none of them:
docs/formats.md specifies them. Legend: N kernels, C channels, H, W.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet_cli.core.errors import CheckpointError, RunError
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.tensors import read_tensors, write_tensors

FORMAT, FORMAT_VERSION = "alexnet-kernels", "1"
MOST_BYTES = 1_000_000  # of an epoch's file: #145's is 139,392; 91 of them are a tenth of one weights file
NAME = re.compile(r"epoch-(\d{4,})\.safetensors")
LEFT_BEHIND = re.compile(r"\.epoch-\d{4,}\.safetensors\.partial")  # by a kill


def why_not_kept(recipe: Recipe) -> str:
    """Say why a training does not keep these kernels, as the end of the sentence "the kernels of conv1 ..."; "" where it does."""
    if recipe.layers[0] in recipe.local:
        return "differ from place to place"
    num_bytes = _file_bytes(recipe)
    return f"take {num_bytes / 1e6:,.1f} MB, more than {MOST_BYTES / 1e6:.0f} MB for each epoch" if num_bytes > MOST_BYTES else ""


def kept_bytes(recipe: Recipe) -> int:
    """Return the bytes of what a training keeps of each epoch, 0 where nothing."""
    return 0 if why_not_kept(recipe) else _file_bytes(recipe)


def _file_bytes(recipe: Recipe) -> int:
    return 4 * math.prod(_shape(recipe))


def _shape(recipe: Recipe) -> tuple[int, int, int, int]:
    return recipe.channels[0], 3, recipe.kernels[0], recipe.kernels[0]


def keep_kernels(folder: RunFolder, recipe: Recipe, tensors: Mapping[str, Tensor], epoch: int, step: int) -> None:
    """Write the kernels of an epoch that is over, or of epoch 0 before the first, atomically; nothing where none are kept.

    tensors: at least the first layer's weights, on the CPU, in the shape of the one-device network. Raises DiskFullError.
    """
    if why_not_kept(recipe):
        return
    name = f"{recipe.layers[0]}.weight"
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "epoch": str(epoch), "step": str(step)}
    path = folder.kernels / f"epoch-{epoch:04}.safetensors"
    write_tensors(path, {name: tensors[name].detach().float().contiguous().numpy()}, metadata)


def cut_kernel_history(folder: RunFolder, epoch: int) -> None:
    """Delete the kernels of later epochs: of a training that is continued from before them; -1 for all."""
    for path in _files(folder):
        found = NAME.fullmatch(path.name)
        if LEFT_BEHIND.fullmatch(path.name) or (found and int(found[1]) > epoch):
            path.unlink(missing_ok=True)


def read_kernel_history(folder: RunFolder, recipe: Recipe) -> list[tuple[int, NDArray[np.float32]]]:
    """Return the epochs that a run has kept, in their order, and the kernels after each, float32 (N, C, H, W).

    recipe: the run's; channels are in its order. A run that goes on may have more by the next call.
    Raises RunError where the run has none, CheckpointError where a file is damaged, of another recipe or of another epoch.
    """
    files = sorted((int(found[1]), path) for path in _files(folder) if (found := NAME.fullmatch(path.name)))
    if not files:
        raise RunError(
            f"run {folder.path} has no kernels of its epochs: there is no {folder.kernels.name}/epoch-0000.safetensors",
            hint="runs of earlier versions, and with large or local first layers, keep none; train another run",
        )
    return [(epoch, _read(path, epoch, recipe)) for epoch, path in files]


def _files(folder: RunFolder) -> list[Path]:
    return list(folder.kernels.iterdir()) if folder.kernels.is_dir() else []


_HINT = "remove it: the other epochs can be read without it"


def _read(path: Path, epoch: int, recipe: Recipe) -> NDArray[np.float32]:
    tensors, metadata = read_tensors(path, kind="file of an epoch's kernels", hint=_HINT)
    kernels = next(iter(tensors.values()), None)
    if metadata.get("format") != FORMAT or kernels is None or not bool(kernels.isfinite().all()):
        raise CheckpointError(f"{path} does not hold the kernels of an epoch, as a training writes them", hint=_HINT)
    if tuple(kernels.shape) != _shape(recipe):
        found = f"{tuple(kernels.shape)}, expected {_shape(recipe)} as the run's recipe says"
        raise CheckpointError(f"the kernels in {path} are {found}", hint=_HINT)
    if metadata.get("epoch") != str(epoch):
        raise CheckpointError(f"{path} holds the kernels of epoch {metadata.get('epoch')}", hint=_HINT)
    return kernels.float().numpy()
