"""The five commands one after the other, in processes of their own, on real digits; and what a kill leaves."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from alexnet_cli.core.config import write_config
from alexnet_cli.core.digits import enlarge
from alexnet_cli.core.resume import saved_steps
from tests.networks import narrow_small

PER_SPLIT = {"train": 6, "val": 3}


def alexnet(folder: Path, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder and check its exit code."""
    result = subprocess.run(
        [sys.executable, "-m", "alexnet_cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=surroundings(**environment),
        timeout=300,
    )
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def surroundings(**extra: str) -> dict[str, str]:
    """Return the environment of a command: this one, our package, no compiling unless wanted."""
    root = str(Path(__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": root, "TORCH_COMPILE_DISABLE": "1", **extra}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with real digits in class folders and the configuration of a narrow network."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    folder = tmp_path_factory.mktemp("journey")
    for label in range(10):
        pictures = iter(digits.images[digits.target == label])
        for split, count in PER_SPLIT.items():
            (folder / "digits" / split / str(label)).mkdir(parents=True)
            for index in range(count):
                enlarge(next(pictures)).save(folder / "digits" / split / str(label) / f"{index}.png", compress_level=1)
    write_config(folder / "narrow.toml", narrow_small(epochs=2, mirror=False).to_dict())
    return folder


def test_the_five_commands(place):
    """Prepare, train, evaluate, predict and filters need no option but the configuration: each finds what the last one left."""
    alexnet(place, "prepare", "digits")
    trained = alexnet(place, "train", "--config", "narrow.toml", "--log-every", "1")
    assert "16 of 16" in trained.stdout
    evaluated = alexnet(place, "evaluate", "--json")
    figures = json.loads(evaluated.stdout)
    assert (figures["images"], figures["crops"]) == (30, 5)
    assert 0 <= figures["top1_error"] <= 1 and 0 <= figures["top5_error"] <= figures["top1_error"]
    assert "best.safetensors" in figures["weights"] and figures["data"]
    picture = "digits/val/3/0.png"
    answer = json.loads(alexnet(place, "predict", picture, "--json").stdout)
    assert answer[0]["path"] == picture
    predictions = answer[0]["predictions"]
    assert [set(one) for one in predictions] == [{"class", "name", "probability"}] * 5
    probabilities = [one["probability"] for one in predictions]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1.0001
    alexnet(place, "visualize-filters", "--out", "picture.png")
    alexnet(place, "filters")
    assert Image.open(place / "filters.png").tobytes() == Image.open(place / "picture.png").tobytes()
    again = alexnet(place, "prepare", "digits")
    assert "nothing" in again.stderr or "already" in again.stderr or "unchanged" in again.stdout + again.stderr


def test_rubbish_among_the_pictures(place):
    """One file that is no picture is named and does not stop the rest; the exit code says so."""
    (place / "rubbish.jpg").write_text("not a picture")
    result = alexnet(place, "predict", "rubbish.jpg", "digits/val/1/0.png", "--json", code=1)
    assert "rubbish.jpg" in result.stderr
    assert [entry["path"] for entry in json.loads(result.stdout) if "predictions" in entry] == ["digits/val/1/0.png"]


def test_killed_in_the_middle_of_training(place):
    """Kill -9 loses what came after the last checkpoint and nothing else; the end is the same, bit for bit."""
    arguments = ["train", "--config", "narrow.toml", "--log-every", "1", "--checkpoint-every", "3steps"]
    alexnet(place, *arguments, "--run", "straight")
    command = [sys.executable, "-m", "alexnet_cli", *arguments, "--run", "killed", "--auto-resume"]
    with subprocess.Popen(command, cwd=place, env=surroundings(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        states = place / "runs" / "killed" / "resume"
        deadline = time.monotonic() + 120
        while not saved_steps(states) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    saved = saved_steps(states)[0]
    assert saved % 3 == 0 and 3 <= saved < 16
    continued = alexnet(place, *arguments, "--run", "killed", "--auto-resume")
    assert continued.stderr.splitlines()[0] == f"resuming at step {saved}"
    for name in ("best", "last"):
        one, two = (load_file(place / "runs" / run / f"{name}.safetensors") for run in ("straight", "killed"))
        assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)


needs_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler to compare with")


@needs_compiler
def test_compiled_training_resumes_bit_for_bit(place):
    """Compiled code depends on the shape of the batch alone: stopped before an epoch's short batch, a run ends the same."""
    arguments = ["train", "--config", "narrow.toml", "--log-every", "1", "--precision", "bf16", "--limit-steps"]
    cache = str(place / "cache")
    for name, stops in (("compiled", ("10",)), ("compiled-and-stopped", ("5", "10"))):
        for stop in stops:
            result = alexnet(
                place, *arguments, stop, "--run", name, "--auto-resume", TORCH_COMPILE_DISABLE="0", TORCHINDUCTOR_CACHE_DIR=cache
            )
            assert "slower without torch.compile" not in result.stderr
    one, two = (load_file(place / "runs" / name / "last.safetensors") for name in ("compiled", "compiled-and-stopped"))
    assert one and all(torch.equal(one[tensor], two[tensor]) for tensor in one)


@needs_compiler
def test_without_a_compiler(place):
    """Without a C++ compiler a line says that training is slower and why, and the losses are those with one to 1e-5."""
    losses = {}
    for name, compiler in (("with", os.environ.get("CXX", "g++")), ("without", "/nonexistent/c++")):
        cache = str(place / f"cache-{name}")
        settings = {"TORCH_COMPILE_DISABLE": "0", "TORCHINDUCTOR_CACHE_DIR": cache, "CXX": compiler}
        arguments = [
            "--config",
            "narrow.toml",
            "--learning-rate",
            "0.0001",
            "--log-every",
            "1",
            "--limit-steps",
            "3",
            "--run",
            name,
        ]
        result = alexnet(place, "train", *arguments, "--precision", "fp32", code=0, **settings)
        rows = [json.loads(line) for line in (place / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["loss"] for row in rows if row["kind"] == "step"]
        assert ("slower without torch.compile, same result" in result.stderr) == (name == "without"), result.stderr
    assert losses["without"] == pytest.approx(losses["with"], rel=1e-5)
    assert np.isfinite(losses["with"]).all()
