"""A training on a terminal: a bar, and under it the figures in columns, as many as the terminal has room for (imports rich)."""

from collections.abc import Callable, Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

REFRESHES_PER_SECOND = 4
CELL = 26  # columns of the terminal for a figure, its name and the gap to the next
GAP = 3


class TrainingProgress(Progress):
    """A bar with rows of figures under it.

    cells: gives names and values to show, in their order; asked anew whenever the terminal is drawn.
    """

    def __init__(self, cells: Callable[[], list[tuple[str, str]]], console: Console) -> None:
        self._cells, self._terminal = cells, console
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        super().__init__(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND, expand=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bar and the table under it."""
        yield self.make_tasks_table(self.tasks)
        cells = self._cells()
        if cells:
            yield figures_table(cells, self._terminal.width)


def figures_table(cells: list[tuple[str, str]], width: int) -> Table:
    """Lay out names and values in as many pairs of columns as a width holds, filled row by row; nothing is wrapped."""
    pairs = max(1, min(len(cells), (width + GAP) // CELL))
    table = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    for _ in range(pairs):
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, overflow="ellipsis", justify="right")
    for start in range(0, len(cells), pairs):
        table.add_row(*(text for cell in cells[start : start + pairs] for text in cell))
    return table
