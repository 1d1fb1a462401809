import numpy as np
import pytest

pytest.importorskip("faiss")

from alexnet_cli.core import faiss_index
from alexnet_cli.core.faiss_index import FaissIndex
from alexnet_cli.core.features_writer import writing
from alexnet_cli.core.nearest import measured
from alexnet_cli.core.reports import Reporter
from alexnet_cli.core.stored_features import StoredFeatures
from tests.test_nearest import brute_force
from tests.test_stored_features import Notes, key

COUNT, VALUES = 3000, 64


def filled(folder, rows: np.ndarray, **changes: object) -> StoredFeatures:
    """The features of a store with these rows."""
    features = StoredFeatures(folder, key(values=rows.shape[1], store={"count": len(rows), "checksum": "x"}, **changes))
    with writing(features) as writer:
        writer.add(0, rows)
    return features


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Rows about 60 centres, of few directions, as features of classes are."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((60, 10)) @ generator.standard_normal((10, VALUES)) * 5
    return np.maximum(centres[generator.integers(60, size=COUNT)] + generator.standard_normal((COUNT, VALUES)), 0).astype(
        np.float32
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_flat_is_exact(dtype, rows, tmp_path):
    """FAISS's flat index and the search by blocks name the same rows, at the same distances."""
    features = filled(tmp_path, rows, dtype=dtype)
    index = FaissIndex(features, Reporter())
    assert index.kind == "faiss-flat" and not list(tmp_path.glob("*.faiss"))
    queries = rows[:5] + 0.5
    found = measured(features, queries, index.candidates(queries, 6), 6)
    expected, distances = brute_force(rows.astype(dtype), queries.astype(np.float64), 6)
    np.testing.assert_array_equal([records for records, _ in found], expected)
    np.testing.assert_allclose([one for _, one in found], distances)


def test_lists_are_kept_and_bound_to_the_rows(rows, tmp_path, monkeypatch):
    """Above FEWEST rows an index is made once and kept; a damaged one, and one of other rows, is made anew; it finds nearly all."""
    monkeypatch.setattr(faiss_index, "FEWEST", 1000)
    monkeypatch.setattr(faiss_index, "LISTS", 32)
    monkeypatch.setattr(faiss_index, "PROBED", 8)
    features, notes = filled(tmp_path, rows), Notes()
    index = FaissIndex(features, notes)
    path = tmp_path / f"{features.path.name}.faiss"
    assert index.kind == "faiss-ivf" and path.is_file() and len(notes.notes) == 1
    queries = rows[:40] + 0.3
    found = measured(features, queries, index.candidates(queries, 6), 6)
    expected, _ = brute_force(rows.astype(np.float16), queries.astype(np.float64), 6)
    hits = [len(set(records) & set(wanted)) for (records, _), wanted in zip(found, expected, strict=True)]
    assert sum(hits) >= 0.95 * 6 * 40
    FaissIndex(features, notes)
    assert len(notes.notes) == 1
    with path.open("r+b") as file:
        file.seek(-9, 2)
        file.write(b"\xff\xfe")
    FaissIndex(features, notes)
    assert len(notes.notes) == 2
    other = filled(tmp_path, rows[:2000] + 1)
    assert other.path == features.path
    FaissIndex(other, notes)
    assert len(notes.notes) == 3
