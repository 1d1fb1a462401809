"""The picture of patches: what stands where, and in what size, laid out by hand."""

from itertools import pairwise

import numpy as np
import pytest

from alexnet_cli.core.patch_picture import draw_patches
from alexnet_cli.core.patches import Patch, UnitPatches


def patch(pixels: np.ndarray, attribution: np.ndarray | None = None) -> Patch:
    """A patch of which only the pixels matter."""
    return Patch(1.0, "val", "00000000", "", "", (0, 0), range(1), range(1), pixels, attribution)


def flat(colour: tuple[int, int, int], size: int = 11) -> np.ndarray:
    """A square of one colour."""
    return np.full((size, size, 3), colour, np.uint8)


def unit(number: int, *, count: int = 9, size: int = 11, attributed: bool = True, name: str = "") -> UnitPatches:
    """A unit with patches of red 0, 10, 20, ... in order, its attributions as green, the number of the unit as blue."""
    patches = [
        patch(flat((10 * index, 0, number), size), flat((0, 10 * index, number), size) if attributed else None)
        for index in range(count)
    ]
    return UnitPatches(number, name, tuple(patches))


def runs(line: np.ndarray) -> list[tuple[tuple[int, ...], int]]:
    """Return the colours of a line of pixels in order, and how often each is repeated."""
    ends = [0, *(np.flatnonzero((line[1:] != line[:-1]).any(axis=1)) + 1).tolist(), len(line)]
    return [(tuple(line[first].tolist()), last - first) for first, last in pairwise(ends)]


WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)


def test_one_unit_from_left_to_right():
    """Attributions on the left and patches on the right, each three in a row between thin black lines, on white."""
    picture = np.asarray(draw_patches([unit(7)], labels=False))
    # 2,400 pixels are room for 2 * 3 patches and gaps of 0.08 and 0.3 of one: 376, of which 34 * 11 = 374 are used.
    side, halves, edge = 374, 30, 112
    square_top = edge + 2
    attributions = [(BLACK, 2), ((0, 0, 7), side), (BLACK, 2), ((0, 10, 7), side), (BLACK, 2), ((0, 20, 7), side), (BLACK, 2)]
    patches = [(BLACK, 2), ((0, 0, 7), side), (BLACK, 2), ((10, 0, 7), side), (BLACK, 2), ((20, 0, 7), side), (BLACK, 2)]
    assert runs(picture[square_top + 5]) == [(WHITE, edge), *attributions, (WHITE, halves), *patches, (WHITE, edge)]
    second_row = picture[square_top + side + 2]
    assert [colour for colour, _ in runs(second_row) if colour not in (WHITE, BLACK)] == [
        (0, 30, 7),
        (0, 40, 7),
        (0, 50, 7),
        (30, 0, 7),
        (40, 0, 7),
        (50, 0, 7),
    ]
    assert picture.shape[0] == 2 * edge + 3 * side + 4 * 2


def test_units_in_rows():
    """Units stand in rows, from left to right; without attributions there is one square of each."""
    picture = np.asarray(draw_patches([unit(number, attributed=False) for number in range(1, 6)], columns=3, labels=False))
    blues = [[colour[2] for colour, _ in runs(line)] for line in picture]
    seen = {tuple(dict.fromkeys(blue for blue in line if 0 < blue < 255)) for line in blues}
    assert seen - {()} == {(1, 2, 3), (4, 5)}
    assert (picture[-200:, -200:] == 255).all()  # the sixth place is empty


@pytest.mark.parametrize(
    ("count", "attributed", "rows", "columns"),
    [(1, True, 1, 1), (1, False, 1, 1), (2, True, 2, 1), (12, True, 4, 3), (16, True, 4, 4), (16, False, 4, 4), (12, False, 3, 4)],
)
def test_a_picture_wider_than_high(count, attributed, rows, columns):
    """How many units stand in a row makes a picture that is wider than high, but no more than about twice, without gaps."""
    units = [unit(number + 1, attributed=attributed, count=1) for number in range(count)]
    picture = np.asarray(draw_patches(units, labels=False))
    numbers = [[colour[2] for colour, _ in runs(line)] for line in picture]
    seen = [tuple(dict.fromkeys(blue for blue in line if 0 < blue < 255)) for line in numbers]
    found = list(dict.fromkeys(row for row in seen if row))
    assert (len(found), len(found[0])) == (rows, columns)


def test_small_patches_are_enlarged_by_repeating():
    """Each pixel of a small patch is a square of one colour, none blended."""
    pixels = np.random.default_rng(0).integers(0, 256, (11, 11, 3), dtype=np.uint8)
    picture = np.asarray(draw_patches([UnitPatches(0, "", (patch(pixels),))], labels=False))
    times = int(2400 / 1.3) // 11  # a gap is 0.3 of a side
    edge = round(0.3 * 11 * times) + 2
    shown = picture[edge : edge + 11 * times, edge : edge + 11 * times]
    assert np.array_equal(shown, pixels.repeat(times, axis=0).repeat(times, axis=1))


def test_large_patches_are_shrunk():
    """Patches that are larger than their room are made smaller smoothly: stripes of a pixel become their mean."""
    stripes = np.zeros((224, 224, 3), np.uint8)
    stripes[::2] = 200
    picture = np.asarray(draw_patches([UnitPatches(0, "", (patch(stripes),) * 9)] * 16, columns=16, labels=False))
    side = 48  # the least, though 16 units are then wider than the page
    edge = round(0.3 * side) + 2
    assert abs(int(picture[edge + side // 2, edge + side // 2, 0]) - 100) <= 12
    assert picture.shape[1] == 16 * (3 * (side + 2) + 2 + round(0.3 * side)) + round(0.3 * side)


def test_fewer_patches_leave_grey():
    """Where a store has fewer pictures than places, the places that are left are grey."""
    picture = np.asarray(draw_patches([unit(1, count=3, attributed=False)], labels=False))
    colours = {colour for line in picture for colour, length in runs(line) if length > 20}
    assert colours == {WHITE, BLACK, GREY, (0, 0, 1), (10, 0, 1), (20, 0, 1)}


def test_labels():
    """Above a unit stands its number, or its class's first name; the squares below stay as they are."""
    plain = np.asarray(draw_patches([unit(7)], labels=False))
    pictures = [
        np.asarray(draw_patches([one])) for one in (unit(7), unit(7, name="hat, cap"), unit(7, name="hat"), unit(7, name="bag"))
    ]
    line = pictures[0].shape[0] - plain.shape[0]
    assert 40 < line < 80  # of seven points, were the picture as wide as a page
    for picture in pictures:
        assert np.array_equal(picture[112 + line :], plain[112:])
        assert (picture[112 : 112 + line] < 128).any()
    assert np.array_equal(pictures[1], pictures[2])
    assert not np.array_equal(pictures[0], pictures[2]) and not np.array_equal(pictures[2], pictures[3])


def test_long_names_stay_in_their_place():
    """A name wider than its unit is cut: nothing is written between the units."""
    units = [unit(1, name="a very long name of a class", attributed=False)] * 24
    picture = np.asarray(draw_patches(units, columns=12))
    plain = np.asarray(draw_patches(units, columns=12, labels=False))
    gap = int(np.flatnonzero((plain != 255).any(axis=(0, 2)))[0])
    unit_width = (plain.shape[1] - gap) // 12
    for column in range(13):
        assert (picture[:, column * unit_width : column * unit_width + gap] == 255).all()
