"""What an official StyleGAN2 pickle says, as records: no class is looked up, no code in it is run, nothing imported.

The release of StyleGAN2 with adaptive augmentation (Karras et al., "Training Generative Adversarial Networks with
Limited Data", 2020) pickles whole modules. Each carries the source of its Python file, which their loader executes.
Here a pickle is a description to be parsed: the stack machine below knows the opcodes of plain data and the dozen
names that those files use, and makes a record of each. Texts and byte strings of any length are passed over; only
the arrays asked for are read, from where they lie.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from huref.errors import CorruptFileError, HurefError, InputError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource
from huref.model.source.pickle_container import read_container
from huref.model.source.pickle_records import BYTES, StorageRecord

DESCRIPTION_LIMIT = 1 << 19
"""Bytes of the pickle besides texts and arrays; a network of 64 pixels needs 50 kB, with its discriminator."""

_PAGE = 4096
_LONG_TEXT = 1024
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "F64": torch.float64}
_NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}


@dataclass(frozen=True)
class Window:
    """A byte string or a long text that was passed over: where it lies in the file."""

    offset: int
    length: int


@dataclass(frozen=True)
class Array:
    """A tensor: a view of a storage, which is a torch stream of its own within the file. Not checked yet."""

    storage: Window
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Module:
    """A pickled network or layer: the name of its class, and its attributes."""

    kind: str
    state: dict[str, Any]


@dataclass
class _NumberType:
    code: Any
    is_little: bool = False


@dataclass(frozen=True)
class _Name:
    text: str


def read_structure(source: ByteSource) -> Any:
    """The pickled object as dictionaries, lists, `Module` and `Array` records; no array is read.

    Raises:
        UnsafeFileError: the pickle names anything else, or is absurdly long.
        CorruptFileError: it cannot be read.
        InputError: a pickle of the TensorFlow releases.
    """
    try:
        return _StructureReader(source).load()
    except HurefError:
        raise
    except Exception as error:  # a damaged pickle can raise anything: it is a program
        raise CorruptFileError(
            "the pickle cannot be read",
            where=source.name,
            expected="a pickle of stylegan2-ada-pytorch",
            got=f"{type(error).__name__}: {error}"[:200],
            next_step=FETCH_AGAIN,
        ) from error


def read_array(source: ByteSource, array: Array, name: str) -> Tensor:
    """The array as a row-major fp32 tensor of its own.

    Raises:
        CorruptFileError: its description contradicts the file.
    """
    where = f"{source.name}, tensor {name}"
    part = _Part(source, array.storage, where)
    container = read_container(part)
    storage = container.root
    if not isinstance(storage, StorageRecord) or storage.dtype not in _DTYPES:
        raise _contradiction(where, "a storage of type " + ", ".join(_DTYPES), _told(storage))
    offset, length = container.places[storage.key]
    width = BYTES[storage.dtype]
    count = math.prod(array.shape)
    span = 1 + sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
    if count < 1 or span != count or (array.offset + count) * width > length:
        got = f"shape {array.shape}, strides {array.strides}, offset {array.offset} in {length} bytes"
        raise _contradiction(where, "elements within their storage, without gaps or repeats", got)
    raw = bytearray(part.read(offset + array.offset * width, count * width))
    flat = torch.frombuffer(raw, dtype=_DTYPES[storage.dtype])
    return flat.as_strided(array.shape, array.strides).float().contiguous()


class _Part(ByteSource):
    """A stretch of a file as a file."""

    def __init__(self, source: ByteSource, window: Window, name: str) -> None:
        self._source, self._start = source, window.offset
        self.size, self.name = window.length, name

    def _fill(self, offset: int, buffer: memoryview) -> None:
        self._source.read_into([(self._start + offset, buffer)])


class _Stream:
    """A source as the stream that a pickle is read from: bounded reads, and skips that read nothing."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._page, self._page_start, self._used = b"", 0, 0
        self.position = 0

    def read(self, size: int) -> bytes:
        self._used += size
        if self._used > DESCRIPTION_LIMIT:
            raise _unsafe(self._source.name, f"at most {DESCRIPTION_LIMIT} bytes besides the arrays", "more")
        start = self.position - self._page_start
        if not 0 <= start <= len(self._page) - size:
            length = min(max(size, _PAGE), self._source.size - self.position)
            self._page, self._page_start, start = self._source.read(self.position, length), self.position, 0
        self.position += size
        data = self._page[start : start + size]
        if len(data) < size:
            raise EOFError(f"the pickle ends before byte {self.position}")
        return data

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)

    def skip(self, length: int) -> Window:
        if length > self._source.size - self.position:
            raise EOFError(f"{length} bytes announced at byte {self.position} of {self._source.size}")
        self.position += length
        return Window(self.position - length, length)


_PLAIN = [
    *("STOP", "MARK", "GLOBAL", "STACK_GLOBAL"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINUNICODE"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
]
"""Opcodes that only move plain data. Left out, among others: INST, OBJ, EXT, PERSID, and those of protocol 0."""


def _refuse(reader: Any, code: int) -> None:
    names = [opcode.name for opcode in pickletools.opcodes if ord(opcode.code) == code]
    raise _unsafe(reader.where, "opcodes of plain data", (names or [f"opcode {code}"])[0])


class _StructureReader(pickle._Unpickler):
    """The standard library's stack machine with a short list of opcodes; its `find_class` only names."""

    def __init__(self, source: ByteSource) -> None:
        self._stream = _Stream(source)
        self._source = source
        self.where = source.name
        self._rules: dict[str, Callable[..., Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": _module,
            "torch.storage._load_from_bytes": _storage,
            "torch._utils._rebuild_tensor_v2": _array,
            "torch._utils._rebuild_parameter": lambda array, *_: array,
            "collections.OrderedDict": lambda: {},
            "dnnlib.util.EasyDict": lambda: {},
            "builtins.set": lambda *_: None,
            "torch.device": lambda *_: None,
            "numpy.ndarray": lambda *_: None,
            "numpy.core.multiarray._reconstruct": lambda *_: None,
            "numpy._core.multiarray._reconstruct": lambda *_: None,
            "numpy.core.numeric._frombuffer": lambda *_: None,
            "numpy._core.numeric._frombuffer": lambda *_: None,
            "numpy.dtype": lambda code, *_: _NumberType(code),
            "numpy.core.multiarray.scalar": self._number,
            "numpy._core.multiarray.scalar": self._number,
        }
        super().__init__(self._stream)

    def find_class(self, module: str, name: str) -> _Name:
        found = _Name(f"{module}.{name}")
        if found.text in self._rules:
            return found
        if found.text == "dnnlib.tflib.network.Network":
            raise InputError(
                "a pickle of the TensorFlow releases of StyleGAN",
                where=self.where,
                expected="a pickle of stylegan2-ada-pytorch",
                got=found.text,
                next_step="convert it with legacy.py of stylegan2-ada-pytorch, where you trust the file",
            )
        raise _unsafe(self.where, "networks and arrays, and nothing that can execute", found.text)

    def _number(self, kind: Any, value: Any) -> float | None:
        if not isinstance(kind, _NumberType) or not isinstance(value, Window):
            raise TypeError("a number without a type")
        letter = _NUMBERS.get(kind.code) if isinstance(kind.code, str) and kind.is_little else None
        if letter is None or value.length != struct.calcsize(letter):
            return None
        return float(struct.unpack(f"<{letter}", self._source.read(value.offset, value.length))[0])

    def _check_protocol(self: Any) -> None:
        """PROTO: before protocol 3, byte strings are texts, and do not lie in the file as they are."""
        protocol = self.read(1)[0]
        if not 3 <= protocol <= 5:
            raise InputError(
                "a pickle of another protocol",
                where=self.where,
                expected="protocol 3, 4 or 5, as stylegan2-ada-pytorch writes",
                got=f"protocol {protocol}",
                next_step="where you trust the file, load it with stylegan2-ada-pytorch and save it again",
            )

    def _call(self: Any) -> None:
        """REDUCE and NEWOBJ: the only calls, of the rules above."""
        arguments = self.stack.pop()
        name = self.stack[-1]
        if not isinstance(name, _Name) or not isinstance(arguments, tuple):
            raise TypeError(f"a call of a {type(name).__name__}")
        self.stack[-1] = self._rules[name.text](*arguments)

    def _set_state(self: Any) -> None:
        """BUILD: of all the attributes that could be set, only the byte order of a number type matters."""
        state, kind = self.stack.pop(), self.stack[-1]
        if isinstance(kind, _NumberType):
            kind.is_little = isinstance(state, tuple) and state[1:2] in (("<",), ("|",))

    def _set_item(self: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], key, value)

    def _set_items(self: Any) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], key, value)

    def _nothing(self: Any) -> None:
        """EMPTY_SET: the sets in these files say nothing about the network."""
        self.append(None)

    def _add_items(self: Any) -> None:
        self.pop_mark()

    def _skip_frame(self: Any) -> None:
        """FRAME: a hint for buffering. What is in a frame follows it."""
        self.read(8)

    def _skip_bytes(self: Any, width: int) -> None:
        self.append(self._stream.skip(int.from_bytes(self.read(width), "little")))

    def _skip_long_text(self: Any, width: int) -> None:
        """BINUNICODE: the source code that every module carries is such a text. It is never read."""
        length = int.from_bytes(self.read(width), "little")
        self.append(self._stream.skip(length) if length > _LONG_TEXT else self.read(length).decode("utf-8"))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: partial(_refuse, code=code) for code in range(256)},
        **{getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _PLAIN},
        pickle.PROTO[0]: _check_protocol,
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _call,
        pickle.BUILD[0]: _set_state,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.EMPTY_SET[0]: _nothing,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FRAME[0]: _skip_frame,
        pickle.SHORT_BINBYTES[0]: partial(_skip_bytes, width=1),
        pickle.BINBYTES[0]: partial(_skip_bytes, width=4),
        pickle.BINBYTES8[0]: partial(_skip_bytes, width=8),
        pickle.BYTEARRAY8[0]: partial(_skip_bytes, width=8),
        pickle.BINUNICODE[0]: partial(_skip_long_text, width=4),
        pickle.BINUNICODE8[0]: partial(_skip_long_text, width=8),
    }


def _put(target: Any, key: Any, value: Any) -> None:
    """Only simple keys: the hash of tuples that nest each other twice takes for ever."""
    if type(target) is not dict or type(key) not in (str, int, float, bool, type(None)):
        raise TypeError(f"an item {type(key).__name__} of a {type(target).__name__}")
    target[key] = value


def _module(meta: Any) -> Module:
    """What their loader would execute `meta["module_src"]` for."""
    kind, state = meta["class_name"], meta["state"]
    if not isinstance(kind, str) or type(state) is not dict:
        raise TypeError(f"a module of class {_told(kind)} with a {type(state).__name__} of attributes")
    return Module(kind, state)


def _storage(data: Any) -> Window:
    if not isinstance(data, Window):
        raise TypeError(f"a storage made of a {type(data).__name__}")
    return data


def _array(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Array:
    if not isinstance(storage, Window) or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without storage, shape or strides")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 4 or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise ValueError("a tensor whose offset, shape or strides make no sense")
    return Array(storage, offset, shape, strides)


def _told(value: Any) -> str:
    """A value for a message; never a container, whose text can be endless."""
    if isinstance(value, StorageRecord):
        return f"type {value.dtype}"
    return repr(value)[:80] if isinstance(value, str) else type(value).__name__


def _unsafe(where: str, expected: str, got: str) -> UnsafeFileError:
    return UnsafeFileError(
        "the pickle asks for more than data; nothing of it was run",
        where=where,
        expected=expected,
        got=got[:200],
        next_step="distrust this file; fetch the official one again, or use a safetensors copy",
    )


def _contradiction(where: str, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "a tensor's description contradicts the file",
        where=where,
        expected=expected,
        got=got,
        next_step=FETCH_AGAIN,
    )
