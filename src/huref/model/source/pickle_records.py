"""The pickled part of a torch checkpoint: plain data and tensor descriptions, under a closed list of names.

Anything else in the file stops the reading, so a pickle that asks for `os.system` gets an error instead of a shell.
torch's own `weights_only` loader works the same way; this one returns where tensors lie instead of mapping or loading
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from huref.model.source.pickle_rules import Name, PickleRules, as_tuple, first, nothing, ordered_dict

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

_MOST_AXES = 64


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


@dataclass(frozen=True)
class SubclassRecord:
    """A tensor of a subclass that wraps others, as quantisers' are: the name of its class, and its parts by name."""

    kind: str
    parts: dict[str, TensorRecord]


def checkpoint_rules(storages: dict[str, StorageRecord]) -> PickleRules:
    """What a checkpoint may hold: plain data, and tensors as `TensorRecord`s.

    Args:
        storages: filled with the storages that tensors of the file refer to, by key.
    """
    return PickleRules(
        content="a checkpoint written by torch.save",
        allowed="tensors in dictionaries, and nothing that can execute",
        next_step="use a safetensors or GGUF copy of the model; or, if you trust who wrote it, load it with torch "
        "and save its tensors alone: torch.save(model.state_dict(), 'model.pt'); otherwise distrust this file",
        calls=_CALLS,
        values=_VALUES,
        other=_quantisers,
        persistent=partial(_storage, storages),
        has_old_opcodes=True,
    )


def _storage(storages: dict[str, StorageRecord], pid: Any) -> StorageRecord:
    """A record of a storage reference: ("storage", type, key, location, elements[, view])."""
    if type(pid) is not tuple or not 5 <= len(pid) <= 6:
        raise ValueError("a reference of another kind")
    kind, dtype, key, _, count, *view = pid
    if kind != "storage" or any(part is not None for part in view) or type(count) is not int or count < 0:
        raise ValueError("a storage reference of another kind")
    if not isinstance(key, str | int) or not isinstance(dtype, str):
        raise TypeError("a storage reference without key or type")
    return storages.setdefault(str(key), StorageRecord(str(key), dtype, count))


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    return _rebuild_typed(storage, offset, shape, strides, None, None, storage.dtype)


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> TensorRecord:
    if not isinstance(storage, StorageRecord) or not isinstance(dtype, str):
        raise TypeError(f"a tensor made of a {type(storage).__name__}")
    if max(len(shape), len(strides)) > _MOST_AXES:
        raise ValueError("a tensor of absurdly many axes")
    if not all(type(number) is int and abs(number) < 2**63 for number in (offset, *shape, *strides)):
        raise ValueError("a tensor whose offset, shape or strides make no sense")
    return TensorRecord(storage, dtype, offset, tuple(shape), tuple(strides))


def _quantisers(name: str) -> Name | None:
    """Settings of torchao, which stand beside the tensors of its subclasses and say nothing of weights."""
    return Name(name, nothing) if name.startswith("torchao.") else None


def _rebuild_wrapper(*_: Any) -> None:
    """What stands for the rebuilding of a subclass that wraps others: `_rebuild_from_type` has its parts."""
    raise TypeError("a subclass without its parts")


def _parts(state: dict[Any, Any]) -> Iterator[tuple[str, TensorRecord]]:
    """Tensors among a subclass's attributes, and in a subclass among these, as older torchao has them."""
    for key, part in state.items():
        if isinstance(key, str) and isinstance(part, TensorRecord):
            yield ("qdata" if key == "int_data" else key), part
        elif isinstance(part, SubclassRecord):
            yield from part.parts.items()


def _rebuild_from_type(rebuild: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """A tensor of a subclass, or with attributes, whose own way of being rebuilt is the first argument."""
    if isinstance(rebuild, Name) and rebuild.call is _rebuild_wrapper:
        if not isinstance(kind, Name) or type(state) is not dict:
            raise TypeError("a subclass without its parts")
        return SubclassRecord(kind.text.rsplit(".", 1)[-1], dict(_parts(state)))
    if not isinstance(rebuild, Name) or rebuild.call not in (_rebuild_tensor, _rebuild_typed, first):
        raise TypeError("a tensor rebuilt by something else")
    return rebuild.call(*arguments)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": ordered_dict,
    "torch.Size": as_tuple,
    "torch.device": nothing,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": first,
    "torch._utils._rebuild_parameter_with_state": first,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch._utils._rebuild_wrapper_subclass": _rebuild_wrapper,
    "torch.serialization._get_layout": nothing,
    "_codecs.encode": first,  # protocol 2 writes bytes as text
}
_VALUES: dict[str, str] = {
    "torch.Tensor": "Tensor",
    "torch.nn.parameter.Parameter": "Parameter",
    **{f"{module}.{name}": dtype for name, dtype in _STORAGES.items() for module in ("torch", "torch.storage")},
    **{f"torch.{name}": dtype for name, dtype in _DTYPES.items()},
    **{f"torch.{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)},
}
