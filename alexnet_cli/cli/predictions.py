"""Predictions on stdout as they come: as text, as JSON, or as a table."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_cli.core.predict import ClassProbability, Prediction

COLUMNS = ("path", "rank", "class", "name", "probability", "truth")


@dataclass(frozen=True)
class Form:
    """How an answer is said: as lines, as a JSON document, and as rows of a table with these columns."""

    lines: Callable[[Any], Iterable[str]]
    document: Callable[[Any], dict[str, Any]]
    columns: Sequence[str]
    rows: Callable[[Any], Iterable[Sequence[object]]]


class TextPrinter:
    """Prints for people; a context manager, whose end completes what others read. This base is plain text.

    form: of the answers, predictions by default.
    """

    def __init__(self, form: Form | None = None) -> None:
        self.form = form or PREDICTIONS

    def __enter__(self) -> "TextPrinter":
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file's name is bytes, and not always UTF-8: they are printed as they are.
            sys.stdout.reconfigure(errors="surrogateescape")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, BrokenPipeError):
            self.end()

    def add(self, answer: Any) -> None:
        """Print one answer at once: who reads them may have been waiting for it."""
        for line in self.form.lines(answer):
            print(line)
        sys.stdout.flush()

    def end(self) -> None:
        """Complete the output."""


class JsonPrinter(TextPrinter):
    """One JSON array of all answers, complete also after an interruption."""

    def __init__(self, form: Form | None = None) -> None:
        super().__init__(form)
        self._opening = "["

    def add(self, answer: Any) -> None:
        """Print one element of the array."""
        text = _json(self.form.document(answer), indent=2).replace("\n", "\n  ")
        opening, self._opening = self._opening, ","  # before it is printed: who reads it may send Ctrl-C at once
        print(f"{opening}\n  {text}", end="", flush=True)

    def end(self) -> None:
        """Close the array."""
        print("[]" if self._opening == "[" else "\n]", flush=True)


class JsonLinesPrinter(TextPrinter):
    """A JSON document a line."""

    def add(self, answer: Any) -> None:
        """Print one line."""
        print(_json(self.form.document(answer)), flush=True)


class CsvPrinter(TextPrinter):
    """A table with some rows for each answer, texts quoted."""

    def __enter__(self) -> "CsvPrinter":
        super().__enter__()
        self._writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        self._writer.writerow(self.form.columns)
        return self

    def add(self, answer: Any) -> None:
        """Print the rows of one picture."""
        self._writer.writerows(self.form.rows(answer))
        sys.stdout.flush()


def printable(text: str) -> str:
    """Write line ends and other control characters of a file's name so that it stays on its line and moves no cursor."""
    return "".join(sign if sign >= " " and not "\x7f" <= sign < "\xa0" else ascii(sign)[1:-1] for sign in text)


def _lines(prediction: "Prediction") -> Iterator[str]:
    yield printable(prediction.path)
    for one in prediction.predictions:
        yield f"  {_line(one)}"
    if prediction.truth:
        yield f"  truth: {_line(prediction.truth)}"


def _rows(prediction: "Prediction") -> Iterator[Sequence[object]]:
    truth = prediction.truth.class_id if prediction.truth else ""
    for rank, one in enumerate(prediction.predictions, start=1):
        yield prediction.path, rank, one.class_id, one.name, one.probability, truth


def _line(one: "ClassProbability") -> str:
    identity = f"  ({one.class_id})" if one.class_id != one.name else ""
    return f"{100 * one.probability:6.2f} %  {one.name}{identity}"


def _document(prediction: "Prediction") -> dict[str, Any]:
    document = {"path": prediction.path, "predictions": [_class(one) for one in prediction.predictions]}
    return {**document, "truth": _class(prediction.truth)} if prediction.truth else document


def _class(one: "ClassProbability") -> dict[str, Any]:
    return {"class": one.class_id, "name": one.name, "probability": one.probability}


def _json(document: dict[str, Any], indent: int | None = None) -> str:
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a name that are no UTF-8: escaped, Python's json gives them back
        return json.dumps(document, indent=indent)
    return text


PREDICTIONS = Form(_lines, _document, COLUMNS, _rows)
