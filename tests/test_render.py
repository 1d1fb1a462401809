"""What reaches stdout and stderr: lines, tables, progress."""

import io

import pytest

from alexnet_cli.cli.render import (
    TerminalReporter,
    duration,
    figures_text,
    is_terminal,
    paint,
    print_facts,
    print_table,
    size,
    three_digits,
)
from tests.terminals import shown_on_a_terminal


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says that someone watches it."""

    def isatty(self) -> bool:
        return True


def test_progress_without_terminal_is_three_lines_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets a line at the start, one each half minute at most, and one at the end."""
    clock = Clock()
    reporter = TerminalReporter(clock=clock)
    reporter.start("train", 100, "steps")
    for _ in range(100):
        clock.now += 0.5
        reporter.advance(1, loss=2.25)
    reporter.finish()
    assert capsys.readouterr().err.splitlines() == [
        "train: 0/100 steps",
        "train: 60/100 steps  2 steps/s  about 20.0 s left  loss 2.25",
        "train: 100/100 steps  2 steps/s  in 50.0 s  loss 2.25",
    ]


def test_time_left_forgets_a_slow_start(capsys: pytest.CaptureFixture[str]) -> None:
    """What is left is reckoned from the pace since the last line, so that a first step that compiles does not spoil it."""
    clock = Clock()
    reporter = TerminalReporter(clock=clock)
    reporter.start("train", 62, "steps")
    for pause in (60, *[1.0] * 31):
        clock.now += pause
        reporter.advance()
    assert capsys.readouterr().err.splitlines()[-1] == "train: 31/62 steps  1 steps/s  about 31.0 s left"


def test_rate_leaves_out_what_was_done_before(capsys: pytest.CaptureFixture[str]) -> None:
    """After a resume the rate counts this process's work alone."""
    clock = Clock()
    reporter = TerminalReporter(clock=clock)
    reporter.start("prepare", 1000, "pictures", done=900)
    clock.now = 10.0
    reporter.advance(100)
    reporter.finish()
    assert capsys.readouterr().err.splitlines() == [
        "prepare: 900/1,000 pictures",
        "prepare: 1,000/1,000 pictures  10 pictures/s  in 10.0 s",
    ]


def test_quiet_leaves_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """A quiet reporter says nothing but warnings, and nothing at all on stdout."""
    reporter = TerminalReporter(quiet=True)
    reporter.start("train", 2, "steps")
    reporter.note("a note")
    reporter.advance()
    reporter.warn("loss is not a number")
    reporter.finish()
    assert capsys.readouterr() == ("", "warning: loss is not a number\n")


def test_second_start_ends_the_first_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """There is one bar at a time: a new one closes the one that is open."""
    clock = Clock()
    reporter = TerminalReporter(clock=clock)
    reporter.start("one", 1, "steps")
    clock.now = 1.0
    reporter.start("two", 1, "steps")
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["one", "one", "two"]


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is a bar with count, rate and figures, and notes stay whole above it."""

    def work() -> None:
        clock = Clock()
        reporter = TerminalReporter(clock=clock)
        reporter.start("train [a]", 4, "steps")
        clock.now = 2.0
        reporter.note("a note of [red]more[/red] than " + "x" * 150)
        reporter.advance(4, top1_error=0.125)
        reporter.finish()

    shown = shown_on_a_terminal(work, 140, monkeypatch)
    assert "a note of [red]more[/red] than " + "x" * 150 in shown
    assert "train [a]" in shown and "4/4" in shown and "2 steps/s" in shown and "top1 error 12.5 %" in shown


def test_no_color_and_dumb_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour goes to capable terminals alone, and nowhere under NO_COLOR."""
    monkeypatch.setenv("TERM", "xterm")
    assert paint("error:", "red", Terminal()) == "\x1b[31merror:\x1b[0m"
    assert paint("error:", "red", io.StringIO()) == "error:"
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("error:", "red", Terminal()) == "error:"
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())


def test_facts_and_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Values stand in one column; a table's words start and its numbers end at the same place."""
    print_facts([("images", 397), ("top-1 error", "4.8 %")])
    print_table(("layer", "parameters"), [("conv1", "34,944"), ("fc6", "37,752,832")])
    assert capsys.readouterr().out.splitlines() == [
        "images       397",
        "top-1 error  4.8 %",
        "layer  parameters",
        "conv1      34,944",
        "fc6    37,752,832",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(8.26, "8.3 s"), (125, "2:05 min"), (3725, "1:02:05 h"), (59.99, "60.0 s")])
def test_durations(seconds: float, text: str) -> None:
    """Times are read in the unit that fits them."""
    assert duration(seconds) == text


@pytest.mark.parametrize(("num_bytes", "text"), [(12, "12 B"), (196_608, "197 kB"), (243_860_896, "244 MB"), (25e9, "25.0 GB")])
def test_sizes(num_bytes: float, text: str) -> None:
    """Sizes are read in the unit that fits them."""
    assert size(num_bytes) == text


def test_figures() -> None:
    """Errors and shares are percentages; large and whole numbers have no decimals."""
    assert figures_text({"loss": 2.30259, "top1_error": 0.05, "data_wait": 0.001, "images_per_second": 1234.5}) == (
        "loss 2.3  top1 error 5.0 %  data wait 0.1 %  images per second 1,234"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.5123, "0.512"), (12.34, "12.3"), (99.94, "99.9"), (99.96, "100"), (999.7, "1,000"), (1149.6, "1,150"), (3, "3"), (0, "0")],
)
def test_numbers_are_for_people(number, text):
    """Three digits, thousands with a comma, and no powers of ten."""
    assert three_digits(number) == text


def test_results_pass_by_the_bar(monkeypatch, capsys):
    """What is printed while a bar of unknown length is shown goes to stdout, not to where the bar is."""

    def write() -> None:
        reporter = TerminalReporter()
        reporter.start("predict", None, "pictures")
        print("answer")
        reporter.advance(3)
        reporter.finish()

    shown = shown_on_a_terminal(write, 100, monkeypatch)
    assert capsys.readouterr().out == "answer\n"
    assert "answer" not in shown and "3/?" in shown
