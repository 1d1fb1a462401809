"""Pictures of many tiles: where each lies, worked by hand, that none is blended, and what a file holds."""

import base64
import re
import struct
import zlib
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core.errors import AlexNetError
from alexnet_cli.core.mosaic import columns_for, draw_mosaic, save_mosaic


def tiles(count: int, height: int = 2, width: int = 3, *, first: int = 1) -> list[np.ndarray]:
    """Return tiles of one red each, first, first + 1, ..., which no grey letter has."""
    return [np.full((height, width, 3), (first + index, 0, 0), dtype=np.uint8) for index in range(count)]


def where(picture: Image.Image, red: int) -> tuple[slice, slice]:
    """Return where a picture has the tile of that red, which is whole and once."""
    pixels = np.asarray(picture)
    ys, xs = np.nonzero((pixels[..., 0] == red) & (pixels[..., 1] == 0))
    place = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
    assert len(ys) == (place[0].stop - place[0].start) * (place[1].stop - place[1].start)
    return place


def has_letters(pixels: np.ndarray) -> bool:
    """Say whether a part of a picture has something as light as a letter."""
    return bool(pixels.size and pixels[..., 1].max() > 200)


def small(picture: Image.Image, times: int) -> np.ndarray:
    """Undo the enlargement, check that it only repeated pixels, and return one channel."""
    pixels = np.asarray(picture)
    reduced = pixels[::times, ::times]
    assert np.array_equal(reduced.repeat(times, axis=0).repeat(times, axis=1), pixels)
    return reduced[..., 0]


def test_by_hand():
    """Three tiles of 1x2 in rows of two, and a block of one below: a black pixel around each, three between the blocks."""
    picture = draw_mosaic([tiles(3, 1, 2), tiles(1, 1, 2, first=7)], columns=2, scale=1)
    assert small(picture, 1).tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 3, 3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [0, 7, 7, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_gaps_are_a_choice():
    """Without a gap tiles touch; the blocks' gap is what it is told to be, also with a wider one between tiles."""
    assert small(draw_mosaic([tiles(2, 1, 1), tiles(2, 1, 1, first=5)], gap=0, block_gap=1, scale=1), 1).tolist() == [
        [1, 2],
        [0, 0],
        [5, 6],
    ]
    wide = small(draw_mosaic([tiles(1, 1, 1), tiles(1, 1, 1, first=5)], gap=2, block_gap=5, scale=1), 1)
    assert wide[:, 2].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0]


@pytest.mark.parametrize(("side", "count", "times"), [(11, 96, 6), (3, 4, 59), (224, 3, 2), (1200, 1, 1)])
def test_enlarged_to_a_thousand_pixels(side, count, times):
    """The scale is the smallest whole number that makes it 1,000 pixels wide: 193 six times, 17 x 59, 676 twice, 1,202 once."""
    picture = draw_mosaic([tiles(count, side, side)])
    columns = min(16, count)
    assert picture.size[0] == (columns * (side + 1) + 1) * times >= 1000
    small(picture, times)


def test_colours_are_kept():
    """A tile of three colours is drawn in them, in their order."""
    tile = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    assert np.array_equal(np.asarray(draw_mosaic([[tile]], scale=1))[1:2, 1:4], tile)


def test_an_empty_block_takes_no_room():
    """A tower of which nothing is shown leaves no gap behind, and its texts go with it."""
    expected = draw_mosaic([tiles(2)], labels=[["x", "y"]], titles=["b"])
    assert draw_mosaic([[], tiles(2)], labels=[[], ["x", "y"]], titles=["a", "b"]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("scale", [1, 2, 9, None])
def test_labels_leave_the_tiles_alone(scale):
    """With labels every tile is as large as without, below its own label only; no letter is cut off or too small to be read."""
    labels = ["3", "17 sneaker", ""]
    side = 11 * (draw_mosaic([tiles(3, 11, 11)], scale=scale).size[0] // 37)
    picture = draw_mosaic([tiles(3, 11, 11)], scale=scale, labels=[labels])
    pixels = np.asarray(picture)
    for red, label in zip((1, 2, 3), labels, strict=True):
        rows, columns = where(picture, red)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (side, side)
        assert has_letters(pixels[rows.stop :, columns]) == bool(label)
    letters = np.nonzero(pixels[..., 1] > 60)
    assert letters[0].min() > rows.stop and letters[0].max() < len(pixels) - 1 and np.ptp(letters[0]) >= 7
    assert letters[1].min() > 0 and letters[1].max() < pixels.shape[1] - 1


def test_labels_do_not_run_into_each_other():
    """Tiles narrower than their labels stand further apart, and half-way between two of them is black."""
    picture = draw_mosaic([tiles(6, 3, 3)], scale=1, labels=[["mmmmmm"] * 6])
    middles = [where(picture, red)[1].start + 1 for red in range(1, 7)]
    pitch = middles[1] - middles[0]
    assert np.array_equal(np.diff(middles), [pitch] * 5) and pitch > 30
    pixels = np.asarray(picture)
    for middle in middles:
        assert has_letters(pixels[:, middle - 8 : middle + 8])
    for left, right in pairwise(middles):
        assert pixels[:, (left + right) // 2 - 1 : (left + right) // 2 + 2].max() == 0


def test_titles_and_row_names():
    """A title stands above its block and a name left of each row; the tiles have the size and the distances that they had."""
    blocks = [tiles(4, 11, 11), tiles(4, 11, 11, first=11)]
    picture = draw_mosaic(blocks, columns=2, scale=4, titles=["tower a", "tower b"], row_names=[["0", "1"], ["2", "3"]])
    pixels, places = np.asarray(picture), {red: where(picture, red) for red in (1, 2, 3, 4, 11, 12, 13, 14)}
    for rows, columns in places.values():
        assert (rows.stop - rows.start, columns.stop - columns.start) == (44, 44)
    for block in (1, 11):
        (top, left), (_, right), (below, _) = (
            (rows.start, columns.start) for rows, columns in list(places.values())[4 * (block // 11) :][:3]
        )
        assert (right - left, below - top) == (48, 48)
        assert has_letters(pixels[top : top + 44, :left]) and has_letters(pixels[below : below + 44, :left])
    assert has_letters(pixels[: places[1][0].start])
    assert has_letters(pixels[places[4][0].stop : places[11][0].start])


def test_a_title_wider_than_its_tiles_is_whole():
    """Over a few small tiles the picture is as wide as the title needs, and ends in black."""
    pixels = np.asarray(draw_mosaic([tiles(1, 3, 3)], scale=1, titles=["tower a"]))[..., 1]
    assert has_letters(pixels[:, 30:, None].repeat(3, axis=2)) and pixels[:, -1].max() < 128


@pytest.mark.parametrize(
    ("counts", "columns"),
    [([1], 1), ([2], 2), ([10], 5), ([8, 8], 8), ([16], 8), ([13], 7), ([12, 0], 6), ([3, 1], 3), ([1, 2], 2), ([200], 20)],
)
def test_columns_for_a_wide_picture(counts, columns):
    """Ten tiles are two rows of five, two towers' eight a row each; 13 leave one place empty in rows of seven, not two of five."""
    assert columns_for(counts) == columns


def groups(pattern: bytes, content: bytes) -> tuple[bytes, ...]:
    """Return the parts that a pattern, which must occur, finds."""
    match = re.search(pattern, content, re.S)
    assert match
    return match.groups()


def saved_pixels(path: Path) -> np.ndarray:
    """Return the pixels in a PNG, SVG or PDF file, without a renderer: a PDF's rows are packed as a PNG's are."""
    content, way = path.read_bytes(), 1
    if path.suffix == ".svg":
        content = base64.b64decode(groups(rb'xlink:href="data:image/png;base64,\s*([^"]+)"', content)[0])
    elif path.suffix == ".pdf":
        head, rows = groups(rb"(<< /Type /XObject /Subtype /Image .*?)stream\r?\n(.*?)\r?\nendstream", content)
        width, height = map(int, groups(rb"/Width (\d+) /Height (\d+)", head))
        assert b"/FlateDecode" in head and b"/Colors 3" in head
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
        body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
        (drawing,) = groups(rb"/Filter /FlateDecode >>\s*stream\r?\n(.*?)\r?\nendstream", content)
        # The last row first, drawn upwards.
        way = -1 if re.search(rb"[\d.]+ 0 0 -[\d.]+ 0 [\d.]+ cm /I1 Do", zlib.decompress(drawing)) else 1
        content = b"\x89PNG\r\n\x1a\n" + body
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))[::way]


@pytest.mark.parametrize("name", ["m.png", "m.svg", "m.pdf", "m", "m.PNG"])
def test_files_hold_the_very_pixels(name, tmp_path):
    """Whatever the kind, the file has the picture's own pixels, and written again it has the same bytes."""
    if name.endswith("pdf"):
        pytest.importorskip("matplotlib")
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (11, 11, 3), dtype=np.uint8) for _ in range(20)]
    picture = draw_mosaic([noise], labels=[[str(place) for place in range(20)]])
    first, second = tmp_path / "new" / name, tmp_path / f"again-{name}"
    save_mosaic(picture, first)
    save_mosaic(picture, second)
    assert np.array_equal(saved_pixels(first), np.asarray(picture))
    assert first.read_bytes() == second.read_bytes()


def test_pixels_stay_sharp_in_viewers(tmp_path):
    """An SVG asks for its pixels to be repeated, unless letters would be ragged by it; a PDF does not ask for the contrary."""
    pytest.importorskip("matplotlib")
    for name in ("m.svg", "m.pdf"):
        save_mosaic(draw_mosaic([tiles(3)]), tmp_path / name)
    assert b"image-rendering:pixelated" in (tmp_path / "m.svg").read_bytes()
    save_mosaic(draw_mosaic([tiles(3)]), tmp_path / "soft.svg", sharp=False)
    assert b"image-rendering" not in (tmp_path / "soft.svg").read_bytes()
    assert b"/Interpolate true" not in (tmp_path / "m.pdf").read_bytes()


def test_an_svg_is_xml_of_one_picture(tmp_path):
    """It needs no other file and no matplotlib, and has one picture that fills it."""
    picture = draw_mosaic([tiles(3)])
    save_mosaic(picture, tmp_path / "m.svg")
    root = ElementTree.parse(tmp_path / "m.svg").getroot()
    (image,) = root
    assert (root.tag, image.tag) == ("{http://www.w3.org/2000/svg}svg", "{http://www.w3.org/2000/svg}image")
    size = [str(side) for side in picture.size]
    assert root.get("viewBox") == f"0 0 {' '.join(size)}" and [image.get("width"), image.get("height")] == size


def test_size_on_paper(tmp_path):
    """A wide picture is 5.5 inches wide, a tall one 9 inches high, whatever its kind."""
    pytest.importorskip("matplotlib")
    wide, tall = draw_mosaic([tiles(16, 3, 3)], scale=4), draw_mosaic([tiles(64, 3, 3)], columns=2, scale=4)
    for picture, inches in ((wide, (5.5, 5.5 / 65 * 5)), (tall, (9 / 129 * 9, 9))):
        for name in ("m.png", "m.svg", "m.pdf"):
            save_mosaic(picture, tmp_path / name)
        with Image.open(tmp_path / "m.png") as png:
            assert [pixels / dpi for pixels, dpi in zip(png.size, png.info["dpi"], strict=True)] == pytest.approx(inches, rel=1e-3)
        for name, pattern in (
            ("m.svg", rb'width="([\d.]+)pt" height="([\d.]+)pt"'),
            ("m.pdf", rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]"),
        ):
            points = [float(number) for number in groups(pattern, (tmp_path / name).read_bytes())]
            assert points == pytest.approx([72 * side for side in inches], rel=1e-3)


def test_a_place_that_cannot_be_written(tmp_path):
    """A folder in the way is named, and nothing is left beside it."""
    with pytest.raises(AlexNetError, match="cannot write"):
        save_mosaic(draw_mosaic([tiles(3)]), tmp_path)
    assert list(tmp_path.iterdir()) == []
