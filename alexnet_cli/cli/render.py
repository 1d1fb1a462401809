"""What the user sees: lines, tables and JSON on stdout; notes, warnings, errors and progress on stderr.

Imports rich inside functions: it is needed only for a bar on a terminal, and costs start-up time.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from alexnet_cli.core.reports import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 30.0
# The figures of a training as people read them, in this order.
TRAINING_LABELS = {
    "epoch": "epoch",
    "loss": "loss",
    "error": "train error",
    "val_error": "val error",
    "rate": "learning rate",
    "images_per_second": "images/s",
    "data_wait": "data wait",
    "memory": "memory",
    "gpu_memory": "GPU memory",
}
STYLES = {"red": "31", "yellow": "33", "cyan": "36", "bold": "1"}


def is_terminal(stream: IO[str]) -> bool:
    """Say whether someone watches this stream in a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str, stream: IO[str]) -> str:
    """Colour a text for a terminal; unchanged for files, pipes and where NO_COLOR is set (no-color.org)."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def print_error(message: str, hint: str = "") -> None:
    """Print what went wrong and, where known, what to do next."""
    print(f"{paint('error:', 'red', sys.stderr)} {message}", file=sys.stderr, flush=True)
    if hint:
        print(f"{paint('hint:', 'cyan', sys.stderr)} {hint}", file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """Print one JSON document, the whole of stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print names and values, the values in one column."""
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        print(f"{name:<{width}}  {value}".rstrip())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print rows in columns: the first `left` columns start at the left, the rest, numbers, end at the right."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    print(paint(_columns(header, widths, left), "bold", sys.stdout))
    for row in rows:
        print(_columns(row, widths, left))


def _columns(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    cells = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def percent(share: float) -> str:
    """Write a share of 0-1 as a percentage."""
    return f"{100 * share:.2f} %"


def size(num_bytes: float) -> str:
    """Write a number of bytes in the largest unit that fits."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{three_digits(num_bytes)} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} GB"


def duration(seconds: float) -> str:
    """Write a time as 8.3 s, 2:05 min or 3:05:09 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def three_digits(number: float) -> str:
    """Write a number to three digits, or to its whole ones where it has more: 0.512, 12.3, 1,150; never as 1.15e+03 or 1e-05."""
    return f"{number:,.0f}" if abs(number) >= 99.95 else format(Decimal(f"{number:.3g}"), "f")


def figures_text(figures: dict[str, float]) -> str:
    """Write what stands beside a bar: errors and shares of 0-1 as percentages, the rest to three digits."""
    return "  ".join(f"{name.replace('_', ' ')} {_figure(name, value)}" for name, value in figures.items())


def _figure(name: str, value: float) -> str:
    if name.endswith(("error", "wait", "share")):
        return f"{100 * value:.1f} %"
    return size(value) if name.endswith("memory") else three_digits(value)


class TerminalReporter(Reporter):
    """Shows a running verb on stderr: a bar on a terminal, else a line at the start, at most every half minute, and at the end.

    quiet: no progress and no notes; warnings remain. clock: seconds, for the time between two lines.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._display: _Display | None = None

    def note(self, text: str) -> None:
        """Print one line of plain information, unless quiet."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """Print one line that the user should not miss, even when quiet."""
        self._print(f"{paint('warning:', 'yellow', sys.stderr)} {text}")

    def fail(self, message: str, hint: str) -> None:
        """Print an error, and what is still held back, as the process ends at once."""
        self.finish()
        print_error(message, hint)

    def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
        """Begin a bar or its first line; an open one is ended before."""
        self.finish()
        if not self._quiet:
            on_terminal = _TrainingBar if task == "train" else _Bar
            shown = on_terminal if is_terminal(sys.stderr) else _Lines
            self._display = shown(task, total, unit, done, self._clock)

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Move the bar on, or print a line when the last is half a minute old."""
        if self._display:
            self._display.advance(amount, figures)

    def finish(self) -> None:
        """End the bar or print its last line."""
        display, self._display = self._display, None
        if display:
            display.finish()

    def _print(self, text: str) -> None:
        if self._display:
            self._display.print(text)
        else:
            print(text, file=sys.stderr, flush=True)


class _Display:
    """What `start` begins and `finish` ends; this base counts."""

    def __init__(self, task: str, total: int | None, unit: str, done: int, clock: Callable[[], float]) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.count, self.earlier = done, done
        self.figures: dict[str, float] = {}
        self.clock, self.begun = clock, clock()

    def advance(self, amount: int, figures: dict[str, float]) -> None:
        self.count += amount
        self.figures.update(figures)

    def print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """End the display."""

    def rate(self) -> float:
        """Units a second in this process; what an earlier one did does not count."""
        return (self.count - self.earlier) / max(self.clock() - self.begun, 1e-9)


class _Lines(_Display):
    """Progress for logs and pipes."""

    def __init__(self, task: str, total: int | None, unit: str, done: int, clock: Callable[[], float]) -> None:
        super().__init__(task, total, unit, done, clock)
        self._last, self._count_then = self.begun, done
        self.print(self._so_far())

    def advance(self, amount: int, figures: dict[str, float]) -> None:
        super().advance(amount, figures)
        now = self.clock()
        if now - self._last >= SECONDS_BETWEEN_LINES and (self.total is None or self.count < self.total):
            # Since the last line, not the start: a first step that compiles would make the rest look hours long.
            rate = (self.count - self._count_then) / (now - self._last)
            self._last, self._count_then = now, self.count
            left = f"about {duration((self.total - self.count) / rate)} left" if self.total is not None and rate else ""
            self._line(rate, left)

    def finish(self) -> None:
        self._line(self.rate(), f"in {duration(self.clock() - self.begun)}")

    def _line(self, rate: float, ending: str) -> None:
        parts = [self._so_far(), f"{three_digits(rate)} {self.unit}/s", ending]
        self.print("  ".join(part for part in (*parts, figures_text(self.figures)) if part))

    def _so_far(self) -> str:
        of_all = "" if self.total is None else f"/{self.total:,}"
        return f"{self.task}: {self.count:,}{of_all} {self.unit}"


class _Bar(_Display):
    """Progress on a terminal."""

    def __init__(self, task: str, total: int | None, unit: str, done: int, clock: Callable[[], float]) -> None:
        super().__init__(task, total, unit, done, clock)
        self._progress = self._make_progress()
        self._task: TaskID = self._progress.add_task(task, total=total, completed=done, unit=unit, rate="", figures="")
        self._progress.start()

    def _make_progress(self) -> "Progress":
        return _rich_progress()

    def advance(self, amount: int, figures: dict[str, float]) -> None:
        super().advance(amount, figures)
        rate = f"{three_digits(self.rate())} {self.unit}/s"
        self._progress.update(self._task, advance=amount, rate=rate, figures=figures_text(self.figures))

    def print(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        self._progress.stop()


class _TrainingBar(_Bar):
    """Progress of a training on a terminal: the figures have lines of their own."""

    def _make_progress(self) -> "Progress":
        from rich.console import Console

        from alexnet_cli.cli.live import TrainingProgress

        return TrainingProgress(lambda: training_cells(dict(self.figures)), Console(stderr=True))  # drawn by another thread


def training_cells(figures: dict[str, float]) -> list[tuple[str, str]]:
    """Return what a training shows under its bar: names and values, those first that people look at first."""
    known = [(label, _figure(name, figures[name])) for name, label in TRAINING_LABELS.items() if name in figures]
    return known + [
        (name.replace("_", " "), _figure(name, value)) for name, value in figures.items() if name not in TRAINING_LABELS
    ]


def _rich_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    # What is printed meanwhile stays on stdout: rich would move it to where the bar is.
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=5, redirect_stdout=False)
