"""The one unpickler: pickles as descriptions to be parsed. No class is looked up, nothing imported, nothing run.

Checkpoints, whole modules and official generators are read by the stack machine below, each under `PickleRules` of
its own. It knows the opcodes of plain data and makes records; a name in a pickle stands for a value or a function of
the rules, or for nothing. What it allocates is bounded before it does: byte strings and long texts are passed over,
a length beyond the file is an error, and a pickle has an allowance of objects, since a byte can ask for a hundred.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from huref.errors import CorruptFileError, HurefError, InputError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN
from huref.model.source.pickle_rules import Name, PickleRules, ordered_dict, require_simple
from huref.model.source.pickle_stream import PickleStream

MAX_OBJECTS = 1 << 21
"""Containers, calls and memo entries of one pickle, not its numbers, which cost many bytes themselves. A tensor takes
28, and few files have 20,000 tensors."""

_LONG_TEXT = 1024
_MOST_BITS = 1024


def unpickle(stream: PickleStream, rules: PickleRules) -> Any:
    """Read one pickle from the stream's position: plain data, `Window`s, and what the rules make.

    Sets are lists here: what is in them is never hashed.

    Raises:
        UnsafeFileError: it asks for more than the rules allow, or is absurdly long.
        CorruptFileError: it cannot be read.
        InputError: of another protocol; or whatever the rules raise.
    """
    try:
        return _Unpickler(stream, rules).load()
    except HurefError:
        raise
    except Exception as error:  # a damaged pickle can raise anything: it is a program
        raise CorruptFileError(
            "the pickle cannot be read",
            where=stream.where,
            expected=rules.content,
            got=f"{type(error).__name__}: {error}"[:200],
            next_step=FETCH_AGAIN,
        ) from error


class _Unpickler(pickle._Unpickler):
    """The standard library's stack machine under rules; every opcode that is not in its table is refused.

    It builds on the library's Python unpickler and not on the C one because the latter allocates whatever memo size a
    hostile opcode names.
    """

    def __init__(self, stream: PickleStream, rules: PickleRules) -> None:
        super().__init__(stream, encoding="utf-8")
        self._stream = stream
        self.rules = rules
        self._objects = 0

    def find_class(self, module: str, name: str) -> Any:
        """What the rules have for a name; nothing is ever imported."""
        text = f"{module}.{name}"
        if text in self.rules.values:
            return self.rules.values[text]
        found = Name(text, self.rules.calls[text]) if text in self.rules.calls else self.rules.other(text)
        if found is None:
            raise self.refusal(text)
        return found

    def refusal(self, got: str) -> UnsafeFileError:
        """The error for a pickle that asks for more than the rules allow."""
        return UnsafeFileError(
            "the pickle asks for more than data; nothing of it was run",
            where=self._stream.where,
            expected=self.rules.allowed,
            got=got[:200],
            next_step=self.rules.next_step,
        )

    def charge(self, count: int) -> None:
        """Called before so many objects are made."""
        self._objects += count
        if self._objects > MAX_OBJECTS:
            raise self.refusal(f"more than {MAX_OBJECTS} objects")

    def _check_protocol(self: Any) -> None:
        protocol, allowed = self.read(1)[0], self.rules.protocols
        if protocol not in allowed:
            raise InputError(
                "a pickle of another protocol",
                where=self._stream.where,
                expected=f"{self.rules.content}, of protocol {allowed[0]} to {allowed[-1]}",
                got=f"protocol {protocol}",
                next_step="where you trust the file, load it with what wrote it and save it again",
            )

    def _skip_frame(self: Any) -> None:
        """FRAME: a hint for buffering. What is in a frame follows it."""
        self.read(8)

    def _skip_bytes(self: Any, width: int) -> None:
        self.append(self._stream.skip(int.from_bytes(self.read(width), "little")))

    def _take_text(self: Any, width: int) -> None:
        """A text; a long one, such as the source code that some modules carry, is never read.

        Lone surrogates are let through: pickle writes them for what is not UTF-8, such as a path among the settings.
        """
        length = int.from_bytes(self.read(width), "little")
        is_long = length > _LONG_TEXT
        self.append(self._stream.skip(length) if is_long else self.read(length).decode("utf-8", "surrogatepass"))

    def _take_number(self: Any, code: int) -> None:
        """A whole number of any length in the pickle; a long one would make hashes and messages long."""
        _STANDARD[code](self)
        if self.stack[-1].bit_length() > _MOST_BITS:
            raise ValueError("an absurdly long number")

    def _new_list(self: Any) -> None:
        """EMPTY_SET."""
        self.append([])

    def _close_set(self: Any) -> None:
        """FROZENSET."""
        self.append(tuple(self.pop_mark()))

    def _append(self: Any) -> None:
        value = self.stack.pop()
        _of_type(self.stack[-1], list).append(value)

    def _extend(self: Any) -> None:
        items = self.pop_mark()
        _of_type(self.stack[-1], list).extend(items)

    def _set_item(self: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _of_type(self.stack[-1], dict)[require_simple(key)] = value

    def _set_items(self: Any) -> None:
        items = self.pop_mark()
        target = _of_type(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[require_simple(key)] = value

    def _make_dict(self: Any) -> None:
        """DICT: what protocol 0 writes for an empty one."""
        items = self.pop_mark()
        self.append(ordered_dict(zip(items[::2], items[1::2], strict=True)))

    def _call(self: Any) -> None:
        """REDUCE: a function of the rules, which pays for all that it is given: it may copy it."""
        arguments, name = self.stack.pop(), self.stack[-1]
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise TypeError(f"a call of a {type(name).__name__} with a {type(arguments).__name__}")
        if name.call is None:
            raise self.refusal(name.text)
        self.charge(sum(len(part) for part in (arguments, *arguments) if isinstance(part, tuple | list | dict)))
        self.stack[-1] = name.call(*arguments)

    def _make(self: Any) -> None:
        """NEWOBJ: an empty record of a class without arguments, as modules are; or a call like another."""
        arguments, name = self.stack[-1], self.stack[-2]
        if isinstance(name, Name) and name.call is None and self.rules.make is not None and arguments == ():
            self.stack.pop()
            self.stack[-1] = self.rules.make(name.text)
        else:
            self._call()

    def _set_state(self: Any) -> None:
        """BUILD: never sets an attribute of anything but a record of the rules."""
        state = self.stack.pop()
        self.rules.set_state(self.stack[-1], state)

    def _take_reference(self: Any) -> None:
        """BINPERSID."""
        if self.rules.persistent is None:
            raise self.refusal("BINPERSID")
        self.append(self.rules.persistent(self.stack.pop()))

    def _refuse_instance(self: Any) -> None:
        """INST: a call of a name in the next two lines."""
        module, name = (self.readline()[:-1].decode("utf-8", "replace") for _ in range(2))
        raise self.refusal(f"{module}.{name}")

    def _refuse_object(self: Any) -> None:
        """OBJ: a call of the first thing after the mark."""
        name = self.pop_mark()[0]
        raise self.refusal(name.text if isinstance(name, Name) else "OBJ")

    def _refuse(self, code: int) -> None:
        raise self.refusal(_NAMES.get(code, f"opcode {code}"))

    def _charged(self, rule: Callable[[Any], None]) -> None:
        self.charge(1)
        rule(self)

    def _if_old(self, rule: Callable[[Any], None], code: int) -> None:
        if not self.rules.has_old_opcodes:
            self._refuse(code)
        rule(self)


def _of_type(target: Any, kind: type) -> Any:
    if type(target) is not kind:
        raise TypeError(f"an item of a {type(target).__name__}")
    return target


_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
_CODES = {name: code for code, name in _NAMES.items()}
_STANDARD: Mapping[int, Callable[[Any], None]] = pickle._Unpickler.dispatch

_AS_THEY_ARE = (
    "STOP",
    "MARK",
    "NONE",
    "NEWTRUE",
    "NEWFALSE",
    "BININT",
    "BININT1",
    "BININT2",
    "BINFLOAT",
    "BINGET",
    "LONG_BINGET",
)
_THAT_MAKE = (
    *("GLOBAL", "STACK_GLOBAL", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
)
_OLD = ("UNICODE", "STRING", "FLOAT", "LIST", "PUT", "GET", "POP", "POP_MARK", "DUP")
"""Opcodes as in the standard library. Left out, among others: EXT1, PERSID, NEWOBJ_EX, and those of buffers."""


def _table() -> dict[int, Callable[[Any], None]]:
    """The rule of every opcode."""
    machine: Any = _Unpickler
    text, data, number = machine._take_text, machine._skip_bytes, machine._take_number
    makes = {name: _STANDARD[_CODES[name]] for name in _THAT_MAKE} | {
        "LONG1": partial(number, code=_CODES["LONG1"]),
        "EMPTY_SET": machine._new_list,
        "FROZENSET": machine._close_set,
        "REDUCE": machine._call,
        "NEWOBJ": machine._make,
        "BINPERSID": machine._take_reference,
        "SHORT_BINBYTES": partial(data, width=1),
        "BINBYTES": partial(data, width=4),
        **dict.fromkeys(("BINBYTES8", "BYTEARRAY8"), partial(data, width=8)),
        "SHORT_BINUNICODE": partial(text, width=1),
        "BINUNICODE": partial(text, width=4),
        "BINUNICODE8": partial(text, width=8),
    }
    old = {name: _STANDARD[_CODES[name]] for name in _OLD} | {
        **{name: partial(number, code=_CODES[name]) for name in ("INT", "LONG", "LONG4")},
        "SHORT_BINSTRING": partial(text, width=1),
        "BINSTRING": partial(text, width=4),
        "DICT": machine._make_dict,
    }
    others = {
        "PROTO": machine._check_protocol,
        "FRAME": machine._skip_frame,
        "APPEND": machine._append,
        "APPENDS": machine._extend,
        "ADDITEMS": machine._extend,
        "SETITEM": machine._set_item,
        "SETITEMS": machine._set_items,
        "BUILD": machine._set_state,
        "INST": machine._refuse_instance,
        "OBJ": machine._refuse_object,
    }
    return {
        **{code: partial(machine._refuse, code=code) for code in range(256)},
        **{_CODES[name]: _STANDARD[_CODES[name]] for name in _AS_THEY_ARE},
        **{_CODES[name]: rule for name, rule in others.items()},
        **{_CODES[name]: partial(machine._charged, rule=rule) for name, rule in makes.items()},
        **{
            _CODES[name]: partial(machine._if_old, rule=partial(machine._charged, rule=rule), code=_CODES[name])
            for name, rule in old.items()
        },
    }


_Unpickler.dispatch = _table()
