"""A base with an adapter on it, read as the model that merging them would give; every read costs what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from huref.errors import CorruptFileError, InputError, MissingTensorError
from huref.model.source.adapters import CONFIG, Changes, LowRank, without_scale
from huref.model.source.checkpoint import Checkpoint, Rows, TensorInfo
from huref.model.source.rows import resolve_rows
from huref.numerics.arrays import Array, array_dtype, float32


class AdaptedCheckpoint(Checkpoint):
    """What the base reads, plus scale * B A where the adapter says so.

    Args:
        base: the model; of a state saved unmerged, the same checkpoint as `adapter`.
        changes: by the base's names: low-rank ones by module, whole tensors by tensor.
        names: the name here of every base tensor that is kept, to its stored name.
        more: files beside those of the base that shape the result.

    Raises:
        InputError: a change that the base has no place for.
    """

    def __init__(
        self,
        reference: str,
        base: Checkpoint,
        adapter: Checkpoint,
        changes: Changes,
        names: Mapping[str, str],
        more: Mapping[str, Path],
    ) -> None:
        self.reference, self.folder, self.format = reference, base.folder, base.format
        self.config, self.metadata = base.config, base.metadata
        self._base, self._adapter, self._names, self._more = base, adapter, names, more
        self._changes: dict[str, LowRank] = {}
        self._whole: dict[str, str] = {}
        self.tensors = {name: self._kept(name, stored) for name, stored in names.items()}
        for module, change in changes.low_rank.items():
            self._add(module, change)
        for name, stored in changes.whole.items():
            self._replace(name, stored)
        self.files = {**base.files, **{name: path.stat().st_size for name, path in more.items()}}
        count = len(self._changes) + len(self._whole)
        self.notes = (*base.notes, f"an adapter is applied: it changes {count} tensors of the base")

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        """Of the base and the adapter."""
        return self._base.bytes_read + (self._adapter.bytes_read if self._adapter is not self._base else 0)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the base, then those of the adapter."""
        return (*self._base.paths, *self._more.values())

    def read(self, name: str, rows: Rows = None) -> Array:
        if name in self._whole:
            return self._adapter.read(self._whole[name], rows)
        if name not in self._names:
            raise MissingTensorError(f"no tensor named {name}", where=self.reference, expected=name)
        tensor = self._base.read(self._names[name], rows)
        return tensor if name not in self._changes else self._changed(name, tensor, rows)

    def read_table(self, name: str, rows: Rows = None) -> Array:
        if name in self._changes or name in self._whole:
            return super().read_table(name, rows)
        return self._base.read_table(self._names[name], rows)

    def close(self) -> None:
        self._base.close()
        self._adapter.close()

    def _changed(self, name: str, tensor: Array, rows: Rows) -> Array:
        """In float32, rounded at the end to what the base stores: that is what merging saves."""
        change = self._changes[name]
        wanted = resolve_rows(rows, self.tensors[name].shape[0], name)
        scale = np.float32(self._scale(change))
        a, b = float32(self._adapter.read(change.a)), None
        if change.is_turned:
            left = np.ascontiguousarray((a if wanted is None else a[:, wanted]).T)
            right = float32(self._adapter.read(change.b)).T
        else:
            b = float32(self._adapter.read(change.b, wanted))
            left, right = b, a
        result: Array = float32(tensor) + scale * (left @ right)
        if change.magnitude is not None:
            result = self._lengthened(name, change, result, wanted)
        dtype = array_dtype(self.tensors[name].dtype)
        return result if dtype is None else result.astype(dtype)

    def _lengthened(self, name: str, change: LowRank, result: Array, wanted: np.ndarray | None) -> Array:
        """DoRA: each output's weights get the length that was trained."""
        assert change.magnitude is not None
        lengths = float32(self._adapter.read(change.magnitude)).reshape(-1)
        if change.is_turned:  # an output's weights are a column, of which some rows do not tell the length
            whole = result if wanted is None else self._changed_whole(name, change)
            turned: Array = result * (lengths / np.linalg.norm(whole, axis=0))
            return turned
        chosen = lengths if wanted is None else lengths[wanted]
        scaled: Array = result * (chosen / np.linalg.norm(result, axis=1))[:, None]
        return scaled

    def _changed_whole(self, name: str, change: LowRank) -> Array:
        a, b = (float32(self._adapter.read(part)) for part in (change.a, change.b))
        whole: Array = float32(self._base.read(self._names[name])) + np.float32(self._scale(change)) * (a.T @ b.T)
        return whole

    def _scale(self, change: LowRank) -> float:
        assert change.scale is not None
        return change.scale

    def _kept(self, name: str, stored: str) -> TensorInfo:
        return replace(self._base.tensors[stored], name=name)

    def _add(self, module: str, change: LowRank) -> None:
        name = self._placed(f"{module}.weight")
        a, b = self._adapter.tensors[change.a].shape, self._adapter.tensors[change.b].shape
        shape = (a[1], b[0]) if change.is_turned else (b[0], a[1])
        if self.tensors[name].shape != shape:
            raise self._misfit(name, self.tensors[name].shape, shape)
        if change.magnitude is not None:
            lengths = self._adapter.tensors[change.magnitude].shape
            if change.a.count("lora_embedding_") or np.prod(lengths) != b[0]:
                raise self._misfit(change.magnitude, (b[0],), lengths)
        if change.scale is None:
            if change.magnitude is not None or self._adapter.read(change.b).any():
                raise self._no_scale()
            change = without_scale(change)
        if change.scale == 0 and change.magnitude is None:
            return
        self._changes[name] = change
        info = self.tensors[name]
        if array_dtype(info.dtype) is None or np.dtype(array_dtype(info.dtype)).kind in "biu":
            count = int(np.prod(shape))
            self.tensors = {**self.tensors, name: replace(info, dtype="F32", nbytes=4 * count)}

    def _replace(self, name: str, stored: str) -> None:
        name = self._placed(name)
        info = self._adapter.tensors[stored]
        if info.shape[1:] != self.tensors[name].shape[1:]:
            raise self._misfit(name, self.tensors[name].shape, info.shape)
        self.tensors = {**self.tensors, name: replace(info, name=name)}
        self._whole[name] = stored

    def _placed(self, name: str) -> str:
        """The base's tensor of this name, in front of which base or adapter may have more."""
        if name in self._names:
            return name
        found = [n for n in self._names if n.endswith(f".{name}") or name.endswith(f".{n}")]
        if len(found) != 1:
            raise InputError(
                "the adapter changes a tensor that the base does not have",
                where=self.reference,
                expected=f"{name} in the base",
                got=f"{len(found)} tensors of such a name" if found else "no such tensor",
                next_step="name the base that the adapter was made for, in the layout it was made for "
                "(Hugging Face for PEFT, GGUF for llama.cpp)",
            )
        return found[0]

    def _misfit(self, name: str, expected: tuple[int, ...], got: tuple[int, ...]) -> CorruptFileError:
        return CorruptFileError(
            "the adapter does not fit its base",
            where=f"{self.reference}: {name}",
            expected=str(expected),
            got=str(got),
            next_step="name the base that the adapter was made for",
        )

    def _no_scale(self) -> InputError:
        return InputError(
            "the adapter's scale is not told",
            where=self.reference,
            expected=f"{CONFIG} with lora_alpha beside the weights",
            got="none",
            next_step=f"put the {CONFIG} that it was trained with beside the weights, or merge before saving",
        )
