"""Text for people: numbers and names as every command and every result writes them."""

from __future__ import annotations

import math


def printable(text: str) -> str:
    """Text with control characters spelled out: names in files are not to steer the reader's terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def short(name: str, width: int = 20) -> str:
    """A name within one line of `width` letters, in quotation marks."""
    text = printable(name).replace("\n", " ")
    return f"'{text if len(text) <= width else text[: width - 1] + '…'}'"


def percent(value: float | None) -> str:
    """A score for people: `98.91 %`, or a dash."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"
