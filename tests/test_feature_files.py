import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from alexnet_cli.core.errors import AlexNetError, DiskFullError
from alexnet_cli.core.feature_files import About, Row, require_writable_features, write_features

ABOUT = About("conv5", (3, 2, 2), 10, "float32", "tiny", "w.safetensors", "abc")
PATHS = ["a.png", "katze ä\udcff.png", 'with "quotes", and\nline.png', ""]  # one that is no UTF-8, as os.fsdecode gives it


def rows(count: int = 4) -> Iterator[Row]:
    """Rows of small whole numbers, in the layer's own shape."""
    for index in range(count):
        yield Row(PATHS[index % 4], f"n{index}" if index else "", "cat" * index, values(index))


def values(index: int) -> np.ndarray:
    """The values of a row."""
    return np.arange(12, dtype=np.float32).reshape(3, 2, 2) + 100 * index


EXPECTED = np.stack([np.arange(12) + 100 * index for index in range(4)])


def beside(path: Path) -> list[dict[str, str]]:
    """The rows of the table beside a file."""
    with path.with_suffix(".csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_npy(dtype, tmp_path):
    """NumPy reads the rows, flattened channel, row, column, and maps them; the table and the description lie beside."""
    path = tmp_path / "new" / "f.npy"
    assert write_features(path, rows(), replace(ABOUT, dtype=dtype)) == 4
    found = np.load(path, mmap_mode="r")
    assert found.dtype == dtype and found.flags.aligned
    np.testing.assert_array_equal(found, EXPECTED)
    assert [row["path"] for row in beside(path)] == PATHS
    assert [row["label"] for row in beside(path)] == ["", "n1", "n2", "n3"] and beside(path)[2]["name"] == "catcat"
    about = json.loads(path.with_suffix(".json").read_text())
    assert (about["layer"], about["shape"], about["views"], about["count"]) == ("conv5", [3, 2, 2], 10, 4)
    assert sorted(one.name for one in path.parent.iterdir()) == ["f.csv", "f.json", "f.npy"]


def test_npz(tmp_path):
    """NumPy's archive has everything in it, names that are no UTF-8 too; nothing lies beside."""
    path = tmp_path / "f.npz"
    write_features(path, rows(), ABOUT)
    with np.load(path) as found:
        np.testing.assert_array_equal(found["features"], EXPECTED.astype(np.float32))
        assert found["path"].tolist() == PATHS and found["label"].tolist() == ["", "n1", "n2", "n3"]
        assert json.loads(str(found["about"]))["shape"] == [3, 2, 2]
    assert list(tmp_path.iterdir()) == [path]
    once = path.read_bytes()
    write_features(path, rows(), ABOUT)
    assert path.read_bytes() == once


def test_safetensors(tmp_path):
    """The safetensors package reads tensor and description; the table lies beside."""
    path = tmp_path / "f.safetensors"
    write_features(path, rows(), replace(ABOUT, dtype="float16"))
    with safe_open(path, framework="numpy") as file:
        assert list(file.keys()) == ["features"] and file.metadata()["layer"] == "conv5"
        assert json.loads(file.metadata()["shape"]) == [3, 2, 2] and file.metadata()["count"] == "4"
        np.testing.assert_array_equal(file.get_tensor("features"), EXPECTED.astype(np.float16))
    assert len(beside(path)) == 4 and not path.with_suffix(".json").exists()


def test_parquet(tmp_path, monkeypatch):
    """Pyarrow reads lists of one length, in groups; names that are no UTF-8 are readable."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("alexnet_cli.core.feature_files.PIECE", 3 * 4 * 12)  # three rows a group
    path = tmp_path / "f.parquet"
    write_features(path, rows(), replace(ABOUT, dtype="float16"))
    table = parquet.read_table(path)
    np.testing.assert_array_equal(np.array(table.column("features").to_pylist()), EXPECTED)
    assert parquet.ParquetFile(path).num_row_groups == 2
    assert table.column("path").to_pylist()[1] == "katze ä�.png" and table.column("label").to_pylist()[3] == "n3"
    assert json.loads(table.schema.metadata[b"alexnet-features"])["layer"] == "conv5"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "parquet"])
def test_nothing_remains_of_a_failure(ending, tmp_path):
    """What breaks off, has no row, or does not fit float16 leaves what was there before, and nothing else."""
    path = tmp_path / f"f.{ending}"
    write_features(path, rows(), ABOUT)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    def broken() -> Iterator[Row]:
        yield from rows(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(path, broken(), ABOUT)
    with pytest.raises(AlexNetError, match="no picture could be read"):
        write_features(path, rows(0), ABOUT)
    with pytest.raises(AlexNetError, match="conv5 has values up to 66,011, float16 ends at 65,504"):
        write_features(path, (Row("a", "", "", values(0) + 66_000) for _ in range(1)), replace(ABOUT, dtype="float16"))
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "parquet"])
def test_one_writer_at_a_time(ending, tmp_path):
    """A second writer of the same files is refused while the first one writes, which is not disturbed; then it may."""
    path = tmp_path / f"f.{ending}"

    def disturbed() -> Iterator[Row]:
        for row in rows():
            with pytest.raises(AlexNetError, match=r"another process writes .*f\.npy"):
                write_features(tmp_path / "f.npy", rows(1), ABOUT)
            yield row

    assert write_features(path, disturbed(), ABOUT) == 4
    alone = tmp_path / "alone"
    write_features(alone / path.name, rows(), ABOUT)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir() if one != alone} == {
        one.name: one.read_bytes() for one in alone.iterdir()
    }
    assert write_features(path, rows(1), ABOUT) == 1


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(dtype, value, tmp_path):
    """Numbers that are none are refused, in the wider type too, and not taken for values beyond float16."""
    row = Row("a", "", "", np.array([1, value] * 6, np.float32))
    with pytest.raises(AlexNetError, match="conv5 has values that are not finite"):
        write_features(tmp_path / "f.npy", iter([row]), replace(ABOUT, dtype=dtype))


def test_weights_whose_name_is_no_utf8(tmp_path):
    """The safetensors package reads a file that was made by weights in a folder of any name."""
    path = tmp_path / "f.safetensors"
    write_features(path, rows(), replace(ABOUT, weights="r\udcff/w.safetensors"))
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["weights"] == "r\ufffd/w.safetensors"
        assert file.get_tensor("features").tolist() == EXPECTED.tolist()


@pytest.mark.parametrize("ending", ["npy", "npz", "safetensors", "parquet"])
def test_full_disk(ending, small_disk):
    """A disk that fills up is an error of one line; nothing remains."""
    noise = np.random.default_rng(0).standard_normal(1 << 16, dtype=np.float32)
    about = replace(ABOUT, shape=(1 << 16,))
    with pytest.raises(DiskFullError, match=f"the disk is full: .*f.{ending} could not be written"):
        write_features(small_disk / f"f.{ending}", (Row("a", "", "", noise) for _ in range(20)), about)
    assert list(small_disk.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    """Another ending, a folder in the way, also of what lies beside, are refused before the work."""
    with pytest.raises(AlexNetError, match=r"ends in none of .npy, .npz, .safetensors, .parquet"):
        require_writable_features(tmp_path / "f.txt", "float32")
    (tmp_path / "f.csv").mkdir()
    require_writable_features(tmp_path / "f.npz", "float32")
    with pytest.raises(AlexNetError, match=r"cannot write .*f\.csv: Is a directory"):
        require_writable_features(tmp_path / "f.npy", "float32")
    require_writable_features(tmp_path / "g.npz", "float32", str(tmp_path / "g.csv"))
    with pytest.raises(AlexNetError, match=r"g\.csv, which names the pictures, would be overwritten"):
        require_writable_features(tmp_path / "g.npy", "float32", str(tmp_path / "." / "g.csv"))
