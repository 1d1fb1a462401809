"""The reader of protocol buffers against Google's own writer, and against bytes that nobody wrote."""

import contextlib
import random

import pytest

from alexnet_cli.core.wire import Message, WireError, mapped
from tests.foreign_files import CAFFE


def test_reads_what_googles_package_writes():
    """Texts, numbers, repeated and packed ones, and nested messages come out as they went in."""
    layer = CAFFE["Layer"](name="conv1 é", bottom=["a", "b"], conv={"num_output": 300, "pad": [1, 2], "group": 2})
    layer.norm.alpha = 1e-4
    layer.blobs.add(data=[1.5, -2.0], shape={"dim": [-1, 2**40]})
    message = Message(memoryview(layer.SerializeToString()))
    assert message.text(1) == "conv1 é" and message.texts(3) == ["a", "b"]
    assert message.message(106).integer(1) == 300 and message.message(106).integers(3) == [1, 2]
    assert message.message(118).number(2) == 1e-4  # the number that was meant, not float32's nearest
    blob = message.messages(7)[0]
    assert blob.floats(5).tolist() == [1.5, -2.0] and blob.message(7).integers(1) == [-1, 2**40]
    assert message.message(999).integer(1, 7) == 7 and not message.has(999)


@pytest.mark.parametrize(
    "content",
    [b"\x80" * 11, b"\x80", b"\x0a\x05abc", b"\x0d\x00", b"\x03", b"\x00\x00", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
    ids=["endless number", "half a number", "short run", "short float", "group", "no number", "huge run"],
)
def test_bytes_that_are_no_message(content):
    """Each is one kind of error, whatever lengths it claims."""
    with pytest.raises(WireError):
        Message(memoryview(content))


def test_a_field_of_another_kind():
    """A number where floats or a message are expected, and floats that do not fill their run, are errors."""
    message = Message(memoryview(b"\x28\x05" + b"\x32\x03abc"))
    for read in (message.messages, message.floats, message.number):
        with pytest.raises(WireError):
            read(5)
    with pytest.raises(WireError):
        message.floats(6)


def test_too_many_fields_end_soon():
    """A message of a million empty fields is refused, not taken apart for minutes."""
    with pytest.raises(WireError, match="more than 100,000 fields"):
        Message(memoryview(b"\x08\x00" * 1_000_000))


def test_random_bytes():
    """Whatever the bytes, reading ends with a message or with that one error."""
    generator = random.Random(0)
    for _ in range(2000):
        content = generator.randbytes(generator.randrange(1, 40))
        with contextlib.suppress(WireError):
            message = Message(memoryview(content))
            for number in range(1, 20):
                for read in (message.integers, message.messages, message.floats, message.texts):
                    with contextlib.suppress(WireError):
                        read(number)


def test_too_many_numbers_end_soon():
    """A run of a million packed numbers is refused after the first thousand."""
    numbers = b"\x01" * 1_000_000
    length = bytes([0xC0, 0x84, 0x3D])  # 1,000,000 in groups of seven bits
    with pytest.raises(WireError, match="more than 1,000 whole numbers"):
        Message(memoryview(b"\x0a" + length + numbers)).integers(1)
    assert Message(memoryview(b"\x08\x07" * 1000)).integers(1) == [7] * 1000
    with pytest.raises(WireError, match="more than 1,000 whole numbers"):
        Message(memoryview(b"\x08\x07" * 1001)).integers(1)


def test_a_file_is_mapped(tmp_path):
    """The bytes are the file's, of an empty one none, and of one far too large there is an error that says the sizes."""
    for content in (b"abc", b""):
        (tmp_path / "a").write_bytes(content)
        assert bytes(mapped(tmp_path / "a")) == content
    with (tmp_path / "b").open("wb") as file:
        file.truncate(4_000_000_001)
    with pytest.raises(WireError, match="it has 4,000,000,001 bytes, expected at most 4,000,000,000"):
        mapped(tmp_path / "b")
