"""Sizes that `transformers` takes where config.json is silent, as it is of those that are equal to the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

_TABLE = Path(__file__).parent / "data" / "library" / "sizes.yaml"


def library_sizes(model_type: str) -> Mapping[str, int]:
    """Default sizes by key of config.json; none for a type that the table does not have."""
    return _table().get(model_type, {})


@cache
def _table() -> Mapping[str, Mapping[str, int]]:
    loaded: Mapping[str, Mapping[str, int]] = yaml.safe_load(_TABLE.read_text("utf-8"))
    return loaded
