"""What a report is made of: sections of paragraphs, tables, pictures and drawings, as plain values (stdlib only).

`report_page` makes a page of them; nothing here is HTML, so texts stand as they are, whatever they hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# The sections in their order: how they are called on the command line and in addresses, and their headings.
TITLES = {
    "glance": "At a glance",
    "curves": "Curves",
    "results": "Results",
    "classes": "Classes",
    "confusions": "Confusions",
    "answers": "Pictures and answers",
    "filters": "The first layer",
    "towers": "The two towers",
    "units": "Single units",
    "similar": "Similar pictures",
    "recipe": "Recipe",
    "data": "Data",
    "machine": "Machine and versions",
}
UNITS = 4  # of each layer, unless another number is asked for


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """The heading of what follows inside a section."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values. large: the few that a reader looks for first."""

    rows: tuple[tuple[str, str], ...]
    large: bool = False


@dataclass(frozen=True)
class Share:
    """A cell of a table that shows a share, 0-1, as a bar too (or, in a `Heat`, as a shade)."""

    text: str
    share: float


Cell = str | Share


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows. texts: the columns that are texts; the others are numbers."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    texts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Heat:
    """A square table of counts, each cell shaded by its share of its row."""

    caption: str
    names: tuple[str, ...]
    rows: tuple[tuple[Share, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture: a file's bytes, its kind and size in pixels. alt: what it shows, for those who cannot see it. caption: below it.

    pixels: whether each of its pixels is a number of its own, to be shown as a sharp square.
    """

    content: bytes
    kind: Literal["jpeg", "png"]
    size: tuple[int, int]
    alt: str
    caption: str = ""
    pixels: bool = False


@dataclass(frozen=True)
class Pictures:
    """Pictures in a row that breaks where it must. width: of each at least, in the letters' size."""

    pictures: tuple[Picture, ...]
    width: int = 10


@dataclass(frozen=True)
class Drawing:
    """A drawing in lines: an SVG element without ids of others. alt, caption: as a picture's."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Drawings:
    """Drawings side by side where there is room."""

    drawings: tuple[Drawing, ...]


@dataclass(frozen=True)
class Guess:
    """A class that was named, how probable (0-1), and whether it is the true one."""

    name: str
    probability: float
    right: bool


@dataclass(frozen=True)
class Answer:
    """A picture, what is in it, and what the network takes it for, first things first."""

    picture: Picture
    truth: str
    guesses: tuple[Guess, ...]


@dataclass(frozen=True)
class Answers:
    """Pictures with the network's answers."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Neighbours:
    """Pictures, each with those that are most like it to the network, the nearest first."""

    rows: tuple[tuple[Picture, tuple[Picture, ...]], ...]


@dataclass(frozen=True)
class More:
    """What only some readers want: closed until it is asked for."""

    summary: str
    parts: "tuple[Part, ...]"


Part = Text | Heading | Facts | Table | Heat | Picture | Pictures | Drawings | Answers | Neighbours | More


@dataclass(frozen=True)
class Absent:
    """Why a section is not there, in a sentence."""

    reason: str


@dataclass(frozen=True)
class Section:
    """A part of a report under its own heading. key: of TITLES."""

    key: str
    content: Sequence[Part] | Absent


@dataclass(frozen=True)
class Report:
    """All that a report says. title: its subject. made_by: the program and its version."""

    title: str
    sections: tuple[Section, ...]
    made_by: str
