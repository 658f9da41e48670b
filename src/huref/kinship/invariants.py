"""ICS of two opened models: the canonical and the paper's terms over the token strings that both have.

Exact through the residual stream where that takes seconds (`huref.fingerprints.residual`), else by two-sided sketches
of the terms with more rows than a fingerprint keeps, and with the standard error that those have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huref.errors import TokenizerError
from huref.fingerprints.pipeline import choose_tokens, token_notes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import jackknife, mean_cosine, mean_cosines, project, slots_of, split_key
from huref.fingerprints.terms import ATTENTION_KINDS, PARTS, Part, has_part
from huref.kinship.prepared import Prepared
from huref.kinship.record import ICS_OF, CompareOptions, Comparison, TermScore
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

_SKETCHED = (
    f"both ICS are estimated from sketches of {SKETCH_ROWS} rows, with standard errors: --exact takes whole terms"
)

Sample = tuple[TokenSelection, TokenSelection]


@dataclass(frozen=True)
class _Sought:
    """Which terms of which layers are compared under a recipe.

    Attributes:
        recipe: the terms'.
        tokens: of A and of B, the same strings.
        pairs: by part, layers of A with layers of B.
    """

    recipe: Recipe
    tokens: Sample
    pairs: Mapping[Part, list[tuple[int, int]]]


@quietly
def with_invariants(
    result: Comparison, a: Prepared, b: Prepared, options: CompareOptions, report: Report | None
) -> Comparison:
    """The ICS of the asked recipe and the paper's, over shared tokens; null where too few strings are shared."""
    recipe = Recipe(name=options.ics_recipe, layers=options.layers, n_tokens=options.n_tokens)
    paper = replace(recipe, name="paper")
    try:
        samples = _samples(a.model, b.model, recipe, options)
    except TokenizerError as error:
        return replace(result, notes=(*result.notes, f"ics and {ICS_OF[recipe.name]} are null: {error.what}"))
    told = (*token_notes(samples[0][0]), *_vocabulary_notes(a.model, b.model, options, len(samples[0][0])))
    sketched = [side.sketches(t, recipe, report) for side, t in zip((a, b), samples[0], strict=True)]
    silent = [
        f"{side.model.name}: {note}" for side, found in zip((a, b), sketched, strict=True) for note in found.notes
    ]
    result = replace(result, notes=(*result.notes, *told, *silent))
    sought = _Sought(recipe, samples[0], _layer_pairs(sketched[0].terms, sketched[1].terms, recipe))
    is_sketched = not options.is_exact and any(_is_wide(side, recipe) for side in (a, b))
    score = _sketched_scores if is_sketched else _term_scores
    main, main_error = score(a, b, sought, report)
    asked = _Sought(paper, samples[1], _paper_pairs(sought, a, b))
    lacking = [side.model.name for place, side in enumerate((a, b)) if not _has_all(side, asked, place)]
    official, official_error = ([], 0.0) if lacking else score(a, b, asked, report)
    if lacking:
        told_why = f"ics, the paper's, is null: {lacking[0]} lacks attention or a feed-forward block in those layers"
        result = replace(result, notes=(*result.notes, told_why))
    if is_sketched:
        errors = {**result.errors, ICS_OF[recipe.name]: main_error, "ics": official_error}
        result = replace(result, notes=(*result.notes, _SKETCHED), errors=errors)
    terms = (*main, *(replace(term, term=f"paper/{term.term}") for term in official))
    vectors = cosine(
        *(_vector(found.terms, recipe, side.n_layers) for found, side in zip(sketched, (a, b), strict=True))
    )
    return replace(result, ics=_mean(official), vectors=vectors, terms=terms).with_ics(recipe.name, _mean(main))


def _has_all(side: Prepared, sought: _Sought, place: int) -> bool:
    """Whether the layers of one side have the parts that are compared."""
    weights = side.model.weights
    return all(has_part(weights, pair[place], part) for part, pairs in sought.pairs.items() for pair in pairs)


def _vector(sketches: Mapping[str, np.ndarray], recipe: Recipe, n_layers: int) -> np.ndarray:
    return project(sketches, slots_of(sketches, n_layers, is_dual=recipe.is_dual), recipe.seed)


def _samples(a: Model, b: Model, recipe: Recipe, options: CompareOptions) -> tuple[Sample, Sample]:
    """The tokens of the asked recipe and the paper's: its rarest where both vocabularies are one."""
    rows = a.n_rows, b.n_rows
    main = shared(a.vocabulary, b.vocabulary, options.n_tokens, rows, is_common=recipe.is_dual)
    if a.vocabulary.digest == b.vocabulary.digest:
        ranking = read_ranking(options.tokens_file) if options.tokens_file else None
        chosen = choose_tokens(a, replace(recipe, name="paper"), ranking)
        if int(chosen.ids.max()) < b.n_rows:
            return main, (chosen, chosen)
    return main, shared(a.vocabulary, b.vocabulary, options.n_tokens, rows)


def _paper_pairs(sought: _Sought, a: Prepared, b: Prepared) -> Mapping[Part, list[tuple[int, int]]]:
    """The layers that the paper's recipe takes, where both models have as many; else those of the asked recipe."""
    if not sought.recipe.is_dual:
        return sought.pairs
    recipe = replace(sought.recipe, name="paper")
    left, right = (recipe.layer_indices(side.n_layers) for side in (a, b))
    if len(left) == len(right):
        pairs = list(zip(left, right, strict=True))
        return dict.fromkeys(PARTS, pairs)
    return sought.pairs


def _vocabulary_notes(a: Model, b: Model, options: CompareOptions, n_shared: int) -> tuple[str, ...]:
    """What changes where the two vocabularies are not one."""
    if a.vocabulary.digest == b.vocabulary.digest:
        return ()
    ranking = "; the token ranking is not used" if options.tokens_file else ""
    return (f"the vocabularies differ: every ICS is over {n_shared} token strings that both have{ranking}",)


def _layer_pairs(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], recipe: Recipe
) -> Mapping[Part, list[tuple[int, int]]]:
    """By part, layers in order where their numbers agree; by assignment on sketch similarity where they do not.

    Under canonical-2 the parts are paired apart, since blocks that add nothing were passed over.
    """
    kinds = sorted({split_key(key)[1] for key in a} & {split_key(key)[1] for key in b})
    if not recipe.is_dual:
        return dict.fromkeys(PARTS, _paired(a, b, kinds))
    attention = [kind for kind in kinds if kind in ATTENTION_KINDS]
    return {
        "attention": _paired(a, b, attention),
        "feed_forward": _paired(a, b, [kind for kind in kinds if kind not in attention]),
    }


def _paired(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], kinds: Sequence[str]) -> list[tuple[int, int]]:
    left, right = (sorted({split_key(key)[0] for key in side if split_key(key)[1] in kinds}) for side in (a, b))
    if len(left) == len(right) or not left or not right:
        return list(zip(left, right, strict=False))
    table = np.array([[mean_cosine([(a[f"{i}.{k}"], b[f"{j}.{k}"]) for k in kinds]) for j in right] for i in left])
    rows, columns = assign(table)
    return [(left[i], right[j]) for i, j in zip(rows, columns, strict=True)]


def _cosines(a: Prepared, b: Prepared, tokens: Sample, recipe: Recipe) -> Floats | None:
    return a.frame(tokens[0], recipe).cosines(b.frame(tokens[1], recipe))


def _is_wide(side: Prepared, recipe: Recipe) -> bool:
    """Whether exact terms of a model take more than a few seconds."""
    g = side.model.weights.geometry
    per_layer = g.d_model * (2 * (g.n_heads + g.n_kv_heads) * g.head_dim + 3 * g.d_ff)
    directions = min(recipe.n_tokens, g.d_model + 1)
    return directions * per_layer * len(recipe.layer_indices(g.n_layers)) > _MOST_MULTIPLICATIONS


def _term_scores(a: Prepared, b: Prepared, sought: _Sought, report: Report | None) -> tuple[list[TermScore], float]:
    """Every term's correlation, and 0: they are exact."""
    recipe, tokens, scores = sought.recipe, sought.tokens, list[TermScore]()
    P = _cosines(a, b, tokens, recipe)
    parts = _parts(sought)
    for done, (part, i, j) in enumerate(parts):
        if report:
            report(Progress(f"{recipe.name} terms", done, len(parts), "block"))
        partners = b.terms(tokens[1], recipe, j, part)
        for kind, term in a.terms(tokens[0], recipe, i, part).items():
            if kind in partners:
                scores.append(TermScore(i, j, kind, term.correlation(partners[kind], P)))
    return scores, 0.0


def _parts(sought: _Sought) -> list[tuple[Part, int, int]]:
    """Layer by layer, as pairs of layers and their parts."""
    return sorted(
        ((part, i, j) for part, pairs in sought.pairs.items() for i, j in pairs),
        key=lambda item: (item[1], PARTS.index(item[0])),
    )


def _sketched_scores(
    a: Prepared, b: Prepared, sought: _Sought, report: Report | None
) -> tuple[list[TermScore], float]:
    """The same by sketches of the terms, less the means of their entries, and the standard error of their mean."""
    sketched = replace(sought.recipe, sketch_rows=SKETCH_ROWS)
    left, right = (
        side.term_sketches(chosen, sketched, report) for side, chosen in zip((a, b), sought.tokens, strict=True)
    )
    found = [
        (i, j, kind) for part, i, j in _parts(sought) for kind in _kinds(left, i, part) if f"{j}.{kind}" in right
    ]
    if not found:
        return [], 0.0
    sides = (
        np.stack([left[f"{i}.{kind}"] for i, _, kind in found]).astype(np.float64),
        np.stack([right[f"{j}.{kind}"] for _, j, kind in found]).astype(np.float64),
    )
    cosines = mean_cosines(*sides)
    scores = [TermScore(i, j, kind, float(score)) for (i, j, kind), score in zip(found, cosines, strict=True)]
    return scores, jackknife(*sides)


def _kinds(sketches: Mapping[str, np.ndarray], layer: int, part: Part) -> list[str]:
    """The kinds of terms that one part of a layer has, in order."""
    return [
        kind
        for at, kind in map(split_key, sketches)
        if at == layer and (kind in ATTENTION_KINDS) == (part == "attention")
    ]


def _mean(scores: list[TermScore]) -> float | None:
    return float(np.mean([term.score for term in scores])) if scores else None
