"""What every drawn page shares: its colours, its letters, a framed picture, a caption under it."""

from __future__ import annotations

import unicodedata

from PIL import Image, ImageDraw, ImageFont

from huref.choices import option
from huref.errors import UsageError
from huref.portraits.image.pixels import Pixels, resize

PAPER = (250, 249, 246)
INK = (38, 38, 42)
FAINT = (118, 116, 112)
FRAME = (214, 211, 204)
MARGIN = 16
GAP = 14

MAX_PIXELS = 1 << 26
"""Of a whole page: below the size at which Pillow warns of a decompression bomb."""


class Page:
    """A sheet of paper, written on in one size of letters.

    Args:
        width, height: in pixels.
        letters: height of the letters in pixels.

    Raises:
        UsageError: a page of more than `MAX_PIXELS`.
    """

    def __init__(self, width: int, height: int, letters: float) -> None:
        if width * height > MAX_PIXELS:
            raise UsageError(
                "a page too large to be drawn",
                where=option("size"),
                expected=f"at most {MAX_PIXELS} pixels in all",
                got=f"{width} by {height}",
                next_step="choose smaller or fewer pictures",
            )
        self.picture = Image.new("RGB", (width, height), PAPER)
        self.draw = ImageDraw.Draw(self.picture)
        self.font = ImageFont.load_default(size=letters)
        self.line_height = line_height(letters)

    def place(self, image: Pixels, left: int, top: int, side: int) -> None:
        """A framed picture, enlarged or reduced to `side`."""
        self.picture.paste(Image.fromarray(resize(image, side)), (left, top))
        self.draw.rectangle((left - 1, top - 1, left + side, top + side), outline=FRAME)

    def caption(self, text: str, left: int, top: int, width: int, lines: int) -> None:
        """At most `lines` centred lines; the second and later ones are fainter."""
        for k, line in enumerate(text.split("\n")[:lines]):
            place = (left + width // 2, top + k * self.line_height)
            self.draw.text(place, self.fit(drawable(line), width), FAINT if k else INK, self.font, anchor="ma")

    def fit(self, text: str, width: int) -> str:
        """Text as it is if it fits, or its start and its end around an ellipsis."""
        if self.draw.textlength(text, self.font) <= width:
            return text
        for kept in range(len(text) - 1, 1, -1):
            shorter = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
            if self.draw.textlength(shorter, self.font) <= width:
                return shorter
        return "…"


def letter_height(side: int) -> float:
    """Height of letters that suit pictures of `side` pixels."""
    return min(28.0, max(11.0, side / 13))


def line_height(letters: float) -> int:
    """Pixels from one line of text to the next."""
    return int(letters * 1.35)


def drawable(text: str) -> str:
    """Text in the letters that the font has, which are ASCII: without accents, others as `\\u72ac`."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "backslashreplace").decode().translate(dict.fromkeys((*range(32), 127), "?"))
