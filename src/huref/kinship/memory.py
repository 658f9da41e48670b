"""What was computed of models, kept while it is small together; what was not used for longest goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeVar

import numpy as np

from huref.numerics import products

T = TypeVar("T")

LIMIT = 2 << 30
"""Bytes."""

_LAST = 8
"""Values that are kept whatever their size: two models' layers that are read side by side."""


@dataclass(frozen=True)
class _Kept:
    value: Any
    size: int
    arithmetic: products.Arithmetic


class Memory:
    """Values by key, of limited size; where models take turns, those of the outer loop outlast the inner ones'."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = LIMIT if limit is None else limit
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.RLock] = {}

    @property
    def size(self) -> int:
        """Bytes of all arrays that are kept."""
        return sum(kept.size for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not there; in what it was computed is noted each time."""
        found = self._kept.get(key)
        if found is None:
            with self._lock:
                making = self._making.setdefault(key, threading.RLock())
            with making:  # whoever else wants it waits, and finds it
                found = self._kept.get(key) or self._made(make)
                with self._lock:
                    self._kept[key] = found
                    self._making.pop(key, None)
        with self._lock:
            self._kept[key] = found
            self._kept.move_to_end(key)
            while len(self._kept) > _LAST and self.size > self.limit:
                self._kept.popitem(last=False)
        products.note(found.arithmetic)
        value_of: T = found.value
        return value_of

    def _made(self, make: Callable[[], T]) -> _Kept:
        with products.noted() as arithmetic:
            value = make()
        return _Kept(value, size_of(value), arithmetic)


def size_of(value: object) -> int:
    """Bytes of the arrays in a value, in mappings and dataclasses too."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, vars(value).values())) if is_dataclass(value) else 0
