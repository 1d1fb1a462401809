"""`alexnet similar` and `alexnet features` through the real command line, and the search behind them."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.core.checkpoint import load_weights, save_weights
from alexnet_cli.core.devices import Precision
from alexnet_cli.core.features import Features
from alexnet_cli.core.predict import Model
from alexnet_cli.core.similar import Search, Similar
from alexnet_cli.core.store import Store, pack_names
from tests.pictures import photo, saved
from tests.stores import change, write_store
from tests.test_nearest import brute_force
from tests.test_predict import CLASSES, WORDS, squares, tiny_weights

TRAIN, TEST = 300, 5
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Weights, a store of 300 pictures for training and one of 5 for tests, of which the last is the first of training."""
    folder = tmp_path_factory.mktemp("similar")
    save_weights(folder / "w.safetensors", tiny_weights())
    for split, first, count in (("train", 0, TRAIN), ("test", 1000, TEST - 1)):
        seeds = [*range(first, first + count), *([0] if split == "test" else [])]
        jpegs = [saved(Image.fromarray(squares(256, 256, seed)), "JPEG", quality=85) for seed in seeds]
        write_store(folder / "data" / split, jpegs, [seed % 4 for seed in seeds], CLASSES, format="jpeg", words=list(WORDS))
    change(folder / "data" / "train", b"names", pack_names([f"train/x/{index}.jpg" for index in range(TRAIN)]))
    return folder


@pytest.fixture
def place(prepared, tmp_path, monkeypatch) -> Path:
    """A folder to work in, with a copy of all that, without features."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALEXNET_DEVICE", "cpu")
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def run(command: str, *arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    """Run a command in this process; returns exit code, stdout and stderr."""
    result = CliRunner().invoke(app, [command, *arguments, "--weights", "w.safetensors"], input=stdin)
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stdout, result.stderr


def model() -> Model:
    """The network of the weights file here."""
    return Model(load_weights(Path("w.safetensors")), CPU, Precision("fp32"))


def described(images: Iterable[np.ndarray]) -> np.ndarray:
    """Each picture's last hidden values, one picture at a time."""
    found = [next(iter(model().features(image))) for image in images]
    return np.stack([one.values for one in found if isinstance(one, Features)])


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """The numbers of all records that are read for their features."""
    read: list[int] = []
    plain = Store.read_crops

    def counting(self, indices, *arguments):
        read.extend(indices)
        return plain(self, indices, *arguments)

    monkeypatch.setattr(Store, "read_crops", counting)
    return read


def test_agrees_with_brute_force(place, counted):
    """The neighbours are those of a float64 search over features of one picture at a time; a second run computes no feature."""
    code, out, err = run("similar", "data/test", "--json", "--top", "4")
    assert code == 0 and sorted(counted) == list(range(TRAIN))
    assert err.count("features: ") == 3 and "300/300 pictures" in err
    train, test = Store(place / "data" / "train"), Store(place / "data" / "test")
    rows = described(train.image(index) for index in range(TRAIN)).astype(np.float16)
    queries = described(test.image(index) for index in range(TEST)).astype(np.float16)
    expected, distances = brute_force(rows, queries.astype(np.float64), 4)
    answers = json.loads(out)
    assert [answer["path"] for answer in answers] == [f"{index:08}" for index in range(TEST)]
    for answer, records, far in zip(answers, expected, distances, strict=True):
        assert [one["record"] for one in answer["neighbours"]] == records.tolist() and answer["index"] == "exact"
        np.testing.assert_allclose(
            [one["distance"] for one in answer["neighbours"]], far, atol=2e-4 * float(np.linalg.norm(queries[0]))
        )
        first = answer["neighbours"][0]
        assert first["path"] == f"train/x/{first['record']}.jpg" and first["class"] == CLASSES[first["record"] % 4]
    assert [answer["truth"] for answer in answers] == [CLASSES[index % 4] for index in (0, 1, 2, 3, 0)]
    assert run("similar", "data/test", "--json", "--top", "4")[1] == out and len(counted) == TRAIN


def test_forms_agree(place):
    """JSON, lines of JSON, the table and the text say the same."""
    whole = json.loads(run("similar", "data/test", "--json", "--limit", "2")[1])
    lines = [json.loads(line) for line in run("similar", "data/test", "--jsonl", "--limit", "2")[1].splitlines()]
    rows = list(csv.DictReader(io.StringIO(run("similar", "data/test", "--csv", "--limit", "2")[1])))
    assert whole == lines and len(whole) == 2 and len(rows) == 12
    flat = [(answer, rank, one) for answer in whole for rank, one in enumerate(answer["neighbours"], start=1)]
    for row, (answer, rank, one) in zip(rows, flat, strict=True):
        assert (row["path"], row["rank"], row["neighbour"], row["class"]) == (answer["path"], str(rank), one["path"], one["class"])
        assert float(row["distance"]) == one["distance"] and row["truth"] == answer["truth"] and row["index"] == "exact"
    text = run("similar", "data/test", "--limit", "2")[1].splitlines()
    assert text[0] == "00000000" and len(text) == 14 and whole[0]["neighbours"][0]["path"] in text[1]


def test_the_query_itself(place):
    """A query that the store holds is first, at no distance, and marked; --exclude-self leaves it out and names as many others."""
    last = json.loads(run("similar", "data/test", "--json")[1])[-1]["neighbours"]
    assert (last[0]["record"], last[0]["is_query"]) == (0, True) and last[0]["distance"] < 1e-3
    assert not any(one["is_query"] for one in last[1:])
    without = json.loads(run("similar", "data/test", "--json", "--exclude-self")[1])[-1]["neighbours"]
    assert without[:5] == last[1:] and len(without) == 6
    _, out, _ = run("similar", "data/test")
    assert out.count("(the query itself)") == 1
    itself = json.loads(run("similar", "data/train", "--json", "--top", "1")[1])
    assert [one["neighbours"][0]["record"] for one in itself] == list(range(TRAIN))
    assert all(one["neighbours"][0]["is_query"] for one in itself)


def test_many_copies_of_the_query(place):
    """Without itself a query has as many neighbours as asked for, also where the store holds more copies of it than expected."""
    copy = saved(Image.fromarray(squares(256, 256, 0)), "JPEG", quality=85)
    others = [saved(Image.fromarray(squares(256, 256, seed)), "JPEG", quality=85) for seed in range(1, 9)]
    write_store(place / "copies" / "train", [*others[:4], *[copy] * 60, *others[4:]], [0] * 68, CLASSES, format="jpeg")
    (place / "query.jpg").write_bytes(copy)
    found = run("similar", "query.jpg", "--data", "copies", "--json", "--exclude-self", "--top", "7")[1]
    records = [one["record"] for one in json.loads(found)[0]["neighbours"]]
    assert len(records) == 7 and set(records) < {0, 1, 2, 3, 64, 65, 66, 67}


def test_a_network_that_sees_nothing(place):
    """Where all values are zero, no picture is taken for the query itself, and of equally far ones the first are named."""
    weights = tiny_weights()
    weights.tensors["fc7.weight"].zero_()
    weights.tensors["fc7.bias"].fill_(-1)
    save_weights(place / "w.safetensors", weights)
    (answer,) = json.loads(run("similar", "data/test", "--json", "--limit", "1", "--exclude-self")[1])
    assert [one["record"] for one in answer["neighbours"]] == [0, 1, 2, 3, 4, 5]
    assert not any(one["is_query"] or one["distance"] for one in answer["neighbours"])


class Interrupted(Model):
    """A network that is stopped by Ctrl-C after so many passes."""

    passes = 3

    def describe(self, *arguments, **options):
        """Count passes."""
        if not self.passes:
            raise KeyboardInterrupt
        self.passes -= 1
        return super().describe(*arguments, **options)


def test_an_interruption_costs_less_than_a_block(place, counted):
    """After Ctrl-C in the middle, only records of unfinished blocks are read again, and the answers are those of one go."""
    weights = load_weights(Path("w.safetensors"))
    store = Store(place / "data" / "train")
    with pytest.raises(KeyboardInterrupt):
        Search(Interrupted(weights, CPU, Precision("fp32")), store, batch_size=90)
    del counted[:]
    search = Search(model(), store, batch_size=64)
    assert sorted(counted) == list(range(256, TRAIN))
    (found,) = search.answers(model().features(squares(256, 256, 7)), top=3)
    assert isinstance(found, Similar) and len(found.neighbours) == 3
    plain = Search(model(), Store(place / "data" / "test"))
    assert plain.features.path.parent == place / "data" / "test" / "features"


def test_other_weights_and_other_stores(place, counted):
    """Other weights have features of their own; a store made anew has its old ones replaced, with a note."""
    run("similar", "data/test", "--limit", "1")
    weights = tiny_weights()
    weights.tensors["fc6.bias"] += 1
    save_weights(place / "w.safetensors", weights)
    del counted[:]
    run("similar", "data/test", "--limit", "1")
    assert len(counted) == TRAIN and len(list((place / "data" / "train" / "features").glob("*.f16"))) == 2
    content = (place / "data" / "train" / "data.mdb").read_bytes()
    (place / "data" / "train" / "data.mdb").unlink()
    (place / "data" / "train" / "data.mdb").write_bytes(content)
    code, _, err = run("similar", "data/test", "--limit", "1")
    assert code == 0 and len(counted) == 2 * TRAIN and "is of another store: computed anew" in err


def test_damaged_features(place, counted):
    """A changed byte in the features is found at the next search, its block computed again, and the answer right."""
    before = run("similar", "data/test", "--json")[1]
    (path,) = (place / "data" / "train" / "features").glob("*.f16")
    content = bytearray(path.read_bytes())
    content[300 * 64 - 3] ^= 0x40
    path.write_bytes(content)
    del counted[:]
    code, out, err = run("similar", "data/test", "--json")
    assert (code, out) == (0, before) and sorted(counted) == list(range(256, TRAIN))
    assert "is damaged in 1 of its blocks, the first at row 256: computed anew" in err


def test_damaged_features_that_cannot_be_written(place, monkeypatch):
    """Where the damaged features of a store cannot be mended in their place, whole ones are made in the cache, and kept there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    before = run("similar", "data/test", "--json")[1]
    (path,) = (place / "data" / "train" / "features").glob("*.f16")
    path.with_name(f".{path.name}.json.partial").mkdir()
    content = bytearray(path.read_bytes())
    content[9] ^= 0x40
    path.write_bytes(content)
    for _ in range(2):
        assert run("similar", "data/test", "--json")[:2] == (0, before)
    assert path.read_bytes() == content
    (cached,) = (place / "cache" / "alexnet" / "features").glob("*/*.f16")
    assert cached.stat().st_size == len(content)


def test_layers_types_and_faiss(place):
    """Any layer and both types work; FAISS's index names the same pictures and says which it was."""
    pytest.importorskip("faiss")
    exact = json.loads(run("similar", "data/test", "--json")[1])
    faiss = json.loads(run("similar", "data/test", "--json", "--index", "faiss")[1])
    assert [one["index"] for one in faiss] == ["faiss-flat"] * TEST
    assert [one["neighbours"] for one in faiss] == [one["neighbours"] for one in exact]
    wide = json.loads(run("similar", "data/test", "--json", "--dtype", "float32")[1])
    assert [one["neighbours"][0]["record"] for one in wide] == [one["neighbours"][0]["record"] for one in exact]
    code, out, _ = run("similar", "data/test", "--layer", "conv5", "--jsonl", "--limit", "1")
    assert code == 0 and json.loads(out)["neighbours"][0]["distance"] != exact[0]["neighbours"][0]["distance"]
    code, _, err = run("similar", "data/test", "--layer", "pool5")
    assert code == 1 and "no layer named 'pool5'" in err


def test_hostile_queries(place):
    """What cannot be read is named with its reason, the others are answered, and the exit code is 1."""
    (place / "cut.jpg").write_bytes(saved(photo(60, 60), "JPEG")[:900])
    (place / "empty.jpg").write_bytes(b"")
    photo(40, 30).save(place / "good.png")
    code, out, err = run("similar", "cut.jpg", "good.png", "missing.jpg", "empty.jpg", "--jsonl", "--top", "2")
    assert code == 1 and [json.loads(line)["path"] for line in out.splitlines()] == ["good.png"]
    for reason in ("cut.jpg: damaged or cut short", "missing.jpg: cannot be opened", "empty.jpg: the file is empty"):
        assert f"error: {reason}" in err
    assert err.splitlines()[-1] == "error: 3 of 4 pictures could not be read"
    code, out, err = run("similar", "missing.jpg", "--json")
    assert (code, out) == (1, "[]\n")
    code, out, _ = run("similar", "-", "--jsonl", "--top", "400", stdin=(place / "good.png").read_bytes())
    assert code == 0 and len(json.loads(out)["neighbours"]) == TRAIN
    write_store(place / "data" / "val", [bytes(32 * 32 * 3)], [-1], CLASSES, size=32)
    code, out, err = run("similar", "good.png", "--split", "val")
    assert (code, out) == (1, "") and "data/val has pictures of 32x32, recipe tiny expects 256x256" in err
    write_store(place / "none" / "train", [], [], CLASSES)
    code, out, err = run("similar", "good.png", "--data", "none")
    assert (code, out) == (1, "") and "none/train has no picture" in err


def test_class_names_cannot_write_to_the_terminal(place):
    """What a class's name holds of line breaks and escapes is spelled out, in one line."""
    names = ["a\nb\x1b[31mred", "\x9bleft", "plain"]
    jpegs = [saved(photo(256, 256, seed), "JPEG") for seed in range(3)]
    write_store(place / "odd" / "train", jpegs, [0, 1, 2], names, format="jpeg", words=names)
    photo(40, 30).save(place / "good.png")
    code, out, _ = run("similar", "good.png", "--data", "odd")
    assert code == 0 and len(out.splitlines()) == 4 and all(line.isprintable() for line in out.splitlines())


@pytest.mark.parametrize("arguments", [[], ["x.jpg", "--json", "--csv"], ["-", "--files-from", "-"], ["x.jpg", "--out", "x.gif"]])
def test_what_cannot_be_meant(place, arguments):
    """Options that contradict each other are wrong usage."""
    code, out, err = run("similar", *arguments)
    assert (code, out) == (2, "") and "Error: " in err


def test_full_disk(place, small_disk):
    """A store on a full disk is refused in one line, and nothing is left."""
    write_store(small_disk / "tiny" / "train", [saved(photo(256, 256), "JPEG")] * 8, [0] * 8, CLASSES, format="jpeg")
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(bytes(max(0, free - 50_000)))
    photo(40, 30).save(place / "good.png")
    code, out, err = run("similar", "good.png", "--data", str(small_disk / "tiny"), "--layer", "conv1")
    assert (code, out) == (1, "") and "MB for features of 8 pictures" in err
    assert not list((small_disk / "tiny" / "train" / "features").glob("*"))


# The panel -------------------------------------------------------------------------------------------------------------------


def test_panel(place):
    """A row for each query, itself first; those of its class have an orange frame; the size is that of a page's width."""
    pytest.importorskip("matplotlib")
    from alexnet_cli.core.panel import TRUE
    from tests.test_panel import pixels

    code, out, err = run("similar", "data/test", "--out", "p.png")
    assert code == 0 and "panel: p.png, 5 queries" in err and out.startswith("00000000\n")
    with Image.open("p.png") as picture:
        width, height = (side / 300 for side in picture.size)
    assert width == pytest.approx(5.54, abs=0.02) and height == pytest.approx(5 * 0.91 + 0.06, abs=0.02)
    answers = json.loads(run("similar", "data/test", "--json")[1])
    same = sum(one["class"] == answer["truth"] for answer in answers for one in answer["neighbours"])
    side = 300 * 0.70
    # A frame of 1.6 points along four sides of 0.70 inches.
    assert pixels(Path("p.png"), TRUE) == pytest.approx(same * 4 * side * 1.6 / 72 * 300, rel=0.35) and same
    code, _, err = run("similar", "data/train", "--out", "many.pdf", "--top", "14", "--limit", "13", "--exclude-self")
    assert code == 0 and "panel: many.pdf, 13 queries, the nearest 12 of 14" in err
    assert Path("many.pdf").read_bytes().startswith(b"%PDF")
    code, _, err = run("similar", "missing.jpg", "--out", "no.png")
    assert code == 1 and "no picture could be read: no.png is not drawn" in err and not Path("no.png").exists()


# alexnet features ------------------------------------------------------------------------------------------------------------


def rows_beside(path: str) -> Iterator[dict[str, str]]:
    """The table beside a file of features."""
    with Path(path).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def test_features_of_a_store(place):
    """By --data or by its folder, a store's pictures are rows in stored order, with their names and classes."""
    code, out, err = run("features", "--data", "data", "--split", "test")
    assert (code, out) == (0, "features.npy\n") and "5 rows of 32 values: fc7, 32" in err
    first = np.load("features.npy")
    test = Store(place / "data" / "test")
    np.testing.assert_allclose(first, described(test.image(index) for index in range(TEST)), rtol=1e-4, atol=1e-5)
    assert [row["label"] for row in rows_beside("features.npy")] == [CLASSES[index % 4] for index in (0, 1, 2, 3, 0)]
    assert [row["name"] for row in rows_beside("features.npy")][:4] == ["cat", "dog", "n03", "tench, Tinca tinca"]
    run("features", "data/test", "data/train", "--out", "both.npy", "--quiet")
    both = np.load("both.npy")
    assert both.shape == (TEST + TRAIN, 32)
    np.testing.assert_allclose(both[:TEST], first, rtol=1e-4, atol=1e-5)
    assert [row["path"] for row in rows_beside("both.npy")][TEST] == "train/x/0.jpg"


def test_features_of_files(place):
    """Files are rows with their paths and, by their folders, classes; a bad one is named and left out; maps are flattened."""
    for name in ("dog", "other"):
        (place / name).mkdir()
        Image.fromarray(squares(256, 256, len(name))).save(place / name / "a.png")
    (place / "dog" / "b.png").write_bytes(b"no picture")
    code, out, err = run(
        "features", "dog", "other", "--layer", "conv5", "--views", "ten", "--truth", "folder", "--dtype", "float16"
    )
    assert (code, out) == (1, "features.npy\n") and "error: dog/b.png: not a picture of a known format" in err
    found = np.load("features.npy")
    assert found.dtype == np.float16 and found.shape == (2, 16 * 6 * 6)
    (expected,) = model().features("other/a.png", layer="conv5", crops=10)
    assert isinstance(expected, Features)
    np.testing.assert_allclose(found[1], expected.values.reshape(-1), rtol=2e-3, atol=1e-3)
    assert list(rows_beside("features.npy")) == [
        {"path": "dog/a.png", "label": "n02", "name": "dog"},
        {"path": "other/a.png", "label": "", "name": ""},
    ]
    about = json.loads(Path("features.json").read_text())
    assert (about["shape"], about["views"], about["weights"]) == ([16, 6, 6], 10, "w.safetensors")


def test_features_refuses(place):
    """Nothing to look at, contradictions, another ending and pictures that none can be read are refused."""
    assert run("features")[0] == 2 and run("features", "x.jpg", "--data", "data")[0] == 2
    code, out, err = run("features", "x.jpg", "--out", "f.txt")
    assert (code, out) == (1, "") and "f.txt ends in none of .npy" in err
    code, out, err = run("features", "x.jpg")
    assert (code, out) == (1, "") and "no picture could be read: features.npy is not written" in err
    assert not Path("features.npy").exists()
