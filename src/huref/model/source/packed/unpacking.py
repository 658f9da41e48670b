"""From a checkpoint as stored to one of plain tensors. Schemes are the modules `*_scheme` of this folder."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import huref.model.source.packed
from huref.errors import CorruptFileError, InputError
from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.declaration import Declaration, read_declaration
from huref.model.source.packed.packed_checkpoint import PackedCheckpoint
from huref.model.source.packed.packed_tensor import PackedTensor
from huref.model.source.packed.stored import Stored

_ASIDE = (
    *(".input_scale", ".output_scale", ".activation_scale", ".input_activation_scale", ".input_global_scale"),
    *(".input_zero_point", ".k_scale", ".v_scale", ".q_scale", ".kv_scale", ".prob_output_scale"),
    *(".k_proj.output_scale", ".v_proj.output_scale", ".input_quantizer._amax", ".input_scale_ub"),
)
"""Endings of what quantisers store for activations and for the cache: no weights."""

_WHOLE = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F4", "F8_E4M3", "F8_E5M2")


class Scheme(Protocol):
    """What a module named `*_scheme` offers; there is no other place to register it.

    Attributes:
        NAME: for messages.
        METHODS: values of `quant_method` that it is declared by.
    """

    NAME: str
    METHODS: tuple[str, ...]

    def find(self, stored: Stored) -> Iterable[PackedTensor]:
        """Tensors in this layout. What has other names or types is left to other schemes.

        Raises:
            InputError: a variant that is not read.
            CorruptFileError: parts that contradict one another or the declaration.
        """


def unpacked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with plain tensors in the place of packed ones; itself where none is packed.

    Raises:
        InputError: a scheme that is declared and not read, where the weights are packed.
        CorruptFileError: parts that contradict one another.
    """
    declared = read_declaration(checkpoint)
    left = dict(checkpoint.tensors)
    packed: dict[str, PackedTensor] = {}
    for scheme in _in_order(declared):
        for found in list(scheme.find(Stored(checkpoint, declared, left))):
            for part in found.parts:
                left.pop(part, None)
            if found.info.name in packed or found.info.name in left:
                raise _twice(found.info)
            packed[found.info.name] = found
    if not packed:
        _require_known(checkpoint, declared)
        return checkpoint
    parts = {part for found in packed.values() for part in found.parts}
    aside = frozenset(parts | {name for name in left if name.endswith(_ASIDE)})
    return PackedCheckpoint(checkpoint, packed, aside)


@functools.cache
def schemes() -> tuple[Scheme, ...]:
    """All schemes, by name."""
    package = huref.model.source.packed
    names = [module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    return tuple(cast(Scheme, importlib.import_module(name)) for name in sorted(names) if name.endswith("_scheme"))


def _in_order(declared: Declaration) -> list[Scheme]:
    """The declared scheme first: it knows what the settings mean."""
    return sorted(schemes(), key=lambda scheme: declared.method not in scheme.METHODS)


def _require_known(checkpoint: Checkpoint, declared: Declaration) -> None:
    """Name a scheme that nobody reads; weights that are plain whatever is declared are no trouble."""
    methods = sorted({method for scheme in schemes() for method in scheme.METHODS})
    if not declared.method or declared.method in methods or not _looks_packed(checkpoint.tensors):
        return
    raise InputError(
        f"weights are quantised by {declared.method}, which huref does not read",
        where=declared.where,
        expected=f"plain weights, or one of {', '.join(methods)}",
        got=f"quant_method {declared.method}",
        next_step="name the checkpoint before it was quantised, or save it dequantised",
    )


def _looks_packed(tensors: Mapping[str, TensorInfo]) -> bool:
    return any(info.dtype in _WHOLE and len(info.shape) > 1 for info in tensors.values())


def _twice(info: TensorInfo) -> CorruptFileError:
    return CorruptFileError(
        "a tensor is stored packed and plain",
        where=f"{info.file}, tensor {info.name}",
        expected="one of the two",
        got="both",
        next_step="fetch the checkpoint again, from one revision",
    )
