"""ICS of two opened models: the paper's and the canonical terms over the token strings that both have.

Exact through the residual stream where that takes seconds (`huref.fingerprints.residual`), else by two-sided sketches
of the terms with more rows than a fingerprint keeps, and with the standard error that those have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from huref.errors import TokenizerError
from huref.fingerprints.pipeline import choose_tokens, silent_notes, token_notes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import jackknife, mean_cosine, mean_cosines, project, split_key
from huref.fingerprints.terms import kinds_of
from huref.kinship.prepared import Prepared
from huref.kinship.record import CompareOptions, Comparison, TermScore
from huref.model.model import Model
from huref.model.tokens import TokenSelection, read_ranking, shared
from huref.numerics.arrays import Floats, quietly
from huref.numerics.assignment import assign
from huref.numerics.cosine import cosine
from huref.progress import Progress, Report

SKETCH_ROWS = 256
"""Of the sketches that stand for the terms of a wide model."""

_MOST_MULTIPLICATIONS = 100_000_000_000
"""Of one model, from which on its terms are sketched: seconds on one core."""

_FEW_TOKENS, _FEWER_TOKENS = 1024, 256
"""Tokens that `ffn_exact` is of; of a wide model."""

_SKETCHED = (
    f"both ICS are estimated from sketches of {SKETCH_ROWS} rows, with standard errors: --exact takes whole terms"
)

Sample = tuple[TokenSelection, TokenSelection]


@quietly
def with_invariants(
    result: Comparison, a: Prepared, b: Prepared, options: CompareOptions, report: Report | None
) -> Comparison:
    """Both ICS over shared tokens; a null with its reason where too few strings are shared."""
    canonical = Recipe(layers=options.layers, n_tokens=options.n_tokens)
    paper = replace(canonical, name="paper")
    rows = a.model.n_rows, b.model.n_rows
    try:
        sample = shared(a.model.vocabulary, b.model.vocabulary, options.n_tokens, rows)
    except TokenizerError as error:
        return replace(result, notes=(*result.notes, f"ics and ics_canonical are null: {error.what}"))
    told = (*token_notes(sample[0]), *_vocabulary_notes(a.model, b.model, options, len(sample[0])))
    result = replace(result, notes=(*result.notes, *told))
    rare = _paper_tokens(a.model, b.model, paper, options, sample)
    sketches = [m.sketches(t, canonical, report) for m, t in zip((a, b), sample, strict=True)]
    silent = [f"{m.model.name}: {note}" for m, s in zip((a, b), sketches, strict=True) for note in silent_notes(s)]
    result = replace(result, notes=(*result.notes, *silent))
    pairs = _layer_pairs(sketches[0], sketches[1], a.model, b.model)
    vectors = cosine(*(project(s, m.n_layers, canonical.seed) for s, m in zip(sketches, (a, b), strict=True)))
    is_sketched = not options.is_exact and any(_is_wide(side, canonical) for side in (a, b))
    score = _sketched_scores if is_sketched else _term_scores
    main, main_error = score(a, b, sample, pairs, canonical, report)
    extra = _rotation_proof_scores(a, b, sample, pairs, canonical, _FEWER_TOKENS if is_sketched else _FEW_TOKENS)
    official, official_error = score(a, b, rare, pairs, paper, report)
    if is_sketched:
        result = replace(
            result, notes=(*result.notes, _SKETCHED), errors={"ics": official_error, "ics_canonical": main_error}
        )
    return replace(
        result,
        ics=_mean(official),
        ics_canonical=_mean(main),
        vectors=vectors,
        terms=tuple(main + extra + [replace(term, term=f"paper/{term.term}") for term in official]),
    )


def _paper_tokens(a: Model, b: Model, recipe: Recipe, options: CompareOptions, sample: Sample) -> Sample:
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
    kinds = _common_kinds(a, b)
    table = np.array([[_layer_similarity(sketches_a, sketches_b, i, j, kinds) for j in right] for i in left])
    rows, columns = assign(table)
    return [(left[i], right[j]) for i, j in zip(rows, columns, strict=True)]


def _layer_similarity(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], i: int, j: int, kinds: Sequence[str]
) -> float:
    return mean_cosine([(a[f"{i}.{kind}"], b[f"{j}.{kind}"]) for kind in kinds])


def _common_kinds(a: Model, b: Model) -> list[str]:
    canonical = Recipe()
    kinds_b = kinds_of(canonical, b.weights.architecture.gated)
    return [kind for kind in kinds_of(canonical, a.weights.architecture.gated) if kind in kinds_b]


def _cosines(a: Prepared, b: Prepared, tokens: Sample, recipe: Recipe) -> Floats | None:
    return a.frame(tokens[0], recipe).cosines(b.frame(tokens[1], recipe))


def _is_wide(side: Prepared, recipe: Recipe) -> bool:
    """Whether exact terms of a model take more than a few seconds."""
    g = side.model.weights.geometry
    per_layer = g.d_model * (2 * (g.n_heads + g.n_kv_heads) * g.head_dim + 3 * g.d_ff)
    directions = min(recipe.n_tokens, g.d_model + 1)
    return directions * per_layer * len(recipe.layer_indices(g.n_layers)) > _MOST_MULTIPLICATIONS


def _term_scores(
    a: Prepared, b: Prepared, tokens: Sample, pairs: list[tuple[int, int]], recipe: Recipe, report: Report | None
) -> tuple[list[TermScore], float]:
    """Every term's correlation, and 0: they are exact."""
    P, scores = _cosines(a, b, tokens, recipe), []
    for done, (i, j) in enumerate(pairs):
        if report:
            report(Progress(f"{recipe.name} terms", done, len(pairs), "layer"))
        partners = b.terms(tokens[1], recipe, j)
        for kind, term in a.terms(tokens[0], recipe, i).items():
            if kind in partners:
                scores.append(TermScore(i, j, kind, term.correlation(partners[kind], P)))
    return scores, 0.0


def _sketched_scores(
    a: Prepared, b: Prepared, tokens: Sample, pairs: list[tuple[int, int]], recipe: Recipe, report: Report | None
) -> tuple[list[TermScore], float]:
    """The same by sketches of the terms, less the means of their entries, and the standard error of their mean."""
    sketched = replace(recipe, sketch_rows=SKETCH_ROWS)
    left, right = (side.term_sketches(chosen, sketched, report) for side, chosen in zip((a, b), tokens, strict=True))
    found = [(i, j, kind) for i, j in pairs for kind in _kinds(left, i) if f"{j}.{kind}" in right]
    if not found:
        return [], 0.0
    sides = (
        np.stack([left[f"{i}.{kind}"] for i, _, kind in found]).astype(np.float64),
        np.stack([right[f"{j}.{kind}"] for _, j, kind in found]).astype(np.float64),
    )
    cosines = mean_cosines(*sides)
    scores = [TermScore(i, j, kind, float(score)) for (i, j, kind), score in zip(found, cosines, strict=True)]
    return scores, jackknife(*sides)


def _kinds(sketches: Mapping[str, np.ndarray], layer: int) -> list[str]:
    """The kinds of terms that a layer has, in order."""
    return [kind for at, kind in map(split_key, sketches) if at == layer]


def _rotation_proof_scores(
    a: Prepared,
    b: Prepared,
    tokens: Sample,
    pairs: list[tuple[int, int]],
    recipe: Recipe,
    n_tokens: int,
) -> list[TermScore]:
    """The rotation-proof feed-forward term beside the others: shown, not averaged into the ICS.

    Not linear in the rows, it takes products of all of them, so that it is of fewer tokens: of 1,024 it came within
    0.021 of its value over 4,096 in six layers of three pairs.
    """
    if not all(side.model.weights.architecture.gated for side in (a, b)):
        return []
    few, scores = (tokens[0].first(n_tokens), tokens[1].first(n_tokens)), []
    P = _cosines(a, b, few, recipe)
    for i, j in pairs:
        left, right = a.rotation_proof(few[0], recipe, i), b.rotation_proof(few[1], recipe, j)
        scores.append(TermScore(i, j, "ffn_exact", left.correlation(right, P)))
    return scores


def _mean(scores: list[TermScore]) -> float | None:
    return float(np.mean([term.score for term in scores])) if scores else None
