import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision

from alexnet_cli.core.errors import ImageError
from alexnet_cli.core.images import decode, decode_record, encode_jpeg, square
from tests.pictures import photo, png, saved

RED = (200, 30, 60)
SIZES = [(500, 375), (375, 500), (400, 533), (123, 457), (40, 30), (1, 7), (700, 256), (255, 256), (3, 999), (900, 10)]


def resized_then_cut(picture: Image.Image) -> np.ndarray:
    """The definition, word for word: the whole picture to a shorter side of 256, then its central 256x256."""
    width, height = picture.size
    if width >= height:
        longer = int(width * 256 / height + 0.5)
        left = (longer - 256) // 2
        return np.asarray(picture.resize((longer, 256), Image.Resampling.BICUBIC))[:, left : left + 256]
    longer = int(height * 256 / width + 0.5)
    top = (longer - 256) // 2
    return np.asarray(picture.resize((256, longer), Image.Resampling.BICUBIC))[top : top + 256]


def bitmap(picture: Image.Image) -> bytes:
    """Return the picture as a lossless file."""
    return saved(picture, "PNG")


@pytest.mark.parametrize("size", SIZES)
def test_square_is_resize_then_crop(size):
    """Scaling only what is kept gives the pixels of scaling all and cutting, but for rounding."""
    picture = photo(*size)
    difference = np.abs(square(bitmap(picture)).astype(int) - resized_then_cut(picture))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.002


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (640, 480), (90, 60)])
def test_square_is_near_torchvision(size):
    """Torchvision's antialiased Resize(256) and CenterCrop(256), computed on a tensor, differ by rounding alone.

    It cuts the fraction of the longer side where we round, hence sizes whose fraction is below a half.
    """
    picture = photo(*size)
    tensor = torchvision.pil_to_tensor(picture)
    theirs = torchvision.center_crop(torchvision.resize(tensor, 256, InterpolationMode.BICUBIC, antialias=True), 256)
    difference = np.abs(square(bitmap(picture)).astype(int) - theirs.permute(1, 2, 0).numpy())
    assert difference.mean() < 0.6
    assert difference.max() <= 8


@pytest.mark.parametrize(("width", "left"), [(256, 0), (257, 0), (259, 1), (512, 128)])
def test_centre_is_cut_at_the_floor(width, left):
    """A picture of height 256 is not scaled, and its columns begin at floor((width - 256) / 2)."""
    picture = photo(width, 256)
    np.testing.assert_array_equal(square(bitmap(picture)), np.asarray(picture)[:, left : left + 256])


def test_warp_keeps_the_whole_picture():
    """Warping squeezes a half black, half white picture to one that is still half and half."""
    halves = np.zeros((64, 512, 3), np.uint8)
    halves[:, 256:] = 255
    warped = square(bitmap(Image.fromarray(halves)), resize="warp")
    assert warped.shape == (256, 256, 3)
    assert warped[:, :126].max() == 0
    assert warped[:, 130:].min() == 255


def test_other_sizes():
    """A square of another size follows the same rule."""
    picture = photo(300, 227)
    np.testing.assert_array_equal(square(bitmap(picture), size=227), np.asarray(picture)[:, 36:263])


def test_one_pixel():
    """A picture of one pixel becomes a square of its colour."""
    assert (square(bitmap(Image.new("RGB", (1, 1), RED))) == RED).all()


def test_strip_needs_little_memory():
    """A strip of 1x30000 pixels, whole 256x7680000 when scaled, fits into 1 GB of address space, as does its transpose."""
    code = """
        import resource, io, numpy as np
        from PIL import Image
        from alexnet_cli.core.images import square
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        for size in (1, 30000), (30000, 1):
            file = io.BytesIO()
            Image.new("RGB", size, (10, 20, 30)).save(file, "PNG")
            assert (square(file.getvalue()) == (10, 20, 30)).all()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env={"OPENBLAS_NUM_THREADS": "1"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(Image.new("L", (20, 20), 90), "JPEG", quality=100), (90, 90, 90)),
        (saved(Image.new("1", (20, 20), 1), "PNG"), (255, 255, 255)),
        (saved(Image.new("LA", (20, 20), (90, 128)), "PNG"), (90, 90, 90)),
        (saved(Image.new("RGBA", (20, 20), (*RED, 0)), "PNG"), RED),
        (saved(Image.new("RGB", (20, 20), RED).quantize(4), "PNG"), RED),
        (saved(Image.new("RGB", (20, 20), RED).quantize(4), "PNG", transparency=bytes([9, 200])), RED),
        (saved(Image.new("RGB", (20, 20), RED), "GIF"), RED),
        (saved(Image.new("RGB", (20, 20), RED), "WEBP", lossless=True), RED),
        (saved(Image.new("RGB", (20, 20), RED), "BMP"), RED),
        (saved(Image.new("CMYK", (20, 20), (55, 225, 195, 0)), "TIFF"), RED),
    ],
    ids=["grey", "one bit", "grey and alpha", "RGBA", "palette", "palette with alpha", "GIF", "WebP", "BMP", "CMYK TIFF"],
)
def test_kinds_of_colour(content, expected):
    """Every kind of pixel becomes RGB; what is transparent keeps its colour."""
    assert (decode(content) == expected).all()


def test_cmyk_jpeg():
    """A JPEG of four inks, whose values Adobe stores inverted, has the colours it was made from."""
    image = decode(saved(Image.new("CMYK", (32, 32), (55, 225, 195, 0)), "JPEG", quality=100))
    assert np.abs(image.astype(int) - RED).max() <= 3


def test_png_named_jpeg(tmp_path):
    """The content decides, not the name, as with the PNG named .JPEG in ImageNet."""
    picture = photo(20, 10)
    (tmp_path / "n02105855_2933.JPEG").write_bytes(bitmap(picture))
    np.testing.assert_array_equal(decode(tmp_path / "n02105855_2933.JPEG"), np.asarray(picture))


def test_sixteen_bits_are_scaled():
    """Of 16 bits the upper 8 remain, in PNG and in both byte orders of TIFF, where Pillow itself would clip at 255."""
    values = np.array([[0, 255, 256, 32768, 65279, 65280, 65535]], np.uint16)
    expected = [0, 0, 1, 128, 254, 255, 255]
    for content in (
        png(7, 1, 16, 0, b"\0" + values.astype(">u2").tobytes()),
        saved(Image.fromarray(values), "TIFF"),
        saved(Image.frombytes("I;16B", (7, 1), values.astype(">u2").tobytes()), "TIFF"),
    ):
        for channel in range(3):
            assert decode(content)[0, :, channel].tolist() == expected


def test_sixteen_bits_of_colour_and_alpha():
    """Of 16 bits of colour, and of grey with alpha, the upper 8 remain as well."""
    colours = np.array([[0, 256, 65535], [32768, 65279, 255]], ">u2")
    assert decode(png(2, 1, 16, 2, b"\0" + colours.tobytes()))[0].tolist() == [[0, 1, 255], [128, 254, 0]]
    assert decode(png(1, 1, 16, 4, b"\0" + np.array([32768, 9], ">u2").tobytes()))[0].tolist() == [[128, 128, 128]]


def test_exif_orientation():
    """A picture that says it lies on its side is turned only when that is asked for."""
    picture = photo(30, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(picture, "PNG", exif=exif)
    np.testing.assert_array_equal(decode(content), np.asarray(picture))
    np.testing.assert_array_equal(decode(content, exif_orientation=True), np.rot90(np.asarray(picture), -1))
    assert not np.array_equal(square(content), square(content, exif_orientation=True))


# EXIF's eight orientations, as its standard has them: where row 0 and column 0 of what is stored lie in what is to be seen.
# Each is how to store a picture so that it is seen upright.
STORED_AS = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.transpose(1, 0, 2),  # left, top
    6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda upright: upright[::-1].transpose(1, 0, 2),  # left, bottom
}


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_all_eight_orientations(orientation, format):
    """Whichever way a picture is stored, it is seen upright where EXIF is heeded, in files of the fast way and of Pillow's."""
    upright = np.zeros((256, 256, 3), np.uint8)
    upright[:64, :128] = RED  # at the top, on the left
    upright[64:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](upright))), format, exif=exif, quality=95)
    difference = np.abs(square(content, exif_orientation=True).astype(int) - upright)
    assert difference.mean() < 1.5
    if orientation > 1:
        assert np.abs(square(content).astype(int) - upright).mean() > 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"Not a picture but a letter.", r"not a picture of a known format \(JPEG, PNG, "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known format"),
        (saved(photo(60, 60), "JPEG")[:900], "damaged or cut short: image file is truncated"),
        (saved(photo(60, 60), "PNG")[:900], "damaged or cut short: "),
        (
            png(10_000, 9_000, 8, 2, b""),
            "too large: 10000x9000 is more than 89,478,485 pixels|too large: more than 89,478,485 pixels",
        ),
        (png(60_000, 60_000, 8, 2, b""), "too large: more than 89,478,485 pixels"),
        (saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point pixels"),
    ],
    ids=["empty", "text", "PostScript", "cut JPEG", "cut PNG", "bomb", "larger bomb", "floats"],
)
def test_broken_pictures(content, reason, tmp_path):
    """What cannot be read is an ImageError that says why, the same for a file and for its bytes."""
    (tmp_path / "picture.jpg").write_bytes(content)
    for source in (content, tmp_path / "picture.jpg"):
        with pytest.raises(ImageError, match=reason):
            square(source)


def test_missing_file(tmp_path):
    """A file that is not there, or is a folder, is told apart from a broken picture."""
    with pytest.raises(ImageError, match="cannot be opened: No such file or directory"):
        decode(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="cannot be opened: Is a directory"):
        decode(tmp_path)


def test_nothing_is_printed(tmp_path):
    """Pictures that make Pillow warn (a bomb, a palette with alpha, EXIF cut short) leave the terminal alone."""
    (tmp_path / "bomb.png").write_bytes(png(10_000, 9_000, 8, 2, b""))
    (tmp_path / "palette.png").write_bytes(saved(photo(9, 9).quantize(4), "PNG", transparency=bytes([9, 200])))
    (tmp_path / "exif.jpg").write_bytes(saved(photo(9, 9), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0"))
    code = """
        import pathlib, sys
        from alexnet_cli.core import errors, images
        for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
            try:
                images.square(path, exif_orientation=True)
            except errors.ImageError:
                assert path.name == "bomb.png"
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_raw_record():
    """A raw record is the rows of RGB as they are, and one of another length is refused."""
    image = np.arange(256 * 256 * 3, dtype=np.uint32).astype(np.uint8).reshape(256, 256, 3)
    read = decode_record(image.tobytes(), "raw")
    np.testing.assert_array_equal(read, image)
    with pytest.raises(ImageError, match="it has 3 bytes, expected 196608"):
        decode_record(b"abc", "raw")


def test_jpeg_record():
    """A JPEG record of quality 95 is a plain JPEG file with halved colours, within 40 dB of the picture it was made from."""
    image = np.asarray(photo(512, 512).resize((256, 256)))
    value = encode_jpeg(image, 95)
    read = decode_record(value, "jpeg")
    assert value[:2] == b"\xff\xd8"
    assert b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01" in value  # start of frame: luma sampled 2x2, both colours 1x1
    assert 10 * np.log10(255**2 / np.mean((read.astype(float) - image) ** 2)) > 38
    assert read.flags.writeable


def test_damaged_jpeg_record():
    """A JPEG record that is cut, of another size, or no JPEG is refused with the reason."""
    image = np.asarray(photo(256, 256))
    with pytest.raises(ImageError, match="it is not a whole JPEG file"):
        decode_record(encode_jpeg(image, 95)[:2000], "jpeg")
    with pytest.raises(ImageError, match=r"it has the shape \(200, 200, 3\), expected \(256, 256, 3\)"):
        decode_record(encode_jpeg(image[:200, :200], 95), "jpeg")
    with pytest.raises(ImageError, match=r"it has the shape \(256, 256, 1\), expected \(256, 256, 3\)"):
        decode_record(saved(photo(256, 256).convert("L"), "JPEG"), "jpeg")
    with pytest.raises(ImageError, match="it is not a whole JPEG file"):
        decode_record(saved(photo(256, 256), "PNG"), "jpeg")


@pytest.mark.parametrize("side", [65_500, 9_000], ids=["refused by Pillow", "large"])
def test_jpeg_record_that_claims_to_be_huge(side):
    """A record whose header was made to claim a huge picture is refused before memory is taken for it."""
    value = bytearray(saved(photo(256, 256), "JPEG"))
    start = value.index(b"\xff\xc0\x00\x11\x08")  # start of frame: length 17, 8 bits; then height and width
    value[start + 5 : start + 9] = struct.pack(">HH", side, side)
    with pytest.raises(ImageError, match=r"it is not a whole JPEG file \(Image size|it has the shape \(9000, 9000, 3\)"):
        decode_record(bytes(value), "jpeg")
