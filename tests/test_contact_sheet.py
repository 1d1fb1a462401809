from pathlib import Path

import numpy as np
import pytest

from alexnet_cli.core.contact_sheet import draw_contact_sheet
from alexnet_cli.core.errors import StoreError
from alexnet_cli.core.store import Store
from tests.stores import change, random_images, write_store

GAP, SIDE, CAPTION = 8, 128, 20  # pixels around a picture, of it, and of the name below it
COLUMNS = 8
IMAGES = random_images(45)


def write(folder: Path, count: int, words: str = "cat", label: int = 0) -> Store:
    """Write so many pictures of noise, all of one class with this name."""
    return write_store(folder, IMAGES[:count], [label] * count, ["n01"], words=[words])


def draw(store: Store, **arguments: int) -> np.ndarray:
    """Draw a sheet, as pixels."""
    return np.asarray(draw_contact_sheet(store, **arguments))


def corner(place: int) -> tuple[int, int]:
    """Return where a picture begins: row and column of pixels."""
    row, column = divmod(place, COLUMNS)
    return GAP + row * (SIDE + CAPTION + GAP), GAP + column * (SIDE + GAP)


def picture(sheet: np.ndarray, place: int) -> np.ndarray:
    """Cut out a picture."""
    top, left = corner(place)
    return sheet[top : top + SIDE, left : left + SIDE]


def caption(sheet: np.ndarray, place: int) -> np.ndarray:
    """Cut out the strip below a picture."""
    top, left = corner(place)
    return sheet[top + SIDE : top + SIDE + CAPTION, left : left + SIDE]


def halved(image: np.ndarray) -> np.ndarray:
    """The definition: the mean of each four pixels."""
    return image.reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3))


HALVED = [halved(image) for image in IMAGES]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of 45 pictures of noise."""
    return write(tmp_path_factory.mktemp("sheet") / "train", 45)


def test_forty_different_pictures(store):
    """Five rows of eight pictures are each the half of another record; between and around them is white paper."""
    sheet = draw(store)
    assert sheet.shape == (5 * (SIDE + CAPTION + GAP) + GAP, 8 * (SIDE + GAP) + GAP, 3)
    found = set()
    for place in range(40):
        distances = [np.abs(picture(sheet, place) - half).max() for half in HALVED]
        assert min(distances) <= 0.5
        found.add(int(np.argmin(distances)))
    assert len(found) == 40
    paper = sheet.copy()
    for place in range(40):
        picture(paper, place)[:] = caption(paper, place)[:] = 255
    assert (paper == 255).all()


def test_choice_follows_the_seed(store):
    """The same seed draws the same sheet, another seed another one."""
    assert np.array_equal(draw(store, seed=1), draw(store, seed=1))
    assert not np.array_equal(draw(store, seed=1), draw(store, seed=2))


def test_few_records(tmp_path):
    """Three records are one row of three."""
    assert draw(write(tmp_path / "train", 3)).shape == (SIDE + CAPTION + 2 * GAP, 3 * (SIDE + GAP) + GAP, 3)


def test_first_name_stands_below(tmp_path):
    """Below each picture stands the first of its class's names, dark on white; the others do not matter."""
    sheets = [draw(write(tmp_path / f"{n}/train", 1, words)) for n, words in enumerate(("tench, Tinca tinca", "tench", "trench"))]
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(caption(sheets[1], 0), caption(sheets[2], 0))
    assert caption(sheets[0], 0).min() < 64 and caption(sheets[0], 0)[0].min() == 255


def test_each_picture_has_its_own_class(tmp_path):
    """The name below a picture is that of its own label."""
    store = write_store(tmp_path / "train", IMAGES[:2], [1, 0], ["n01", "n02"], words=["cat", "dog"])
    names = [caption(draw(write(tmp_path / f"{words}/train", 1, words)), 0) for words in ("dog", "cat")]
    sheet = draw(store)
    for place in range(2):
        index = int(np.argmin([np.abs(picture(sheet, place) - half).max() for half in HALVED[:2]]))
        assert np.array_equal(caption(sheet, place), names[index])


def test_long_name_is_cut(tmp_path):
    """A name wider than its picture is cut with three dots, and does not run into the gaps."""
    sheet = draw(write(tmp_path / "long/train", 1, "soft-coated wheaten terrier of the best kind"))
    assert (sheet[GAP + SIDE :, :GAP] == 255).all() and (sheet[GAP + SIDE :, -GAP:] == 255).all()
    dark = np.flatnonzero((caption(sheet, 0) < 128).any(axis=(0, 2)))
    assert dark[0] < 8 and dark[-1] >= SIDE - 12
    assert not (caption(sheet, 0)[:12, dark[-1] - 1] < 128).any()  # the last sign is a dot: nothing dark above it


@pytest.mark.parametrize(("label", "words"), [(-1, "no label"), (7, "label 7")])
def test_no_class(tmp_path, label, words):
    """A picture without a label, or with a damaged one, says so."""
    assert np.array_equal(draw(write(tmp_path / "a/train", 1, label=label)), draw(write(tmp_path / "b/train", 1, words)))


@pytest.mark.parametrize(
    ("words", "drawn"),
    [("two\nlines", "two lines"), ("crème brûlée", "creme brulee"), ("Łódź", "?odz"), ("猫", "class 0"), ("", "class 0")],
)
def test_odd_names(tmp_path, words, drawn):
    """A name is written in one line in the letters that the font has, or gives way to the number of the class."""
    assert np.array_equal(draw(write(tmp_path / "odd/train", 1, words)), draw(write(tmp_path / "plain/train", 1, drawn)))


def test_damaged_record(tmp_path):
    """A record that cannot be drawn is an error that names it."""
    folder = write(tmp_path / "train", 2).folder
    change(folder, b"00000001", b"short")
    with pytest.raises(StoreError, match=f"record 1 in {folder} is damaged"):
        draw_contact_sheet(Store(folder))
