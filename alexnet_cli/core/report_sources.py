"""What a report is written from: a run's files, its weights, and what these answer about a split; read once, before the sections.

It must not import torch at its top.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_cli.core.config import read_config
from alexnet_cli.core.errors import CheckpointError, RunError
from alexnet_cli.core.metrics import read_rows
from alexnet_cli.core.recipe import Recipe
from alexnet_cli.core.report_parts import UNITS
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.run_folder import RunFolder
from alexnet_cli.core.store import Store, open_store

if TYPE_CHECKING:
    from alexnet_cli.core.assess import Assessment
    from alexnet_cli.core.checkpoint import Weights
    from alexnet_cli.core.predict import Model

NO_STORE = "no store was given; --data FOLDER adds"  # what a section is about follows
NUMBERS = {"step": ("step", "epoch", "loss", "top1_error"), "epoch": ("step", "epoch")}  # of a row of the log, by its kind


@dataclass(frozen=True)
class ReportOptions:
    """What a user asks for.

    folder: the run. data: a folder of stores, None for a report without pictures. split: the one that is tested and shown. crops:
    10, 1, or None for what the recipe says. units: of each layer to draw. without: sections, by key, to leave out.
    """

    folder: RunFolder
    data: Path | None = None
    split: str = "val"
    crops: int | None = None
    units: int = UNITS
    without: frozenset[str] = frozenset()
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 128
    workers: int | None = None


@dataclass(frozen=True, eq=False)
class Sources:
    """What was read. begun: recipe.toml's table [run]. rows: of the log. weights: None with the reason why in `no_weights`.

    store: the split, None without data. assessment: what the weights answer about it, None where no section needs it and where it
    has pictures without labels, which `unlabelled` says then.
    """

    options: ReportOptions
    recipe: Recipe
    begun: dict[str, Any]
    rows: Sequence[dict[str, Any]]
    weights: "Weights | None" = None
    no_weights: str = ""
    store: Store | None = None
    assessment: "Assessment | None" = None
    unlabelled: str = ""
    reporter: Reporter = field(default_factory=Reporter)

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The rows of the tests after each epoch, in order."""
        return [row for row in self.rows if row.get("kind") == "epoch"]

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """The rows of the steps that were logged, in order."""
        return [row for row in self.rows if row.get("kind") == "step"]

    @cached_property
    def model(self) -> "Model":
        """The weights on the device that was asked for; there must be weights."""
        from alexnet_cli.core.devices import choose_device, choose_precision, settle
        from alexnet_cli.core.predict import Model

        assert self.weights is not None
        device = choose_device(self.options.device)
        precision = choose_precision(self.options.precision, device)
        settle(precision, device)
        return Model(self.weights, device, precision)


def read_sources(options: ReportOptions, *, answers: bool, reporter: Reporter) -> Sources:
    """Read a run, and ask its weights about the split where `answers` are wanted and data were given.

    Raises RecipeError and RunError for a run that cannot be read, and whatever `assess` raises for data that do not fit it.
    """
    saved = read_config(options.folder.recipe)
    begun = saved.pop("run", {})
    store = open_store(options.data, options.split, sequential=True) if options.data else None
    weights, reason = _weights(options.folder)
    unlabelled = f"{store.folder} has pictures without labels" if store is not None and not store.is_labelled else ""
    asked = answers and store is not None and not unlabelled and weights is not None
    assessment = _assess(options, weights, reporter) if asked else None
    rows = tuple(_whole_rows(options.folder.metrics))
    return Sources(options, Recipe.from_dict(saved), begun, rows, weights, reason, store, assessment, unlabelled, reporter)


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Pass on the log's rows; raises RunError for one without the numbers that every row of its kind has."""
    for row in read_rows(path):
        wanted = NUMBERS.get(str(row.get("kind")), ())
        missing = next(
            (name for name in wanted if isinstance(row.get(name), bool) or not isinstance(row.get(name), int | float)), None
        )
        if missing:
            found = f"{path} has a row of kind {row['kind']} whose {missing} is {row.get(missing)!r}"
            raise RunError(f"{found}, expected a number", hint="remove the line")
        yield row


def _weights(folder: RunFolder) -> "tuple[Weights | None, str]":
    from alexnet_cli.core.checkpoint import load_weights, resolve_weights

    try:
        return load_weights(resolve_weights(str(folder.path), folder.path.parent)), ""
    except CheckpointError as error:
        return None, error.message


def _assess(options: ReportOptions, weights: "Weights | None", reporter: Reporter) -> "Assessment | None":
    from alexnet_cli.core.assess import AssessOptions, assess

    assert weights is not None and weights.path is not None and options.data is not None
    return assess(
        AssessOptions(
            weights=(weights.path,),
            data=options.data,
            splits=(options.split,),
            crops=options.crops,
            device=options.device,
            precision=options.precision,
            batch_size=options.batch_size,
            workers=options.workers,
        ),
        reporter,
    )
