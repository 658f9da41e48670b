"""The story for people, and a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np

from huref.explanation.transform import TOLERANCE, Checked, Explanation, UndoneModel, dropped_layers
from huref.kinship.recovery.transform import IDENTITY, NONE, ROTATION, LayerTransform


def explain_text(found: Explanation) -> tuple[str, ...]:
    """A short story, a line a finding: what was done, and what undoing it shows."""
    a, b, total = found.a, found.b, found.total
    explained = [layer for layer in found.layers if layer.feed_forward >= 0]
    n_found = sum(max(layer.feed_forward, layer.attention) >= 0 for layer in found.layers)
    lines = [
        f"{b.name}, explained from {a.name}: {n_found} of {len(found.layers)} layers were found in it",
        f"residual stream: {_residual(found)}",
        f"layers: {_layer_map(found)}",
        *_neurons(found, explained),
        *_experts(explained),
        *_heads([layer for layer in found.layers if layer.attention >= 0]),
        *_gains(found),
        *_vocabulary(found),
    ]
    equal = (
        f"{_percent(total.n_equal, total.n)} of {total.n:,} weights equal within {TOLERANCE:g} of their tensor's size"
    )
    rounded = f"{_percent(total.n_rounded, total.n)} within what the stored types round off"
    lines.append(f"after undoing: {equal}; {rounded}")
    lines.append(f"compared: {_percent(total.n, b.n_weights)} of the {b.n_weights:,} weights of {b.name}")
    before = f"{found.total_before.cosine:.4f}" if found.before else "nothing of equal shape"
    lines.append(f"cosine of the weights: {before} before, {total.cosine:.4f} after undoing")
    lines += undone_text(found.undone) if found.undone else ()
    lines += [f"note: {note}" for note in found.notes]
    return tuple(lines)


def undone_text(written: UndoneModel) -> tuple[str, ...]:
    """What was written, and what of the transform is still in it."""
    error = f"its logits are within {written.error:.1e} of their range of {written.model}'s"
    line = f"{written.out}: {written.model} with the transform undone; {error}"
    return (line, *(f"not undone: {what}" for what in written.left))


def explain_csv(found: Explanation) -> str:
    """A row for every kind of weights in every layer, header first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("layer_b", "layer_a", "kind", "weights", "equal", "within_rounding", "cosine", "parts", "matched", "agreed")
    )
    layers = {layer.layer: layer for layer in found.layers}
    for name, share in found.shares.items():
        kind, number = name.rsplit(".", 1)[-1], int(name.split(".")[1]) if name.startswith("layers.") else None
        of, parts = _origin(layers[number], kind) if number is not None else ("", ("", "", ""))
        numbers = (f"{value:.6f}" for value in (share.equal, share.rounded, share.cosine))
        writer.writerow(("" if number is None else number, of, kind, share.n, *numbers, *parts))
    return out.getvalue().rstrip("\n")


def checked_text(found: Checked) -> tuple[str, ...]:
    """A line a claim, those that fail first."""
    failed = [claim for claim in found.claims if not claim.holds]
    held = len(found.claims) - len(failed)
    lines = [f"{held} of {len(found.claims)} claims hold, checked in {found.seconds:.1f} s"]
    lines += [f"  FAILS  {claim.name}: {claim.detail}" for claim in failed]
    lines += [f"  holds  {claim.name}: {claim.detail}" for claim in found.claims if claim.holds]
    return (*lines, *(f"  not looked at: {what}" for what in found.unchecked))


def ranges(numbers: Sequence[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _residual(found: Explanation) -> str:
    r = found.residual
    said = {
        IDENTITY: "as it was",
        ROTATION: f"turned by an orthogonal matrix, {r.d_a} x {r.d_b}",
    }.get(r.kind, f"{r.n_moved:,} of {r.d_b:,} axes have another place, {r.n_flipped:,} the other sign")
    said += f"; {r.d_b} of {r.d_a} axes kept" if r.d_b < r.d_a else ""
    said += f"; {r.d_b - r.d_a} axes new" if r.d_b > r.d_a else ""
    said += f"; scaled by {r.scale:.4g}" if r.scale != 1.0 else ""
    known = "" if r.embeddings is None else f"; embeddings of equal tokens then have cosine {r.embeddings:.4f}"
    return f"{said} (found from {r.method}{known})" if r.method != IDENTITY else said + known


def _layer_map(found: Explanation) -> str:
    runs: list[tuple[list[int], list[int]]] = []
    for layer in found.layers:
        if layer.feed_forward < 0:
            continue
        if runs and layer.layer == runs[-1][0][-1] + 1 and layer.feed_forward == runs[-1][1][-1] + 1:
            runs[-1][0].append(layer.layer)
            runs[-1][1].append(layer.feed_forward)
        else:
            runs.append(([layer.layer], [layer.feed_forward]))
    said = [", ".join(f"{ranges(mine)} from {ranges(theirs)}" for mine, theirs in runs)]
    apart = [layer for layer in found.layers if layer.attention != layer.feed_forward]
    split = [layer for layer in apart if layer.attention >= 0]
    said += (
        [f"attention of {ranges([x.layer for x in split])} from {ranges([x.attention for x in split])}"]
        if split
        else []
    )
    silent = [x.layer for x in found.layers if {"attention", "feed_forward"} <= set(x.silent)]
    said += [f"{ranges(silent)} inserted, adding nothing"] if silent else []
    lost = [x.layer for x in apart if x.feed_forward == x.attention == NONE and x.layer not in silent]
    lost += [
        x.layer
        for x in found.layers
        if x.feed_forward == x.attention == NONE and x.layer not in silent and x.layer not in lost
    ]
    said += [f"{ranges(sorted(lost))} not found in {found.a.name}"] if lost else []
    of = [layer.feed_forward for layer in found.layers if layer.feed_forward >= 0]
    twice = sorted({i for i in of if of.count(i) > 1})
    said += [f"{ranges(twice)} of {found.a.name} more than once"] if twice else []
    dropped = dropped_layers(found)
    said += [f"{ranges(dropped)} of {found.a.name} dropped"] if dropped else []
    return "; ".join(said)


def _neurons(found: Explanation, layers: Sequence[LayerTransform]) -> list[str]:
    if not layers:
        return []
    n, agreed = sum(len(x.neurons) for x in layers), sum(int(x.is_agreed.sum()) for x in layers)
    worst = min(layers, key=lambda x: x.is_agreed.mean())
    lines = [
        f"neurons: {agreed:,} of {n:,} have the same partner by two independent criteria; fewest in layer "
        f"{worst.layer}: {int(worst.is_agreed.sum()):,} of {len(worst.neurons):,}"
    ]
    neurons = np.concatenate([x.neurons for x in layers])
    places = np.concatenate([np.arange(len(x.neurons)) for x in layers])
    scales = np.concatenate([x.scales for x in layers])
    has = neurons >= 0
    moved, flipped, size = int((has & (neurons != places)).sum()), int((scales < 0).sum()), np.abs(scales[has])
    is_sparse = any(len(x.experts) > 1 for x in layers)  # then a place says nothing
    done = [] if is_sparse else [f"{moved:,} moved" if moved else "none moved"]
    scaled = size.size and not np.allclose(size, 1.0, atol=1e-3)
    done += [f"scaled by {size.min():.2g} to {size.max():.2g}"] if scaled else []
    done += [f"{flipped:,} signs flipped"] if flipped else []
    done += [f"{int((~has).sum()):,} of {found.b.name} without a partner"] if not has.all() else []
    return [*lines, *([f"neurons: {', '.join(done)}"] if done else [])]


def _experts(layers: Sequence[LayerTransform]) -> list[str]:
    sparse = [layer for layer in layers if len(layer.experts) > 1]
    if not sparse:
        return []
    if all(set(layer.experts.tolist()) == {0} for layer in sparse):
        return [
            f"experts: all {len(sparse[0].experts)} in each of {len(sparse)} layers hold neurons of one dense block"
        ]
    maps = sorted({tuple(layer.experts.tolist()) for layer in sparse})
    said = "; ".join(", ".join("?" if of < 0 else str(of) for of in each) for each in maps[:3])
    return [f"experts: in {len(sparse)} layers come from {said}" + (" ..." if len(maps) > 3 else "")]


def _heads(layers: Sequence[LayerTransform]) -> list[str]:
    if not layers:
        return []
    n, agreed = sum(len(x.heads) for x in layers), sum(int(x.heads_agreed.sum()) for x in layers)
    moved = sum(int(((x.heads >= 0) & (x.heads != np.arange(len(x.heads)))).sum()) for x in layers)
    lost = sum(int((x.heads < 0).sum()) for x in layers)
    mapped = {
        "queries and keys": sum(x.qk is not None for x in layers),
        "values and outputs": sum(x.vo is not None for x in layers),
    }
    said = f"heads: {agreed:,} of {n:,} have the same partner by two criteria; {moved:,} moved" + (
        f"; {lost:,} without a partner" if lost else ""
    )
    done = [f"{name} mapped in {count} of {len(layers)} layers" for name, count in mapped.items() if count]
    off = [x.commutes for x in layers if x.commutes is not None and x.qk is not None]
    said_off = f"do not commute (by {max(off):.1g})" if off and max(off) > 1e-6 else "commute"
    commute = [f"the maps of queries {said_off} with rotary positions"] if off else []
    return [
        said,
        "heads: " + ("; ".join([*done, *commute]) or "no maps between queries and keys, or values and outputs"),
    ]


def _gains(found: Explanation) -> list[str]:
    counts = {name: n for name, n in found.gains.items() if name != "ratio" and n}
    if not counts:
        return []
    words = {
        "same": "as they were",
        "trained": "trained along",
        "absorbed": "absorbed into the matrices behind",
        "traded": "traded with the matrices behind",
    }
    said = ", ".join(f"{n} {words[name]}" for name, n in counts.items() if name in words)
    ratio = found.gains.get("ratio")
    return [f"norm gains: {said}" + (f" (by {ratio[0]:.3g} to {ratio[1]:.3g})" if ratio else "")]


def _vocabulary(found: Explanation) -> list[str]:
    shared, moved = (found.vocabulary.get(name, 0) for name in ("shared", "renumbered"))
    return [f"vocabulary: {moved:,} of {shared:,} shared tokens have another number"] if moved else []


def _origin(layer: LayerTransform, kind: str) -> tuple[int, tuple[int | str, ...]]:
    """The layer of A behind a kind of weights, and its parts: how many, matched, agreed."""
    if kind in ("q", "k", "v", "o"):
        return layer.attention, (len(layer.heads), int((layer.heads >= 0).sum()), int(layer.heads_agreed.sum()))
    n = int((layer.neurons >= 0).sum())
    return layer.feed_forward, (len(layer.neurons), n, int(layer.is_agreed.sum()))


def _percent(n: int, of: int) -> str:
    """Two digits; more, rounded down, where two would make `100.00 %` of what is not all."""
    share = 100 * n / of if of else 0.0
    return f"{np.floor(share * 1e6) / 1e6:.6f} %" if n < of and share > 99.99 else f"{share:.2f} %"
