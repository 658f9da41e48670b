"""Two models side by side: PCS, the canonical and the paper's ICS, kinship, and what can be said from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from huref.fingerprints.pipeline import vocabulary_notes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import token_embeddings
from huref.kinship.conclusion import with_kinship
from huref.kinship.facts import known_of
from huref.kinship.frames import recognise_models
from huref.kinship.invariants import with_invariants
from huref.kinship.memory import Memory
from huref.kinship.parameters import (
    ParameterComparison,
    compare_parameters,
    have_one_content,
    same_parameters,
)
from huref.kinship.prepared import Prepared, prepared
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.verdict import Decision
from huref.model.model import Model
from huref.numerics import products
from huref.numerics.threads import Started, alone
from huref.progress import Progress, Report

_SEEN_ROWS = 1024
"""Embedding rows of a copy that are looked at for damage."""

_TOKENS_DIFFER = 0.5
"""ICS below which weights that agree (PCS above 0.95) are of the same rows under other tokens."""


def compare_models(
    a: str | Path,
    b: str | Path,
    options: CompareOptions,
    report: Report | None = None,
    names: Sequence[str] = ("", ""),
) -> Comparison:
    """Compare two checkpoints, called by names or by their paths.

    Raises:
        InputError: one of them cannot be read.
    """
    memory = Memory()
    files = options.arch_file, options.tokenizer
    with (
        prepared(a, *files, memory=memory, name=names[0]) as left,
        prepared(b, *files, memory=memory, name=names[1]) as right,
    ):
        return compare_prepared(left, right, options, report)


def compare_prepared(a: Prepared, b: Prepared, options: CompareOptions, report: Report | None = None) -> Comparison:
    """`compare_models` of opened models; what is computed of each stays with it.

    Raises:
        InputError: what is read of one of them is damaged.
    """
    with products.noted() as arithmetic, alone():
        result = Comparison(a.model.name, b.model.name, None, None, None, None, (), "inconclusive", ())
        asked = _asked_layers(a, options)
        if options.method == "all" and _are_copies(a.model, b.model):
            return _copies(result, a, b)
        kinship, same = None, None
        if options.method in ("all", "aligned", "agreement"):
            kinship = Started(lambda: recognise_models(a, b, asked, report))
        if options.method in ("all", "ics"):
            result = with_invariants(result, a, b, options, report)
        if options.method in ("all", "pcs"):
            result, same = _with_parameters(result, a.model, b.model, options, report)
        elif (same := same_parameters(a.model.weights, b.model.weights, _steps(report))) is not None:
            result = replace(result, verdict=_verdict(same))
        if kinship is not None or (same is not None and same.says_something):
            known = replace(known_of(a.model, b.model), only_difference="" if same is None else same.only_difference)
            missing = f"{options.method} was asked for" if kinship is None else ""
            result = with_kinship(result, known, missing if kinship is None else kinship.result())
        if options.method != "all":
            result = _noted(result, f"only {options.method} was asked for: the other scores are null")
        elif result.pcs is None and result.ics is None:
            result = _noted(result, "nothing comparable: no tensor of equal shape and too few shared tokens")
        spare = [note for side in (a, b) for note in _stored_notes(side.model)]
        for note in (*_token_doubts(result, a.model, b.model), *spare, *arithmetic.notes):
            result = _noted(result, note)
        return replace(result, read=(_read(a.model), _read(b.model)), arithmetic=str(arithmetic))


def _asked_layers(model: Prepared, options: CompareOptions) -> tuple[int, ...] | None:
    """Layers of A that the user named; None where huref is to choose."""
    if options.layers == CompareOptions().layers:
        return None
    return Recipe(layers=options.layers).layer_indices(model.n_layers)


def _are_copies(a: Model, b: Model) -> bool:
    """Whether two models are one file, read in one way."""
    is_read_alike = a.vocabulary.digest == b.vocabulary.digest and a.weights.geometry == b.weights.geometry
    return is_read_alike and have_one_content(a.weights.checkpoint, b.weights.checkpoint)


def _copies(result: Comparison, a: Prepared, b: Prepared) -> Comparison:
    """Two copies of one file: nothing is left to measure."""
    reason = "the weight files are equal byte for byte: no score was computed"
    derivation = Decision("identical", "identical", reasons=(reason,)).to_dict()
    a.neurons(0)  # what is damaged is refused, copied or not
    token_embeddings(a.model.weights, np.arange(min(_SEEN_ROWS, a.model.n_rows)), Recipe())
    notes = [reason]
    if a.model.weights.checkpoint.config != b.model.weights.checkpoint.config:
        notes.append("the configurations differ: equal weights may compute another function")
    read = (_read(a.model), _read(b.model))
    return replace(result, pcs=1.0, verdict="identical", derivation=derivation, notes=tuple(notes), read=read)


def _token_doubts(result: Comparison, a: Model, b: Model) -> tuple[str, ...]:
    """What to tell the reader where a tokenizer does not belong to the rows beside it."""
    doubts = [f"{model.name}: {note}" for model in (a, b) for note in vocabulary_notes(model)]
    ics = result.invariant_ics
    is_low = ics is not None and ics < _TOKENS_DIFFER and a.vocabulary.digest != b.vocabulary.digest
    if is_low and result.pcs is not None and result.pcs > 1 - _TOKENS_DIFFER / 10:
        doubts.append(
            "the weights agree and the ICS do not: the tokenizers give the same embedding rows to other tokens, so "
            "that one of them is another model's or was renumbered without its rows"
        )
    return tuple(doubts)


def _stored_notes(model: Model) -> tuple[str, ...]:
    """What is stored and not read; of an unembedding that the configuration ties to the embedding, if they differ."""
    beside = tuple(f"{model.name}: {note}" for note in model.weights.notes())
    if not model.weights.has_other_spare(slice(0, _SEEN_ROWS)):
        return beside
    return (
        *beside,
        f"{model.name}: the configuration ties the unembedding to the embedding, so that the other one which is "
        "stored is no part of the model, as transformers reads it",
    )


def _read(model: Model) -> dict[str, Any]:
    """Which weight files were opened, and how many of their bytes were asked for."""
    checkpoint = model.weights.checkpoint
    return {
        "architecture": model.weights.architecture.name,
        "format": checkpoint.format,
        "files": dict(checkpoint.files),
        "bytes_read": checkpoint.bytes_read,
        "bytes_total": checkpoint.bytes_total,
    }


def _steps(report: Report | None) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        if report:
            report(Progress("comparing parameters", done, total, "tensor"))

    return step


def _with_parameters(
    result: Comparison, a: Model, b: Model, options: CompareOptions, report: Report | None
) -> tuple[Comparison, ParameterComparison]:
    """PCS and what the stored weights say."""
    found = compare_parameters(a.weights, b.weights, _steps(report), is_exact=options.is_exact)
    result = replace(result, pcs=found.pcs, verdict=_verdict(found))
    if found.blocks:
        result = replace(result, errors={**result.errors, "pcs": found.error})
        result = _noted(result, f"pcs is of a sample of {found.total.n_values:,} values: --exact reads them all")
    if found.skipped:
        listed = ", ".join(found.skipped[:5]) + (" ..." if len(found.skipped) > 5 else "")
        result = _noted(result, f"PCS skips {len(found.skipped)} tensors without a partner of equal shape: {listed}")
    if found.pcs is None:
        result = _noted(result, "pcs is null: no tensor of A has one of equal name and shape in B")
    return result, found


def _verdict(found: ParameterComparison) -> str:
    if found.is_identical:
        return "identical"
    return "requantised" if found.is_requantised else "inconclusive"


def _noted(result: Comparison, note: str) -> Comparison:
    return replace(result, notes=(*result.notes, note))
