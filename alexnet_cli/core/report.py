"""A report on a training: which sections there are, and what is gathered for them; `report_page` makes the page.

Each section is a function that returns its content, or says in a sentence why it is not there. It must not import torch at its top.
"""

from collections.abc import Callable, Sequence

from alexnet_cli import __version__
from alexnet_cli.core import report_answers, report_inside, report_run
from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.report_parts import TITLES, Absent, Part, Report, Section
from alexnet_cli.core.report_sources import ReportOptions, Sources, read_sources
from alexnet_cli.core.reports import Reporter

Build = Callable[[Sources], Sequence[Part] | Absent]

BUILDERS: dict[str, Build] = {
    "glance": report_run.glance,
    "curves": report_run.curves,
    "results": report_answers.results,
    "classes": report_answers.classes,
    "confusions": report_answers.confusions,
    "answers": report_answers.examples,
    "filters": report_inside.filters,
    "towers": report_inside.towers,
    "units": report_inside.units,
    "similar": report_inside.similar,
    "recipe": report_run.recipe,
    "data": report_run.data,
    "machine": report_run.machine,
}
# These need what the weights answer about a split, for which all of it is looked at.
ASKING = {"results", "classes", "confusions", "answers"}


def make_report(options: ReportOptions, reporter: Reporter | None = None) -> Report:
    """Gather a report on a run, which may still be going on; the same files give the same report.

    A section that fails does not take the others with it: the reason stands in its place, and is warned of.
    Raises RunError, RecipeError, CheckpointError, DataError and DeviceError for what it is written from.
    """
    reporter = reporter or Reporter()
    sources = read_sources(options, answers=bool(ASKING - options.without), reporter=reporter)
    sections = tuple(Section(key, _content(key, sources)) for key in TITLES)
    return Report(options.folder.path.name, sections, f"alexnet {__version__}")


def _content(key: str, sources: Sources) -> Sequence[Part] | Absent:
    if key in sources.options.without:
        return Absent(f"left out by --without {key}")
    try:
        return BUILDERS[key](sources)
    except AlexNetError as error:
        sources.reporter.warn(f"section {key}: {error.message}")
        return Absent(error.message + (f" ({error.hint})" if error.hint else ""))
