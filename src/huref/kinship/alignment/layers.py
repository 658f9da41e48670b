"""Which layers of two models are compared, and which layer is whose partner."""

from __future__ import annotations

from dataclasses import dataclass

MOST_WEIGHTS = 3 << 30
"""Feed-forward weights read of both models together, unless the user names layers."""

_FEW_LAYERS = 4


@dataclass(frozen=True)
class LayerPlan:
    """Pairs of layers to look at.

    Attributes:
        rows: layers of A, ascending.
        windows: for each of them the layers of B to try, ascending.
        is_complete: every layer of A against every layer of B.
    """

    rows: tuple[int, ...]
    windows: tuple[tuple[int, ...], ...]
    is_complete: bool


def plan_layers(n_a: int, n_b: int, weights_per_layer: int, asked: tuple[int, ...] | None = None) -> LayerPlan:
    """All layers against all where that is affordable; else evenly spaced ones, each against those near its place.

    Args:
        n_a, n_b: layers of the two models.
        weights_per_layer: feed-forward weights in a layer of the larger model.
        asked: layers of A that the user named; each is compared with every layer of B.
    """
    everything = tuple(range(n_b))
    affordable = max(2, MOST_WEIGHTS // max(1, weights_per_layer))
    if asked is not None:
        return LayerPlan(asked, tuple(everything for _ in asked), len(asked) == n_a)
    if n_a + n_b <= affordable:
        return LayerPlan(tuple(range(n_a)), tuple(everything for _ in range(n_a)), True)
    if n_a == n_b:  # no layer came or went: a few, each against the same few, which are read once
        few = (
            tuple(int((i + 0.5) * n_a / _FEW_LAYERS) for i in range(_FEW_LAYERS))
            if n_a >= _FEW_LAYERS
            else everything
        )
        return LayerPlan(few, tuple(few for _ in few), False)
    reach = 1 + abs(n_a - n_b)  # layers may have gone or come anywhere before this one
    n_rows = max(1, min(n_a, affordable // (2 + 2 * reach)))
    rows = tuple(int((i + 0.5) * n_a / n_rows) for i in range(n_rows))
    return LayerPlan(rows, tuple(_window(i, n_a, n_b, reach) for i in rows), False)


def _window(layer: int, n_a: int, n_b: int, reach: int) -> tuple[int, ...]:
    """Layers of B around the place that corresponds to a layer of A, from either end."""
    low, high = sorted((layer, layer - n_a + n_b))
    centre = round(layer * (n_b - 1) / max(1, n_a - 1))
    start, stop = min(low, centre - reach // 2, centre - 1), max(high, centre + reach // 2, centre + 1)
    return tuple(range(max(0, start), min(n_b, stop + 1)))
