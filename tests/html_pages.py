"""A page of HTML read strictly: what is nested in what, and what it would load."""

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "hr", "link", "input", "path", "use", "rect", "image"}
# What may not lie inside a paragraph or a heading: only what is written in a line may.
BLOCKS = {
    "p",
    "h1",
    "h2",
    "h3",
    "ul",
    "ol",
    "dl",
    "div",
    "table",
    "figure",
    "section",
    "details",
    "nav",
    "main",
    "header",
    "footer",
}
LINES = {"p", "h1", "h2", "h3", "caption", "figcaption", "summary"}
PARENTS = {
    "li": {"ul", "ol"},
    "tr": {"thead", "tbody"},
    "td": {"tr"},
    "th": {"tr"},
    "dt": {"div", "dl"},
    "dd": {"div", "dl"},
    "caption": {"table"},
    "thead": {"table"},
    "tbody": {"table"},
    "summary": {"details"},
    "figcaption": {"figure"},
    "title": {"head"},
    "style": {"head"},
    "main": {"body"},
}
LOADING = (
    "src",
    "srcset",
    "data",
    "poster",
    "action",
    "formaction",
    "background",
    "href",
    "xlink:href",
    "style",
    "fill",
    "clip-path",
)


@dataclass(eq=False)
class Element:
    """A tag with its attributes, and the text directly or deeper inside."""

    tag: str
    attributes: dict[str, str]
    parents: tuple["Element", ...]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text inside, with single spaces."""
        return " ".join("".join(self.texts).split())


class Page(HTMLParser):
    """The elements of a page in order; raises AssertionError where it is not well formed."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        assert content.startswith("<!DOCTYPE html>\n")
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(content)
        self.close()
        assert not self._open, f"never closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Put an element under the one that is open."""
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} stands twice"
        parents = tuple(self._open)
        if tag in PARENTS and not self.inside("svg"):
            assert parents and parents[-1].tag in PARENTS[tag], f"{tag} in {parents[-1].tag}"
        if tag in BLOCKS:
            assert not [one for one in parents if one.tag in LINES], f"{tag} in a line of text"
        element = Element(tag, {name: value or "" for name, value in attrs}, parents)
        self.elements.append(element)
        if tag not in VOID or self.inside("svg"):
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element that ends where it begins; HTML knows this in drawings alone."""
        assert self.inside("svg"), f"{tag} cannot end itself"
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        """End the element that is open."""
        assert self._open and self._open[-1].tag == tag, f"{tag} ends where {self._open[-1:]} is open"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        """Add text to all that is open."""
        for element in self._open:
            element.texts.append(data)

    def inside(self, tag: str) -> bool:
        """Say whether such an element is open."""
        return any(element.tag == tag for element in self._open)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements of a tag, with these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [one for one in self.elements if one.tag == tag and wanted.items() <= one.attributes.items()]

    def within(self, element: Element, tag: str) -> list[Element]:
        """Return the elements of a tag inside another."""
        return [one for one in self.elements if one.tag == tag and element in one.parents]

    def rows(self, table: Element) -> list[list[str]]:
        """Return the texts of a table's cells, row by row, its header's among them."""
        return [
            [one.text for one in self.elements if row in one.parents and one.tag in ("td", "th")]
            for row in self.within(table, "tr")
        ]

    def section(self, key: str) -> Element:
        """Return the section of that name."""
        (found,) = self.all("section", id=key)
        return found

    def tables(self, key: str) -> list[list[list[str]]]:
        """Return the tables of a section."""
        return [self.rows(table) for table in self.within(self.section(key), "table")]

    def facts(self, key: str) -> dict[str, str]:
        """Return the names and values of a section."""
        section = self.section(key)
        names, values = self.within(section, "dt"), self.within(section, "dd")
        return {name.text: value.text for name, value in zip(names, values, strict=True)}


def require_sound(page: Page) -> None:
    """Raise AssertionError where a page lacks what a reader with or without eyes needs, or would ask another address."""
    ids = Counter(one.attributes["id"] for one in page.elements if "id" in one.attributes)
    assert max(ids.values()) == 1
    levels = [int(one.tag[1]) for one in page.elements if one.tag in ("h1", "h2", "h3")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(one.attributes.get("alt", "").strip() for one in page.all("img"))
    assert all(one.attributes.get("aria-label") and one.attributes.get("role") == "img" for one in page.all("svg"))
    assert all(one.attributes["aria-labelledby"] in ids for one in page.elements if "aria-labelledby" in one.attributes)
    for one in page.elements:
        for name, value in one.attributes.items():
            assert not name.startswith("on"), f"{one.tag} {name}"
            if name == "href" and value.startswith("#"):
                assert value[1:] in ids
            elif name in LOADING:
                assert "//" not in value.split("base64,")[0], f"{one.tag} {name}={value[:60]}"
    assert not [one for one in page.elements if one.tag in ("script", "link", "iframe", "object", "embed", "base", "form")]
    (style,) = page.all("style")
    assert "@import" not in style.text and "url(" not in style.text
