"""Answers as tables: one row for each picture or each class, as CSV or parquet. It must not import torch."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_cli.core.confusion import ClassResult
from alexnet_cli.core.errors import AlexNetError, DataError
from alexnet_cli.core.files import require_place, write_atomically
from alexnet_cli.core.truths import BETWEEN, LABEL, PICTURE

if TYPE_CHECKING:
    from alexnet_cli.core.assess import Assessment

ROWS = 10_000  # of a parquet file's group


def require_writable_table(path: Path) -> None:
    """Raise before long work whose table could not be written: for its place or its ending, or without pyarrow."""
    require_place(path)
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path} ends in neither .csv nor .parquet", hint="the ending says what is written")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise AlexNetError("parquet files need pyarrow", hint="pip install 'alexnet-cli[parquet]', or name a .csv") from error


def write_predictions(path: Path, assessment: "Assessment") -> None:
    """Write what was answered about each picture, in stored order: the columns are those of `prediction_rows`."""
    rows = prediction_rows(assessment)
    _write(path, rows)


def write_class_results(path: Path, results: Sequence[ClassResult]) -> None:
    """Write a row for each class that has a picture."""
    _write(path, (asdict(result) for result in results))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write = _write_parquet if path.suffix == ".parquet" else _write_csv
    write_atomically(path, lambda partial: write(partial, rows))


def prediction_rows(assessment: "Assessment") -> Iterator[dict[str, Any]]:
    """Yield picture (its name, or its number where the store has no names), label, truth_probability, top1 and top5 (credit, 0-1),
    then class_1, probability_1 and so on: ids, most probable first.
    """
    answers, classes = assessment.answers, assessment.classes
    for index in range(len(answers.truth_N)):
        right = [classes[k] for k in assessment.right_NL[index].tolist() if k >= 0]
        row: dict[str, Any] = {
            PICTURE: assessment.names[index] if assessment.names else f"{index:08d}",
            LABEL: BETWEEN.join(right),
            "truth_probability": float(answers.truth_N[index]) if right else None,
            "top1": float(answers.top1_N[index]) if right else None,
            "top5": float(answers.top5_N[index]) if right else None,
        }
        named = zip(answers.named_NT[index].tolist(), answers.probabilities_NT[index].tolist(), strict=True)
        for place, (k, probability) in enumerate(named, start=1):
            row |= {f"class_{place}": classes[k], f"probability_{place}": probability}
        yield row


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow({name: _text(value) for name, value in row.items()})


def _text(value: object) -> object:
    """Write numbers between 0 and 1 to six digits: more are noise, and files of 50,000 pictures are read by eye too."""
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([_utf8(row) for row in rows])
    pyarrow.parquet.write_table(table, path, row_group_size=ROWS)


def _utf8(row: dict[str, Any]) -> dict[str, Any]:
    name = row.get(PICTURE)
    return row if name is None else row | {PICTURE: name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")}
