"""What can be said of two models, from what was measured: verdict, class of derivation, direction, reasons.

The rule, in order:

    identical, requantised   the stored weights say so themselves
    derived                  every stored weight is equal but for embedding rows, or but for the output matrix; or
                             pairing agreement of at least what the frame asks for, a p-value of at most 1 %, and more
                             neurons than chance explains
    independent              agreement and aligned score no higher than of unrelated pairs, in no layer either, though
                             every frame was given a chance
    inconclusive             everything else

Similar behaviour, similar token statistics and a high ICS accuse nobody: models that learned from the same text share
those (docs/explanation/verdict.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from huref.kinship.record import FRAMES, LayerMatch
from huref.kinship.verdict.calibration import FALSE_ACCUSATION_RATE, Background
from huref.kinship.verdict.chance import Count

BEYOND_CHANCE, CHANCE = 1e-6, 0.01
"""Probability of the neurons that agree, up to which chance does not explain them, and from which on it does: fewer
neurons than any model of the background has meet by chance more often than its pairs do."""

SEVERAL = 1.5
"""Copies of a neuron among experts, in the mean, from which on they are no accident of one expert being held."""

WHOLE, PART = 0.5, 0.25
"""Agreement from which on a layer has a partner, and below which it has none."""

LIGHT, MODERATE = 0.9, 0.5
"""Aligned scores from which on the weights have moved little, or not far: light fine-tunes kept 0.99, heavy ones 0.64
and more, training for as many tokens as the base had seen 0.21 to 0.38."""


@dataclass(frozen=True)
class Side:
    """What one model is made of.

    Attributes:
        name: what it is called.
        n_layers, d_model, d_ff, n_heads, vocab_size: its sizes; `d_ff` over all experts.
        n_experts: 0 for a dense model.
    """

    name: str
    n_layers: int
    d_model: int
    d_ff: int
    n_heads: int
    vocab_size: int
    n_experts: int = 0


@dataclass(frozen=True)
class Facts:
    """What was measured of a pair.

    Attributes:
        a, b: the two models.
        parameters: `identical`, `requantised` or empty: what the stored weights say.
        frame: where neurons were compared, one of `FRAMES`.
        count: the neurons that agree, beside chance; None where nothing was compared.
        layers: matched layers.
        table: (L_a, L_b) agreement by which layers were matched.
        aligned: aligned score, or None.
        pcs: parameters' cosine similarity, or None.
        is_turned: neurons agree in a frame that turns with the stream, and not dimension by dimension.
        background: where the agreement stands; None without agreement.
        most_aligned: the highest aligned score of an unrelated pair, or None.
        has_alignment: the vocabularies share enough tokens for a frame of them.
        missing: why there is no agreement.
        shares_vocabulary: `same`, `extended` (B's holds all of A's), `reduced` or `other`.
        added_rows: what the embedding rows of the tokens that one has more are: `zero`, `average` (near the mean row)
            or empty.
        unseen: why agreement at chance would not show independence; empty where it would.
        only_difference: `rows` (of the embeddings) or `unembedding`, where every other stored weight is equal.
        silent: of A and of B: the share of feed-forward neurons that are zero.
        copies: how often the mixture of a pair holds each neuron of the dense one; None where both are of one sort.
    """

    a: Side
    b: Side
    parameters: str = ""
    frame: str = "tokens"
    count: Count | None = None
    layers: tuple[LayerMatch, ...] = ()
    table: np.ndarray | None = None
    aligned: float | None = None
    pcs: float | None = None
    is_turned: bool = False
    background: Background | None = None
    most_aligned: float | None = None
    has_alignment: bool = True
    missing: str = ""
    shares_vocabulary: str = "same"
    added_rows: str = ""
    unseen: str = ""
    only_difference: str = ""
    silent: tuple[float, float] = (0.0, 0.0)
    copies: float | None = None

    @property
    def agreement(self) -> float | None:
        """Mean over the matched layers."""
        return float(np.mean([layer.agreement for layer in self.layers])) if self.layers else None


@dataclass(frozen=True)
class Decision:
    """A verdict, and what it rests on.

    Attributes:
        verdict: one of `huref.kinship.record.VERDICTS`.
        kind: class of derivation, or empty.
        strength: `light`, `moderate` or `heavy`: how far the weights have moved; empty where that is not measured.
        direction: `b from a`, `a from b` or `unknown`.
        reasons: in plain words.
    """

    verdict: str
    kind: str = ""
    strength: str = ""
    direction: str = "unknown"
    reasons: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any] | None:
        """The `derivation` of a comparison: None where there is no kind to tell."""
        if not self.kind:
            return None
        return {
            "kind": self.kind,
            "strength": self.strength,
            "direction": self.direction,
            "reasons": list(self.reasons),
        }


def decide(facts: Facts) -> Decision:
    """Apply the rule of this module's docstring."""
    if facts.parameters or facts.only_difference:
        return _copies(facts)
    agreement, background = facts.agreement, facts.background
    if agreement is None or background is None:
        return Decision("inconclusive", reasons=(facts.missing or "there is nothing to hold the pair against",))
    told = (
        f"pairing agreement {agreement:.3f}; {len(background.values)} unrelated pairs ({background.matched}) reach "
        f"{max(background.values):.3f} at most, p {background.p_value:.2g}",
        *_counted(facts.count),
    )
    needed = FRAMES[facts.frame].accused_from
    is_beyond_chance = facts.count is None or facts.count.p_value <= BEYOND_CHANCE
    if agreement >= needed and background.p_value <= FALSE_ACCUSATION_RATE and is_beyond_chance:
        return _derived(facts, told)
    is_chance = facts.count is not None and facts.count.p_value > CHANCE
    if agreement > max(background.values) and not is_chance:
        reason = (
            f"more than unrelated models show, less than the {needed} asked for"
            if agreement < needed
            else "too few neurons, or too few unrelated pairs, to exclude chance"
        )
        return Decision("inconclusive", reasons=(*told, reason))
    doubt = _doubt(facts)
    if doubt:
        return Decision("inconclusive", reasons=(*told, doubt))
    return Decision("independent", "independent", reasons=(*told, "no more than unrelated models have in common"))


def _counted(count: Count | None) -> tuple[str, ...]:
    if count is None:
        return ()
    by_chance = f"{count.by_chance:.0f}" if count.by_chance >= 10 else f"{count.by_chance:.1f}"
    return (f"{count.agreeing:,} of {count.neurons:,} neurons have one partner, {by_chance} would by chance",)


def _doubt(facts: Facts) -> str:
    """Why agreement at chance does not show independence here, or nothing."""
    found = max(facts.layers, key=_highest, default=None)
    if found is not None and _highest(found) >= PART:
        return (
            f"layer {found.layer_a} of {facts.a.name} and layer {found.layer_b} of {facts.b.name} have partners for "
            f"{100 * _highest(found):.0f} % of their neurons: part of one may be from the other"
        )
    if facts.aligned is not None and facts.most_aligned is not None and facts.aligned > facts.most_aligned:
        return (
            f"aligned, the weights resemble each other more ({facts.aligned:.2f}) than those of any unrelated pair "
            f"({facts.most_aligned:.2f}): the pairing may have been trained away"
        )
    if facts.unseen:
        return facts.unseen
    if not facts.has_alignment:
        return "too few shared tokens to compare neurons by, and the weights alone showed no map"
    return ""


def _highest(layer: LayerMatch) -> float:
    """Agreement of a layer by the witness that speaks most."""
    return max([layer.agreement, *layer.witnesses.values()])


def _copies(facts: Facts) -> Decision:
    if facts.parameters == "identical":
        return Decision("identical", "identical", direction="unknown", reasons=("every stored weight is equal",))
    if facts.parameters == "requantised":
        reason = "every tensor agrees within the rounding of the stored types; the coarser one cannot be the source"
        return Decision("requantised", "requantised", reasons=(reason,))
    if facts.only_difference == "unembedding":
        reason = "every stored weight is equal but for the output matrix, which only one of the two has"
        return Decision("derived", "unembedding-changed", reasons=(reason,))
    _, direction, told = _vocabulary(facts)
    reason = "every stored weight is equal but for the number of embedding rows"
    return Decision("derived", "vocabulary-changed", direction=direction, reasons=(reason, *told))


def _derived(facts: Facts, told: tuple[str, ...]) -> Decision:
    kind, direction, why = _shape_of(facts)
    return Decision("derived", kind, _strength(facts), direction, (*told, *why, *_how_moved(facts)))


def _shape_of(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """Class and direction from how the two differ in shape; the first that applies."""
    a, b = facts.a, facts.b
    if bool(a.n_experts) != bool(b.n_experts):
        return _experts(facts)
    if a.n_layers != b.n_layers:
        return _depth(facts)
    if a.d_ff != b.d_ff or a.n_heads != b.n_heads or a.d_model != b.d_model:
        return _width(facts)
    return _in_one_shape(facts)


def _experts(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """A mixture and a dense model: copies of one neuron in several experts show which came first."""
    sparse, dense = (facts.b, facts.a) if facts.b.n_experts else (facts.a, facts.b)
    if (facts.copies or 0.0) >= SEVERAL:
        why = f"the experts of {sparse.name} hold each neuron of {dense.name} {facts.copies:.1f} times"
        return "up-cycled", _from(facts, sparse), (why,)
    why = (
        f"the experts of {sparse.name} hold the neurons of {dense.name} once: either {dense.name} was taken out of "
        f"{sparse.name}, or {sparse.name} was made with it"
    )
    return "experts-changed", "unknown", (why,)


def _width(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """Other numbers of neurons, heads or dimensions: neurons of zeros show that they were added."""
    a, b = facts.a, facts.b
    is_b_smaller = (b.d_ff, b.n_heads, b.d_model) < (a.d_ff, a.n_heads, a.d_model)
    smaller, larger = (b, a) if is_b_smaller else (a, b)
    added = 1 - smaller.d_ff / larger.d_ff
    if added > 0 and facts.silent[0 if larger is a else 1] >= 0.95 * added:
        why = f"what {larger.name} has more than {smaller.name} are neurons of zeros: they were added"
        return "padded", _from(facts, larger), (why,)
    why = (
        f"the neurons, heads or dimensions of {smaller.name} are found in {larger.name}, which has more: either they "
        f"were taken out of {larger.name}, or {larger.name} was made with them"
    )
    return "width-changed", "unknown", (why,)


def _from(facts: Facts, child: Side) -> str:
    """A direction in words."""
    return "b from a" if child is facts.b else "a from b"


def _in_one_shape(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """Class and direction of two models of the same sizes."""
    lonely = [layer for layer in facts.layers if layer.agreement < PART]
    if lonely and len(lonely) < len(facts.layers):
        why = (
            f"{len(lonely)} of {len(facts.layers)} layers have no partner: they come from elsewhere or were made anew"
        )
        return "partly replaced", "unknown", (why,)
    if (facts.agreement or 0.0) < FRAMES[facts.frame].first_weights:
        why = "two trainings from the same random weights share as much: first weights in common would explain it"
        return "common origin", "unknown", (why,)
    if facts.shares_vocabulary in ("extended", "reduced"):
        return _vocabulary(facts)
    return "fine-tuned", "unknown", ("nothing in the weights tells which of the two came first",)


def _vocabulary(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    """One vocabulary holds the other: rows that nothing has trained show that they were added."""
    longer, shorter = (facts.b, facts.a) if facts.shares_vocabulary == "extended" else (facts.a, facts.b)
    if facts.added_rows:
        found = "zero" if facts.added_rows == "zero" else "the mean of all"
        why = f"the rows of the tokens that {longer.name} has more than {shorter.name} are {found}: they were added"
        return "fine-tuned", _from(facts, longer), (why,)
    if facts.shares_vocabulary not in ("extended", "reduced"):
        return "fine-tuned", "unknown", ()
    why = (
        f"the vocabulary of {longer.name} is that of {shorter.name}, and more: either it was extended, or that of "
        f"{shorter.name} was trimmed"
    )
    return "fine-tuned", "unknown", (why,)


def _depth(facts: Facts) -> tuple[str, str, tuple[str, ...]]:
    a, b, table = facts.a, facts.b, facts.table
    deeper = b if b.n_layers > a.n_layers else a
    copies = _duplicates(table if deeper is b else None if table is None else table.T)
    if copies:
        why = f"{copies} layers of the other are found more than once in {deeper.name}"
        return "depth-changed", "b from a" if deeper is b else "a from b", (why,)
    why = "layers were left out of the shallower, or put into the deeper: the weights do not tell which"
    return "depth-changed", "unknown", (why,)


def _duplicates(table: np.ndarray | None) -> int:
    """Rows with two or more partners."""
    if table is None:
        return 0
    return int(((np.nan_to_num(table) >= WHOLE).sum(axis=1) >= 2).sum())


def _strength(facts: Facts) -> str:
    if facts.aligned is None:
        return ""
    return "light" if facts.aligned >= LIGHT else "moderate" if facts.aligned >= MODERATE else "heavy"


def _how_moved(facts: Facts) -> tuple[str, ...]:
    """Whether parts were rearranged."""
    notes = []
    if facts.is_turned:
        notes.append("the residual stream of one was rotated or permuted")
    places = [layer.in_place for layer in facts.layers if layer.agreement >= WHOLE and layer.in_place is not None]
    if places and float(np.mean(places)) < WHOLE and facts.a.d_ff == facts.b.d_ff:
        notes.append("feed-forward neurons stand in another order")
    return tuple(notes)


def scores_of(
    backgrounds: Mapping[str, Background | None],
) -> dict[str, dict[str, float | None]]:
    """Where each further score stands among the unrelated pairs: p-value, z, mean, std, highest."""
    return {
        name: {"p_value": found.p_value, "z": found.z, "mean": found.mean, "std": found.std, "max": max(found.values)}
        for name, found in backgrounds.items()
        if found is not None
    }
