"""Two models side by side: PCS, the paper's ICS, the canonical ICS, kinship, and what can be said from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import TokenizerError
from huref.fingerprints.pipeline import choose_tokens, token_notes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import mean_cosine, project, split_key
from huref.fingerprints.terms import kinds_of
from huref.kinship.conclusion import with_kinship
from huref.kinship.memory import Memory
from huref.kinship.parameters import ParameterComparison, compare_parameters
from huref.kinship.prepared import Prepared, prepared
from huref.kinship.record import CompareOptions, Comparison, TermScore
from huref.model.model import Model
from huref.model.tokens import TokenSelection, read_ranking, shared
from huref.numerics import products
from huref.numerics.arrays import Floats, quietly
from huref.numerics.cosine import cosine
from huref.progress import Progress, Report

_TOKENS_DIFFER = 0.5
"""ICS below which weights that agree (PCS above 0.95) are of the same rows under other tokens."""


def compare_models(a: str | Path, b: str | Path, options: CompareOptions, report: Report | None = None) -> Comparison:
    """Compare two checkpoints.

    Raises:
        InputError: one of them cannot be read.
    """
    memory = Memory()
    with prepared(a, options.arch_file, memory) as left, prepared(b, options.arch_file, memory) as right:
        return compare_prepared(left, right, options, report)


def compare_prepared(a: Prepared, b: Prepared, options: CompareOptions, report: Report | None = None) -> Comparison:
    """`compare_models` of opened models; what is computed of each stays with it.

    Raises:
        InputError: what is read of one of them is damaged.
    """
    with products.noted() as arithmetic:
        result = Comparison(a.model.name, b.model.name, None, None, None, None, (), "inconclusive", ())
        if options.method in ("all", "ics"):
            result = _with_invariants(result, a, b, options, report)
        if options.method in ("all", "pcs"):
            result = _with_parameters(result, a.model, b.model, report)
        if options.method in ("all", "aligned", "agreement"):
            result = with_kinship(result, a, b, options, report)
        if options.method == "aligned":
            result = replace(result, agreement=None)
        if options.method != "all":
            result = _noted(result, f"only {options.method} was asked for: the other scores are null")
        elif result.pcs is None and result.ics is None and result.ics_canonical is None:
            result = _noted(result, "nothing comparable: no tensor of equal shape and too few shared tokens")
        for note in (*_token_doubts(result, a.model, b.model), *arithmetic.notes):
            result = _noted(result, note)
        return replace(result, read=(_read(a.model), _read(b.model)), arithmetic=str(arithmetic))


def _token_doubts(result: Comparison, a: Model, b: Model) -> tuple[str, ...]:
    """What to tell the reader where a tokenizer does not belong to the rows beside it."""
    doubts = [
        f"the tokenizer of {model.name} has {len(model.vocabulary)} tokens for {model.n_rows} embedding rows: it may "
        "be another model's"
        for model in (a, b)
        if len(model.vocabulary) > model.n_rows
    ]
    ics = result.ics_canonical
    if ics is not None and ics < _TOKENS_DIFFER and result.pcs is not None and result.pcs > 1 - _TOKENS_DIFFER / 10:
        doubts.append(
            "the weights agree and the ICS do not: the tokenizers give the same embedding rows to other tokens, so "
            "that one of them is another model's or was renumbered without its rows"
        )
    return tuple(doubts)


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


def _with_parameters(result: Comparison, a: Model, b: Model, report: Report | None) -> Comparison:
    def step(done: int, total: int) -> None:
        if report:
            report(Progress("comparing parameters", done, total, "tensor"))

    found = compare_parameters(a.weights, b.weights, step)
    result = replace(result, pcs=found.pcs, verdict=_verdict(found))
    if found.skipped:
        listed = ", ".join(found.skipped[:5]) + (" ..." if len(found.skipped) > 5 else "")
        result = _noted(result, f"PCS skips {len(found.skipped)} tensors without a partner of equal shape: {listed}")
    if found.pcs is None:
        result = _noted(result, "pcs is null: no tensor of A has one of equal name and shape in B")
    return result


def _verdict(found: ParameterComparison) -> str:
    if found.is_identical:
        return "identical"
    return "requantised" if found.is_requantised else "inconclusive"


@quietly
def _with_invariants(
    result: Comparison, a: Prepared, b: Prepared, options: CompareOptions, report: Report | None
) -> Comparison:
    """Both ICS over shared tokens; a null with its reason where too few strings are shared."""
    canonical = Recipe(layers=options.layers, n_tokens=options.n_tokens)
    paper = replace(canonical, name="paper")
    rows = a.model.n_rows, b.model.n_rows
    try:
        sample = shared(a.model.vocabulary, b.model.vocabulary, options.n_tokens, rows)
    except TokenizerError as error:
        return _noted(result, f"ics and ics_canonical are null: {error.what}")
    for note in (*token_notes(sample[0]), *_vocabulary_notes(a.model, b.model, options, len(sample[0]))):
        result = _noted(result, note)
    rare = _paper_tokens(a.model, b.model, paper, options, sample)
    sketches = [m.sketches(t, canonical, report) for m, t in zip((a, b), sample, strict=True)]
    pairs = _layer_pairs(sketches[0], sketches[1], a.model, b.model)
    vectors = cosine(*(project(s, m.n_layers, canonical.seed) for s, m in zip(sketches, (a, b), strict=True)))
    P, P_rare = _cosines(a, b, sample, canonical), _cosines(a, b, rare, paper)
    main = _term_scores(a, b, sample, pairs, canonical, P, report)
    extra = _rotation_proof_scores(a, b, sample, pairs, canonical, P)
    official = _term_scores(a, b, rare, pairs, paper, P_rare, report)
    return replace(
        result,
        ics=_mean(official),
        ics_canonical=_mean(main),
        vectors=vectors,
        terms=tuple(main + extra + [replace(term, term=f"paper/{term.term}") for term in official]),
    )


def _paper_tokens(
    a: Model, b: Model, recipe: Recipe, options: CompareOptions, sample: tuple[TokenSelection, TokenSelection]
) -> tuple[TokenSelection, TokenSelection]:
    """The paper's rarest tokens where both vocabularies are one, else the shared sample."""
    if a.vocabulary.digest != b.vocabulary.digest:
        return sample
    chosen = choose_tokens(a, recipe, read_ranking(options.tokens_file) if options.tokens_file else None)
    fits = int(chosen.ids.max()) < b.n_rows
    return (chosen, chosen) if fits else sample


def _vocabulary_notes(a: Model, b: Model, options: CompareOptions, n_shared: int) -> tuple[str, ...]:
    """What changes where the two vocabularies are not one."""
    if a.vocabulary.digest == b.vocabulary.digest:
        return ()
    ranking = "; the token ranking is not used" if options.tokens_file else ""
    return (f"the vocabularies differ: every ICS is over {n_shared} token strings that both have{ranking}",)


def _layer_pairs(
    sketches_a: Mapping[str, np.ndarray], sketches_b: Mapping[str, np.ndarray], a: Model, b: Model
) -> list[tuple[int, int]]:
    """Layers in order where their numbers agree; by assignment on sketch similarity where they do not."""
    left = sorted({split_key(key)[0] for key in sketches_a})
    right = sorted({split_key(key)[0] for key in sketches_b})
    if len(left) == len(right):
        return list(zip(left, right, strict=True))
    from scipy.optimize import linear_sum_assignment  # heavy, and only for models of different depth

    kinds = _common_kinds(a, b)
    table = np.array([[_layer_similarity(sketches_a, sketches_b, i, j, kinds) for j in right] for i in left])
    rows, columns = linear_sum_assignment(-table)
    return [(left[i], right[j]) for i, j in zip(rows, columns, strict=True)]


def _layer_similarity(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], i: int, j: int, kinds: Sequence[str]
) -> float:
    return mean_cosine([(a[f"{i}.{kind}"], b[f"{j}.{kind}"]) for kind in kinds])


def _common_kinds(a: Model, b: Model) -> list[str]:
    canonical = Recipe()
    kinds_b = kinds_of(canonical, b.weights.architecture.gated)
    return [kind for kind in kinds_of(canonical, a.weights.architecture.gated) if kind in kinds_b]


def _cosines(
    a: Prepared, b: Prepared, tokens: tuple[TokenSelection, TokenSelection], recipe: Recipe
) -> Floats | None:
    return a.frame(tokens[0], recipe).cosines(b.frame(tokens[1], recipe))


def _term_scores(
    a: Prepared,
    b: Prepared,
    tokens: tuple[TokenSelection, TokenSelection],
    pairs: list[tuple[int, int]],
    recipe: Recipe,
    P: Floats | None,
    report: Report | None,
) -> list[TermScore]:
    scores = []
    for done, (i, j) in enumerate(pairs):
        if report:
            report(Progress(f"{recipe.name} terms", done, len(pairs), "layer"))
        partners = b.terms(tokens[1], recipe, j)
        for kind, term in a.terms(tokens[0], recipe, i).items():
            if kind in partners:
                scores.append(TermScore(i, j, kind, term.correlation(partners[kind], P)))
    return scores


def _rotation_proof_scores(
    a: Prepared,
    b: Prepared,
    tokens: tuple[TokenSelection, TokenSelection],
    pairs: list[tuple[int, int]],
    recipe: Recipe,
    P: Floats | None,
) -> list[TermScore]:
    """The rotation-proof feed-forward term beside the others: shown, not averaged into the ICS."""
    if not all(side.model.weights.architecture.gated for side in (a, b)):
        return []
    scores = []
    for i, j in pairs:
        left, right = a.rotation_proof(tokens[0], recipe, i), b.rotation_proof(tokens[1], recipe, j)
        scores.append(TermScore(i, j, "ffn_exact", left.correlation(right, P)))
    return scores


def _mean(scores: list[TermScore]) -> float | None:
    return float(np.mean([term.score for term in scores])) if scores else None


def _noted(result: Comparison, note: str) -> Comparison:
    return replace(result, notes=(*result.notes, note))
