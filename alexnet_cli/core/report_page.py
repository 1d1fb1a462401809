"""A report as one HTML page that needs nothing else: pictures and styles are in it, scripts are not, and no address is asked.

Every text is escaped here, and only here; the page's own policy forbids whatever might slip through. It must not import torch.
"""

import base64
import html
from collections.abc import Iterable, Sequence
from functools import singledispatch
from importlib.resources import files
from pathlib import Path

from alexnet_cli.core.files import write_atomically
from alexnet_cli.core.report_parts import (
    TITLES,
    Absent,
    Answer,
    Answers,
    Cell,
    Drawing,
    Drawings,
    Facts,
    Guess,
    Heading,
    Heat,
    More,
    Neighbours,
    Part,
    Picture,
    Pictures,
    Report,
    Section,
    Share,
    Table,
    Text,
)

ABSENT = "absent"  # the section of those that are not there
JOINERS = "\u200c\u200d"  # without which some scripts cannot be written
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="{made_by}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#{first}">To the report</a>
<header>
<p class="kind">Report on a training</p>
<h1>{name}</h1>
<nav aria-label="Contents">
<ul>
{contents}
</ul>
</nav>
</header>
<main>
{sections}
</main>
<footer>
<p>Made by {made_by}. This page is complete in itself: it asks no other address for anything.</p>
</footer>
</body>
</html>
"""


def to_html(report: Report) -> str:
    """Return the whole page; the same report gives the same text."""
    there = [section for section in report.sections if not isinstance(section.content, Absent)]
    sections = [_section(section) for section in there]
    contents = [(section.key, TITLES[section.key]) for section in there]
    missing = [(TITLES[one.key], one.content.reason) for one in report.sections if isinstance(one.content, Absent)]
    if missing:
        contents.append((ABSENT, "Not in this report"))
        sections.append(_headed(*contents[-1], _part(Facts(tuple(missing)))))
    return PAGE.format(
        policy=POLICY,
        title=f"{text(report.title)}: report on a training",
        name=text(report.title),
        made_by=text(report.made_by),
        style=files("alexnet_cli.core").joinpath("report.css").read_text(encoding="utf-8"),
        first=contents[0][0],
        contents="\n".join(f'<li><a href="#{key}">{text(title)}</a></li>' for key, title in contents),
        sections="\n".join(sections),
    )


def write_page(report: Report, path: Path) -> int:
    """Write the page, whole or not at all, and return its bytes. Raises DiskFullError."""
    content = to_html(report).encode("utf-8")
    write_atomically(path, lambda partial: partial.write_bytes(content))
    return len(content)


def text(value: str) -> str:
    """Return a text as it stands between tags or in an attribute; what cannot be printed becomes a question mark."""
    shown = "".join(sign if sign.isprintable() or sign in JOINERS else " " if sign.isspace() else "?" for sign in value)
    return html.escape(shown)


def _section(section: Section) -> str:
    assert not isinstance(section.content, Absent)
    return _headed(section.key, TITLES[section.key], _all(section.content))


def _headed(key: str, title: str, inside: str) -> str:
    heading = f'<h2 id="{key}-title">{text(title)}</h2>'
    return f'<section id="{key}" aria-labelledby="{key}-title">\n{heading}\n{inside}\n</section>'


def _all(parts: Iterable[Part]) -> str:
    return "\n".join(map(_part, parts))


@singledispatch
def _part(part: Part) -> str:
    raise TypeError(f"no way to show {type(part).__name__}")


@_part.register
def _(part: Text) -> str:
    return f"<p>{text(part.text)}</p>"


@_part.register
def _(part: Heading) -> str:
    return f"<h3>{text(part.text)}</h3>"


@_part.register
def _(part: More) -> str:
    return f"<details>\n<summary>{text(part.summary)}</summary>\n{_all(part.parts)}\n</details>"


@_part.register
def _(part: Facts) -> str:
    rows = "\n".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in part.rows)
    return f'<dl class="{"figures" if part.large else "facts"}">\n{rows}\n</dl>'


# Tables ----------------------------------------------------------------------------------------------------------------------


@_part.register
def _(part: Table) -> str:
    head = "".join(f'<th scope="col"{_side(index, part)}>{text(name)}</th>' for index, name in enumerate(part.header))
    rows = "\n".join(f"<tr>{''.join(_cell(cell, index, part) for index, cell in enumerate(row))}</tr>" for row in part.rows)
    return _scrolled(part.caption, f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>")


def _side(index: int, table: Table) -> str:
    return "" if index in table.texts else ' class="number"'


def _cell(cell: Cell, index: int, table: Table) -> str:
    if index == 0:
        return f'<th scope="row">{text(cell if isinstance(cell, str) else cell.text)}</th>'
    if isinstance(cell, Share):
        return f'<td class="number bar" style="--share:{cell.share:.4f}">{text(cell.text)}</td>'
    return f"<td{_side(index, table)}>{text(cell)}</td>"


@_part.register
def _(part: Heat) -> str:
    head = "".join(f'<th scope="col"><span>{text(name)}</span></th>' for name in part.names)
    rows = "\n".join(_heat_row(name, row, place) for place, (name, row) in enumerate(zip(part.names, part.rows, strict=True)))
    return _scrolled(part.caption, f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>", "heat")


def _heat_row(name: str, row: Sequence[Share], place: int) -> str:
    cells = "".join(_heat_cell(cell, right=index == place) for index, cell in enumerate(row))
    return f'<tr><th scope="row">{text(name)}</th>{cells}</tr>'


def _heat_cell(cell: Share, *, right: bool) -> str:
    marked = ' class="right"' if right else ""
    return f'<td{marked} style="--share:{cell.share:.4f}">{text(cell.text)}</td>'


def _scrolled(caption: str, rows: str, kind: str = "") -> str:
    """Return a table in a box of its own that scrolls, by keys too, where the page is too narrow."""
    named = f' class="{kind}"' if kind else ""
    table = f"<table{named}>\n<caption><span>{text(caption)}</span></caption>\n{rows}\n</table>"
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}">\n{table}\n</div>'


# Pictures --------------------------------------------------------------------------------------------------------------------


@_part.register
def _(part: Picture) -> str:
    return f'<figure class="wide">\n{_image(part)}\n{_caption(part.caption)}</figure>'


@_part.register
def _(part: Pictures) -> str:
    rows = "\n".join(f"<li><figure>{_image(picture)}{_caption(picture.caption)}</figure></li>" for picture in part.pictures)
    return f'<ul class="pictures" style="--width:{part.width}rem">\n{rows}\n</ul>'


@_part.register
def _(part: Drawings) -> str:
    return f'<div class="drawings">\n{chr(10).join(map(_drawing, part.drawings))}\n</div>'


def _drawing(drawing: Drawing) -> str:
    svg = drawing.svg.replace("<svg ", f'<svg role="img" aria-label="{text(drawing.alt)}" ', 1)
    return f"<figure>\n{svg}\n{_caption(drawing.caption)}</figure>"


def _image(picture: Picture) -> str:
    data = base64.b64encode(picture.content).decode("ascii")
    width, height = picture.size
    sharp = ' class="pixels"' if picture.pixels else ""
    return f'<img{sharp} src="data:image/{picture.kind};base64,{data}" width="{width}" height="{height}" alt="{text(picture.alt)}">'


def _caption(caption: str) -> str:
    return f"<figcaption>{text(caption)}</figcaption>\n" if caption else ""


@_part.register
def _(part: Answers) -> str:
    return f'<ul class="answers">\n{chr(10).join(map(_answer, part.answers))}\n</ul>'


def _answer(answer: Answer) -> str:
    guesses = "\n".join(map(_guess, answer.guesses))
    return f"<li>\n{_image(answer.picture)}\n<p>{text(answer.truth)}</p>\n<ol>\n{guesses}\n</ol>\n</li>"


def _guess(guess: Guess) -> str:
    right = ' class="right"' if guess.right else ""
    mark = ' <span role="img" aria-label="true class">✓</span>' if guess.right else ""
    share = f"{100 * guess.probability:.0f} %"
    return f'<li{right} style="--share:{guess.probability:.4f}"><span>{text(guess.name)}{mark}</span> <span>{share}</span></li>'


@_part.register
def _(part: Neighbours) -> str:
    rows = "\n".join(
        f'<li>\n<figure class="asked">{_image(asked)}{_caption(asked.caption)}</figure>\n<ol>\n{_nearest(nearest)}\n</ol>\n</li>'
        for asked, nearest in part.rows
    )
    return f'<ul class="neighbours">\n{rows}\n</ul>'


def _nearest(pictures: Sequence[Picture]) -> str:
    return "\n".join(f"<li><figure>{_image(one)}{_caption(one.caption)}</figure></li>" for one in pictures)
