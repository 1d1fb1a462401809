"""Train a narrow network once straight through and once through random interruptions, and compare the ends, byte for byte.

It is killed, asked to stop by every signal that it knows, and found with a damaged newest checkpoint; each time the same command
is given again. `python -m benchmarks.soak` exits with 1 when anything differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_cli.core.config import write_config
from alexnet_cli.core.prepare import prepare
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.resume import saved_steps

PICTURES = {"train": 20, "val": 5}  # of each class: 5 steps of 8 an epoch, the last one short
CLASSES = ("cat", "dog")
STEPS_PER_EPOCH = 5
# The full network's steps, schedule and augmentation, in a width that a processor makes many steps a second of.
NARROW = {"channels": [8, 16, 24, 24, 16], "hidden": [32, 32], "batch_size": 8}
INTERRUPTIONS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TIMES = ("images_per_second", "data_wait", "val_seconds", "memory")  # differ from run to run


def lay_out(folder: Path, steps: int) -> None:
    """Make the pictures, the store and the configuration."""
    generator = np.random.default_rng(0)
    for split, count in PICTURES.items():
        for name in CLASSES:
            (folder / "source" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "source" / split / name / f"{index}.png")
    prepare(folder / "source", folder / "data", workers=1)
    recipe = Recipe.from_dict({**NARROW, "epochs": -(-steps // STEPS_PER_EPOCH)})
    write_config(folder / "narrow.toml", recipe.to_dict())


def start(folder: Path, name: str, steps: int) -> subprocess.Popen[bytes]:
    """Begin or continue a run."""
    options = [
        "--config",
        "narrow.toml",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--log-every",
        "7",
        "--checkpoint-every",
        "23steps",
    ]
    command = [sys.executable, "-m", "alexnet_cli", "--quiet", "train", *options, "--limit-steps", str(steps)]
    environment = {**os.environ, "TORCH_COMPILE_DISABLE": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen([*command, "--run", name, "--auto-resume"], cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def interrupt(folder: Path, name: str, steps: int, chance: random.Random) -> str:
    """Start, and stop at a random moment; return how it was stopped, or "end" when it came to its end."""
    process = start(folder, name, steps)
    try:
        code = process.wait(chance.uniform(2, 14))
        return "end" if code == 0 else f"exit code {code}"
    except subprocess.TimeoutExpired:
        wanted = chance.choice(INTERRUPTIONS)
        process.send_signal(wanted)
        process.wait(60)
        return wanted.name


def damage(folder: Path, name: str, chance: random.Random) -> bool:
    """Change one byte of the newest state, where there is an older one; say whether there was."""
    states = folder / "runs" / name / "resume"
    steps = saved_steps(states) if states.is_dir() else []
    if len(steps) < 2:
        return False
    path = states / f"{steps[0]}.safetensors"
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return True


def soak(folder: Path, steps: int, seed: int) -> Counter[str]:
    """Run to the end through interruptions; return how often each happened."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    while True:
        ending = interrupt(folder, "interrupted", steps, chance)
        counts[ending] += 1
        steps_there = saved_steps(folder / "runs" / "interrupted" / "resume")
        print(f"{ending:>12}, newest checkpoint: {steps_there[0] if steps_there else 'none'}", flush=True)
        if ending == "end" or ending.startswith("exit"):
            return counts
        if chance.random() < 0.15 and damage(folder, "interrupted", chance):
            counts["damaged checkpoint"] += 1
            print("             the newest checkpoint damaged", flush=True)


def differences(folder: Path) -> list[str]:
    """Return what is not the same in both runs."""
    one, two = (folder / "runs" / name for name in ("straight", "interrupted"))
    found = [name for name in ("last.safetensors", "best.safetensors") if (one / name).read_bytes() != (two / name).read_bytes()]
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    rows = [[{key: value for key, value in row.items() if key not in TIMES} for row in log] for log in logs]
    return found + (["metrics.jsonl"] if rows[0] != rows[1] else [])


def main() -> None:
    """Print what happened, and what differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and kinds of the interruptions (default: 0)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, arguments.steps)
        began = time.monotonic()
        assert start(folder, "straight", arguments.steps).wait() == 0
        print(f"straight through: {time.monotonic() - began:.0f} s", flush=True)
        counts = soak(folder, arguments.steps, arguments.seed)
        different = differences(folder)
    print(f"{arguments.steps} steps; {', '.join(f'{count} x {ending}' for ending, count in counts.items())}")
    print(f"differences: {', '.join(different) or 'none'}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
