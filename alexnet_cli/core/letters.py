"""The letters in pictures: a font that has the signs of what is to be written, whatever their script.

Pillow's own font has those of ASCII alone. Where more are needed, matplotlib's DejaVu Sans is taken, or else whatever font of this
computer has them; without matplotlib what is missing is drawn as boxes. It must not import torch.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

NO_SIGN = "\uffff"  # of which no font has a picture: what is drawn for it is what is drawn for all that a font lacks
SIZE = 16  # pixels, at which fonts are compared
LAST_RESORT = "Last Resort"  # comes with matplotlib: its pictures are those of scripts, not of signs


def load_font(size: int, texts: Sequence[str]) -> Font:
    """Return a font, its letters `size` pixels high, that has as many of the signs of some texts as can be had."""
    return _load(_fitting(frozenset(sign for text in texts for sign in text if not sign.isspace())), size)


@cache
def _fitting(signs: frozenset[str]) -> str | None:
    """Return the path of the first font that lacks the fewest of some signs, None for Pillow's own."""
    best, fewest = None, _lacking(None, signs)
    for path in _others() if fewest else ():
        lacking = _lacking(path, signs)
        if lacking < fewest:
            best, fewest = path, lacking
        if not fewest:
            break
    return best


def _others() -> Iterator[str]:
    """Yield the paths of the upright fonts of usual weight that matplotlib knows, its own first."""
    try:
        import matplotlib
        from matplotlib import font_manager
    except ImportError:
        return
    yield str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    known = [font for font in font_manager.fontManager.ttflist if not font.name.startswith(LAST_RESORT)]
    yield from sorted({font.fname for font in known if font.style == "normal" and font.weight in (400, "normal", "regular")})


def _lacking(path: str | None, signs: frozenset[str]) -> int:
    """Return how many of some signs a font lacks: all where it cannot be read."""
    try:
        font = _load(path, SIZE)
    except OSError:  # deleted since matplotlib made its list, or of a kind that Pillow does not read
        return len(signs)
    box = bytes(font.getmask(NO_SIGN))
    return sum(bytes(font.getmask(sign)) == box for sign in signs)


def _load(path: str | None, size: int) -> Font:
    return ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)
