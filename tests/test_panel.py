import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.checkpoint import save_weights
from alexnet_cli.core.panel import OTHER, TRUE, draw_panel
from alexnet_cli.core.predict import ClassProbability, Prediction
from tests.pictures import photo
from tests.test_predict import tiny_weights

pytest.importorskip("matplotlib")
GREY = np.full((256, 256, 3), 128, np.uint8)


def prediction(*probabilities: float, truth: int | None = None, name: str = "class") -> Prediction:
    """Make a prediction of some classes for a grey picture."""
    classes = tuple(ClassProbability(f"n{index}", f"{name} {index}, rest", value) for index, value in enumerate(probabilities))
    return Prediction("a/picture.jpg", classes, None if truth is None else classes[truth], GREY)


def pixels(path: Path, colour: str) -> int:
    """Count the pixels of a colour."""
    wanted = tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("RGB")) == wanted).all(axis=2).sum())


def test_bars_are_as_long_as_probable(tmp_path):
    """The true class has an orange bar and the others blue ones, whose areas are in the ratio of the probabilities."""
    draw_panel([prediction(0.2, 0.0, 0.0, 0.0, 0.0)], tmp_path / "small.png")
    draw_panel([prediction(1.0, 0.0, 0.0, 0.0, 0.0, name="")], tmp_path / "large.png")
    draw_panel([prediction(1.0, 0.0, 0.0, 0.0, 0.0, truth=0, name="")], tmp_path / "true.png")
    # The letters cover a part of the short one.
    assert 0.5 < 5 * pixels(tmp_path / "small.png", OTHER) / pixels(tmp_path / "large.png", OTHER) < 1.1
    assert pixels(tmp_path / "large.png", TRUE) == 0 == pixels(tmp_path / "true.png", OTHER)
    assert pixels(tmp_path / "true.png", TRUE) > 0.9 * pixels(tmp_path / "large.png", OTHER)


@pytest.mark.parametrize(("count", "inches"), [(1, (1.5, 2.465)), (4, (5.7, 2.465)), (5, (5.7, 4.83)), (24, (8.5, 9.56))])
def test_size_on_paper(count, inches, tmp_path):
    """Four pictures are as wide as the paper's text, 24 fit on a page of 8.5 by 11 inches, at 300 dots an inch."""
    draw_panel([prediction(0.5, 0.2)] * count, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size == pytest.approx([300 * side for side in inches], abs=2)


@pytest.mark.parametrize(("ending", "beginning"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_ending_decides(ending, beginning, tmp_path):
    """The form of the file is that of its name's ending."""
    draw_panel([prediction(0.5, 0.2, truth=0)], tmp_path / f"p.{ending}")
    assert (tmp_path / f"p.{ending}").read_bytes().startswith(beginning)


def test_odd_names(tmp_path):
    """Names of other scripts, with dollars, line ends and beyond all length are drawn without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names = ["猫猫猫", "$x^2", "line\nend", "very " * 50]
        draw_panel([prediction(0.5, 0.2, 0.1, truth=0, name=name) for name in names], tmp_path / "p.png")


def test_command_draws_the_first_24(tmp_path, monkeypatch):
    """`alexnet predict --panel` prints its answers as always, draws at most 24 pictures, and says so."""
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "w.safetensors", tiny_weights())
    (tmp_path / "n01").mkdir()
    for index in range(26):
        photo(30, 20, index).save(tmp_path / "n01" / f"{index:02}.jpg")
    common = ["predict", "n01", "--weights", "w.safetensors", "--crops", "1", "--top", "1"]
    plain = CliRunner().invoke(app, [*common, "--jsonl", "--truth", "folder"])
    result = CliRunner().invoke(app, [*common, "--jsonl", "--truth", "folder", "--panel", "p.png"])
    assert result.exit_code == 0 and result.stdout == plain.stdout and len(result.stdout.splitlines()) == 26
    assert "panel: p.png, the first 24 of 26 pictures\n" in result.stderr
    assert pixels(tmp_path / "p.png", TRUE) > 1000
    result = CliRunner().invoke(app, ["predict", "no.jpg", "--weights", "w.safetensors", "--panel", "no.png"])
    assert result.exit_code == 1 and "no picture could be read: no.png is not drawn" in result.stderr
    assert not (tmp_path / "no.png").exists()
