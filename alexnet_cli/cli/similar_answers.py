"""Similar pictures on stdout: as text, as JSON, or as a table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from alexnet_cli.cli.predictions import Form, printable

if TYPE_CHECKING:
    from alexnet_cli.core.similar import Neighbour, Similar

COLUMNS = ("path", "rank", "neighbour", "record", "class", "name", "distance", "is_query", "truth", "index")


def form(index: str) -> Form:
    """Return how they are said; index: how they were found."""
    return Form(_lines, _document_of(index), COLUMNS, _rows_of(index))


def _lines(similar: "Similar") -> Iterator[str]:
    yield printable(similar.path)
    for one in similar.neighbours:
        identity = f" ({one.class_id})" if one.class_id != one.name else ""
        named = printable(f"{one.name or 'no class'}{identity}")
        yield f"  {one.distance:9.3f}  {printable(one.path)}  {named}{'  (the query itself)' * one.is_query}"


def _document_of(index: str) -> "Callable[[Similar], dict[str, Any]]":
    def document(similar: "Similar") -> dict[str, Any]:
        truth = {"truth": similar.truth} if similar.truth else {}
        return {"path": similar.path, **truth, "index": index, "neighbours": [_neighbour(one) for one in similar.neighbours]}

    return document


def _neighbour(one: "Neighbour") -> dict[str, Any]:
    return {("class" if name == "class_id" else name): value for name, value in asdict(one).items()}


def _rows_of(index: str) -> "Callable[[Similar], Iterator[Sequence[object]]]":
    def rows(similar: "Similar") -> Iterator[Sequence[object]]:
        for rank, one in enumerate(similar.neighbours, start=1):
            found = (one.path, one.record, one.class_id, one.name, one.distance, int(one.is_query))
            yield similar.path, rank, *found, similar.truth or "", index

    return rows
