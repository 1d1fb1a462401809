"""What a training shows on a terminal."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from alexnet_cli.cli.live import TrainingProgress
from alexnet_cli.cli.render import TerminalReporter, training_cells
from tests.terminals import shown_on_a_terminal

FIGURES = {
    "epoch": 3,
    "loss": 4.2131,
    "error": 0.832,
    "val_error": 0.711,
    "rate": 0.00001,
    "images_per_second": 1234.4,
    "data_wait": 0.003,
    "memory": 3.4e9,
    "gpu_memory": 12.4e9,
}


def shown(width: int) -> list[str]:
    """Return the lines of a training's display on a terminal of a width."""
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True)
    progress = TrainingProgress(lambda: training_cells(FIGURES), console)
    progress.add_task("train", total=900_000, completed=12_345, unit="steps")
    console.print(progress.get_renderable())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_all_figures_under_the_bar():
    """On 80 columns the bar has a line, and each figure its name and unit, three in a line."""
    lines = shown(80)
    assert lines[0].startswith("train ") and "12,345/900,000 steps" in lines[0]
    assert [re.split(r" {2,}", line) for line in lines[1:]] == [
        ["epoch", "3", "loss", "4.21", "train error", "83.2 %"],
        ["val error", "71.1 %", "learning rate", "0.00001", "images/s", "1,234"],
        ["data wait", "0.3 %", "memory", "3.4 GB", "GPU memory", "12.4 GB"],
    ]


@pytest.mark.parametrize("width", [200, 80, 60, 40, 24, 10])
def test_never_wider_than_the_terminal(width):
    """No line is longer than the terminal is wide, and no figure takes a second line."""
    lines = shown(width)
    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) <= 1 + len(FIGURES)


def test_new_figures_are_shown_after_the_known_ones():
    """A figure without a label of its own is shown under its name, and an absent one is left out."""
    assert training_cells({"warmth": 12.34, "loss": 1.0}) == [("loss", "1"), ("warmth", "12.3")]


def test_training_on_a_terminal_has_its_display(monkeypatch):
    """The task train gets the display with lines of figures, and the last figures stay on the screen."""

    def train() -> None:
        reporter = TerminalReporter()
        reporter.start("train", 4000, "steps", done=1000)
        reporter.advance(3000)
        reporter.advance(0, loss=2.5, memory=1.5e9)
        reporter.finish()

    text = shown_on_a_terminal(train, 90, monkeypatch)
    assert "4,000/4,000 steps" in text
    assert re.search(r"loss +2\.5 +memory +1\.5 GB", text)
