"""Records as text: read again they are equal to the last bit, and nothing else is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from huref.files.records import parse_record, record_text


@dataclass(frozen=True)
class Part:
    name: str
    score: float
    share: float | None = None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    table: np.ndarray | None
    shares: Mapping[str, float]
    more: Mapping[str, Any] | None
    count: int
    notes: tuple[str, ...] = ()


numbers = st.floats(allow_nan=False, allow_infinity=False)
parts = st.builds(Part, st.text(), numbers, st.none() | numbers)
tables = st.sampled_from(["<f8", "<f4", "<i4", "i1"]).flatmap(lambda kind: arrays(kind, array_shapes(max_side=3)))
wholes = st.builds(
    Whole,
    st.lists(parts, max_size=3).map(tuple),
    st.none() | tables,
    st.dictionaries(st.text(), numbers),
    st.none() | st.dictionaries(st.text(), numbers | st.booleans() | st.none() | st.lists(st.integers())),
    st.integers(),
    st.lists(st.text()).map(tuple),
)
PLAIN = Whole((Part("a", 0.5),), None, {"b": 1.0}, None, 3)


@given(wholes)
def test_read_again_it_is_equal(whole: Whole) -> None:
    text = record_text(whole)
    again = parse_record(Whole, text)
    assert record_text(again) == text and replace(again, table=None) == replace(whole, table=None)
    assert list(again.shares) == list(whole.shares)
    if whole.table is not None:
        assert again.table is not None and again.table.dtype == whole.table.dtype
        assert np.array_equal(again.table, whole.table, equal_nan=whole.table.dtype.kind == "f")


@pytest.mark.parametrize(
    "change",
    [
        {"count": "3"},
        {"count": True},
        {"count": None},
        {"notes": "abc"},
        {"notes": [1]},
        {"parts": [{"name": "a"}]},
        {"parts": [{"name": "a", "score": "high", "share": None}]},
        {"shares": {"b": None}},
        {"table": {"dtype": "|O", "shape": [1], "data": ""}},
        {"table": {"dtype": "<f8", "shape": [2], "data": "AAAA"}},
        {"table": [[1.0]]},
        {"unknown": 1},
    ],
)
def test_what_is_no_such_record_is_refused(change: dict[str, Any]) -> None:
    document = {**json.loads(record_text(PLAIN)), **change}
    with pytest.raises((ValueError, TypeError, KeyError)):
        parse_record(Whole, json.dumps(document))


@pytest.mark.parametrize("more", [{"n": float("nan")}, {1: "a key that is no text"}, {"x": object()}])
def test_what_json_cannot_say_is_refused(more: dict[Any, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        record_text(replace(PLAIN, more=more))
