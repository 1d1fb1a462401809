"""`alexnet predict` through the real command line: what it prints, what it refuses, how it ends."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from alexnet_cli.cli.app import app
from alexnet_cli.cli.predictions import printable
from alexnet_cli.core.checkpoint import save_weights
from tests.conftest import ROOT
from tests.pictures import photo, png, saved
from tests.stores import random_images, write_store
from tests.test_predict import CLASSES, squares, tiny_weights

JPEG = saved(photo(20, 10), "JPEG")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The weights file of a small network."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, tiny_weights())
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, weights) -> Path:
    """A folder with three pictures in a folder of their own, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALEXNET_DEVICE", "cpu")
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        Image.fromarray(squares(64, 48, seed)).save(tmp_path / "photos" / f"{seed}.png")
    return tmp_path


@pytest.fixture
def predict(place, weights):
    """Run the command in this process; returns exit code, stdout and stderr."""

    def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["predict", *arguments, "--weights", str(weights), "--crops", "1"], input=stdin)
        assert "Traceback" not in result.stderr
        return result.exit_code, result.stdout, result.stderr

    return run


def process(weights: Path, *arguments: str | bytes, **options: object) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    command = [sys.executable, "-m", "alexnet_cli", "predict", *arguments, "--weights", str(weights), "--crops", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, **options}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)  # type: ignore[call-overload]


def paths(lines: Sequence[str]) -> list[str]:
    """Return the pictures that JSON lines are about."""
    return [json.loads(line)["path"] for line in lines]


def test_forms_agree(predict):
    """JSON, JSON lines and the table say the same of the same pictures; --top counts in all of them."""
    whole = json.loads(predict("photos", "--json", "--top", "2")[1])
    lines = [json.loads(line) for line in predict("photos", "--jsonl", "--top", "2")[1].splitlines()]
    rows = list(csv.DictReader(io.StringIO(predict("photos", "--csv", "--top", "2")[1])))
    assert whole == lines and [one["path"] for one in whole] == [f"photos/{seed}.png" for seed in range(3)]
    flat = [(one["path"], rank, kind) for one in whole for rank, kind in enumerate(one["predictions"], start=1)]
    assert len(flat) == len(rows) == 6
    for (path, rank, kind), row in zip(flat, rows, strict=True):
        assert (row["path"], row["rank"], row["class"], row["name"]) == (path, str(rank), kind["class"], kind["name"])
        assert float(row["probability"]) == kind["probability"] and row["truth"] == ""


def test_json_array_is_laid_out_as_one_document(predict):
    """The streamed array has the bytes of json.dumps with an indent of 2, also where nothing could be read."""
    _, out, _ = predict("photos", "--json")
    assert out == json.dumps(json.loads(out), indent=2, ensure_ascii=False) + "\n"
    code, out, _ = predict("missing.jpg", "--json")
    assert (code, out) == (1, "[]\n")


def test_bad_pictures_are_named_and_counted(predict, place):
    """Every kind of bad file is named with its reason among the good ones, and counted at the end; the exit code is 1."""
    bad = {
        "cut.jpg": (saved(photo(60, 60), "JPEG")[:900], "damaged or cut short"),
        "text.jpg": (b"a letter", "not a picture of a known format"),
        "empty.jpg": (b"", "the file is empty"),
        "bomb.png": (png(60_000, 60_000, 8, 2, b""), "too large: more than 89,478,485 pixels"),
    }
    for name, (content, _) in bad.items():
        (place / name).write_bytes(content)
    (place / "folder.jpg").mkdir()
    code, out, err = predict("photos/0.png", *bad, "folder.jpg", "no*.gif", "photos/1.png", "--jsonl")
    assert code == 1 and paths(out.splitlines()) == ["photos/0.png", "photos/1.png"]
    for name, (_, reason) in bad.items():
        assert f"error: {name}: {reason}" in err
    assert "error: folder.jpg: no picture in this folder\n" in err and "error: no*.gif: no file has a name like this\n" in err
    assert err.splitlines()[-1] == "error: 6 of 8 pictures could not be read"


def test_odd_pictures_are_answered(predict, place):
    """One pixel, four inks, 16 bits, transparency and an animation are pictures like others."""
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    odd = {
        "one.png": saved(Image.new("RGB", (1, 1), "red"), "PNG"),
        "inks.jpg": saved(Image.new("CMYK", (32, 32), (55, 225, 195, 0)), "JPEG"),
        "deep.png": png(2, 1, 16, 0, b"\0" + bytes([0, 1, 255, 255])),
        "clear.png": saved(Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"),
        "moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }
    for name, content in odd.items():
        (place / name).write_bytes(content)
    code, out, _ = predict(*odd, "--jsonl")
    assert code == 0 and paths(out.splitlines()) == list(odd)
    one, _, _, clear, moving = (json.loads(line)["predictions"] for line in out.splitlines())
    for other in (clear, moving):  # red as well, the animation in its first frame
        assert [kind["probability"] for kind in other] == pytest.approx([kind["probability"] for kind in one], rel=1e-4)


def test_picture_on_stdin(predict):
    """A dash stands for the picture on standard input; nothing there is an error."""
    code, out, _ = predict("-", "--jsonl", stdin=JPEG)
    assert code == 0 and paths(out.splitlines()) == ["-"]
    code, out, err = predict("-", "--jsonl", stdin=b"")
    assert (code, out) == (1, "") and "error: -: the file is empty" in err


def test_list_on_stdin(predict):
    """--files-from - takes names from standard input, one a line; one that is missing does not stop the others."""
    code, out, err = predict("--files-from", "-", "--jsonl", stdin=b"photos/2.png\nmissing.jpg\nphotos/0.png\n")
    assert code == 1 and paths(out.splitlines()) == ["photos/2.png", "photos/0.png"]
    assert "error: missing.jpg: cannot be opened: No such file or directory" in err
    assert "predict: 0 pictures\n" in err  # nobody knows how many there will be


def test_names_of_every_kind(place, weights):
    """Names with line ends and bytes that are no UTF-8 are printed so that they can be told apart, and come back from JSON."""
    odd = [b"photos/line\nend.png", b"photos/byte\xff.png", b"photos/\x1b[31mred.png"]
    for name in odd:
        Path(os.fsdecode(name)).write_bytes(JPEG)
    with process(weights, *odd) as plain, process(weights, *odd, "--jsonl") as lines, process(weights, *odd, "--csv") as table:
        text, said = plain.communicate()
        assert b"photos/line\\nend.png\n" in text and b"photos/byte\xff.png\n" in text and b"photos/\\x1b[31mred.png\n" in text
        assert b"Traceback" not in said and plain.returncode == 0
        assert [os.fsencode(path) for path in paths(lines.communicate()[0].decode().splitlines())] == odd
        rows = list(csv.reader(io.StringIO(table.communicate()[0].decode("utf-8", "surrogateescape"), newline="")))
        assert [os.fsencode(row[0]) for row in rows[1::4]] == odd


def test_printable():
    """Control characters of both ranges are written as escapes; letters of all scripts stay."""
    assert printable("a\r\n\x00\x7f\x9b é猫") == "a\\r\\n\\x00\\x7f\\x9b é猫"


def test_hundreds_of_pictures_and_a_closed_pipe(place, weights):
    """Of hundreds of pictures the first answer is there before the end, and who closes the pipe ends it without a word."""
    for index in range(400):
        (place / "photos" / f"many{index:03}.jpg").write_bytes(JPEG)
    with process(weights, "photos", "--jsonl", "--batch-size", "8", "--quiet") as running:
        assert running.stdout and running.stderr
        assert json.loads(running.stdout.readline())["path"] == "photos/0.png"
        assert running.poll() is None
        running.stdout.close()
        assert running.stderr.read() == b""
    code = CliRunner().invoke(app, ["predict", "photos", "--weights", str(weights), "--crops", "1", "--jsonl"])
    assert code.exit_code == 0 and len(paths(code.stdout.splitlines())) == 403


def test_ctrl_c_ends_with_130_behind_whole_answers(place, weights):
    """Ctrl-C ends with 130; what was printed by then is a whole JSON document."""
    names = "\n".join(["photos/0.png"] * 100_000)
    (place / "list").write_text(names)
    with process(weights, "--files-from", "list", "--json", "--batch-size", "4") as running:
        assert running.stdout and running.stderr
        beginning = running.stdout.read(100)
        time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        rest, said = running.communicate(timeout=60)
        assert running.returncode == 130 and said.splitlines()[-1] == b"error: interrupted"
        assert 0 < len(json.loads(beginning + rest)) < 100_000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_it_while_a_pipe_says_nothing(number, code, place, weights):
    """A pipe into which nobody writes holds up neither the answer before it nor the end, and no other error is told."""
    os.mkfifo(place / "pipe.jpg")
    with process(weights, "photos/0.png", "pipe.jpg", "photos/1.png", "--json", "--quiet") as running:
        assert running.stdout and running.stderr
        beginning = running.stdout.read(100)
        running.send_signal(number)
        rest, said = running.communicate(timeout=10)
        assert running.returncode == code and b"Traceback" not in said and b"Fatal" not in said
        assert [one["path"] for one in json.loads(beginning + rest)] == ["photos/0.png"]


def test_program_that_waits_for_answers(place, weights):
    """Who writes names into --files-from - gets their answers before the next ones are written; Ctrl-C ends it in between."""
    options = ("--files-from", "-", "--jsonl", "--quiet")
    with process(weights, *options, stdin=subprocess.PIPE) as running:
        assert running.stdin and running.stdout
        for names in (["photos/0.png"], ["photos/2.png", "photos/1.png"]):
            running.stdin.write("".join(f"{name}\n" for name in names).encode())
            assert [json.loads(running.stdout.readline())["path"] for _ in names] == names
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=10) == 130
        assert running.stderr and running.stderr.read() == b"error: interrupted\n"


def test_truth_from_folders(predict, place):
    """--truth folder names the class after which a picture's folder is named, by id or words, with its probability."""
    for folder in ("n02", "tench", "other"):
        (place / folder).mkdir()
        (place / folder / "0.png").write_bytes((place / "photos" / "0.png").read_bytes())
    _, out, _ = predict("n02", "tench", "other", "--truth", "folder", "--jsonl", "--top", "4")
    answers = [json.loads(line) for line in out.splitlines()]
    by_class = {one["class"]: one for one in answers[0]["predictions"]}
    assert [answer.get("truth") for answer in answers] == [by_class["n02"], by_class["n04"], None]
    (place / "here.png").write_bytes((place / "photos" / "0.png").read_bytes())
    assert "truth" not in json.loads(predict("here.png", "--truth", "folder", "--jsonl")[1])  # nor the class without words
    _, out, _ = predict("n02", "--truth", "folder", "--top", "1")
    assert out.splitlines()[-1].startswith("  truth: ") and out.splitlines()[-1].endswith(" %  dog  (n02)")


def test_prepared_pictures(predict, place):
    """--data takes a split of a store, its keys or names for names, its labels for the truth."""
    write_store(place / "data" / "val", random_images(3), [2, -1, 0], CLASSES)
    code, out, _ = predict("--data", "data", "--split", "val", "--jsonl")
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [answer["path"] for answer in answers] == ["00000000", "00000001", "00000002"]
    assert [answer["truth"]["class"] if "truth" in answer else None for answer in answers] == ["n03", None, "n01"]
    code, out, err = predict("--data", "data")
    assert (code, out) == (1, "") and "data has no split test, only val" in err
    write_store(place / "data" / "test", [bytes(32 * 32 * 3)], [-1], CLASSES, size=32)
    code, out, err = predict("--data", "data")
    assert (code, out) == (1, "") and "data/test has pictures of 32x32, recipe tiny expects 256x256" in err


def test_store_of_the_same_classes_by_name(predict, place):
    """A store's classes are those of the weights by their name too, where the ids differ."""
    write_store(place / "data" / "val", random_images(2), [0, 1], ("tench", "unknown"))
    code, out, err = predict("--data", "data", "--split", "val", "--jsonl")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 0 and first["truth"]["class"] == "n04" and "truth" not in second
    assert "--resize" not in err


def test_store_that_was_prepared_otherwise(predict, place):
    """A store whose pictures became squares in another way than the network's is answered with a warning that names both."""
    write_store(place / "data" / "val", random_images(1), [0], CLASSES, resize="warp")
    code, out, err = predict("--data", "data", "--split", "val", "--jsonl", "--quiet")
    assert code == 0 and len(out.splitlines()) == 1
    assert "warning: data/val was prepared with --resize warp, recipe tiny expects short-side" in " ".join(err.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["x.jpg", "--data", "data"],
        ["x.jpg", "--json", "--csv"],
        ["-", "--files-from", "-"],
        ["x.jpg", "--panel", "x.gif"],
        ["x.jpg", "--submission", "s.txt"],
        ["x.jpg", "--devkit", "kit"],
        ["x.jpg", "--submission", "s.txt", "--devkit", "kit", "--json"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant(predict, arguments):
    """Options that contradict each other are wrong usage."""
    code, out, err = predict(*arguments)
    assert (code, out) == (2, "") and "Error: " in err
