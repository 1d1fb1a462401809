"""Predictions on stdout as they come: as text, as JSON, or as a table."""

import csv
import io
import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_cli.core.predict import ClassProbability, Prediction

COLUMNS = ("path", "rank", "class", "name", "probability", "truth")


class TextPrinter:
    """Prints for people; a context manager, whose end completes what others read. This base is plain text."""

    def __enter__(self) -> "TextPrinter":
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file's name is bytes, and not always UTF-8: they are printed as they are.
            sys.stdout.reconfigure(errors="surrogateescape")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, BrokenPipeError):
            self.end()

    def add(self, prediction: "Prediction") -> None:
        """Print one prediction at once: who reads them may have been waiting for it."""
        print(printable(prediction.path))
        for one in prediction.predictions:
            print(f"  {_line(one)}")
        if prediction.truth:
            print(f"  truth: {_line(prediction.truth)}")
        sys.stdout.flush()

    def end(self) -> None:
        """Complete the output."""


class JsonPrinter(TextPrinter):
    """One JSON array of all predictions, complete also after an interruption."""

    def __init__(self) -> None:
        self._opening = "["

    def add(self, prediction: "Prediction") -> None:
        """Print one element of the array."""
        text = _json(_document(prediction), indent=2).replace("\n", "\n  ")
        opening, self._opening = self._opening, ","  # before it is printed: who reads it may send Ctrl-C at once
        print(f"{opening}\n  {text}", end="", flush=True)

    def end(self) -> None:
        """Close the array."""
        print("[]" if self._opening == "[" else "\n]", flush=True)


class JsonLinesPrinter(TextPrinter):
    """A JSON document a line."""

    def add(self, prediction: "Prediction") -> None:
        """Print one line."""
        print(_json(_document(prediction)), flush=True)


class CsvPrinter(TextPrinter):
    """A table with a row for each class named, texts quoted."""

    def __enter__(self) -> "CsvPrinter":
        super().__enter__()
        self._writer = csv.writer(sys.stdout, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        self._writer.writerow(COLUMNS)
        return self

    def add(self, prediction: "Prediction") -> None:
        """Print the rows of one picture."""
        truth = prediction.truth.class_id if prediction.truth else ""
        for rank, one in enumerate(prediction.predictions, start=1):
            self._writer.writerow((prediction.path, rank, one.class_id, one.name, one.probability, truth))
        sys.stdout.flush()


def printable(text: str) -> str:
    """Write line ends and other control characters of a file's name so that it stays on its line and moves no cursor."""
    return "".join(sign if sign >= " " and not "\x7f" <= sign < "\xa0" else ascii(sign)[1:-1] for sign in text)


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
