"""Every claim of an evidence file, against the weights at hand: seconds, not the minutes of finding it.

A verifier draws neurons and token rows by a seed of their own. A claimed partner must be the best of all candidates
by each of the two criteria; the claimed maps, and nothing else, must undo to the shares that are stated.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.choices import chosen
from huref.errors import InputError
from huref.explanation.digests import model_digest
from huref.explanation.evidence_file import load_evidence
from huref.explanation.gains import compare_gains
from huref.explanation.options import CheckOptions
from huref.explanation.transform import Checked, Claim, Explanation, Share
from huref.explanation.undo import as_they_stand, attention_shares, end_shares, feed_forward_shares
from huref.fingerprints.file import require_weights
from huref.fingerprints.record import Reference
from huref.kinship.recovery.matching import CLEAR_LAYER, shared_ids
from huref.kinship.recovery.partners import carried, criteria, expert_map, head_likeness, unit_rows
from huref.kinship.recovery.parts import (
    AttentionRows,
    Branch,
    FeedForwardRows,
    heads_reading,
    neurons_reading,
    read_attention,
    read_feed_forward,
)
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.transform import LayerTransform
from huref.model.arch.weights import CanonicalWeights
from huref.model.model import Model, open_model
from huref.numerics.arrays import Floats
from huref.progress import Progress, Report, shows_progress

_NEAR = 0.01
"""A cosine by which another candidate may seem better on another machine, whose products are rounded otherwise."""

_SAME, _SAMPLED = 2e-3, 3e-2
"""How far a share may lie from the stated one: of all of a tensor, of a sample of its rows."""

_TOKENS = 2048
_ORTHOGONAL = 1e-3
_FEWEST = 1


@shows_progress
def check_evidence(
    path: str | Path,
    a: Reference,
    b: Reference,
    options: CheckOptions | None = None,
    report: Report | None = None,
    *,
    layers: str | None = None,
    n_neurons: int | None = None,
    seed: int | None = None,
    arch_file: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> Checked:
    """Check a file against two models, in either order.

    Args:
        options: instead of the keywords `layers` to `tokenizer`, which are the attributes of `CheckOptions`.
        report: called with a `Progress` at each step; a notebook shows bars without it.

    Raises:
        UsageError: a fingerprint, which has no weights; options as an object and as keywords.
        InputError: the file is about other models, or something cannot be read; see `load_evidence`.
    """
    named = {"layers": layers, "n_neurons": n_neurons, "seed": seed, "arch_file": arch_file, "tokenizer": tokenizer}
    options = chosen(CheckOptions, options, **named)
    references = [require_weights(model, "check evidence on") for model in (a, b)]
    found = load_evidence(path)
    with contextlib.ExitStack() as opened:
        models = []
        for reference in references:
            models.append(open_model(reference, options.arch_file, options.tokenizer))
            opened.enter_context(models[-1].weights.checkpoint)
        return check_opened(found, models[0], models[1], options, report)


def check_opened(
    found: Explanation, a: Model, b: Model, options: CheckOptions, report: Report | None = None
) -> Checked:
    """`check_evidence` of evidence that was read and models that are open."""
    started = time.monotonic()
    first, second = _in_order(found, a, b)
    wanted = options.layer_indices(found.b.n_layers)
    claims = tuple(_Check(found, first, second, options, report).claims())
    left = sum(layer.layer not in wanted for layer in found.layers)
    unchecked = ["the cosine of embeddings before undoing", "that parts without a partner have none"]
    unchecked += [f"{left} of {len(found.layers)} layers"] if left else []
    return Checked(claims, tuple(unchecked), time.monotonic() - started)


def _in_order(found: Explanation, first: Model, second: Model) -> tuple[Model, Model]:
    """The models as A and B of the evidence."""
    digests = model_digest(first), model_digest(second)
    if digests == (found.a.digest, found.b.digest):
        return first, second
    if digests == (found.b.digest, found.a.digest):
        return second, first
    wrong = [
        m.name
        for m, digest in zip((first, second), digests, strict=True)
        if digest not in (found.a.digest, found.b.digest)
    ]
    raise InputError(
        "the evidence is about other models",
        where=", ".join(wrong) or f"{first.name}, {second.name}",
        expected=f"{found.a.name} ({found.a.digest[:12]}) and {found.b.name} ({found.b.digest[:12]})",
        got=f"{first.name} ({digests[0][:12]}) and {second.name} ({digests[1][:12]})",
        next_step="name the two models that the evidence was made from",
    )


@dataclass
class _Check:
    """Goes through the claims."""

    found: Explanation
    a: Model
    b: Model
    options: CheckOptions
    report: Report | None

    def claims(self) -> Iterator[Claim]:
        """Every claim that is looked at, in order."""
        self._require_sizes()
        stream = Stream(self.found.residual)
        yield self._orthogonal()
        wanted = set(self.options.layer_indices(self.found.b.n_layers))
        for layer in self.found.layers:
            if layer.layer in wanted:
                if self.report:
                    self.report(Progress("checking", layer.layer, self.found.b.n_layers, "layer"))
                yield from self._layer(layer, stream)
        yield from self._ends(stream)
        yield self._gains()

    def _require_sizes(self) -> None:
        """The maps are of these models' sizes, so that no number leads outside.

        Raises:
            InputError: they are not.
        """
        r, ga, gb = self.found.residual, self.a.weights.geometry, self.b.weights.geometry
        sizes = (r.d_a, r.d_b, self.found.a.n_layers, self.found.b.n_layers)
        if sizes != (ga.d_model, gb.d_model, ga.n_layers, gb.n_layers):
            raise _other_sizes("the residual stream or the layers")
        for layer in self.found.layers:
            if len(layer.heads) not in (0, gb.n_heads) or len(layer.groups) not in (0, gb.n_kv_heads):
                raise _other_sizes(f"the heads of layer {layer.layer}")
            for values, n in ((layer.heads, ga.n_heads), (layer.groups, ga.n_kv_heads)):
                if values.size and int(values.max()) >= n:
                    raise _other_sizes(f"the heads of layer {layer.layer}")
            if any(m is not None and m.shape[1] != gb.head_dim for m in (layer.qk, layer.vo)):
                raise _other_sizes(f"the heads of layer {layer.layer}")

    def _orthogonal(self) -> Claim:
        R = self.found.residual.rotation
        if R is None:
            return Claim("residual map", True, f"{self.found.residual.kind}: every axis has one partner")
        wide = (R if R.shape[0] <= R.shape[1] else R.T).astype(np.float64)
        off = float(np.abs(wide @ wide.T - np.eye(len(wide))).max())
        return Claim("residual map", off <= _ORTHOGONAL, f"rotation: orthogonal within {off:.0e}")

    def _layer(self, layer: LayerTransform, stream: Stream) -> Iterator[Claim]:
        shares, before = dict[str, Share](), dict[str, Share]()
        if layer.feed_forward >= 0:
            b = read_feed_forward(self.b.weights, layer.layer)
            a = read_feed_forward(self.a.weights, layer.feed_forward)
            if sum(b.blocks) != len(layer.neurons) or len(b.blocks) != len(layer.experts):
                raise _other_sizes(f"the neurons of layer {layer.layer}")
            if max(int(x.max()) for x in (layer.neurons, layer.first, layer.second)) >= len(a.acts):
                raise _other_sizes(f"the neurons of layer {layer.layer}")
            yield from self._neurons(layer, b, a, stream)
            read = neurons_reading(b, self.found.residual.scale)
            shares |= feed_forward_shares(read, a, stream, layer)
            before |= self._before(layer, b, read_feed_forward)
        if layer.attention >= 0:
            heads_b = read_attention(self.b.weights, layer.layer)
            heads_a = read_attention(self.a.weights, layer.attention)
            read_heads = heads_reading(heads_b, self.found.residual.scale)
            yield self._heads(layer, heads_b, heads_a, stream)
            for kind, share in _attention(read_heads, heads_a, stream, layer).items():
                shares[kind] = shares.get(kind, Share()) + share
            before |= self._before(layer, heads_b, read_attention)
        at = f"layers.{layer.layer}."
        stated, stated_before = _under(at, self.found.shares), _under(at, self.found.before)
        if shares or stated:
            if before or stated_before:
                yield _compared(f"layer {layer.layer}, weights before undoing", stated_before, before, _SAME)
            yield _compared(f"layer {layer.layer}, weights after undoing", stated, shares, _SAME)

    def _before(
        self, layer: LayerTransform, b: Branch, read: Callable[[CanonicalWeights, int], Branch]
    ) -> dict[str, Share]:
        """What the layer shares with the one of its number."""
        if layer.layer >= self.a.weights.geometry.n_layers:
            return {}
        return as_they_stand(b, read(self.a.weights, layer.layer))

    def _neurons(
        self, layer: LayerTransform, b: FeedForwardRows, a: FeedForwardRows, stream: Stream
    ) -> Iterator[Claim]:
        agreed = np.flatnonzero(layer.is_agreed)
        name = f"layer {layer.layer}, partners of neurons"
        n_live = int(b.is_live.sum())
        if len(agreed) < max(_FEWEST, CLEAR_LAYER * n_live):
            yield Claim(name, False, f"{len(agreed)} of {n_live} neurons: too few for an explanation")
            return
        dice = self.options.dice(1 + layer.layer)
        chosen = np.sort(dice.choice(agreed, min(len(agreed), self.options.n_neurons), replace=False))
        rows = unit_rows(b, stream, is_a=False).take(chosen)
        wrong = _not_best(criteria(rows, unit_rows(a, stream, is_a=True)), layer.neurons[chosen])
        said = f"neuron {chosen[wrong[0]]} has a better one" if len(wrong) else "each the best by both criteria"
        yield Claim(name, not len(wrong), f"{len(chosen)} of {len(agreed)} drawn: {said}")
        twice = _taken_twice(layer.neurons, b.blocks)
        is_right = np.array_equal(expert_map(layer.neurons, b.blocks, a.blocks), layer.experts)
        if len(b.blocks) > 1 or len(a.blocks) > 1 or twice or not is_right:
            said = "as most of their neurons say" if is_right else "not as most of their neurons say"
            said = "a neuron of A is taken twice" if twice else said
            yield Claim(f"layer {layer.layer}, experts", is_right and not twice, said)

    def _heads(self, layer: LayerTransform, b: AttentionRows, a: AttentionRows, stream: Stream) -> Claim:
        agreed = np.flatnonzero(layer.heads_agreed)
        name = f"layer {layer.layer}, partners of heads"
        groups = _groups_of(layer, b.per_group, a.per_group)
        if not np.array_equal(groups, layer.groups):
            return Claim(name, False, "KV heads and query heads do not go together")
        mine, theirs = carried(b, stream, is_a=False), carried(a, stream, is_a=True)
        likeness = head_likeness(mine, theirs)
        wrong = _not_best(tuple(part[agreed] for part in likeness), layer.heads[agreed])
        said = f"head {agreed[wrong[0]]} has a better one" if len(wrong) else "each the best by both criteria"
        return Claim(name, not len(wrong), f"{len(agreed)} of {len(layer.heads)}: {said}")

    def _ends(self, stream: Stream) -> Iterator[Claim]:
        stated = {name: share for name, share in self.found.shares.items() if not name.startswith("layers.")}
        ids = shared_ids(self.b, self.a)
        counts = {} if ids is None else {"shared": len(ids[0]), "renumbered": int((ids[0] != ids[1]).sum())}
        yield Claim("vocabularies", counts == dict(self.found.vocabulary), _said(counts))
        if ids is None:
            if stated:
                yield Claim("embeddings after undoing", False, "the vocabularies share too few tokens")
            return
        chosen = np.sort(self.options.dice(1 << 32).choice(len(ids[0]), min(len(ids[0]), _TOKENS), replace=False))
        found = end_shares(self.b, self.a, stream, (ids[0][chosen], ids[1][chosen]))
        yield _compared("embeddings after undoing", stated, found, _SAMPLED, is_sample=True)

    def _gains(self) -> Claim:
        found = compare_gains(
            self.b.weights, self.a.weights, self.found.residual, self.found.layers, self.found.shares
        )
        stated = dict(self.found.gains)
        ratio, said = found.pop("ratio", []), stated.pop("ratio", [])
        is_same = found == stated and len(ratio) == len(said) and np.allclose(ratio, said, rtol=1e-3)
        return Claim("norm gains", bool(is_same), _said(found))


def _under(start: str, shares: Mapping[str, Share]) -> dict[str, Share]:
    return {name[len(start) :]: share for name, share in shares.items() if name.startswith(start)}


def _attention(b: AttentionRows, a: AttentionRows, stream: Stream, layer: LayerTransform) -> dict[str, Share]:
    """Shares of the heads; none where a stated map cannot be undone."""
    try:
        return attention_shares(b, a, stream, layer)
    except np.linalg.LinAlgError:  # a map that has no inverse
        return {}


def _not_best(likeness: tuple[Floats, ...], partners: np.ndarray) -> np.ndarray:
    """Which rows have a clearly better candidate than their claimed partner, by one criterion or the other."""
    rows = np.arange(len(partners))
    is_best = [part[rows, partners] >= part.max(1) - _NEAR for part in likeness]
    return np.flatnonzero(~np.all(is_best, axis=0))


def _taken_twice(partners: np.ndarray, blocks: tuple[int, ...]) -> bool:
    for part in np.split(partners, np.cumsum(blocks)[:-1]):
        known = part[part >= 0]
        if len(np.unique(known)) < len(known):
            return True
    return False


def _groups_of(layer: LayerTransform, per_group_b: int, per_group_a: int) -> np.ndarray:
    """What the heads say of their KV heads."""
    found = np.full(len(layer.groups), -1, "<i4")
    for group in range(len(layer.groups)):
        mine = layer.heads[group * per_group_b : (group + 1) * per_group_b]
        theirs = np.unique(mine[mine >= 0] // per_group_a)
        if len(theirs) == 1:
            found[group] = theirs[0]
    return found


def _compared(
    name: str, stated: dict[str, Share], found: dict[str, Share], tolerance: float, *, is_sample: bool = False
) -> Claim:
    """Whether stated shares are those that undoing gives."""
    if set(stated) != set(found):
        return Claim(name, False, f"stated are {', '.join(sorted(stated))}; found are {', '.join(sorted(found))}")
    for kind, share in found.items():
        said = stated[kind]
        if not is_sample and share.n != said.n:
            return Claim(name, False, f"{kind}: {share.n} weights, stated are {said.n}")
        for what, left, right in (
            ("equal", share.equal, said.equal),
            ("equal within rounding", share.rounded, said.rounded),
            ("cosine", share.cosine, said.cosine),
        ):
            if not abs(left - right) <= tolerance:
                return Claim(name, False, f"{kind}: {what} {left:.4f}, stated is {right:.4f}")
    total = sum(found.values(), Share())
    return Claim(name, True, f"{100 * total.equal:.2f} % of {total.n} equal, cosine {total.cosine:.4f}, as stated")


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"


def _other_sizes(what: str) -> InputError:
    return InputError(
        "the evidence is of other sizes than the models",
        where=what,
        expected="maps of the models' own layers, neurons and heads",
        next_step="the file was not made from these models",
    )
