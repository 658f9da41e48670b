"""EXL2: groups of inputs at bits of their own, in an order of their own.

`q_weight` int32, groups one below the other, a column one stream of bits, the lowest first; `q_groups` int16, for
each group its bits and its first row of words; `q_scale` (groups, out / 8) four bits each, `q_scale_max` (groups,): a
scale is (code + 1)^2 times the group's largest, over 256; codes lie around half their range; `q_invperm` says where
each input stands in that order. Source: README and wiki of the exllamav2 project.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.packed.bits import unpack_bits
from huref.model.source.packed.grouped import floats
from huref.model.source.packed.packed_tensor import (
    Blocks,
    PackedTensor,
    RowNumbers,
    packed_info,
    require,
    require_part,
)
from huref.model.source.packed.scaled import Scaled
from huref.model.source.packed.stored import Stored

NAME = "EXL2"
METHODS = ("exl2",)

_BITS = (2, 3, 4, 5, 6, 8)
_GROUPS_LIMIT = 1 << 20
_ROUNDING = 2.0**-11


@dataclass(frozen=True)
class _Group:
    bits: int
    first_word: int
    n_words: int

    @property
    def n_inputs(self) -> int:
        return self.n_words * 32 // self.bits


@dataclass(frozen=True)
class Exl2Tensor(PackedTensor):
    """A linear layer of EXL2."""

    info: TensorInfo
    parts: tuple[str, ...]
    base: str
    groups: tuple[_Group, ...]

    def load(self, checkpoint: Checkpoint, rows: RowNumbers) -> Blocks:
        words, packed_scales, largest, place = (
            checkpoint.read(f"{self.base}.{name}") for name in ("q_weight", "q_scale", "q_scale_max", "q_invperm")
        )
        part = checkpoint.tensors[f"{self.base}.q_invperm"]
        n_inputs = self.info.shape[1]
        place = place.astype(np.int64) & (0xFFFF if part.dtype == "I16" else -1)
        require(np.array_equal(np.sort(place), np.arange(n_inputs)), part, "an order of all inputs", part.shape)
        scales = np.square(unpack_bits(packed_scales, 4).astype(np.float32) + 1).T
        scales = scales * (floats(largest) / 256)
        of_input = np.repeat(np.arange(len(self.groups)), [group.n_inputs for group in self.groups])[place]
        if rows is not None:
            words, scales = words[:, rows], scales[rows]
        runs = [list(run) for _, run in itertools.groupby(self.groups, lambda group: group.bits)]

        def block(here: slice) -> Scaled:
            levels = np.empty((here.stop - here.start, n_inputs), np.float32)
            at = 0
            for run in runs:
                inside = slice(run[0].first_word, run[-1].first_word + run[-1].n_words)
                codes = unpack_bits(np.ascontiguousarray(words[inside, here].T), run[0].bits)
                levels[:, at : at + codes.shape[1]] = codes
                levels[:, at : at + codes.shape[1]] -= 1 << (run[0].bits - 1)
                at += codes.shape[1]
            return Scaled(levels[:, place], scales[here][:, of_input], rounding=_ROUNDING)

        return block


def find(stored: Stored) -> Iterator[Exl2Tensor]:
    """Layers with `q_weight` and `q_groups`."""
    for base, words in stored.ending(".q_weight"):
        names = ("q_groups", "q_scale", "q_scale_max", "q_invperm")
        groups, scale, largest, place = (
            require_part(stored.get(f"{base}.{name}"), words, f"{base}.{name}") for name in names
        )
        require(words.dtype == "I32" and len(words.shape) == 2, words, "a matrix of words", words.shape)
        found = _groups(stored, groups, words)
        n_out, n_inputs = words.shape[1], sum(group.n_inputs for group in found)
        require(n_out > 0 and n_out % 8 == 0, words, "outputs in eights", words.shape)
        require(scale.dtype == "I32" and scale.shape == (len(found), n_out // 8), scale, "scales", scale.shape)
        require(largest.shape == (len(found),), largest, f"{len(found)} groups", largest.shape)
        require(
            place.shape == (n_inputs,) and place.dtype in ("I16", "I32"), place, f"{n_inputs} inputs", place.shape
        )
        bits = round(sum(group.bits * group.n_inputs for group in found) / n_inputs)
        yield Exl2Tensor(
            info=packed_info(f"{base}.weight", (n_out, n_inputs), f"EXL_{bits}BIT", [words, scale]),
            parts=(words.name, *stored.aside(*(f"{base}.{name}" for name in (*names, "q_perm", "q_group_map")))),
            base=base,
            groups=found,
        )


def _groups(stored: Stored, part: TensorInfo, words: TensorInfo) -> tuple[_Group, ...]:
    is_pairs = part.dtype == "I16" and len(part.shape) == 1 and part.shape[0] % 2 == 0
    require(is_pairs and 0 < part.shape[0] <= _GROUPS_LIMIT, part, "pairs of bits and rows", part.shape)
    table = stored.checkpoint.read(part.name).astype(np.int64).reshape(-1, 2) & 0xFFFF
    ends = [*table[1:, 1].tolist(), words.shape[0]]
    groups = tuple(_Group(bits, first, end - first) for (bits, first), end in zip(table.tolist(), ends, strict=True))
    is_sound = all(
        group.bits in _BITS and group.n_words > 0 and group.n_words * 32 % group.bits == 0 for group in groups
    )
    require(is_sound and groups[0].first_word == 0, part, "groups that cover all words", table[:4].tolist())
    return groups
