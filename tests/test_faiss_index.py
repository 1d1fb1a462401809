import json
import zlib

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


@pytest.fixture
def few_lists(monkeypatch) -> None:
    """Lists from 1,000 rows on, 32 of them, of which 8 are looked into."""
    for name, value in (("FEWEST", 1000), ("LISTS", 32), ("PROBED", 8)):
        monkeypatch.setattr(faiss_index, name, value)


@pytest.mark.usefixtures("few_lists")
def test_as_many_as_asked_for(rows, tmp_path):
    """Where the lists that are looked into hold too few, all are; the next search looks into few again."""
    import faiss

    index = FaissIndex(filled(tmp_path, rows), Reporter())
    everything = index.candidates(rows[:3], COUNT)
    assert [sorted(one) for one in everything.tolist()] == [list(range(COUNT))] * 3
    assert faiss.extract_index_ivf(index._index).nprobe == 8


@pytest.mark.usefixtures("few_lists")
def test_an_index_that_cannot_be_kept_is_used(rows, tmp_path):
    """With a folder in its place the index answers all the same, and a warning says that it is not kept."""
    features, notes = filled(tmp_path, rows), Notes()
    (tmp_path / f"{features.path.name}.faiss").mkdir()
    assert 7 in FaissIndex(features, notes).candidates(rows[7:8], 6)
    assert "Is a directory: the index is used, and not kept" in notes.notes[-1]


@pytest.mark.usefixtures("few_lists")
def test_an_index_of_another_version_is_made_anew(rows, tmp_path):
    """What is whole but FAISS cannot read is replaced."""
    features, notes = filled(tmp_path, rows), Notes()
    path, content = tmp_path / f"{features.path.name}.faiss", b"Ix99" + bytes(200)
    path.write_bytes(json.dumps({"of": features.digest(), "crc32": zlib.crc32(content)}).encode() + b"\n" + content)
    assert 7 in FaissIndex(features, notes).candidates(rows[7:8], 6)
    assert len(notes.notes) == 1 and path.stat().st_size > 10_000


@pytest.mark.usefixtures("few_lists")
def test_lists_are_kept_and_bound_to_the_rows(rows, tmp_path):
    """Above FEWEST rows an index is made once and kept; a damaged one, and one of other rows, is made anew; it finds nearly all."""
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
