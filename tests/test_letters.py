"""Fonts for pictures: that they have what is written, by what the fonts' own tables say."""

import sys
from typing import Any

import numpy as np
import pytest
from PIL import ImageFont

from alexnet_cli.core import letters
from alexnet_cli.core.letters import load_font
from alexnet_cli.core.mosaic import draw_mosaic
from alexnet_cli.core.patch_picture import draw_patches
from tests.test_patch_picture import unit


def loaded(size: int, texts: list[str]) -> ImageFont.FreeTypeFont:
    """Return the font for some texts, chosen anew."""
    letters._fitting.cache_clear()
    font = load_font(size, texts)
    assert isinstance(font, ImageFont.FreeTypeFont) and font.size == size
    return font


def pillows_own() -> ImageFont.FreeTypeFont:
    """Return the font that Pillow carries."""
    font = ImageFont.load_default(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def test_ascii_needs_no_other_font(monkeypatch):
    """Numbers, English and the sign of what is cut off are written in Pillow's own font, also without matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    font = loaded(20, ["17", "running shoe…", "~ tower a"])
    assert font.getname() == pillows_own().getname()
    assert bytes(font.getmask("…")) != bytes(font.getmask("\uffff"))


@pytest.mark.parametrize("text", ["café", "Löwe", "čaj", "чай, напиток", "τσάι", "شاي", "chair чай 7"])
def test_other_scripts_are_written(text):
    """Accents, Cyrillic, Greek and Arabic get a font whose own table has every sign of them, in the size that was asked for."""
    ft2font = pytest.importorskip("matplotlib.ft2font", reason="matplotlib is not installed")
    font = loaded(23, ["7", text])
    table = ft2font.FT2Font(font.path).get_charmap()
    assert {ord(sign) for sign in text if sign != " "} <= set(table)
    masks = {bytes(font.getmask(sign)) for sign in set(text) - {" "}}
    assert bytes(font.getmask("\uffff")) not in masks  # no boxes


@pytest.mark.parametrize("missing", [(), ("/missing.ttf",)])
def test_the_font_that_lacks_fewest(monkeypatch, missing):
    """Of signs that no font has together, a font with most of them is taken, not one of substitutes; a lost file is passed over."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(letters, "_others", lambda real=letters._others: iter([*missing, *real()]))
    assert "DejaVu Sans" in str(loaded(20, ["чай \U0010fffd"]).getname()[0])


def test_without_matplotlib_there_are_boxes(monkeypatch):
    """What Pillow's own font lacks does not stop a picture."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert loaded(20, ["чай"]).getname() == pillows_own().getname()


@pytest.mark.parametrize("where", ["labels", "titles", "row_names", "patches"])
def test_pictures_tell_names_apart(where):
    """Two names of three Cyrillic letters give two pictures, wherever they stand: as boxes they would be the same."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")

    def drawn(name: str) -> bytes:
        if where == "patches":
            return draw_patches([unit(0, name=name)]).tobytes()
        names: dict[str, Any] = {where: [name] if where == "titles" else [[name]]}
        return draw_mosaic([[np.zeros((20, 20, 3), np.uint8)]], **names).tobytes()

    assert drawn("чай") != drawn("кот")
