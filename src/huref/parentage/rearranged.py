"""A child that was rearranged, seen through: what was done to it is recovered against a candidate and undone.

One candidate's order serves for all that have it, as the offspring of one base do; a candidate with another order
is undone by itself. A map that was fitted against one parent takes part of what another gave for a rearrangement:
once weights are known it is fitted again, against the mixture that they make, until they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huref.errors import HurefError
from huref.forward.decoder import load_decoder
from huref.forward.settings import read_settings
from huref.kinship.frames import recognise_models
from huref.kinship.prepared import Prepared
from huref.kinship.recovery.held import HeldWeights
from huref.kinship.recovery.matching import CLEAR_LAYER
from huref.kinship.recovery.recovering import Recovered, recover
from huref.kinship.recovery.refitting import Freedom, refit
from huref.kinship.recovery.undoing import APART, undo
from huref.model.arch.weights import CanonicalWeights
from huref.model.model import Model
from huref.model.tokens import Vocabulary, load_vocabulary
from huref.numerics.arrays import Array
from huref.parentage.inner_products import RUN, InnerProducts
from huref.parentage.members import Family, Member
from huref.progress import Progress, Report

_ALIKE = 0.5
"""Cosine of a matrix with the most alike candidate's below which training alone does not explain it."""
_LENGTH = 1.3
"""Factor between the lengths of two matrices, otherwise alike, beyond which neither does it explain that."""
_BY_RUN = 0.03
"""How much more alike short runs of entries may be than the matrix they are from, before rows count as scaled."""
_EVEN = 0.25
_NO_GAIN = 1e-3


def looks_rearranged(family: Family, products: InnerProducts) -> bool:
    """Whether some of the child is unlike every candidate, from what was read anyway; of a stranger all of it is."""
    return (
        _has_unlike_matrix(products)
        or _has_other_length(products)
        or _has_scaled_rows(products)
        or any(_has_evened_gains(family.child, member) for member in family.candidates)
    )


def _likeness(products: InnerProducts) -> tuple[Array, Array, Array]:
    """(T, k) cosines with the child, (T, k) squared lengths, (T,) the child's."""
    S = products.sums.sum(axis=1)
    child, cross = S[:, -1, -1], S[:, :-1, -1]
    squares = np.maximum(child[:, None] + 2 * cross + np.einsum("tii->ti", S)[:, :-1], 0.0)
    scale = np.sqrt(child[:, None] * squares)
    cosines = np.divide(child[:, None] + cross, scale, out=np.zeros_like(scale), where=scale > 0)
    return cosines, squares, child


def _has_unlike_matrix(products: InnerProducts) -> bool:
    cosines, _, _ = _likeness(products)
    return bool((cosines[products.is_matrix].max(axis=1) < _ALIKE).any())


def _has_other_length(products: InnerProducts) -> bool:
    cosines, squares, child = _likeness(products)
    rows, nearest = products.in_layers(), int(products.cosines().argmax())
    is_alike = rows & (cosines[:, nearest] >= _ALIKE) & (child > 0)
    return bool((np.abs(np.log(child[is_alike] / squares[is_alike, nearest])) > 2 * np.log(_LENGTH)).any())


def _has_scaled_rows(products: InnerProducts) -> bool:
    """Runs of entries lie within rows: each is as alike as ever where rows were scaled, and the matrix is less."""
    cosines, _, _ = _likeness(products)
    nearest, sample = int(products.cosines().argmax()), products.sample
    runs = sample.values[[nearest, -1]].astype(np.float64).reshape(2, -1, RUN)
    tensor = sample.tensor.reshape(-1, RUN)[:, 0]
    lengths = np.sqrt(np.square(runs).sum(axis=2))
    is_there = (lengths > 0).all(axis=0)
    inner = np.abs((runs[0] * runs[1]).sum(axis=1))
    like = np.divide(inner, lengths.prod(axis=0), out=np.zeros_like(inner), where=is_there)
    for t in np.flatnonzero(products.in_layers()).tolist():
        mine = is_there & (tensor == t)
        if mine.any() and float(like[mine].mean()) - float(cosines[t, nearest]) > _BY_RUN:
            return True
    return False


def _has_evened_gains(child: Member, other: Member) -> bool:
    """A norm of the child has nearly one gain for all axes, the candidate's has not."""
    names = [name for name in child.weights.names() if name.endswith("_norm")]
    for name in names:
        if other.own_name(name) in other.weights:
            uneven = [
                _unevenness(weights.read(own))
                for weights, own in ((child.weights, name), (other.weights, other.own_name(name)))
            ]
            if uneven[1] > _NO_GAIN and uneven[0] < _EVEN * uneven[1]:
                return True
    return False


def _unevenness(gain: Array) -> float:
    wide = gain.astype(np.float64)
    return float(wide.std()) / max(float(np.abs(wide).mean()), 1e-20)


@dataclass(frozen=True)
class Seen:
    """A child, and candidates, in the order of one candidate.

    Attributes:
        reference: that candidate's name.
        child: undone.
        others: every candidate, undone where it was rearranged itself.
        undone: names of those.
        kind: of the map of the child's stream.
        freedom: what of the child's map was fitted.
        left: what was not undone, in words.
    """

    reference: str
    child: Member
    others: tuple[Member, ...]
    undone: tuple[str, ...]
    kind: str
    freedom: Freedom
    left: tuple[str, ...]

    @property
    def held(self) -> HeldWeights:
        """The child's weights."""
        weights = self.child.weights
        if not isinstance(weights, HeldWeights):
            raise AssertionError("an undone model is held in memory")
        return weights


class Sight:
    """Looks through the rearrangement of a family's child; each model is prepared once."""

    def __init__(self, family: Family, report: Report | None) -> None:
        self.family, self.report = family, report
        self._models: dict[str, Prepared] = {}

    def through(self, names: Sequence[str]) -> Seen | None:
        """The child in the order of the first of these candidates in which it is found; None where nothing moves."""
        child = self._model("", self.family.child)
        members = {member.name: member for member in self.family.candidates}
        for reference in (members[name] for name in names):
            self._tell(reference.name)
            found = self._recovered(self._model(reference.name, reference), child)
            if found is None:
                continue
            undone = _undone(self.family.child, child.model, self._model(reference.name, reference).model, found)
            if undone is None:
                return None
            weights, left, has_new_gains = undone
            subject, kind = Member(self.family.child.name, weights), found.stream.transform.kind
            freedom = Freedom.of(found, has_new_gains=has_new_gains)
            others = tuple(Member(member.name, member.weights) for member in self.family.candidates)
            return Seen(reference.name, subject, others, (), kind, freedom, left)
        return None

    def with_others(self, seen: Seen, strangers: Sequence[str]) -> Seen:
        """Candidates that are strangers to the undone child, undone as well where they are found in the reference."""
        reference = self._model(seen.reference, next(m for m in seen.others if m.name == seen.reference))
        others, undone = list[Member](), list[str]()
        for member in seen.others:
            found = self._in_order(member, reference) if member.name in strangers else None
            others.append(member if found is None else Member(member.name, found))
            undone += [] if found is None else [member.name]
        return replace(seen, others=tuple(others), undone=tuple(undone))

    def _in_order(self, member: Member, reference: Prepared) -> HeldWeights | None:
        self._tell(member.name)
        model = self._model(member.name, member)
        found = self._recovered(reference, model)
        undone = None if found is None else _undone(member, model.model, reference.model, found)
        return None if undone is None else undone[0]

    def _recovered(self, a: Prepared, b: Prepared) -> Recovered | None:
        """The transform, of models of which any layer has partners in the other; that is asked first, being quick."""
        seen = recognise_models(a, b)
        if isinstance(seen, str) or max((layer.agreement for layer in seen.found.layers), default=0.0) < CLEAR_LAYER:
            return None
        found = recover(a.model, b.model, report=self.report)
        return None if isinstance(found, str) else found

    def _model(self, name: str, member: Member) -> Prepared:
        if name not in self._models:
            self._models[name] = Prepared(Model(member.name, member.weights, _vocabulary(member.weights)))
        return self._models[name]

    def _tell(self, name: str) -> None:
        if self.report:
            self.report(Progress(f"looking for a rearrangement of {name}", 0, 1, "model"))


def refitted(seen: Seen, family: Family, weight: Callable[[str], Mapping[str, float]]) -> Seen | None:
    """The child with its map fitted again, against the mixture of candidates; None where there is none.

    Args:
        family: everyone lined up with the child as it was undone before.
        weight: a tensor's name -> candidate -> weight.
    """
    held = seen.held
    tensors: dict[str, Array] = {}
    for name in held.tensors:
        parts = weight(name)
        mixed = [(parts.get(m.name, 0.0), m) for m in family.candidates if parts.get(m.name, 0.0)]
        if not mixed or not all(m.own_name(name) in m.weights for _, m in mixed):
            continue
        read = [w * m.weights.read(m.own_name(name)).astype(np.float64) for w, m in mixed]
        if all(each.shape == held.shape(name) for each in read):
            tensors[name] = np.sum(read, axis=0)
    if not all(name in tensors for name in held.tensors if name.startswith("layers.")) or "embedding" not in tensors:
        return None
    nobody = Vocabulary((), frozenset(), "bpe", "none")
    mixture = Model("mixture", HeldWeights(tensors, held.like, held.origins), nobody)
    child = Model(seen.child.name, held, nobody)
    undone = _undone(seen.child, child, mixture, refit(mixture, child, seen.freedom), free=seen.freedom)
    if undone is None:
        return None
    left = tuple(what for what in seen.left if what != APART or APART in undone[1])
    return replace(seen, child=Member(seen.child.name, undone[0]), left=left)


def _undone(
    member: Member, b: Model, a: Model, found: Recovered, *, free: Freedom | None = None
) -> tuple[HeldWeights, tuple[str, ...], bool] | None:
    """The weights of B in A's order, and what was not undone; None where nothing moves."""
    weights = member.weights
    like, origins = (weights.like, weights.origins) if isinstance(weights, HeldWeights) else (weights, None)
    try:
        settings = read_settings(like)
        tensors = _wide(weights)
        undone = undo(
            tensors,
            b,
            a,
            found,
            movable=np.arange(b.n_rows if len(b.vocabulary) and a.n_rows == b.n_rows else 0),
            activation=settings.activation,
            is_numbered=bool(settings.layers_are_numbered),
            is_near=free is not None,
            has_own_gains=free is not None and not free.gains,
        )
    except HurefError:
        return None
    new = undone.tensors
    if new.keys() == tensors.keys() and all(np.array_equal(tensor, tensors[name]) for name, tensor in new.items()):
        return None
    behind = tuple(undone.origins if origins is None else (origins[layer] for layer in undone.origins))
    return HeldWeights(new, like, behind), undone.left, undone.has_new_gains


def _wide(weights: CanonicalWeights) -> Mapping[str, Array]:
    """Every tensor under every name, float64."""
    if isinstance(weights, HeldWeights):
        return {name: tensor.astype(np.float64) for name, tensor in weights.tensors.items()}
    return load_decoder(weights).tensors


def _vocabulary(weights: CanonicalWeights) -> Vocabulary:
    """The tokenizer's; an empty one where there is none, for weights may do without."""
    try:
        return load_vocabulary(weights.checkpoint)
    except HurefError:
        return Vocabulary((), frozenset(), "bpe", "none")
