"""Some pictures of a store on one sheet, each above its class's name, for whoever wants to see what the network will see."""

import math
import unicodedata

from PIL import Image, ImageDraw, ImageFont

from alexnet_cli.core import draws
from alexnet_cli.core.store import Store

ROWS, COLUMNS = 5, 8
SIDE = 128  # pixels of each picture
GAP = 8  # pixels around each picture
FONT_SIZE = 14  # pixels
CAPTION = 20  # pixels below a picture, in which its name stands
PAPER, INK = "white", "black"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_contact_sheet(store: Store, *, seed: int = 0, rows: int = ROWS, columns: int = COLUMNS) -> Image.Image:
    """Draw random pictures of a store in rows, each 128 pixels wide, with the first words of their class below.

    seed: of the choice, which is the same every time; no picture is drawn twice. Fewer records than places make fewer rows.
    Raises StoreError when a chosen record is damaged.
    """
    chosen = draws.permutation(len(store), seed, "contact sheet")[: rows * columns].tolist()
    columns = max(1, min(columns, len(chosen)))
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, math.ceil(len(chosen) / columns) * (SIDE + GAP + CAPTION) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        left, top = GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP + CAPTION)
        sheet.paste(_to_side(Image.fromarray(store.image(index))), (left, top))
        pen.text((left + SIDE / 2, top + SIDE + CAPTION / 2), _fitted(_name(store, index), font), INK, font, anchor="mm")
    return sheet


def _to_side(picture: Image.Image) -> Image.Image:
    """Bring a stored picture to its place's size: halved by averages where that is it, else smoothly."""
    if picture.width == 2 * SIDE:
        return picture.reduce(2)
    return picture.resize((SIDE, SIDE), Image.Resampling.NEAREST if picture.width < SIDE else Image.Resampling.BICUBIC)


def _name(store: Store, index: int) -> str:
    """Return the first of a class's names: "tench" of "tench, Tinca tinca"."""
    label = int(store.labels[index])
    if 0 <= label < len(store.words):
        name = _in_ascii(" ".join(store.words[label].split(",")[0].split()))
        return name if any(sign.isalnum() for sign in name) else f"class {label}"
    return "no label" if label == -1 else f"label {label}"


def _in_ascii(text: str) -> str:
    """Write a text in the letters that Pillow's own font has: accents go, other scripts become question marks."""
    letters = (sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return "".join(letters).encode("ascii", "replace").decode()


def _fitted(text: str, font: Font) -> str:
    """Cut a text so that it is no wider than a picture."""
    if font.getlength(text) <= SIDE:
        return text
    while text and font.getlength(text + "...") > SIDE:
        text = text[:-1]
    return text.rstrip() + "..."
