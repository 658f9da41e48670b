"""The pickled part of a torch checkpoint, read without running anything: plain data and tensor descriptions.

The unpickler knows a closed list of names. Anything else in the file stops the reading, so a pickle that asks
for `os.system` gets an error instead of a shell. torch's own `weights_only` loader works the same way; this one
returns where tensors lie instead of mapping or loading them.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

from huref.errors import CorruptFileError, UnsafeFileError
from huref.model.source.byte_source import FETCH_AGAIN

_STORAGES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
    "UntypedStorage": "U8",
}
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}
BYTES = {
    "C128": 16,
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 1),
}
"""Bytes of one element, by the name that safetensors gives the type."""


@dataclass(frozen=True)
class StorageRecord:
    """A block of bytes that tensors are views of: its key in the file, type and number of elements."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A view of a storage. Offset and strides are in elements. Nothing in it has been checked yet."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class RecordUnpickler(pickle._Unpickler):
    """Unpickles plain data and records.

    It builds on the standard library's Python unpickler and not on the C one because the latter allocates
    whatever memo size a hostile opcode names.

    Attributes:
        storages: the storages that tensors of the file refer to, by key.
    """

    def __init__(self, stream: IO[bytes], where: str) -> None:
        super().__init__(stream, encoding="utf-8")
        self.where = where
        self.storages: dict[str, StorageRecord] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the closed list; nothing is ever imported."""
        if (found := _ALLOWED.get((module, name))) is not None:
            return found
        raise UnsafeFileError(
            "the pickle asks for more than data; nothing of it was run",
            where=self.where,
            expected="tensors in dictionaries, and nothing that can execute",
            got=f"{module}.{name}",
            next_step="use a safetensors or GGUF copy of the model; distrust this file",
        )

    def persistent_load(self, pid: Any) -> StorageRecord:
        """Make a record of a storage reference: ("storage", type, key, location, elements[, view])."""
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or any(part is not None for part in view) or type(count) is not int or count < 0:
            raise ValueError("a storage reference of another kind")
        if not isinstance(key, str | int) or not isinstance(dtype, str):
            raise TypeError("a storage reference without key or type")
        return self.storages.setdefault(str(key), StorageRecord(str(key), dtype, count))

    def _set_item(self: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_simple(key)] = value

    def _set_items(self: Any) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_simple(key)] = value

    def _add_items(self: Any) -> None:
        items = self.pop_mark()
        self.stack[-1].update(_simple(item) for item in items)

    def _make_dict(self: Any) -> None:
        """DICT: what protocol 0 writes for an empty one."""
        items = self.pop_mark()
        self.append({_simple(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def _frozen_set(self: Any) -> None:
        self.append(frozenset(_simple(item) for item in self.pop_mark()))

    def _ignore_state(self: Any) -> None:
        """BUILD sets attributes. State dicts carry `_metadata` this way; weights need none of it."""
        self.stack.pop()

    dispatch: ClassVar[dict[int, Callable[[pickle.Unpickler], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _ignore_state,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _make_dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozen_set,
    }


def unpickle(
    stream: IO[bytes], where: str, kind: type[RecordUnpickler] = RecordUnpickler
) -> tuple[Any, dict[str, StorageRecord]]:
    """Read one pickle from the stream's position.

    Returns:
        The object, with a `TensorRecord` for each tensor, and all storages by key.

    Raises:
        UnsafeFileError: the pickle names anything outside the closed list.
        CorruptFileError: it cannot be read.
    """
    unpickler = kind(stream, where)
    try:
        return unpickler.load(), unpickler.storages
    except UnsafeFileError:
        raise
    except Exception as error:  # a damaged pickle can raise anything: it is a program
        raise CorruptFileError(
            "the pickle cannot be read",
            where=where,
            expected="a checkpoint written by torch.save",
            got=f"{type(error).__name__}: {error}"[:200],
            next_step=FETCH_AGAIN,
        ) from error


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    return _rebuild_typed(storage, offset, shape, strides, None, None, storage.dtype)


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> TensorRecord:
    if not isinstance(storage, StorageRecord) or not isinstance(dtype, str):
        raise TypeError(f"a tensor made of a {type(storage).__name__}")
    if not all(type(number) is int and abs(number) < 2**63 for number in (offset, *shape, *strides)):
        raise ValueError("a tensor whose offset, shape or strides make no sense")
    return TensorRecord(storage, dtype, offset, tuple(shape), tuple(strides))


def _simple(key: Any) -> Any:
    """A key that can be hashed at once: tuples that hold each other twice, forty deep, would take for ever."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(part, str | bytes | int | float | None) for part in parts):
        raise TypeError("a key that is neither a number nor a text")
    return key


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    return OrderedDict((_simple(key), value) for key, value in pairs)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _rebuild_from_type(rebuild: Callable[..., Any], _kind: Any, arguments: Any, _state: Any) -> Any:
    return rebuild(*arguments)


def _encode(text: str, encoding: str) -> bytes:
    """Protocol 2 writes bytes as text in latin-1."""
    return codecs.encode(text, "latin-1") if encoding == "latin1" else text.encode("utf-8")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("torch", "Size"): tuple,
    ("torch", "Tensor"): "Tensor",
    ("torch", "device"): lambda *parts: parts,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_typed,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_from_type,
    ("torch.nn.parameter", "Parameter"): "Parameter",
    ("_codecs", "encode"): _encode,
    **{(module, name): dtype for name, dtype in _STORAGES.items() for module in ("torch", "torch.storage")},
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}
