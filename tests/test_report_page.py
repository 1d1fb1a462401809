"""A report's parts as HTML, and drawings as parts of a page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from alexnet_cli.core.report_page import text, to_html, write_page
from alexnet_cli.core.report_parts import Absent, Heat, Neighbours, Part, Picture, Pictures, Report, Section, Share, Table, Text
from alexnet_cli.core.report_pictures import numbers, photograph
from tests.html_pages import Page, require_sound

SPOT = Picture(b"\xff\xd8", "jpeg", (4, 3), "A spot", "below it")


def page_of(*parts: Part) -> Page:
    """Return a page of one section."""
    page = Page(to_html(Report("run", (Section("glance", parts), Section("data", Absent("no <store>"))), "alexnet 0")))
    require_sound(page)
    return page


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a <b> & 'c' \"d\"", "a &lt;b&gt; &amp; &#x27;c&#x27; &quot;d&quot;"),
        ("two\nlines\tand \x00\x1b\u202e\udce9", "two lines and ????"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_texts_are_escaped(value, expected):
    """Signs of HTML and of control lose their meaning; a joiner, without which Persian cannot be written, stays."""
    assert text(value) == expected


def test_nothing_else_may_be_loaded():
    """The page's own policy forbids scripts and addresses, so that nothing that slipped through could run."""
    (policy,) = [one for one in page_of(Text("a")).all("meta") if "http-equiv" in one.attributes]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.attributes["content"].split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and "script-src" not in rules


def test_table_has_headers_for_every_cell():
    """The first cell names its row, numbers stand at the right, and the box can be scrolled by keys."""
    page = page_of(Table("what", ("name", "text", "count"), (("a", "b", "1"), ("c", "d", Share("50 %", 0.5))), texts=(0, 1)))
    assert page.rows(page.all("table")[0]) == [["name", "text", "count"], ["a", "b", "1"], ["c", "d", "50 %"]]
    assert [one.attributes["scope"] for one in page.all("th")] == ["col"] * 3 + ["row"] * 2
    assert [one.attributes.get("class", "") for one in page.all("td")] == ["", "number", "", "number bar"]
    (box,) = [one for one in page.all("div") if one.attributes.get("class") == "scroll"]
    assert box.attributes["tabindex"] == "0" and box.attributes["aria-label"] == "what"


def test_heat_marks_what_is_right():
    """The diagonal is bold, and each cell's shade is its share."""
    page = page_of(Heat("counts", ("a", "b"), ((Share("3", 0.75), Share("1", 0.25)), (Share("", 0.0), Share("2", 1.0)))))
    cells = [one for one in page.all("td") if "style" in one.attributes]
    assert [one.attributes.get("class", "") for one in cells] == ["right", "", "", "right"]
    assert [one.attributes["style"] for one in cells] == ["--share:0.7500", "--share:0.2500", "--share:0.0000", "--share:1.0000"]


def test_pictures_carry_their_bytes_and_size():
    """A picture's file is in the page, with its size, so that nothing moves while it appears."""
    page = page_of(Pictures((SPOT, SPOT)), Neighbours(((SPOT, (SPOT, SPOT)),)))
    assert len(page.all("img")) == 5
    for one in page.all("img"):
        assert base64.b64decode(one.attributes["src"].removeprefix("data:image/jpeg;base64,")) == SPOT.content
        assert (one.attributes["width"], one.attributes["height"], one.attributes["alt"]) == ("4", "3", "A spot")


def test_absence_is_explained():
    """A section that is not there is listed with its reason."""
    assert page_of(Text("a")).facts("absent") == {"Data": "no <store>"}


def test_enlargement_is_undone():
    """Blocks of equal pixels become a pixel each, also where some neighbours are alike; one colour becomes one pixel."""
    small = np.random.default_rng(0).integers(0, 2, (5, 7, 3), dtype=np.uint8) * 255
    found = numbers(Image.fromarray(small.repeat(6, axis=0).repeat(6, axis=1)), "numbers")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(found.content))), small) and found.size == (7, 5)


def test_photographs_keep_their_proportions():
    """The longer side becomes what is asked for, and the picture stays what it was, but for JPEG's loss."""
    ramp = np.broadcast_to(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], (100, 200, 3)).copy()
    found = photograph(ramp, 50, "ramp")
    pixels = np.asarray(Image.open(io.BytesIO(found.content))).astype(int)
    assert found.size == (50, 25) and np.abs(pixels - np.linspace(2, 253, 50)[None, :, None]).max() < 12


def test_drawings_have_ids_of_their_own():
    """Two drawings of one figure share no id, each refers to its own, and letters stay letters in the page's ink."""
    pytest.importorskip("matplotlib")
    found = [_drawn(name) for name in ("one", "two")]
    assert found[0] == _drawn("one") and found[0].startswith("<svg ")
    assert found[0].replace("one-", "two-") == found[1]
    assert "a &lt;title&gt;</text>" in found[0] and "currentColor" in found[0]
    assert "#000000" not in found[0] and "metadata" not in found[0] and "<style" not in found[0] and "xlink" not in found[0]


def _drawn(name: str) -> str:
    from alexnet_cli.core.plot import new_figure
    from alexnet_cli.core.report_svg import to_svg

    figure = new_figure((3, 2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="black", marker="o")
    axes.set_title("a <title>")
    return to_svg(figure, name)


def test_page_is_written_whole(tmp_path):
    """The number of bytes is that of the file, which says that it is UTF-8."""
    report = Report("r\u00e9seau", (Section("glance", (Text("a"),)),), "alexnet 0")
    count = write_page(report, tmp_path / "report.html")
    content = (tmp_path / "report.html").read_bytes()
    assert len(content) == count and content.decode("utf-8") == to_html(report)
