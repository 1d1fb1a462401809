"""What a refactor must leave as it is: the losses of a whole small training, kept in tests/golden/.

`python -m tests.test_golden` writes them anew; a commit that changes them says why.
"""

import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.core.recipe import LAYERS
from alexnet_cli.core.recipes import original
from alexnet_cli.core.schedule import rates_at
from alexnet_cli.core.store import Stats, write_stats
from alexnet_cli.core.train import TrainOptions, train
from tests.networks import narrow
from tests.stores import write_store

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
CLASSES = ("a", "b", "c")
# Wide enough for the narrow layers to pass on what they see: else the losses would tell of fc8's bias and little more.
STDEVS = (0.01, 0.1, 0.1, 0.1, 0.1, 0.05, 0.1, 0.02)
STEPS = 20  # 4 epochs of 5 steps, the last of them short; every event of net #145's schedule takes place


def noise_pictures(count: int, key: int) -> list[np.ndarray]:
    """Make pictures from the raw bits of a generator whose stream is specified, uint8 (256, 256, 3)."""
    size = 256 * 256 * 3
    bits = np.random.Philox(key=key).random_raw(count * size // 8)
    return list(np.asarray(bits, dtype="<u8").view(np.uint8).reshape(count, 256, 256, 3))


def train_small(folder: Path) -> list[float]:
    """Train a narrow #145 in float64 on noise, and return the loss of every step."""
    write_store(folder / "data" / "train", noise_pictures(36, 1), [index % 3 for index in range(36)], CLASSES)
    write_store(folder / "data" / "val", noise_pictures(3, 2), [0, 1, 2], CLASSES)
    mean = np.linspace(100, 150, 3 * 256 * 256, dtype=np.float32).reshape(3, 256, 256)
    write_stats(folder / "data", Stats(mean, np.array([120, 37, 20], np.float32), np.eye(3, dtype=np.float32)[::-1]))
    options = TrainOptions(
        data=folder / "data",
        runs=folder,
        run="run",
        recipe=narrow(original(), epochs=4, init_stdevs=STDEVS),
        device="cpu",
        precision="fp64",
        log_every=1,
    )
    with torch.compiler.set_stance("force_eager"):
        train(options)
    rows = map(json.loads, (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["loss"] for row in rows if row["kind"] == "step"]


def test_losses_are_the_golden_ones(tmp_path):
    """Order, crops, mirroring, colours, dropout, normalisation, update rule and schedule are what they were, on any machine."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    losses = train_small(tmp_path)
    assert len(losses) == len(golden["losses"]) == STEPS
    # A decay of 0.0004 instead of 0.0005 changes them by 6e-5, other instructions and thread counts by less than 1e-15.
    assert losses == pytest.approx(golden["losses"], rel=1e-9)


def test_every_event_takes_place_in_the_golden_training():
    """The rates of the 20 steps have all the phases of the schedule, the freeze of conv1 included."""
    recipe = narrow(original(), epochs=4)
    phases = {tuple(rates_at(recipe, step, STEPS).weights[layer] for layer in LAYERS) for step in range(STEPS)}
    assert len(phases) == 1 + len(recipe.events)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        found = train_small(Path(name))
    written_with = {"torch": torch.__version__, "numpy": np.__version__, "machine": platform.machine()}
    GOLDEN.write_text(json.dumps({**written_with, "losses": found}, indent=1) + "\n", encoding="utf-8")
