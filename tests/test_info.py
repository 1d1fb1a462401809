"""`alexnet info`: how stores were made, the sizes of their classes, whether they are whole, a sheet; and what ranks send."""

import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.cli.stores import histogram
from alexnet_cli.core.checkpoint import Weights, save_weights
from alexnet_cli.core.model import AlexNet
from tests.networks import narrow
from tests.pictures import make_source
from tests.stores import change, random_images, write_store

COUNTS = {"train": {"cat": 12, "dog": 3, "eel": 4}, "val": {"cat": 2, "dog": 2, "eel": 2}}
REBUILD = 'hint: make it anew with "alexnet prepare SOURCE --force"'


def info(*arguments: object, code: int = 0) -> Any:
    """Run `alexnet info` and check its exit code."""
    result = CliRunner().invoke(app, ["info", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Return what `alexnet info --json` prints."""
    return dict(json.loads(info(*arguments, "--json", code=code).stdout))


def facts(text: str) -> list[tuple[str, str]]:
    """Return the names and values of all lines that have both."""
    return [(found[1], found[2]) for line in text.splitlines() if (found := re.fullmatch(r"(\S+(?: \S+)*) {2,}(\S.*)", line))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of stores made by `alexnet prepare`."""
    folder = tmp_path_factory.mktemp("info")
    source = str(make_source(folder / "source", COUNTS))
    arguments = ["prepare", source, "--out", str(folder / "data"), "--workers", "1", "--limit", "18", "--seed", "5"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return folder / "data"


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / "data"))


# How it was made -----------------------------------------------------------------------------------------------------------------


def test_how_it_was_made(data: Path) -> None:
    """The arguments of `prepare` are shown, for a folder of stores and for one of them, and are an object in JSON."""
    for path in (data, data / "val"):
        shown = facts(info(path).stdout)
        assert ("limit", "18") in shown and shown.count(("seed", "5")) == (3 if path == data else 2)
        assert document(path)["prepare"]["limit"] == 18
    (data / "prepare.json").unlink()
    assert "limit" not in info(data).stdout
    assert document(data)["prepare"] == {}


def test_arguments_to_come(data: Path) -> None:
    """Whatever else `prepare` was told is shown too, if it is set; checksums are not."""
    plan = {"made_by": "alexnet prepare", "limit": None, "seed": 5, "listing": "0123abcd", "upside_down": True}
    more = {"classes_from": ["a", "b"], "weights": {"cat": 2}, "nothing": None}
    (data / "prepare.json").write_text(json.dumps({**plan, **more}))
    text = info(data).stdout
    shown = facts(text)
    start = shown.index(("limit", "none"))
    assert shown[start : start + 5] == [
        ("limit", "none"),
        ("seed", "5"),
        ("upside down", "yes"),
        ("classes from", "a, b"),
        ("weights", "cat 2"),
    ]
    assert "nothing" not in text and "0123abcd" not in text


# Class sizes ---------------------------------------------------------------------------------------------------------------------


def test_class_counts(data: Path) -> None:
    """The sizes of the classes are listed in JSON in the order of the classes."""
    write_store(data / "test", random_images(3), [2, -1, 2], ("cat", "dog", "eel"))
    stores = {Path(store["folder"]).name: store for store in document(data)["stores"]}
    assert sum(stores["train"]["class_counts"]) == 18 and len(stores["train"]["class_counts"]) == 3
    assert stores["val"]["class_counts"] == [2, 2, 2]
    assert stores["test"]["class_counts"] == [0, 0, 2]
    assert ("no class", "1 picture") in facts(info(data / "test").stdout)


def test_smallest_and_largest_class(tmp_path: Path) -> None:
    """The smallest and the largest class are named, with how many others are as large."""
    labels = [0] * 5 + [1] * 2 + [2] * 1 + [3] * 2 + [4] * 1 + [5] * 1
    write_store(tmp_path / "train", random_images(1) * 12, labels, "abcdef")
    shown = facts(info(tmp_path).stdout)
    assert ("smallest", "1 picture: word c and 2 others") in shown
    assert ("largest", "5 pictures: word a") in shown


def test_bars(tmp_path: Path) -> None:
    """Below stands how many classes have how many pictures: figures in columns, bars in proportion, the longest of 40 signs."""
    labels = [0] * 13 + [1] + [2] + [3] * 2 + [4]
    write_store(tmp_path / "train", [b""] * len(labels), labels, "abcde")
    lines = info(tmp_path).stdout.splitlines()
    start = lines.index("pictures  classes")
    assert lines[start + 1 : start + 9] == [
        " 1 to  2        4  ########################################",
        " 3 to  4        0",
        " 5 to  6        0",
        " 7 to  8        0",
        " 9 to 10        0",
        "11 to 12        0",
        "13 to 13        1  ##########",
        "",
    ]


def test_classes_of_one_size(prepared: Path) -> None:
    """Where all classes are of one size, a line says so, and there are no bars."""
    text = info(prepared / "val").stdout
    assert ("each class", "2 pictures") in facts(text)
    assert "#" not in text and "smallest" not in text


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([4], [(4, 4, 1)]),
        ([1, 3, 3], [(1, 1, 1), (2, 2, 0), (3, 3, 2)]),
        ([0, 9], [(0, 0, 1), *((n, n, 0) for n in range(1, 9)), (9, 9, 1)]),
        ([0, 1, 10], [(0, 1, 2), (2, 3, 0), (4, 5, 0), (6, 7, 0), (8, 9, 0), (10, 10, 1)]),
    ],
)
def test_histogram(numbers: list[int], expected: list[tuple[int, int, int]]) -> None:
    """Whole numbers fall into at most ten ranges of one width, from the smallest to the largest."""
    assert histogram(numbers) == expected


def test_histogram_of_imagenet() -> None:
    """The classes of ILSVRC-2012, 732 to 1,300 pictures, fall into ten ranges of 57, of which the last ends at the largest."""
    ranges = histogram([732, 1300, 1300, 788, 789])
    assert (len(ranges), ranges[0], ranges[1][:2], ranges[-1]) == (10, (732, 788, 2), (789, 845), (1245, 1300, 2))


# Whether it is whole -------------------------------------------------------------------------------------------------------------


def test_whole_stores(prepared: Path) -> None:
    """Of what `prepare` made, every record is whole and checksum and statistics are right; progress goes to stderr."""
    result = info(prepared, "--verify")
    assert [value for name, value in facts(result.stdout) if name == "verified"] == [
        "18 records, all whole",
        "6 records, all whole",
    ]
    assert result.stderr.splitlines()[0] == "verifying train: 0/18 records" and "verifying val: 6/6 records" in result.stderr
    assert info(prepared, "--verify", "--quiet").stderr == ""
    whole = {"damaged": [], "unexpected": [], "checksum": "ok"}
    assert [store["verified"] for store in document(prepared, "--verify")["stores"]] == [
        {"records": 18, "statistics": "ok", **whole},
        {"records": 6, "statistics": "absent", **whole},
    ]
    assert "verified" not in document(prepared)["stores"][0]


def test_store_of_an_earlier_version(tmp_path: Path) -> None:
    """A store without a checksum is whole as far as one can tell, and the line says so."""
    write_store(tmp_path / "val", random_images(2), [0, 1], "ab")
    shown = facts(info(tmp_path / "val", "--verify").stdout)
    assert ("verified", "2 records, all whole, no checksum to compare with") in shown and ("checksum", "none") in shown


def test_damaged_store(data: Path) -> None:
    """Damage is an `error:` line for each kind, with the store, the records and how many, one hint, and exit code 1."""
    train, stats = data / "train", data / "stats.safetensors"
    records = [json.loads(json.dumps(store))["checksum"] for store in document(data)["stores"]]
    change(train, b"00000003", b"no picture")
    change(train, b"00000017", None)
    result = info(data, "--verify", code=1)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("verifying")]
    assert lines[0] == f"error: {train}: 1 record is missing: 17"
    assert lines[1].startswith(f"error: {train}: 1 record is damaged: 3; record 3: it is not a whole JPEG file (")
    assert re.fullmatch(
        f"error: {train}: the checksum of the records is crc32:[0-9a-f]{{8}}, expected {records[0]} as in meta", lines[2]
    )
    assert lines[3:] == [f"error: {stats} is not what the pictures of {train} give", REBUILD]
    verdicts = [value for name, value in facts(result.stdout) if name == "verified"]
    assert verdicts == ["17 records, not whole", "6 records, all whole"]
    verified = document(data, "--verify", code=1)["stores"][0]["verified"]
    assert verified["damaged"][1] == {"record": 17, "reason": "it is not in the file"}
    assert (verified["records"], verified["checksum"], verified["statistics"]) == (17, "differs", "differs")


def test_cut_file(data: Path) -> None:
    """A file that lost its end is refused as by every command, before anything is read of it."""
    os.truncate(data / "val/data.mdb", 20_000)
    result = info(data / "val", "--verify", code=1)
    assert (result.stdout, result.stderr.splitlines()[1:]) == ("", [REBUILD])
    assert f"error: {data}/val/data.mdb is cut short: 20,000 bytes, expected " in result.stderr


def test_from_inside(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of a store, `.` is that store, with the statistics and arguments beside it, and `..` is all of them."""
    monkeypatch.chdir(prepared / "train")
    assert document(".", "--verify")["stores"][0]["verified"]["statistics"] == "ok"
    assert document(".")["prepare"]["limit"] == 18
    assert len(document("..")["stores"]) == 2


# A sheet of pictures -------------------------------------------------------------------------------------------------------------


def test_contact_sheet(prepared: Path, tmp_path: Path) -> None:
    """The sheet is a PNG file of train's pictures, the same for the same seed, named on stdout; nothing else remains."""
    sheets = {name: tmp_path / f"sheets/{name}.png" for name in ("one", "again", "other", "val")}
    shown = facts(info(prepared, "--contact-sheet", sheets["one"]).stdout)
    assert ("contact sheet", str(sheets["one"])) in shown
    assert document(prepared, "--contact-sheet", sheets["again"])["contact_sheet"] == str(sheets["again"])
    info(prepared, "--contact-sheet", sheets["other"], "--seed", 1)
    info(prepared / "val", "--contact-sheet", sheets["val"])
    with Image.open(sheets["one"]) as picture:
        assert (picture.format, picture.size) == ("PNG", (1096, 3 * 156 + 8))  # 18 pictures: three rows of eight places
    contents = {name: path.read_bytes() for name, path in sheets.items()}
    assert contents["one"] == contents["again"] != contents["other"]
    assert sorted(os.listdir(tmp_path / "sheets")) == sorted(path.name for path in sheets.values())


def test_sheet_and_verification_of_damage(data: Path, tmp_path: Path) -> None:
    """A sheet on which a damaged record would stand is refused with the record's number, and no file is left."""
    change(data / "val", b"00000002", b"no picture")
    result = info(data / "val", "--contact-sheet", tmp_path / "sheet.png", code=1)
    assert f"error: record 2 in {data}/val is damaged: it is not a whole JPEG file" in result.stderr
    assert not (tmp_path / "sheet.png").exists()


# Something else ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [["--verify"], ["--contact-sheet", "sheet.png"]], ids=lambda option: option[0])
def test_what_is_no_store(option: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On anything but a store, the options say in one line what they expect, and draw nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"weights")
    (tmp_path / "empty").mkdir()
    for path, found in (("best.safetensors", "is not"), ("empty", "is not"), ("missing", "does not exist, expected")):
        assert info(path, *option, code=1).stderr == (
            f'error: {path} {found} a store or a folder of stores, for {option[0]}\nhint: make one with "alexnet prepare SOURCE"\n'
        )
    assert f"{option[0]} needs a PATH, a store or a folder of stores" in info(*option, code=2).stderr
    assert not (tmp_path / "sheet.png").exists()


def test_checksum_is_shown(prepared: Path) -> None:
    """The checksum of a store is among its facts, and is zlib's CRC-32 of the records."""
    from alexnet_cli.core.store import Store

    store = Store(prepared / "val")
    records = b"".join(store.record(index) for index in range(6))
    assert ("checksum", f"crc32:{zlib.crc32(records):08x}") in facts(info(prepared / "val").stdout)


# What ranks send -----------------------------------------------------------------------------------------------------------------


def test_what_two_ranks_send() -> None:
    """Of a batch of 128, fp32: 28,288 values of an image each way, tower b's 2,048 more, and half of the pictures."""
    ranks = document("--recipe", "original")["sent_per_step"]["ranks"]
    both_ways, more = 128 * 4 * 28_288, 128 * 4 * (28_288 + 2_048)
    pictures = 64 * (150_528 + 8)
    assert [rank["activations"] for rank in ranks] == [both_ways, more]
    assert [rank["gradients"] for rank in ranks] == [more, both_ways]
    assert [rank["pictures"] for rank in ranks] == [pictures, pictures]
    lines = info("--recipe", "original").stdout.splitlines()
    assert "activations            14,483,456         15,532,032" in lines
    assert "total                  39,649,792         39,649,792" in lines


def test_what_copies_send() -> None:
    """Four whole networks send gradients alone, one and a half times each; ranks that send the same are one column."""
    ranks = document("--gpus", "4", "--towers", "1")["sent_per_step"]["ranks"]
    assert {rank["sums of gradients"] for rank in ranks} == {6 * 60_965_224}
    lines = info("--gpus", "4", "--towers", "1").stdout.splitlines()
    assert "sent in a step     both towers on rank 0 and 3 like it" in lines
    assert "sent in a step" not in info("--gpus", "1").stdout
    assert "error: 3 ranks cannot be paired" in info("--gpus", "3", code=1).stderr


def test_what_ranks_send_for_weights(tmp_path: Path) -> None:
    """Of a weights file, the batch is that of its own recipe: 8 here, and a narrow conv3 of 8 maps from the other tower."""
    recipe = narrow()
    tensors = dict(AlexNet(recipe, 2, seed=0).state_dict())
    save_weights(tmp_path / "a.safetensors", Weights(recipe, ("a", "b"), ("a", "b"), tensors, torch.zeros(3, 256, 256)))
    ranks = document(tmp_path / "a.safetensors")["sent_per_step"]["ranks"]
    assert ranks[0]["activations"] == 8 * 4 * (8 * 13 * 13 + 8 * 6 * 6 + 16)
