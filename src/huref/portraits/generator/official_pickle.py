"""What an official StyleGAN2 pickle says, as records: no class is looked up, no code in it is run, nothing imported.

The release of StyleGAN2 with adaptive augmentation (Karras et al., "Training Generative Adversarial Networks with
Limited Data", 2020) pickles whole modules. Each carries the source of its Python file, which their loader executes.
Here a pickle is a description to be parsed: `huref.model.source.restricted_pickle` reads it under the rules below,
which know the dozen names that those files use and make a record of each. Only the arrays asked for are read, from
where they lie.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from huref.errors import InputError
from huref.model.source.byte_source import ByteSource
from huref.model.source.pickle_container import read_container
from huref.model.source.pickle_format import contradiction
from huref.model.source.pickle_modules import ModuleRecord
from huref.model.source.pickle_records import BYTES, StorageRecord
from huref.model.source.pickle_rules import PickleRules, first, nothing, ordered_dict
from huref.model.source.pickle_stream import PickleStream, Window
from huref.model.source.restricted_pickle import unpickle
from huref.numerics.arrays import Floats, array_dtype

DESCRIPTION_LIMIT = 1 << 19
"""Bytes of the pickle besides texts and arrays; a network of 64 pixels needs 50 kB, with its discriminator."""

_FLOATS = ("F32", "F16", "F64")
_NUMBERS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}


@dataclass(frozen=True)
class StoredArray:
    """A tensor: a view of a storage, which is a torch stream of its own within the file. Not checked yet."""

    storage: Window
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _NumberType:
    code: Any
    is_little: bool = False


def read_structure(source: ByteSource) -> Any:
    """The pickled object as dictionaries, lists, `ModuleRecord`s and `StoredArray`s; no array is read.

    Raises:
        UnsafeFileError: the pickle names anything else, or is absurdly long.
        CorruptFileError: it cannot be read.
        InputError: a pickle of the TensorFlow releases.
    """
    return unpickle(PickleStream(source, DESCRIPTION_LIMIT), _rules(source))


def read_array(source: ByteSource, array: StoredArray, name: str) -> Floats:
    """The array as a row-major fp32 array of its own.

    Raises:
        CorruptFileError: its description contradicts the file.
    """
    where = f"{source.name}, tensor {name}"
    part = _Part(source, array.storage, where)
    container = read_container(part)
    storage = container.root
    if not isinstance(storage, StorageRecord) or storage.dtype not in _FLOATS:
        raise contradiction(where, "a storage of type " + ", ".join(_FLOATS), _told(storage))
    offset, length = container.places[storage.key]
    width = BYTES[storage.dtype]
    count = math.prod(array.shape)
    span = 1 + sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
    if count < 1 or span != count or (array.offset + count) * width > length:
        got = f"shape {array.shape}, strides {array.strides}, offset {array.offset} in {length} bytes"
        raise contradiction(where, "elements within their storage, without gaps or repeats", got)
    flat = np.frombuffer(part.read(offset + array.offset * width, count * width), array_dtype(storage.dtype))
    steps = [stride * width for stride in array.strides]
    strided = np.lib.stride_tricks.as_strided(flat, array.shape, steps, writeable=False)
    return np.array(strided, np.float32, order="C")


class _Part(ByteSource):
    """A stretch of a file as a file."""

    def __init__(self, source: ByteSource, window: Window, name: str) -> None:
        self._source, self._start = source, window.offset
        self.size, self.name = window.length, name

    def _fill(self, offset: int, buffer: memoryview) -> None:
        self._source.read_into([(self._start + offset, buffer)])


def _rules(source: ByteSource) -> PickleRules:
    """Networks and arrays: the dozen names that those files use."""
    calls: dict[str, Callable[..., Any]] = {
        "torch_utils.persistence._reconstruct_persistent_obj": _module,
        "torch.storage._load_from_bytes": _storage,
        "torch._utils._rebuild_tensor_v2": _array,
        "torch._utils._rebuild_parameter": first,
        **dict.fromkeys(("collections.OrderedDict", "dnnlib.util.EasyDict"), ordered_dict),
        **dict.fromkeys(("builtins.set", "torch.device", "numpy.ndarray"), nothing),
        "numpy.dtype": lambda code, *_: _NumberType(code),
    }
    for numpy in ("numpy.core", "numpy._core"):
        calls |= dict.fromkeys((f"{numpy}.multiarray._reconstruct", f"{numpy}.numeric._frombuffer"), nothing)
        calls[f"{numpy}.multiarray.scalar"] = partial(_number, source)
    return PickleRules(
        content="a pickle of stylegan2-ada-pytorch",
        allowed="networks and arrays, and nothing that can execute",
        next_step="distrust this file; fetch the official one again, or use a safetensors copy",
        calls=calls,
        other=partial(_other, source),
        set_state=_set_state,
        protocols=range(3, 6),  # before, byte strings are texts, and do not lie in the file as they are
    )


def _other(source: ByteSource, text: str) -> None:
    """A name that no rule has."""
    if text == "dnnlib.tflib.network.Network":
        raise InputError(
            "a pickle of the TensorFlow releases of StyleGAN",
            where=source.name,
            expected="a pickle of stylegan2-ada-pytorch",
            got=text,
            next_step="convert it with legacy.py of stylegan2-ada-pytorch, where you trust the file",
        )


def _number(source: ByteSource, kind: Any, value: Any) -> float | None:
    """A number of numpy's; None for a type that no attribute of a network has."""
    if not isinstance(kind, _NumberType) or not isinstance(value, Window):
        raise TypeError("a number without a type")
    letter = _NUMBERS.get(kind.code) if isinstance(kind.code, str) and kind.is_little else None
    if letter is None or value.length != struct.calcsize(letter):
        return None
    return float(struct.unpack(f"<{letter}", source.read(value.offset, value.length))[0])


def _set_state(target: Any, state: Any) -> None:
    """Of all the attributes that could be set, only the byte order of a number type matters."""
    if isinstance(target, _NumberType):
        target.is_little = isinstance(state, tuple) and state[1:2] in (("<",), ("|",))


def _module(meta: Any) -> ModuleRecord:
    """What their loader would execute `meta["module_src"]` for."""
    kind, state = meta["class_name"], meta["state"]
    if not isinstance(kind, str) or type(state) is not dict:
        raise TypeError(f"a module of class {_told(kind)} with a {type(state).__name__} of attributes")
    return ModuleRecord(kind, state)


def _storage(data: Any) -> Window:
    if not isinstance(data, Window):
        raise TypeError(f"a storage made of a {type(data).__name__}")
    return data


def _array(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredArray:
    if not isinstance(storage, Window) or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without storage, shape or strides")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 4 or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
        raise ValueError("a tensor whose offset, shape or strides make no sense")
    return StoredArray(storage, offset, shape, strides)


def _told(value: Any) -> str:
    """A value for a message; never a container, whose text can be endless."""
    if isinstance(value, StorageRecord):
        return f"type {value.dtype}"
    return repr(value)[:80] if isinstance(value, str) else type(value).__name__
