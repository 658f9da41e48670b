"""Two opened models in, an explanation out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from huref.choices import chosen
from huref.errors import InconclusiveError
from huref.explanation.digests import count_weights, model_digest
from huref.explanation.evidence_file import require_evidence_place, save_evidence
from huref.explanation.gains import compare_gains
from huref.explanation.options import ExplainOptions
from huref.explanation.transform import Explanation, Share, Side
from huref.explanation.undo import (
    as_they_stand,
    attention_shares,
    end_shares,
    ends_as_they_stand,
    feed_forward_shares,
)
from huref.explanation.writing import is_turned_round, require_undoable, save_undone
from huref.files.cache import Cache
from huref.fingerprints.file import require_weights
from huref.fingerprints.record import Reference
from huref.kinship.recovery.matching import CLEAR_LAYER
from huref.kinship.recovery.parts import AttentionRows, Branch, FeedForwardRows, heads_reading, neurons_reading
from huref.kinship.recovery.recovering import recover
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.transform import LayerTransform
from huref.model.kept import Asker, options_of
from huref.model.model import Model, open_model
from huref.numerics.arrays import quietly
from huref.numerics.products import noted
from huref.progress import Report, shows_progress
from huref.version import __version__


@shows_progress
def explain(
    a: Reference,
    b: Reference,
    options: ExplainOptions | None = None,
    out: str | Path | None = None,
    report: Report | None = None,
    write_undone: str | Path | None = None,
    *,
    layers: str | None = None,
    arch_file: str | Path | None = None,
    tokenizer: str | Path | None = None,
    cache: Cache | bool = False,
) -> Explanation:
    """Recover what was done to A to make B, and see what undoing it shows; see `docs/explanation/explain.md`.

    Args:
        a, b: models; fingerprints have no weights to explain.
        options: instead of the keywords `layers` to `tokenizer`, which are the attributes of `ExplainOptions`.
        out: saves the evidence there, for others to check.
        report: called with a `Progress` at each step; a notebook shows bars without it.
        write_undone: a folder to make: B with what was found undone, a checkpoint that computes what B computes.
        cache: True to keep the result on this machine, and to take it from there the next time; or a `Cache`.

    Raises:
        UsageError: a fingerprint; options that cannot be honoured, or given as an object and as keywords.
        InconclusiveError: nothing of B agrees with anything of A; nothing is written.
        HurefError: see `huref.errors`.
    """
    options = chosen(ExplainOptions, options, layers=layers, arch_file=arch_file, tokenizer=tokenizer)
    models = [require_weights(model, "explain") for model in (a, b)]
    if out is not None:
        require_evidence_place(Path(out))
    if write_undone is not None:
        require_undoable(models[0], models[1], write_undone, options)
    asker = Asker(Cache.of(cache), Explanation, "explain", options_of(options))
    found = asker.ask(*models).answer(lambda: explain_models(models[0], models[1], options, report))
    if out is not None:
        save_evidence(found, Path(out))
    if write_undone is not None:
        return replace(found, undone=save_undone(found, models[0], models[1], write_undone, options, report))
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
            models.append(open_model(reference, options.arch_file, options.tokenizer))
            opened.enter_context(models[-1].weights.checkpoint)
        found = explain_opened(models[0], models[1], options, report)
        return replace(found, notes=(*found.notes, *arithmetic.notes))


@quietly
def explain_opened(a: Model, b: Model, options: ExplainOptions, report: Report | None = None) -> Explanation:
    """`explain_models` of two opened models."""
    notes: list[str] = []
    if is_turned_round(a, b):
        a, b = b, a
        notes.append(f"{a.name} is dense and {b.name} has experts: {b.name} is explained from {a.name}")
    seen = _Seen(a.weights.geometry.n_layers)
    found = recover(a, b, options.layer_indices(b.weights.geometry.n_layers), report, seen)
    if isinstance(found, str):
        raise _nothing_to_explain(a, b, found)
    ids, stream = found.ids, found.stream
    if ids is None:
        notes.append("the vocabularies share too few tokens: embeddings are not compared")
    elif stream.transform.embeddings is not None and stream.transform.embeddings < 0.5:
        notes.append("embeddings of equal tokens do not agree after undoing: one side's were made anew")
    shares = ({} if ids is None else end_shares(b, a, stream, ids)) | seen.shares
    before = ({} if ids is None else ends_as_they_stand(b, a, ids[1])) | seen.before
    return Explanation(
        a=_side(a),
        b=_side(b),
        residual=stream.transform,
        layers=found.layers,
        shares=shares,
        before=before,
        gains=compare_gains(b.weights, a.weights, stream.transform, found.layers, shares),
        vocabulary={} if ids is None else {"shared": len(ids[0]), "renumbered": int((ids[0] != ids[1]).sum())},
        notes=tuple(notes),
        version=__version__,
    )


class _Seen:
    """Takes shares of what is equal while rows are at hand."""

    def __init__(self, n_layers_a: int) -> None:
        self.n_layers_a = n_layers_a
        self.shares: dict[str, Share] = {}
        self.before: dict[str, Share] = {}

    def __call__(self, layer: LayerTransform, stream: Stream, rows: Branch, of_a: Callable[[int], Branch]) -> None:
        j, scale = layer.layer, stream.transform.scale
        if isinstance(rows, AttentionRows):
            heads = cast(AttentionRows, of_a(layer.attention))
            found = attention_shares(heads_reading(rows, scale), heads, stream, layer)
        else:
            neurons = cast(FeedForwardRows, of_a(layer.feed_forward))
            found = feed_forward_shares(neurons_reading(rows, scale), neurons, stream, layer)
        for kind, share in found.items():
            self.shares[f"layers.{j}.{kind}"] = self.shares.get(f"layers.{j}.{kind}", Share()) + share
        if j < self.n_layers_a:
            self.before |= {f"layers.{j}.{kind}": share for kind, share in as_they_stand(rows, of_a(j)).items()}


def _side(model: Model) -> Side:
    weights = model.weights
    return Side(
        model.name, model_digest(model), weights.architecture.name, weights.geometry.n_layers, count_weights(model)
    )


def _nothing_to_explain(a: Model, b: Model, got: str) -> InconclusiveError:
    return InconclusiveError(
        "there is nothing to explain: no part of one model was found in the other",
        where=f"{a.name} and {b.name}",
        expected=f"a layer in which two criteria name one partner for {100 * CLEAR_LAYER:.0f} % of the neurons",
        got=got,
        next_step="this is evidence of nothing; huref compare gives the scores",
    )
