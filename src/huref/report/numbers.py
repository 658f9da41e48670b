"""How numbers are written in a report: one way for each kind, the same on the page and in a test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DASH = "–"


def finite(value: object) -> float | None:
    """A number, or None where there is none, or NaN, or infinity."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def percent(value: object) -> str:
    """`98.91 %`, or a dash."""
    number = finite(value)
    return DASH if number is None else f"{100 * number:.2f} %"


def decimal(value: object, digits: int = 3) -> str:
    """Three digits that count: `0.0123`, `35.2`."""
    number = finite(value)
    return DASH if number is None else f"{number:.{digits}g}"


def share(part: int, whole: int) -> str:
    """`12.3 %` of a whole."""
    return f"{100 * part / whole:.1f} %" if whole else DASH


def size(n_bytes: int) -> str:
    """`14.48 GB`; decimal units."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= step:
            return f"{n_bytes / step:.2f} {unit}"
    return f"{n_bytes} bytes"


def count(number: int) -> str:
    """`11,008`."""
    return f"{number:,}"


def whole(value: object) -> str:
    """A count as it may come, as float too; a dash where there is none."""
    number = finite(value)
    return DASH if number is None else count(int(number))


def json_ready(value: Any) -> Any:
    """A value as JSON can hold it: numpy's numbers and arrays unpacked, NaN and infinity as null."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
