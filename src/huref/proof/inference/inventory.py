"""What a proof commits to, row by row: proof-inference-v1, section 5.

Rows come in groups of one width each: `d`, `f` and `e` as in the model, `t` for the T pairs of positions, `n` for the
positions. Within a block rows are ordered by layer (or norm), then position, then head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from huref.proof.inference.precision import Scales, limbs
from huref.proof.inference.tables import exp_table, silu_table

GROUPS = ("d", "f", "e", "t", "n")
SILU_TAG = 100
EXP_TAG = 101
"""Tags of the two tables with pairs; a table of the numbers below `2^b` has the tag b."""

EMBEDDING_BITS = 16


@dataclass(frozen=True)
class Block:
    """A committed matrix: `rows` rows of its group's width, one point each."""

    name: str
    group: str
    rows: int


@dataclass(frozen=True)
class Lookup:
    """Every entry of a block is in a table.

    Attributes:
        inverse: the block of inverses, as many rows.
        block: what is looked up.
        tags: the table of each row.
        partner: a block whose entries are the second halves of pairs, or empty.
    """

    inverse: Block
    block: str
    tags: np.ndarray
    partner: str = ""


@dataclass(frozen=True)
class Limbs:
    """A number cut in limbs, each a block: `sum_i 2^(limb i) block_i - offset`.

    Attributes:
        name: blocks are called `NAME.0`, `NAME.1`, ...
        group: theirs.
        sizes: for each row the bits of each limb.
        limb: bits of a full one.
        offset: subtracted, for signed numbers.
    """

    name: str
    group: str
    sizes: tuple[tuple[int, ...], ...]
    limb: int
    offset: int = 0

    @property
    def count(self) -> int:
        """Blocks."""
        return max(len(sizes) for sizes in self.sizes)

    def block(self, i: int) -> str:
        """Name of the i-th limb's block."""
        return f"{self.name}.{i}"

    def tags(self, i: int) -> np.ndarray:
        """Bits of the i-th limb in each row: (rows,)."""
        return np.array([sizes[i] if i < len(sizes) else 0 for sizes in self.sizes], dtype=np.int64)


class Inventory:
    """The blocks, limbs, lookups and tables of one statement.

    Args:
        scales: shape and precision.
        tokens: the prompt.
    """

    def __init__(self, scales: Scales, tokens: tuple[int, ...]) -> None:
        self.scales = scales
        self.tokens = tokens
        self.shape = scales.shape
        self.n = len(tokens)
        self.norms = 2 * self.shape.layers + 1

    @cached_property
    def widths(self) -> Mapping[str, int]:
        """Entries of a row, by group."""
        shape, n = self.shape, self.n
        sizes = (shape.width, shape.hidden, shape.head_dim, n * (n + 1) // 2, n)
        return dict(zip(GROUPS, sizes, strict=True))

    @cached_property
    def limbs(self) -> Mapping[str, Limbs]:
        """Numbers that are committed in limbs, by name."""
        s, p, layers = self.scales, self.scales.precision, range(self.shape.layers)
        per_token, heads = self.n, self.shape.heads
        logit_rows = -(-self.shape.vocabulary // self.shape.width)
        made = [
            self._limbs("token", "d", [EMBEDDING_BITS], per_token, is_signed=True),
            self._limbs("norm.y", "d", [p.norm_bits] * self.norms, per_token, is_signed=True),
            self._limbs("norm.r", "d", [s.norm_shift] * self.norms, per_token),
            self._limbs("o.y", "d", [p.update_bits for _ in layers], per_token, is_signed=True),
            self._limbs("o.r", "d", [s.o_shift(layer) for layer in layers], per_token),
            self._limbs("down.y", "d", [p.update_bits for _ in layers], per_token, is_signed=True),
            self._limbs("down.r", "d", [s.down_shift(layer) for layer in layers], per_token),
            self._limbs("logit.r", "d", [s.logit_shift], logit_rows),
            self._limbs("gate.r", "f", [s.gate_shift(layer) for layer in layers], per_token),
            self._limbs("top", "t", [p.top_bits for _ in layers], heads, is_signed=True),
            self._limbs("score.r", "t", [s.score_shift(layer) for layer in layers], heads),
            self._limbs("weight", "t", [p.prob_scale + 1 for _ in layers], heads),
            self._limbs("left", "t", [s.rest_bits(self.n) for _ in layers], heads),
            self._limbs("right", "t", [s.rest_bits(self.n) for _ in layers], heads),
            self._limbs("peak", "t", [1 for _ in layers], heads),
            self._limbs("root", "n", [p.root_bits] * self.norms, 1),
            self._limbs("low", "n", [s.slack_bits] * self.norms, 1),
            self._limbs("high", "n", [s.slack_bits] * self.norms, 1),
        ]
        return {item.name: item for item in made}

    @cached_property
    def activations(self) -> tuple[Block, ...]:
        """What is committed before the first challenge, in order."""
        layers, n, h, g = self.shape.layers, self.n, self.shape.heads, self.shape.groups
        blocks = [
            Block(item.block(i), item.group, len(item.sizes))
            for item in self.limbs.values()
            for i in range(item.count)
        ]
        blocks += [Block("hidden", "d", 1)]
        blocks += [Block(name, "f", layers * n) for name in ("gate.y", "silu", "up", "inner")]
        blocks += [
            Block(name, "e", layers * n * count) for name, count in (("q", h), ("k", g), ("v", g), ("mixed", h))
        ]
        blocks += [Block(name, "t", layers * h) for name in ("distance", "exp", "total")]
        blocks += [Block(name, "n", self.norms) for name in ("squares", "product")]
        blocks += [Block("counts", "f", -(-self.n_entries // self.widths["f"]))]
        return tuple(blocks)

    @cached_property
    def auxiliaries(self) -> tuple[Block, ...]:
        """What is committed between the challenges, in order."""
        layers, h, g = self.shape.layers, self.shape.heads, self.shape.groups
        return (
            *(lookup.inverse for lookup in self.lookups),
            Block("norm.u", "n", self.norms),
            Block("mixed.u", "t", layers * g),
            Block("o.u", "e", layers * h),
            Block("down.u", "f", layers),
        )

    @cached_property
    def lookups(self) -> tuple[Lookup, ...]:
        """Everything that must be in a table."""
        made = []
        for item in self.limbs.values():
            for i in range(item.count):
                made.append(_lookup(item.block(i), item.group, item.tags(i)))
        layers, n = self.shape.layers, self.n
        made.append(_lookup("gate.y", "f", np.full(layers * n, SILU_TAG), "silu"))
        made.append(_lookup("distance", "t", np.full(layers * self.shape.heads, EXP_TAG), "exp"))
        return tuple(made)

    @cached_property
    def tables(self) -> tuple[tuple[int, int], ...]:
        """(tag, entries) of each table, in the order of the counts."""
        p = self.scales.precision
        used = {int(tag) for item in self.limbs.values() for i in range(item.count) for tag in item.tags(i)}
        sizes = [(bits, 1 << bits) for bits in sorted(used)]
        return (*sizes, (SILU_TAG, 1 << p.gate_bits), (EXP_TAG, 1 << p.score_bits))

    @property
    def n_entries(self) -> int:
        """Entries of all tables."""
        return sum(size for _, size in self.tables)

    def table_start(self, tag: int) -> int:
        """Where a table begins among all entries."""
        start = 0
        for other, size in self.tables:
            if other == tag:
                return start
            start += size
        raise KeyError(tag)

    def _limbs(self, name: str, group: str, bits: list[int], repeats: int, *, is_signed: bool = False) -> Limbs:
        size = self.scales.precision.limb
        rows = tuple(limbs(b, size) for b in bits for _ in range(repeats))
        return Limbs(name, group, rows, size, 1 << (bits[0] - 1) if is_signed else 0)


def _lookup(block: str, group: str, tags: np.ndarray, partner: str = "") -> Lookup:
    return Lookup(Block(f"1/{block}", group, len(tags)), block, tags, partner)


def table_entries(inventory: Inventory, tag: int) -> tuple[np.ndarray, np.ndarray | None]:
    """First and second halves of a table's entries; no second ones for a range."""
    precision = inventory.scales.precision
    size = dict(inventory.tables)[tag]
    second = {SILU_TAG: silu_table, EXP_TAG: exp_table}.get(tag)
    return np.arange(size, dtype=np.int64), None if second is None else second(precision)
