"""Two opened models in, an explanation out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from huref.choices import chosen
from huref.errors import InconclusiveError
from huref.explanation.digests import count_weights, model_digest
from huref.explanation.evidence_file import require_evidence_place, save_evidence
from huref.explanation.gains import compare_gains
from huref.explanation.maps import neuron_scales, query_key_map, value_output_map
from huref.explanation.matching import CLEAR_LAYER, attention_map, feed_forward_map, settle_stream, shared_ids
from huref.explanation.options import ExplainOptions
from huref.explanation.partners import carried, expert_map, pair, pair_heads, unit_rows
from huref.explanation.parts import (
    AttentionRows,
    FeedForwardRows,
    heads_reading,
    is_silent,
    neurons_reading,
    read_attention,
    read_feed_forward,
)
from huref.explanation.stream import Stream
from huref.explanation.transform import Explanation, LayerTransform, Share, Side
from huref.explanation.undo import (
    Rows,
    as_they_stand,
    attention_shares,
    end_shares,
    ends_as_they_stand,
    feed_forward_shares,
)
from huref.fingerprints.file import require_weights
from huref.fingerprints.record import Reference
from huref.kinship.alignment import Relation, relate
from huref.model.model import Model, open_model
from huref.numerics.arrays import Array, quietly
from huref.numerics.products import noted
from huref.progress import Progress, Report, shows_progress
from huref.version import __version__


@shows_progress
def explain(
    a: Reference,
    b: Reference,
    options: ExplainOptions | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
    *,
    layers: str | None = None,
    arch_file: str | Path | None = None,
) -> Explanation:
    """Recover what was done to A to make B, and see what undoing it shows; see `docs/explanation/explain.md`.

    Args:
        a, b: models; fingerprints have no weights to explain.
        options: instead of the keywords `layers` and `arch_file`, which are the attributes of `ExplainOptions`.
        out: saves the evidence there, for others to check.
        report: called with a `Progress` at each step; a notebook shows bars without it.

    Raises:
        UsageError: a fingerprint; options that cannot be honoured, or given as an object and as keywords.
        InconclusiveError: nothing of B agrees with anything of A; nothing is written.
        HurefError: see `huref.errors`.
    """
    options = chosen(ExplainOptions, options, layers=layers, arch_file=arch_file)
    models = [require_weights(model, "explain") for model in (a, b)]
    if out is not None:
        require_evidence_place(Path(out))
    found = explain_models(models[0], models[1], options, report)
    if out is not None:
        save_evidence(found, Path(out))
    return found


def explain_models(
    a: str | Path, b: str | Path, options: ExplainOptions | None = None, report: Report | None = None
) -> Explanation:
    """Recover what was done to A to make B.

    Args:
        a: the reference.
        b: the model to explain. Where A is a mixture of experts and B is dense, B is taken for the reference.

    Raises:
        InconclusiveError: nothing of B agrees with anything of A.
        InputError: one of them cannot be read.
    """
    options = options or ExplainOptions()
    with contextlib.ExitStack() as opened, noted() as arithmetic:
        models = []
        for reference in (a, b):
            models.append(open_model(reference, options.arch_file))
            opened.enter_context(models[-1].weights.checkpoint)
        found = explain_opened(models[0], models[1], options, report)
        return replace(found, notes=(*found.notes, *arithmetic.notes))


@quietly
def explain_opened(a: Model, b: Model, options: ExplainOptions, report: Report | None = None) -> Explanation:
    """`explain_models` of two opened models."""
    notes: list[str] = []
    if a.weights.architecture.n_experts and not b.weights.architecture.n_experts:
        a, b = b, a
        notes.append(f"{a.name} is dense and {b.name} has experts: {b.name} is explained from {a.name}")
    relation = relate(a, b, report=report)
    if isinstance(relation, str) or not any(match.agreement >= CLEAR_LAYER for match in relation.layers):
        raise _nothing_to_explain(a, b, relation)
    ids = shared_ids(b, a)
    stream = settle_stream(b, a, relation, ids)
    work = _Work(a, b, stream, report)
    layers = work.layers(relation, options)
    if not any(layer.feed_forward >= 0 for layer in layers):
        raise _nothing_to_explain(a, b, relation)
    if ids is None:
        notes.append("the vocabularies share too few tokens: embeddings are not compared")
    elif stream.transform.embeddings is not None and stream.transform.embeddings < 0.5:
        notes.append("embeddings of equal tokens do not agree after undoing: one side's were made anew")
    shares = ({} if ids is None else end_shares(b, a, stream, ids)) | work.shares
    before = ({} if ids is None else ends_as_they_stand(b, a, ids[1])) | work.before
    return Explanation(
        a=_side(a),
        b=_side(b),
        residual=stream.transform,
        layers=tuple(layers),
        shares=shares,
        before=before,
        gains=compare_gains(b.weights, a.weights, stream.transform, tuple(layers), shares),
        vocabulary={} if ids is None else {"shared": len(ids[0]), "renumbered": int((ids[0] != ids[1]).sum())},
        notes=tuple(notes),
        version=__version__,
    )


@dataclass
class _Work:
    """Recovers one layer after the other."""

    a: Model
    b: Model
    stream: Stream
    report: Report | None

    def __post_init__(self) -> None:
        self.shares: dict[str, Share] = {}
        self.before: dict[str, Share] = {}
        self._heads_of_a = lru_cache(2)(lambda i: read_attention(self.a.weights, i))
        self._neurons_of_a = lru_cache(2)(lambda i: read_feed_forward(self.a.weights, i))

    def layers(self, relation: Relation, options: ExplainOptions) -> list[LayerTransform]:
        """Every layer that was asked for; `shares` and `before` are filled on the way."""
        n = self.b.weights.geometry.n_layers
        feeds = feed_forward_map(relation, n)
        attends = attention_map(
            self.b, self.a, self.stream, feeds, lambda model, layer: is_silent(model.weights, layer, "o")
        )
        found, asked = [], options.layer_indices(n)
        for done, j in enumerate(asked):
            if self.report:
                self.report(Progress("undoing", done, len(asked), "layer"))
            found.append(self._layer(j, feeds[j], attends[j]))
        return found

    def _layer(self, j: int, feeds: int, attends: int) -> LayerTransform:
        silent = tuple(
            name
            for name, role in (("attention", "o"), ("feed_forward", "down"))
            if is_silent(self.b.weights, j, role)
        )
        layer = LayerTransform(j, silent=silent)
        if feeds >= 0 and "feed_forward" not in silent:
            rows, theirs = read_feed_forward(self.b.weights, j), self._neurons_of_a(feeds)
            read = neurons_reading(rows, self.stream.transform.scale)
            layer = self._with_neurons(layer, feeds, read, theirs)
            if layer.feed_forward >= 0:
                self._keep(j, feed_forward_shares(read, theirs, self.stream, layer), rows, self._neurons_of_a)
        if attends >= 0 and (layer.feed_forward >= 0 or attends != feeds):
            heads, of = read_attention(self.b.weights, j), self._heads_of_a(attends)
            read_heads = heads_reading(heads, self.stream.transform.scale)
            layer = self._with_heads(layer, attends, read_heads, of)
            if layer.attention >= 0:
                self._keep(j, attention_shares(read_heads, of, self.stream, layer), heads, self._heads_of_a)
        return layer

    def _keep(self, j: int, found: dict[str, Share], rows: Rows, of_a: Callable[[int], Rows]) -> None:
        for kind, share in found.items():
            self.shares[f"layers.{j}.{kind}"] = self.shares.get(f"layers.{j}.{kind}", Share()) + share
        if j < self.a.weights.geometry.n_layers:
            self.before |= {f"layers.{j}.{kind}": share for kind, share in as_they_stand(rows, of_a(j)).items()}

    def _with_neurons(self, layer: LayerTransform, of: int, b: FeedForwardRows, a: FeedForwardRows) -> LayerTransform:
        rows = unit_rows(b, self.stream, is_a=False), unit_rows(a, self.stream, is_a=True)
        pairs = pair(*rows, b.blocks)
        if int(pairs.is_agreed.sum()) < CLEAR_LAYER * max(1, int(b.is_live.sum())):
            return layer
        chosen = np.flatnonzero(pairs.neurons >= 0)
        scales = np.zeros(len(pairs.neurons), "<f4")
        scales[chosen] = neuron_scales(b, a, self.stream, chosen, pairs.neurons[chosen])
        neurons = pairs.neurons.astype("<i4")
        return replace(
            layer,
            feed_forward=of,
            neurons=neurons,
            first=pairs.first.astype("<i4"),
            second=pairs.second.astype("<i4"),
            scales=scales,
            experts=expert_map(neurons, b.blocks, a.blocks),
        )

    def _with_heads(self, layer: LayerTransform, of: int, b: AttentionRows, a: AttentionRows) -> LayerTransform:
        if b.k.shape[1] != a.k.shape[1]:
            return layer
        mine, theirs = (
            carried(b, self.stream, is_a=False),
            carried(a, self.stream, is_a=True),
        )
        pairs = pair_heads(mine, theirs)
        families = self.b.weights.architecture, self.a.weights.architecture
        qk, commutes = query_key_map(mine, theirs, pairs, families)
        vo = value_output_map(mine, theirs, pairs, self.stream.transform.scale)
        return replace(
            layer,
            attention=of,
            heads=pairs.heads.astype("<i4"),
            heads_first=pairs.first.astype("<i4"),
            heads_second=pairs.second.astype("<i4"),
            groups=pairs.groups.astype("<i4"),
            qk=_maps(qk),
            vo=_maps(vo),
            commutes=commutes,
        )


def _maps(maps: Array) -> np.ndarray | None:
    """float32; None where all are the identity."""
    return None if (maps == np.eye(maps.shape[1])).all() else maps.astype("<f4")


def _side(model: Model) -> Side:
    weights = model.weights
    return Side(
        model.name, model_digest(model), weights.architecture.name, weights.geometry.n_layers, count_weights(model)
    )


def _nothing_to_explain(a: Model, b: Model, relation: Relation | str) -> InconclusiveError:
    if isinstance(relation, str):
        got = relation
    else:
        best = max((match.agreement for match in relation.layers), default=0.0)
        got = f"{100 * best:.1f} % of the neurons at most; blind choice gives {100 * relation.layers[0].chance:.1f} %"
    return InconclusiveError(
        "there is nothing to explain: no part of one model was found in the other",
        where=f"{a.name} and {b.name}",
        expected=f"a layer in which two criteria name one partner for {100 * CLEAR_LAYER:.0f} % of the neurons",
        got=got,
        next_step="this is evidence of nothing; huref compare gives the scores",
    )
