"""Frozen dataclasses as JSON and back, exactly: what is read again is equal to the last bit, or is refused."""

from __future__ import annotations

import base64
import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")

_ARRAYS = ("f4", "f8", "i1", "i4", "i8", "u1", "b1")


def record_text(record: object) -> str:
    """A dataclass as JSON, mappings in their own order.

    Raises:
        ValueError, TypeError: something in it that JSON cannot say.
    """
    return json.dumps(_encoded(record), separators=(",", ":"), allow_nan=False)


def parse_record(kind: type[T], text: str) -> T:
    """The dataclass that `record_text` wrote.

    Raises:
        ValueError, TypeError, KeyError: it is none of this kind.
    """
    return cast(T, _decoded(kind, json.loads(text)))


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.str[1:] not in _ARRAYS:
            raise TypeError(f"an array of {value.dtype}")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": data}
    if is_dataclass(value):
        return {item.name: _encoded(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key that is no text")
        return {key: _encoded(each) for key, each in value.items()}
    return [_encoded(each) for each in value] if isinstance(value, list | tuple) else value


def _decoded(kind: Any, value: Any) -> Any:
    """A value of an annotated type; JSON types stand for themselves."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        (only,) = (part for part in parts if part is not type(None))
        return _decoded(only, value)
    if origin is tuple:
        return tuple(_decoded(parts[0], each) for each in _typed(value, list))
    if origin is not None:
        return {key: _decoded(parts[1], each) for key, each in _typed(value, dict).items()}
    return _parsed(kind, value)


def _parsed(kind: Any, value: Any) -> Any:
    if kind is np.ndarray:
        return _array(_typed(value, dict))
    return _dataclass(kind, _typed(value, dict)) if is_dataclass(kind) else _typed(value, kind)


def _dataclass(kind: Any, values: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    names = {item.name for item in fields(kind)}
    if values.keys() != names:
        raise ValueError(f"other parts than a {kind.__name__} has")
    return kind(**{name: _decoded(hints[name], each) for name, each in values.items()})


def _array(values: dict[str, Any]) -> np.ndarray:
    if values["dtype"][1:] not in _ARRAYS:
        raise ValueError("an array of another type")
    data = base64.b64decode(values["data"], validate=True)
    return np.frombuffer(data, values["dtype"]).reshape([_typed(n, int) for n in values["shape"]]).copy()


def _typed(value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        return value
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise TypeError(f"{value!r:.40} in place of {kind.__name__}")
    return value
