"""The sections of a report that tell what the weights answer about a split: errors, classes, confusions, pictures (no torch)."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core import draws
from alexnet_cli.core.confusion import (
    MOST_CLASSES,
    NUMBERED,
    ClassResult,
    Confusions,
    attributed,
    class_results,
    confused_pairs,
    count_confusions,
    draw_confusions,
)
from alexnet_cli.core.imagenet import NUM_VAL
from alexnet_cli.core.intervals import wilson_interval
from alexnet_cli.core.published import ROWS, is_ilsvrc2012_val, published_rows
from alexnet_cli.core.report_parts import (
    Absent,
    Answer,
    Answers,
    Drawing,
    Drawings,
    Guess,
    Heading,
    Heat,
    Part,
    Share,
    Table,
    Text,
)
from alexnet_cli.core.report_pictures import photograph
from alexnet_cli.core.report_run import NONE, best_epoch, percent, plain
from alexnet_cli.core.report_sources import NO_STORE, Sources
from alexnet_cli.core.report_svg import to_svg
from alexnet_cli.core.store import Store

if TYPE_CHECKING:
    from alexnet_cli.core.assess import Assessment

MOST_LISTED = 60  # classes that are all listed; of more, the best and the worst
ENDS = 15
PAIRS = 10
EXAMPLES = 8
TABLE_INCHES = (9.0, 8.2)  # as small as 50 names allow: a page shows it as wide as any drawing, letters and all
SIDE = 256  # pixels of an example: two for each point at its width on a page

Content = Sequence[Part] | Absent


def _asked(sources: Sources, what: str) -> "Assessment | Absent":
    """Return the weights' answers, or why there are none. what: that they would tell."""
    if sources.weights is None:
        return Absent(sources.no_weights)
    return sources.assessment or Absent(sources.unlabelled or f"{NO_STORE} {what}")


# Results ---------------------------------------------------------------------------------------------------------------------


def results(sources: Sources) -> Content:
    """Put the errors of the weights beside the published ones, or say why they do not compare."""
    found = sources.assessment
    if found is None:
        return _logged_results(sources)
    one = found.evaluation
    complete = is_ilsvrc2012_val(found.classes, (sources.options.split,)) and one.images == NUM_VAL
    top = f"top-{one.top_k}"
    cells = [_with_interval(error, one.images) for error in (one.top1_error, one.top5_error)]
    caption = (
        f"{one.images:,} pictures of {sources.options.split}, {'the centre' if one.crops == 1 else f'{one.crops} views'} of each"
    )
    ours = Table(
        f"Errors on {caption}; in brackets the interval of 95 %",
        ("weights", "top-1 error", f"{top} error", "loss"),
        (("this run", *cells, f"{one.loss:.4f}"),),
    )
    if not complete:
        return [ours, *_chosen(sources), _incomparable()]
    rows = [("this run", percent(one.top1_error), percent(one.top5_error))]
    rows += [(row.name, percent(row.top1_error), percent(row.top5_error)) for row in published_rows(one.crops)]
    published = Table(
        "ILSVRC-2012's 50,000 validation pictures, beside what was published", ("whose", "top-1 error", "top-5 error"), tuple(rows)
    )
    return [ours, *_chosen(sources), published]


def _logged_results(sources: Sources) -> Content:
    best = best_epoch(sources)
    if best is None:
        return Absent("no epoch has been tested yet")
    last = sources.epochs[-1]
    kinds = [("best", best)] + ([("last", last)] if last is not best else [])
    rows = tuple(_logged_row(kind, row) for kind, row in kinds)
    caption = "Tests that the training itself made on its validation pictures"
    return [Table(caption, ("epoch", "top-1 error", "top-5 error", "loss"), rows), *_chosen(sources), _incomparable()]


def _logged_row(kind: str, row: dict[str, Any]) -> tuple[str, ...]:
    errors = [percent(row.get(f"val_{top}_error")) for top in ("top1", "top5")]
    return f"{kind}, {row['epoch']}", *errors, plain(row.get("val_loss"), 4)


def _chosen(sources: Sources) -> list[Text]:
    """Say that the best of several epochs looks better on the pictures that it was chosen by than on others."""
    tests = sum(row.get("val_top1_error") is not None for row in sources.epochs)
    asked, weights = sources.assessment is not None, sources.weights
    if tests < 2 or (asked and (sources.options.split != "val" or weights is None or weights.path != sources.options.folder.best)):
        return []
    return [
        Text(
            f"The best of {tests} epochs was chosen by these validation pictures, which makes its errors rather too low: pictures"
            " by which nothing was chosen, as of a split test, tell the errors on new ones."
        )
    ]


def _incomparable() -> Text:
    paper = ROWS[0]
    return Text(
        f"The paper's {100 * paper.top1_error:.1f} % top-1 and {100 * paper.top5_error:.1f} % top-5 error of one network, and all"
        f" other published results, are of ILSVRC-2012's {NUM_VAL:,} validation pictures in 1,000 classes, ten views of each;"
        " errors on other pictures do not compare with them."
    )


def _with_interval(error: float, images: int) -> str:
    low, high = wilson_interval(error, images)
    return f"{percent(error)} ({100 * low:.1f} to {100 * high:.1f})"


# Classes ---------------------------------------------------------------------------------------------------------------------


def _confusions(found: "Assessment") -> tuple[Confusions, NDArray[np.int64]]:
    """Return how often each class was named each, and the class that each picture counts for."""
    named_N = found.answers.named_NT[:, 0]
    truth_N = attributed(found.right_NL, named_N)
    return count_confusions(truth_N, named_N, len(found.classes)), truth_N


def classes(sources: Sources) -> Content:
    """List the classes, those that are named right most often first."""
    found = _asked(sources, "the accuracy of each class")
    if isinstance(found, Absent):
        return found
    counts, truth_N = _confusions(found)
    answers = found.answers
    listed = class_results(counts, truth_N, (answers.top1_N, answers.top5_N), found.classes, found.words)
    ordered = sorted(listed, key=lambda one: (one.top1_error, one.top5_error))
    words = dict(zip(found.classes, found.words, strict=True))
    if len(ordered) <= MOST_LISTED:
        return [_class_table(f"All {len(ordered)} classes, the best first", ordered, words, found.evaluation.top_k)]
    more = Text('"alexnet evaluate --per-class classes.csv" writes all of them.')
    tables = (("best", ordered[:ENDS]), ("worst", ordered[: -ENDS - 1 : -1]))
    return [
        *(
            _class_table(f"The {ENDS} {kind} of {len(ordered):,} classes", rows, words, found.evaluation.top_k)
            for kind, rows in tables
        ),
        more,
    ]


def _class_table(caption: str, rows: Sequence[ClassResult], words: dict[str, str], top_k: int) -> Table:
    header = ("class", "named right", f"in the first {top_k}", "pictures", "mistaken most for")
    return Table(caption, header, tuple(_class_row(row, words) for row in rows), texts=(0, 4))


def _class_row(row: ClassResult, words: dict[str, str]) -> tuple[str | Share, ...]:
    mistaken = f"{first_name(words[row.mistaken_for] or row.mistaken_for)} ({row.mistaken:,})" if row.mistaken_for else NONE
    shares = [Share(f"{100 * share:.1f} %", share) for share in (1 - row.top1_error, 1 - row.top5_error)]
    return first_name(row.name or row.class_id), *shares, f"{row.images:,}", mistaken


def first_name(name: str) -> str:
    """Return the first of a class's names: "tench" of "tench, Tinca tinca"."""
    return name.split(",")[0]


# Confusions ------------------------------------------------------------------------------------------------------------------


def confusions(sources: Sources) -> Content:
    """Show what is mistaken for what: a table where it can be read, else a drawing, and the pairs mistaken most."""
    found = _asked(sources, "what is mistaken for what")
    if isinstance(found, Absent):
        return found
    counts, _ = _confusions(found)
    names = [first_name(word or name) for name, word in zip(found.classes, found.words, strict=True)]
    return shown_confusions(counts, names)


def shown_confusions(counts: Confusions, names: Sequence[str]) -> list[Part]:
    """Return the table or drawing of up to MOST_CLASSES classes, and the pairs mistaken most."""
    pairs = _pair_table(counts, names)
    if len(names) > MOST_CLASSES:
        return [pairs]
    return [_heat(counts, names) if len(names) <= NUMBERED else _drawn(counts, names), pairs]


def _heat(counts: Confusions, names: Sequence[str]) -> Heat:
    table_KK = counts.table()
    totals_K = np.maximum(table_KK.sum(axis=1), 1)
    rows = tuple(
        tuple(Share(f"{count:,}" if count else "", count / int(total)) for count in row.tolist())
        for row, total in zip(table_KK, totals_K, strict=True)
    )
    return Heat(
        "Pictures of each class (a row) by the class that they were named (a column); the shade is the share of the row",
        tuple(names),
        rows,
    )


def _drawn(counts: Confusions, names: Sequence[str]) -> Drawings:
    figure = draw_confusions(counts, names)
    figure.set_size_inches(*TABLE_INCHES)
    svg = to_svg(figure, "confusions")
    alt = f"Table of {len(names)} true classes by the class named, shaded by the share; the pairs mistaken most are listed below."
    return Drawings((Drawing(svg, alt, "Share of the pictures of each class (a row) that was named each class (a column)"),))


def _pair_table(counts: Confusions, names: Sequence[str]) -> Part:
    pairs = confused_pairs(counts, PAIRS)
    if not pairs:
        return Text("Every picture was named right.")
    rows = tuple(
        (names[pair.truth], names[pair.named], f"{pair.count:,}", Share(f"{100 * pair.share:.1f} %", pair.share)) for pair in pairs
    )
    return Table("Mistaken most often", ("true class", "named", "pictures", "share of the class"), rows, texts=(0, 1))


# Pictures --------------------------------------------------------------------------------------------------------------------


def examples(sources: Sources) -> Content:
    """Show some pictures that are named right, drawn by lot, and those of which the network is surest that are named wrong."""
    found = _asked(sources, "pictures with the network's answers")
    if isinstance(found, Absent):
        return found
    answers, store = found.answers, sources.store
    assert store is not None
    order = draws.permutation(len(answers.top1_N), 0, "report examples")
    right = [int(index) for index in order if answers.counted_N[index] and answers.top1_N[index] == 1][:EXAMPLES]
    surest = np.argsort(-answers.probabilities_NT[:, 0], kind="stable")
    wrong = [int(index) for index in surest if answers.counted_N[index] and answers.top1_N[index] == 0][:EXAMPLES]
    parts: list[Part] = []
    if right:
        parts += [Heading("Named right"), Text("Drawn by lot."), Answers(tuple(_example(found, store, index) for index in right))]
    if wrong:
        parts += [
            Heading("Named wrong"),
            Text("Those of which the network is surest."),
            Answers(tuple(_example(found, store, index) for index in wrong)),
        ]
    return parts or Absent("no picture of the split has a known class")


def _example(found: "Assessment", store: Store, index: int) -> Answer:
    names = [first_name(word or name) for name, word in zip(found.classes, found.words, strict=True)]
    right = {int(one) for one in found.right_NL[index] if one >= 0}
    truth = " or ".join(names[one] for one in sorted(right))
    file = f", {PurePosixPath(found.names[index]).name}" if found.names else ""
    guesses = tuple(
        Guess(names[named], float(probability), named in right)
        for named, probability in zip(found.answers.named_NT[index].tolist(), found.answers.probabilities_NT[index], strict=True)
    )
    return Answer(photograph(store.image(index), SIDE, f"Picture of {truth}{file}"), truth, guesses)
