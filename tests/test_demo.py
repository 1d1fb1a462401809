"""The demo's digits and how it runs the commands; the training itself is not a test's business."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.cli.demo import Shell
from alexnet_cli.core.digits import enlarge, lay_out_digits
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.reports import Reporter

pytest.importorskip("sklearn", reason="scikit-learn, which has the digits, is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the digits, laid out."""
    folder = tmp_path_factory.mktemp("demo") / "source"
    lay_out_digits(folder)
    return folder


def test_layout(source: Path) -> None:
    """There are 1,400 and 397 pictures in ten classes each, every digit once, and each split has a tenth of each class."""
    splits = {split: sorted((source / split).glob("*/*.png")) for split in ("train", "val")}
    assert {split: len(paths) for split, paths in splits.items()} == {"train": 1400, "val": 397}
    names = [path.stem for paths in splits.values() for path in paths]
    assert sorted(names) == [f"{index:04}" for index in range(1797)]
    for split, paths in splits.items():
        counts = np.bincount([int(path.parent.name) for path in paths], minlength=10)
        assert counts.min() > 0.09 * len(paths) and counts.max() < 0.11 * len(paths), split
    assert not source.with_name("source.partial").exists()


def test_pictures_are_the_digits(source: Path) -> None:
    """Scaled down again, a picture is scikit-learn's digit: white ink on black, the right way up, under its label."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for index in (0, 7, 1796):
        (path,) = source.glob(f"*/{digits.target[index]}/{index:04}.png")
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((256, 256), "L")
            small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX), dtype=float) * 16 / 255
        assert np.corrcoef(small.ravel(), digits.images[index].ravel())[0, 1] > 0.98


def test_scale_and_smoothness() -> None:
    """The ground is black, full ink is white, and edges are ramps instead of blocks."""
    digit = np.zeros((8, 8))
    digit[2:6, 2:6] = 16
    picture = np.asarray(enlarge(digit)).astype(int)
    assert picture.min() == 0 and picture[128, 128] == 255 and picture[2, 2] == 0
    assert np.abs(np.diff(picture[128])).max() < 20


def test_finished_layout_is_left_alone(source: Path) -> None:
    """A second call changes no file, and one after an interruption starts over."""
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*.png")}
    lay_out_digits(source)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*.png")} == before


def test_missing_scikit_learn_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without scikit-learn the error says what to install, and nothing is left behind."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(AlexNetError, match="scikit-learn, which is not installed") as caught:
        lay_out_digits(tmp_path / "source")
    assert "alexnet-cli[demo]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


class Notes(Reporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Keep one."""
        self.lines.append(text)


def test_commands_are_printed_as_typed(capfd: pytest.CaptureFixture[str]) -> None:
    """Each command is shown so that it can be copied into a shell, spaces and all, and its result is handed on."""
    notes = Notes()
    shell = Shell(notes)
    assert shell.run("info", "--recipe", "small", "--json", capture=True).startswith("{")
    with pytest.raises(AlexNetError, match=r"alexnet info failed with exit code 1"):
        shell.run("info", Path("no such") / "store")
    assert notes.lines == ["\n$ alexnet info --recipe small --json", "\n$ alexnet info 'no such/store'"]
    assert "error: no such/store does not exist" in capfd.readouterr().err


def test_sigterm_reaches_the_command_that_runs(tmp_path: Path) -> None:
    """Stopping the demo stops the command that it runs; nothing is left running."""
    code = """
import sys
from alexnet_cli.cli.command import running
from alexnet_cli.cli.demo import _attend
child = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
with running():
    _attend([sys.executable, "-c", child, sys.argv[1]], capture=False)
"""
    pid_file = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", code, str(pid_file)])
    deadline = time.monotonic() + 30
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert not Path("/proc", pid_file.read_text()).exists()
