import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.inputs import Inputs, StoredPictures, find_pictures, given
from alexnet_cli.core.store import open_store
from tests.pictures import CLASSES, photo, prepared, saved
from tests.stores import random_images, write_store

JPEG = saved(photo(20, 10), "JPEG")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with pictures, some without an ending, and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "deep/er/c.webp", "deep/x.jpg/d.bmp", "no ending", ".hidden.jpg", ".hid/e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG)
    (tmp_path / "photos" / "note.txt").write_text("BM and II are no pictures")
    (tmp_path / "photos" / "empty").mkdir()
    (tmp_path / "photos" / "loop").symlink_to(tmp_path / "photos")
    return tmp_path


def names(source: str) -> list[str]:
    """Return the names of what a source gives."""
    return [one.name for one in find_pictures(source)]


def reason(source: str) -> str:
    """Return why the one input of a source cannot be read."""
    (one,) = find_pictures(source)
    with pytest.raises(ImageError) as raised:
        one.place.read()
    return raised.value.message


def test_folder_is_walked_in_order(place):
    """A folder gives its pictures, by ending or content, sorted at each level, without hidden ones and links to folders."""
    expected = ["a.PNG", "b.jpg", "deep/er/c.webp", "deep/x.jpg/d.bmp", "no ending"]
    assert names("photos") == [f"photos/{name}" for name in expected]
    assert names("photos/") == [f"photos/{name}" for name in expected]


def test_patterns(place):
    """A pattern gives what it fits, sorted, once; folders that fit are walked; a file of that very name goes first."""
    assert names("photos/*.[jP]*") == ["photos/a.PNG", "photos/b.jpg"]
    assert names("photos/**") == [*names("photos")[:-1], "photos/no ending", "photos/note.txt"]
    assert names(f"{place}/photos/*/er/*") == [f"{place}/photos/deep/er/c.webp"]
    assert names("photos/.h*") == ["photos/.hid/e.jpg", "photos/.hidden.jpg"]
    assert names("photos/**/*.bmp") == ["photos/deep/x.jpg/d.bmp"]
    assert names("photos/de*") == ["photos/deep/er/c.webp", "photos/deep/x.jpg/d.bmp"]
    (place / "a[1].jpg").write_bytes(JPEG)
    assert names("a[1].jpg") == ["a[1].jpg"]


@pytest.mark.parametrize("before", ["", "./", "../here/", "{place}/", "../here/.kept/../", "{place}/.kept/"])
def test_wildcards_stand_for_no_hidden_name(before, place, monkeypatch):
    """Wherever a pattern begins, also in a hidden folder that it names, its wildcards find no hidden file or folder."""
    (place / "here" / ".kept").mkdir(parents=True)
    for folder in (place / "here", place / ".kept"):
        shutil.copytree(place / "photos", folder / "photos", symlinks=True)
    monkeypatch.chdir(place / "here")
    before = before.format(place=place)
    found = [name.rpartition("photos/")[2] for name in names(f"{before}photos/**/*.[jw]*")]
    assert found == ["b.jpg", "deep/er/c.webp"]
    assert [name.rpartition("photos/")[2] for name in names(f"{before}photos/.h*/*.jpg")] == [".hid/e.jpg"]
    assert [name.rpartition("photos/")[2] for name in names(f"{before}photos/**/.hid*.jpg")] == [".hidden.jpg"]


def test_sources_that_give_nothing_say_so(place):
    """An empty folder and a pattern that fits nothing are named with the reason; a missing file is left to the reader."""
    assert reason("photos/empty") == "no picture in this folder"
    assert reason("photos/*.tiff") == "no file has a name like this"
    assert reason("a\0b.jpg") == "a zero byte cannot be in a file's name"
    assert names("missing.jpg") == ["missing.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every folder")
def test_unreadable_folder(place):
    """A folder that may not be opened is named."""
    (place / "photos" / "empty").chmod(0)
    assert reason("photos/empty") == "cannot be opened: Permission denied"
    (place / "photos" / "empty").chmod(0o700)


def test_list_of_files(place):
    """A list gives one file, folder or address a line, whatever its line ends, also without a last one; it is no pattern."""
    (place / "list.txt").write_bytes(b"photos/b.jpg\r\n\nphotos/deep\nmissing*.jpg\nhttp://localhost/x.jpg")
    inputs = Inputs(listed="list.txt")
    expected = ["photos/b.jpg", "photos/deep/er/c.webp", "photos/deep/x.jpg/d.bmp", "missing*.jpg", "http://localhost/x.jpg"]
    assert [one.name for one in inputs] == expected
    assert inputs.count() == 5


def test_list_with_zero_bytes(place):
    """Names with line ends and bytes that are no UTF-8 survive in a list whose names end with zero bytes."""
    odd = os.fsdecode(b"photos/line\nend \xff.jpg")
    Path(odd).write_bytes(JPEG)
    (place / "list").write_bytes(os.fsencode(odd) + b"\0photos/b.jpg\0")
    assert [one.name for one in Inputs(listed="list", null=True)] == [odd, "photos/b.jpg"]
    assert odd in names("photos")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "the list names no picture"), (None, "the list cannot be opened: No such file")]
)
def test_bad_lists(content, said, tmp_path):
    """An empty or missing list is named."""
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    (one,) = Inputs(listed=str(tmp_path / "list"))
    with pytest.raises(ImageError, match=said):
        one.place.read()


def test_list_is_a_stream(tmp_path):
    """Names are given while a list is still being written: the first comes before the second is there."""
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin, open(writing, "wb", buffering=0) as out:
        out.write(b"one.jpg\n")
        inputs = Inputs(listed="-", stdin=stdin)
        assert inputs.count() is None
        iterator = iter(inputs)
        assert next(iterator).name == "one.jpg"
        out.write(b"two.jpg")
        out.close()
        assert [one.name for one in iterator] == ["two.jpg"]
        assert not stdin.closed


def test_stdin_is_read_when_it_is_looked_at():
    """A dash is the picture on standard input; counting does not use it up."""
    inputs = Inputs(("-",), stdin=io.BytesIO(JPEG))
    assert inputs.count() == 1
    (one,) = inputs
    assert (one.name, one.place.read()) == ("-", JPEG)


def test_pipe_is_read_once(tmp_path):
    """A pipe with a name, as a shell's <(command) makes, is read to its end."""
    os.mkfifo(tmp_path / "pipe")
    (one,) = find_pictures(str(tmp_path / "pipe"))
    if os.fork() == 0:
        (tmp_path / "pipe").write_bytes(JPEG)
        os._exit(0)
    assert one.place.read() == JPEG
    os.wait()


def test_endless_device_is_given_up(monkeypatch):
    """What has no end is refused at the limit."""
    monkeypatch.setattr("alexnet_cli.core.input_places.LARGEST_PICTURE", 1000)
    assert reason("/dev/zero") == "too large: more than 1,000 bytes"


def test_pictures_of_python(tmp_path):
    """Paths, bytes, Pillow's pictures and arrays are given, one alone too; those without a name are called by their place."""
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with Image.open(tmp_path / "a.jpg") as opened:
        pictures = [tmp_path / "a.jpg", JPEG, photo(9, 9), np.zeros((4, 5, 3), np.uint8), opened, np.zeros((4, 5), np.uint8)]
        assert [one.name for one in given(pictures)] == [
            str(tmp_path / "a.jpg"),
            "[1]",
            "[2]",
            "[3]",
            str(tmp_path / "a.jpg"),
            "[5]",
        ]
    (alone,) = given(JPEG)
    assert alone.place.read() == JPEG


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8), 7])
def test_other_things_are_no_pictures(pixels):
    """Arrays of another type or shape, and other objects, are refused with what was expected."""
    (one,) = given([pixels])
    with pytest.raises(ImageError, match="expected"):
        one.place.read()


def test_store_gives_its_pictures_and_classes(tmp_path):
    """A store's pictures come in stored order, as they are, with their class where it is known, under their keys."""
    images = random_images(2)
    inputs = StoredPictures(write_store(tmp_path / "val", images, [1, -1], ("cat", "dog")))
    assert len(inputs) == 2
    assert [(one.name, one.truth) for one in inputs] == [("00000000", "dog"), ("00000001", None)]
    for one, image in zip(inputs, images, strict=True):
        np.testing.assert_array_equal(np.asarray(one.place.read()), image)


def test_store_gives_the_names_that_it_keeps(tmp_path):
    """Pictures of a store that `prepare` made are called as in its source, each with its own class, whatever their order."""
    inputs = list(StoredPictures(open_store(prepared(tmp_path, CLASSES), "train")))
    expected = sorted(path.relative_to(tmp_path / "source").as_posix() for path in (tmp_path / "source" / "train").rglob("*.jpg"))
    assert sorted(one.name for one in inputs) == expected
    assert all(one.truth == one.name.split("/")[1] for one in inputs)
