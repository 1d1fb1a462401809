from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core import images
from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.images import decode, decode_record, encode_jpeg, square
from alexnet_cli.core.jpeg import REDUCTIONS, decode_plain, plain_size, read_jpeg
from tests.pictures import photo, saved


def by_pillow(content: bytes) -> np.ndarray:
    """Decode by Pillow alone."""
    return np.array(Image.open(BytesIO(content)))


def refuse(*_: object) -> None:
    """Fail where the faster way is taken."""
    raise AssertionError


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:2"}, {"quality": 30}]
)
@pytest.mark.parametrize("size", [(500, 375), (61, 83), (8, 8), (1, 1)])
def test_same_bits_as_pillow(size, options):
    """A plain JPEG file, baseline or progressive, of any sampling, decodes to the bits that Pillow makes of it."""
    content = saved(photo(*size), "JPEG", **options)
    sides = plain_size(content)
    assert sides == (size[1], size[0])
    image = decode_plain(content, sides)
    assert image is not None
    np.testing.assert_array_equal(image, by_pillow(content))
    assert image.flags.writeable


@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_decodes_into_given_memory(wrap):
    """A picture is decoded where it is asked for, from bytes or a view of them, and to nowhere that is too small."""
    content = saved(photo(61, 83), "JPEG", quality=95)
    rows = np.zeros((3, 83, 61, 3), np.uint8)
    assert decode_plain(wrap(content), (83, 61), into=rows[1]) is not None
    np.testing.assert_array_equal(rows[1], by_pillow(content))
    assert not rows[0].any() and not rows[2].any()
    assert decode_plain(wrap(content), (83, 61), into=rows[1, :40]) is None
    assert not rows[2].any()


@pytest.mark.parametrize("quality", [50, 95, 100])
def test_record_has_the_same_bits_as_by_pillow(quality):
    """A stored picture is read to the bits of Pillow, so the mean is that of the pictures which other programs see."""
    for seed in range(5):
        record = encode_jpeg(np.asarray(photo(256, 256, seed)), quality)
        np.testing.assert_array_equal(decode_record(record, "jpeg"), by_pillow(record))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [(1000, 800), (1003, 801)])
def test_reduced(size, reduction):
    """A reduced picture has its sides divided and rounded up, and is close to means over squares of the whole one."""
    content = saved(photo(*size), "JPEG", quality=95)
    reduced = decode_plain(content, (size[1], size[0]), reduction)
    assert reduced is not None
    assert reduced.shape == (-(-size[1] // reduction), -(-size[0] // reduction), 3)
    means = np.asarray(Image.fromarray(by_pillow(content)).reduce(reduction), float)
    assert np.abs(reduced - means).mean() < 1


@pytest.mark.parametrize(
    "content",
    [
        saved(photo(300, 300).convert("L"), "JPEG"),
        saved(photo(300, 300).convert("CMYK"), "JPEG"),
        saved(photo(300, 300), "PNG"),
        saved(photo(300, 300).quantize(16), "GIF"),
        b"\xff\xd8\xff no picture",
        b"",
    ],
    ids=["grey", "CMYK", "PNG", "palette", "only its beginning", "empty"],
)
def test_others_are_left_to_pillow(content, tmp_path):
    """What is no JPEG file of three colours is not plain, from bytes and from a file whatever its name."""
    (tmp_path / "picture.JPEG").write_bytes(content)
    for source in (content, tmp_path / "picture.JPEG"):
        found = read_jpeg(source)
        assert found is None or plain_size(found) is None


def test_odd_pictures_are_pillows(monkeypatch):
    """A grey, a four-ink and a damaged JPEG file give the pixels and the message of Pillow's decoder and scaling."""
    monkeypatch.setattr(images, "scale_array", refuse)
    for mode in ("L", "CMYK"):
        content = saved(photo(400, 300).convert(mode), "JPEG")
        assert square(content).shape == (256, 256, 3)
    with pytest.raises(ImageError, match="damaged or cut short: image file is truncated"):
        square(saved(photo(400, 300), "JPEG")[:-2000])


def test_missing_file_is_not_plain(tmp_path):
    """A file that is not there, or is a folder, is left to Pillow, whose message says so."""
    assert read_jpeg(tmp_path) is None
    assert read_jpeg(tmp_path / "absent.jpg") is None


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_cut_short(options):
    """Wherever a JPEG file is cut, but for its last mark, it is rejected; never are the missing rows filled with grey."""
    whole = saved(photo(300, 260), "JPEG", **options)
    for length in (*range(4, len(whole) - 2, len(whole) // 40), len(whole) - 20):
        assert decode_plain(whole[:length], (260, 300)) is None
        with pytest.raises(ImageError, match=r"damaged or cut short|not a picture"):
            square(whole[:length])


def test_damaged_inside():
    """A file with damage inside is Pillow's to judge: either both reject it, or both give Pillow's pixels, scaled."""
    whole = bytearray(saved(photo(400, 300), "JPEG"))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = bytes(40)
    assert decode_plain(bytes(whole), (300, 400)) is None
    try:
        theirs = decode(bytes(whole))
    except ImageError:
        with pytest.raises(ImageError):
            square(bytes(whole))
    else:
        np.testing.assert_array_equal(square(bytes(whole)), square(Image.fromarray(theirs)))


def test_no_file_is_read_whole_that_is_too_large(tmp_path, monkeypatch):
    """A file that begins like a picture but is larger than any is left to Pillow, which reads no more of it than it needs."""
    content = saved(photo(40, 30), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_jpeg(tmp_path / "a.jpg") == content
    monkeypatch.setattr("alexnet_cli.core.jpeg.LARGEST_PICTURE", len(content) - 1)
    assert read_jpeg(tmp_path / "a.jpg") is None
    assert square(tmp_path / "a.jpg").shape == (256, 256, 3)
