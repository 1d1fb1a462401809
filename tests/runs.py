"""A run whose answers are known by hand: a narrow network that names every picture the same, its log, its store."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alexnet_cli.core.architecture import parameter_shapes
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.config import write_config
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.run_folder import RunFolder
from tests.networks import narrow_small
from tests.pictures import photo
from tests.stores import write_store

CLASSES = ("n01", "n02", "n03")
WORDS = ("cat", "dog, hound", "owl")
# fc8's biases are the logarithms of 1, 2 and 4, its weights 0: whatever is in a picture, these are its probabilities.
PROBABILITIES = (1 / 7, 2 / 7, 4 / 7)
LABELS = (0, 2, 0, 2, 1, 2)
HOSTILE = ("<script>alert(1)</script>", "\"'&</title><img src=x onerror=alert(2)>", "\u202e\x00\x07")
STEP = {"kind": "step", "learning_rate": 0.01, "data_wait": 0.0}
# Two epochs of four steps, every second of which is logged.
ROWS: tuple[dict[str, Any], ...] = (
    {**STEP, "step": 2, "epoch": 1, "loss": 1.5, "top1_error": 0.75, "images_per_second": 10.0},
    {**STEP, "step": 4, "epoch": 1, "loss": 1.0, "top1_error": 0.5, "images_per_second": 30.0},
    {"kind": "weights", "step": 4, "epoch": 1, "parameter": "conv1.weight", "mean_weight": 1.0, "mean_change": 0.1, "ratio": 0.1},
    {"kind": "epoch", "step": 4, "epoch": 1, "val_top1_error": 0.25, "val_top5_error": 0.125, "val_loss": 0.9},
    {**STEP, "step": 6, "epoch": 2, "loss": 0.5, "top1_error": 0.25, "images_per_second": 20.0},
    {"kind": "epoch", "step": 8, "epoch": 2, "val_top1_error": 0.375, "val_top5_error": 0.0625, "val_loss": 0.8},
)
ENVIRONMENT = {"torch": "9.9.9", "device": "cpu Abacus", "precision": "fp32"}


@dataclass(frozen=True)
class Run:
    """Where it lies."""

    folder: RunFolder
    data: Path


def known_weights(words: Sequence[str] = WORDS, recipe: Recipe | None = None) -> Weights:
    """Return weights that answer PROBABILITIES to every picture."""
    recipe = recipe or narrow_small(epochs=2)
    generator = torch.Generator().manual_seed(0)
    shapes = parameter_shapes(recipe, len(CLASSES))
    tensors = {name: torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:])) for name, shape in shapes.items()}
    tensors[f"{recipe.layers[0]}.weight"] *= 0.05  # pixels go up to 255
    last = recipe.layers[-1]
    tensors[f"{last}.weight"] = torch.zeros(shapes[f"{last}.weight"])
    tensors[f"{last}.bias"] = torch.tensor([math.log(count) for count in (1, 2, 4)])
    size = recipe.stored_size
    return Weights(recipe, CLASSES, tuple(words), tensors, torch.full((3, size, size), 110.0), step=8, epoch=2)


def make_run(
    root: Path,
    *,
    rows: Sequence[dict[str, Any]] = ROWS,
    ending: str = "",
    words: Sequence[str] = WORDS,
    weights: Weights | None = None,
    with_weights: bool = True,
    **changes: Any,
) -> Run:
    """Lay a run's folder and a store of six pictures beside it. ending: what follows the log's rows. changes: of the recipe."""
    weights = weights or known_weights(words, narrow_small(**{"epochs": 2, **changes}))
    folder = RunFolder(root / "runs" / "first")
    folder.resume.mkdir(parents=True)
    write_config(folder.recipe, {**weights.recipe.to_dict(), "run": {"seed": 7, "data": "data"}})
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + ending)
    (folder.resume / "8.json").write_text(json.dumps({"step": 8, "environment": ENVIRONMENT}))
    if with_weights:
        save_weights(folder.best, weights)
    return Run(folder, make_store(root / "data", words))


def make_store(data: Path, words: Sequence[str] = WORDS) -> Path:
    """Lay a store of six soft pictures, of the classes of LABELS."""
    import numpy as np

    images = [np.asarray(photo(256, 256, seed)) for seed in range(len(LABELS))]
    write_store(data / "val", images, LABELS, CLASSES, format="jpeg", words=list(words))
    return data
