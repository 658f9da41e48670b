"""Which rows of stored tensors canonical ones are cut from: fused matrices, and experts one by one or stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from huref.model.arch.canonical import Geometry, Piece, RowMap
from huref.model.arch.schema import STACKED, Half, TensorRule


class Shapes(Protocol):
    """Who knows the stored shapes."""

    def check_shape(self, stored: str, shapes: list[tuple[int, ...]], *, is_transposed: bool = False) -> None:
        """Refuse a stored tensor that is not put together of parts of these shapes."""


def row_maps(rule: TensorRule, shapes: Sequence[tuple[int, ...]], geometry: Geometry) -> Iterator[RowMap]:
    """How the parts lie in the stored rows; `q`, `k`, `v` or `gate`, `up` in stored order."""
    rope_head = geometry.head_dim if "unpermute_rope" in rule.steps else 0
    groups = {"grouped": geometry.n_kv_heads, "by_head": geometry.n_heads, "four_blocks": 4}.get(rule.split or "", 1)
    stride = sum(shape[0] for shape in shapes) // groups
    offset = 0
    for shape in shapes:
        run = shape[0] // groups
        yield RowMap(groups, stride, offset, run, rope_head)
        offset += run


def of_experts(
    shapes: Shapes,
    rule: TensorRule,
    template: str,
    stored: Sequence[str],
    shape: tuple[int, ...],
    axis: int,
    n: int,
) -> list[Piece]:
    """The pieces of all experts' neurons.

    Args:
        stored: a tensor per expert, or one for all.
        shape: one expert's: (f, d), (d, f) where `axis` is 1, or (f,).
        n: experts.
    """
    if not template.endswith(STACKED):
        for name in stored:
            shapes.check_shape(name, [shape])
        return [Piece(name, RowMap(1, shape[0], 0, shape[0])) for name in stored]
    is_turned = "transpose" in rule.steps and len(shape) > 1
    parts = 2 if rule.half else 1
    whole = (parts * shape[0], *shape[1:])
    one = whole[::-1] if is_turned else whole
    shapes.check_shape(stored[0], [one] * n if "flat" in rule.steps else [(n, *one)])
    if is_turned:
        n_in = whole[-1]
        rows = _half(rule.half, 1, shape[0])
        return [Piece(stored[0], rows, is_table=True, turned=(e * n_in, n_in)) for e in range(n)]
    if axis == 0:
        return [Piece(stored[0], _half(rule.half, n, shape[0]), is_table=True)]
    return [Piece(stored[0], RowMap(1, shape[0], e * shape[0], shape[0]), is_table=True) for e in range(n)]


def of_heads(
    shapes: Shapes, keys: str, values: str, heads: int, shapes_of_one: Sequence[tuple[int, int]]
) -> list[Piece]:
    """Per head the rows of a latent key, stored (heads, r, nope), then those of its value, stored (heads, u, r).

    Args:
        shapes_of_one: a head's key (nope, r), and its value (u, r).
    """
    (nope, r), (u, _) = shapes_of_one
    shapes.check_shape(keys, [(heads, r, nope)])
    shapes.check_shape(values, [(heads, u, r)])
    pieces = []
    for head in range(heads):
        pieces.append(Piece(keys, RowMap(1, nope, 0, nope), is_table=True, turned=(head * r, r)))
        pieces.append(Piece(values, RowMap(1, u, head * u, u), is_table=True))
    return pieces


def of_shared(
    shapes: Shapes, rule: TensorRule, stored: str, actual: tuple[int, ...], shape: tuple[int, int]
) -> Piece:
    """The shared expert's neurons, of a tensor of their own or of one that holds its gates and ups."""
    if rule.half and actual[:1] == (2 * shape[0],):
        shapes.check_shape(stored, [shape, shape])
        return Piece(stored, _half(rule.half, 1, shape[0]))
    shapes.check_shape(stored, [shape])
    return Piece(stored, RowMap(1, shape[0], 0, shape[0]))


def _half(half: Half | None, n: int, run: int) -> RowMap:
    """Rows of n experts of `run` neurons each, where gates and ups stand one behind the other or take turns."""
    if half in ("even", "odd"):
        return RowMap(n * run, 2, int(half == "odd"), 1)
    if half is None:
        return RowMap(1, n * run, 0, n * run)
    return RowMap(n, 2 * run, run if half == "second" else 0, run)
