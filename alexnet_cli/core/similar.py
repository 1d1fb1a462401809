"""Which pictures of a store are most alike to others, by the last hidden layer's values, as in the paper's figure 4, right.

Legend: Q queries, U values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet_cli.core.batches import require_size, stored_batches
from alexnet_cli.core.errors import AlexNetError, StoreError
from alexnet_cli.core.faiss_index import FaissIndex
from alexnet_cli.core.feature_files import narrowed
from alexnet_cli.core.features import Features, feature_shape, last_hidden
from alexnet_cli.core.features_writer import writing
from alexnet_cli.core.files import checksum
from alexnet_cli.core.nearest import Found, measured, nearest
from alexnet_cli.core.predict import Failure, Model
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.store import Store, record_key
from alexnet_cli.core.stored_features import DamagedBlocksError, Key, cached_features, find_features, identify

AT_ONCE = 512  # queries for which the rows are gone through once
# How far from a query, as a share of its length, it may itself lie: 0 but for last digits, which passes of other sizes change.
SAME, SAME_SHORTENED = 2e-4, 2e-2
COPIES = 32  # of the query that are reckoned with where it is left out; the search is made again where there are more
VALUES_AT_ONCE = 1 << 24  # of all queries

Result = TypeVar("Result")


@dataclass(frozen=True)
class Neighbour:
    """A picture of the store: its number and name there, its class, its distance, and whether it is the query itself."""

    record: int
    path: str
    class_id: str
    name: str
    distance: float
    is_query: bool


@dataclass(frozen=True)
class Similar:
    """A query and what is most alike to it, the nearest first.

    truth, truth_name: the id of its class and, where the store knows it, its name; None where it is not known. image: what the
    network saw, uint8 (H, W, 3), where it was asked for.
    """

    path: str
    neighbours: tuple[Neighbour, ...]
    truth: str | None = None
    truth_name: str | None = None
    image: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


class Search:
    """The features of a store, complete, and a way to search them.

    layer: None for the last hidden one. dtype: of the rows kept. index: "exact" or "faiss". kind: how it is searched in fact,
    "exact", "faiss-flat" or "faiss-ivf".
    Raises DataError for pictures of another size, StoreError for an empty or damaged store, DiskFullError, AlexNetError.
    """

    def __init__(
        self,
        model: Model,
        store: Store,
        *,
        layer: str | None = None,
        dtype: str = "float16",
        index: str = "exact",
        batch_size: int = 128,
        workers: int | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.model, self.store, self._reporter = model, store, reporter or Reporter()
        self.layer = last_hidden(model.weights.recipe) if layer is None else layer
        self._batch_size, self._workers = batch_size, workers
        require_size(store, model.weights.recipe)
        if not len(store):
            raise StoreError(f"{store.folder} has no picture", hint="compare with another --split")
        self.features = find_features(store, self._key(dtype), self._reporter)
        self._complete()
        self._index = self._with_whole_rows(lambda: FaissIndex(self.features, self._reporter)) if index == "faiss" else None
        self.kind = "exact" if self._index is None else self._index.kind
        self._names = store.names()

    def answers(
        self, queries: Iterable[Features | Failure], *, top: int = 6, exclude_self: bool = False
    ) -> Iterator[Similar | Failure]:
        """Yield what is most alike to each query, in their order; queries are searched together, AT_ONCE of them at most."""
        queries = iter(queries)
        at_once = max(1, min(AT_ONCE, VALUES_AT_ONCE // self.features.key.values))
        while batch := list(islice(queries, at_once)):
            found = iter(self._found([query for query in batch if isinstance(query, Features)], top, exclude_self))
            yield from (query if isinstance(query, Failure) else next(found) for query in batch)

    def _found(self, queries: Sequence[Features], top: int, exclude_self: bool) -> Iterator[Similar]:
        if not queries:
            return
        # Rounded like the rows, so that a picture is at distance 0 from itself.
        rounded = [narrowed(query.values.reshape(-1), self.features.key.dtype, self.layer) for query in queries]
        queries_QU = np.stack(rounded).astype(np.float32)
        around = self._around(queries_QU, top, exclude_self, COPIES)
        for query, neighbours in zip(queries, around, strict=True):
            yield Similar(query.path, tuple(neighbours), query.truth, self._words(query.truth), query.image)

    def _around(self, queries_QU: NDArray[np.float32], top: int, exclude_self: bool, copies: int) -> list[list[Neighbour]]:
        """Return the nearest to each query. copies: of it that are reckoned with where they are left out; more if too few stay."""
        wanted = top + copies * exclude_self
        found = self._with_whole_rows(lambda: self._nearest(queries_QU, wanted))
        around = [self._neighbours(query_U, *one, exclude_self)[:top] for query_U, one in zip(queries_QU, found, strict=True)]
        if exclude_self and wanted < self.features.count:
            short = [index for index, neighbours in enumerate(around) if len(neighbours) < top]
            again = self._around(queries_QU[short], top, exclude_self, 8 * copies) if short else []
            for index, neighbours in zip(short, again, strict=True):
                around[index] = neighbours
        return around

    def _neighbours(
        self, query_U: NDArray[np.float32], records: NDArray[np.int64], distances: NDArray[np.float64], exclude_self: bool
    ) -> list[Neighbour]:
        far = (SAME if self.model.precision.name in ("fp32", "fp64") else SAME_SHORTENED) * float(np.linalg.norm(query_U))
        found = [self._neighbour(int(record), float(one), far) for record, one in zip(records, distances, strict=True)]
        return [one for one in found if not (exclude_self and one.is_query)]

    def _nearest(self, queries_QU: NDArray[np.float32], top: int) -> list[Found]:
        if self._index is None:
            return nearest(self.features, queries_QU, top)
        return measured(self.features, queries_QU, self._index.candidates(queries_QU, top), top)

    def _neighbour(self, record: int, distance: float, far: float) -> Neighbour:
        store, label = self.store, int(self.store.labels[record])
        known = 0 <= label < len(store.classes)
        class_id = store.classes[label] if known else ""
        path = self._names[record] if self._names else record_key(record).decode()
        name = (store.words[label] or class_id) if known else ""
        return Neighbour(record, path, class_id, name, distance, far > 0 and distance <= far)  # all zeros tell nothing apart

    def _words(self, class_id: str | None) -> str | None:
        store = self.store
        return store.words[store.classes.index(class_id)] or class_id if class_id in store.classes else class_id

    # The rows ----------------------------------------------------------------------------------------------------------------

    def _key(self, dtype: str) -> Key:
        weights = self.model.weights
        assert weights.path is not None  # they were loaded
        values = prod(feature_shape(weights.recipe, len(weights.classes), self.layer))
        return Key(self.layer, values, 1, dtype, self.model.precision.name, checksum(weights.path), identify(self.store))

    def _complete(self) -> None:
        """Compute what is missing."""
        missing = sum(map(len, self.features.missing()))
        if not missing:
            return
        count = len(self.store)
        self._reporter.note(f"features: {self.features.path}")
        with writing(self.features) as writer:
            self._reporter.start("features", count, "pictures", done=count - missing)
            for part in self.features.missing():
                with stored_batches([self.store], batch_size=self._batch_size, workers=self._workers, part=part) as batches:
                    for batch in batches:
                        writer.add(part.start + batch.positions.start, self.model.describe(batch.images_BHWC, self.layer))
                        self._reporter.advance(batch.size)
        self._reporter.finish()

    def _with_whole_rows(self, work: Callable[[], Result]) -> Result:
        """Do what reads the rows; where some are damaged, compute those again and do it once more."""
        try:
            return work()
        except DamagedBlocksError as error:
            self._reporter.note(f"{error.message}: computed anew")
            self._forget(error.blocks)
            self._complete()
            return work()

    def _forget(self, blocks: list[int]) -> None:
        """Have blocks done again: in the cache, where the features cannot be written."""
        try:
            self.features.forget(blocks)
        except AlexNetError:
            self.features = cached_features(self.store, self.features.key, self._reporter)
