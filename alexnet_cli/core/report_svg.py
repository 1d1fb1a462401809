"""A drawing of matplotlib's as part of a page: an SVG element whose letters stay letters and whose ink follows the page's."""

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from alexnet_cli.core.plot import svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
# What a page can change with its paper; other colours stay as they are.
INKS = {
    "#000000": "currentColor",
    "#444444": "currentColor",
    "#555555": "var(--soft)",
    "#dddddd": "var(--line)",
    "#e5e5e5": "var(--line)",
    "#d62728": "var(--second)",
    "#ffffff": "var(--paper)",
}


def to_svg(figure: "Figure", name: str) -> str:
    """Return a figure as an SVG element for a page.

    name: unlike that of any other drawing of the page, as ids must not repeat. Black becomes the page's ink, white its paper.
    """
    root = ElementTree.fromstring(svg_of(figure))
    _drop(root, {"metadata", "style", "title"})
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        _settle(element, name, used)
    for attribute in ("width", "height", "version"):  # the page decides; the view box keeps the proportions
        root.attrib.pop(attribute, None)
    return _in_ink(ElementTree.tostring(root, encoding="unicode"))


def _drop(element: ElementTree.Element, names: set[str]) -> None:
    for child in list(element):
        if child.tag.removeprefix(SVG) in names or not isinstance(child.tag, str):
            element.remove(child)
        else:
            _drop(child, names)


def _settle(element: ElementTree.Element, name: str, used: set[str]) -> None:
    """Keep only ids that something refers to, under names of this drawing's own."""
    if LINK in element.attrib:
        element.set("href", element.attrib.pop(LINK))
    if element.get("id") and element.attrib["id"] not in used:
        del element.attrib["id"]
    for key, value in element.attrib.items():
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == "href" and value.startswith("#"):
            element.set(key, f"#{name}-{value[1:]}")
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))


def _in_ink(svg: str) -> str:
    """Let colours be the page's, and letters, which matplotlib leaves black by saying nothing, too."""
    for colour, ink in INKS.items():
        svg = svg.replace(colour, ink)
    return svg
