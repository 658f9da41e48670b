"""What a kind of pickle may hold, said as a table: the rules under which `restricted_pickle` reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from huref.model.source.pickle_stream import Window

_MOST_PARTS = 64


@dataclass(frozen=True)
class Name:
    """What a pickle calls a class or a function: its text, never looked up.

    Attributes:
        call: the function of ours that stands for it; None for a name that cannot be called.
    """

    text: str
    call: Callable[..., Any] | None = None


@dataclass(frozen=True)
class PickleRules:
    """What pickles of one kind may hold. Whatever the rules do not allow is refused, and named.

    Attributes:
        content: what an honest file is, for errors.
        allowed: what may be in it, for errors.
        next_step: what to do about one that asks for more.
        calls: functions of ours by the names that they stand for. Arguments come as they are in the pickle.
        values: plain values by the names that they stand for.
        other: what stands for a name in neither; None refuses it.
        persistent: makes a record of a persistent id; where it is None they are refused.
        make: the record of an object made without arguments, by its class's name; where it is None they are refused.
        set_state: what setting the attributes (target, attributes) does: nothing, unless told otherwise.
        protocols: the pickle protocols that honest files have.
        has_old_opcodes: allow those of plain data that only protocols 0 to 2 write.
    """

    content: str
    allowed: str
    next_step: str
    calls: Mapping[str, Callable[..., Any]]
    values: Mapping[str, Any] = field(default_factory=dict)
    other: Callable[[str], Name | None] = lambda _: None
    persistent: Callable[[Any], Any] | None = None
    make: Callable[[str], Any] | None = None
    set_state: Callable[[Any, Any], None] = lambda *_: None
    protocols: range = range(6)
    has_old_opcodes: bool = False


def require_simple(key: Any) -> Any:
    """A key that is hashed at once: tuples that hold each other twice, forty deep, would take for ever.

    Raises:
        TypeError: neither a number nor a text, nor a few of them.
    """
    parts = key if type(key) is tuple else (key,)
    if len(parts) > _MOST_PARTS or not all(isinstance(part, str | int | float | Window | None) for part in parts):
        raise TypeError("a key that is neither a number nor a text")
    return key


def ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """`collections.OrderedDict`, and whatever else is called like it."""
    return {require_simple(key): value for key, value in pairs}


def as_tuple(parts: Any = ()) -> tuple[Any, ...]:
    """What stands for `torch.Size` and for sets, whose items are never hashed."""
    if type(parts) not in (list, tuple):
        raise TypeError(f"a sequence made of a {type(parts).__name__}")
    return tuple(parts)


def nothing(*_: Any) -> None:
    """What stands for objects that say nothing about weights."""


def first(data: Any, *_: Any) -> Any:
    """What stands for a call that wraps its first argument, as a parameter wraps a tensor."""
    return data
