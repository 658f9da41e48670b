"""Which of many models may be kin: a few neurons of each against whole layers of all others, at the same places.

Most pairs of many models are strangers. To see that of a pair takes no map of its layers: those near either end stand
where they stood, also where layers were dropped or doubled between them. The few neurons of all models are multiplied
with a layer at once. Whoever is found to have more partners than strangers have is looked at closely elsewhere. Kin
whose agreement is below a tenth in both layers may be taken for strangers: a few neurons show no less.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from huref.fingerprints.codes import LayerCodes, Packed
from huref.kinship.recognition import Coded, Recognition
from huref.kinship.record import LayerMatch
from huref.kinship.witnesses import (
    GATED,
    Pairing,
    Testimony,
    examine,
    fair_share,
    likest,
    operator_cosines,
    paired,
    sampled_rows,
)
from huref.numerics.arrays import Floats
from huref.numerics.threads import in_two
from huref.progress import Progress, Report

_PLACES = (1, -2)
"""Layers that are looked at, from the start and from the end: the first that files keep (`kept_layers`)."""

_SHALLOW = 4
"""Layers of a model that is too shallow for a layer to have a place in it that it has in a deeper one."""

_LIKENESSES, _FEWEST, _MOST = 48_000, 24, 128
"""Neurons of a layer that are tested times candidates in a layer of that size; the fewest and most tested."""

_SECOND_LOOK = 512
"""Neurons of a layer that are tested where a few show no kinship, and yet more than the background's."""

_EXCESS = 2.0
"""Times chance, with room: over the zoo, witnesses of unrelated models meet 1.1 times as often."""

_UNHEARD_OF = 1e-4
"""Probability at which a count of one witness, one way, is no accident."""

_NOBODY = np.zeros(0, np.int64)

_BLOCK = 16
"""Models between two messages of progress."""


@dataclass(frozen=True)
class Screened:
    """What few neurons of two models show.

    Attributes:
        found: in the form of a full recognition, of the layers looked at.
        is_chance: no witness has more partners than unrelated models may have.
    """

    found: Recognition
    is_chance: bool


def places(n_layers: int) -> tuple[int, ...]:
    """The layers of a model that a screening looks at."""
    return tuple(dict.fromkeys(_at(n_layers, place) for place in _PLACES))


def _at(n_layers: int, place: int) -> int:
    return min(max(0, place if place >= 0 else n_layers + place), n_layers - 1)


class Screening:
    """All pairs of some models in one frame.

    Args:
        models: with codes at least of their `places`; others are not looked at.
        groups: by model, only models of one group are compared, None for those that are not.
    """

    def __init__(
        self,
        models: Sequence[Coded],
        groups: Sequence[Hashable],
        method: str,
        report: Report | None = None,
    ) -> None:
        self.models, self.groups, self.method = models, groups, method
        shape = len(_PLACES), len(GATED), len(models), len(models)
        self.shares: Floats = np.full(shape, np.nan, np.float32)  # of neurons of a model with partners in another
        for k in range(len(_PLACES)):
            self._screen(k, report)

    def _screen(self, k: int, report: Report | None) -> None:
        """Few neurons of every model against all of every other, at one place."""
        place, n = _PLACES[k], len(self.models)
        samples = self._samples(place)
        for start in range(0, n, _BLOCK):
            if report:
                report(Progress(f"screening, frame by {self.method}", k * n + start, len(_PLACES) * n, "layer"))
            block = range(start, min(start + _BLOCK, n))
            for j, shares in zip(block, in_two(block, lambda j: self._partners(samples, place, j)), strict=True):
                self.shares[k, :, :, j] = shares

    def of(self, i: int, j: int) -> Screened | None:
        """What two models show; None where no layers of theirs were looked at side by side."""
        depths = self.models[i].n_layers, self.models[j].n_layers
        if min(depths) < _SHALLOW and depths[0] != depths[1]:
            return None
        seen = {}
        for k, place in enumerate(_PLACES):
            there, back = self.shares[k, :, i, j], self.shares[k, :, j, i]
            if not np.isnan(there[-1]) and not np.isnan(back[-1]):
                seen[_at(depths[0], place), _at(depths[1], place)] = there, back
        if not seen:
            return None
        said = {at: self._testimony(i, j, at, ways) for at, ways in seen.items()}
        return Screened(_recognition(self.models[i], self.models[j], said, self.method), self._is_chance(i, j, seen))

    def _samples(self, place: int) -> list[_Sample]:
        """The few neurons of every model's layer at a place, those with a gate and those without apart."""
        by_kind: dict[Hashable, list[int]] = {}
        for i, model in enumerate(self.models):
            layer = _at(model.n_layers, place)
            if self.groups[i] is not None and layer in model.layers:
                by_kind.setdefault((self.groups[i], model.read(layer).up is None), []).append(i)
        return [
            _Sample(tuple(members), tuple(self._layer(i, place) for i in members), self.groups[members[0]])
            for members in by_kind.values()
        ]

    def _partners(self, samples: Sequence[_Sample], place: int, j: int) -> Floats:
        """(witnesses, models): which share of every model's few neurons has one partner in a layer of model j."""
        shares = np.full((len(GATED), len(self.models)), np.nan, np.float32)
        if self.groups[j] is None or _at(self.models[j].n_layers, place) not in self.models[j].layers:
            return shares
        candidates = self._layer(j, place)
        for sample in samples:
            if sample.group != self.groups[j] or sample.members == (j,):
                continue
            best = likest(sample.codes, candidates, np.arange(len(sample.codes)))
            for i, part, layer in zip(sample.members, sample.parts, sample.layers, strict=True):
                its = {name: partners[part] for name, partners in best.items()}
                found = paired(its, sample.is_live[part], fair_share(layer, candidates))
                for name, pairing in found.items():
                    shares[GATED.index(name), i] = pairing.agreement
        return shares

    def _layer(self, i: int, place: int) -> LayerCodes:
        model = self.models[i]
        return model.read(_at(model.n_layers, place))

    def second_look(self, i: int, j: int) -> Recognition | None:
        """The same layers of two models by many neurons."""
        first = self.of(i, j)
        if first is None:
            return None
        a, b = self.models[i], self.models[j]
        said = {
            (match.layer_a, match.layer_b): examine(a.read(match.layer_a), b.read(match.layer_b), _SECOND_LOOK)
            for match in first.found.layers
        }
        return _recognition(a, b, said, self.method)

    def _testimony(self, i: int, j: int, at: tuple[int, int], ways: tuple[Floats, Floats]) -> Testimony:
        """What few neurons of two layers say, as many would."""
        x, y = self.models[i].read(at[0]), self.models[j].read(at[1])
        best = {
            name: Pairing(max(float(there), float(back)), _NOBODY)
            for name, there, back in zip(GATED, *ways, strict=True)
            if not (math.isnan(there) or math.isnan(back))
        }
        is_back = {name: bool(back > there) for name, there, back in zip(GATED, *ways, strict=True) if name in best}
        return Testimony(best, is_back, 1 / min(len(x), len(y)), min(_n_tested(len(x)), _n_tested(len(y))))

    def _is_chance(self, i: int, j: int, seen: dict[tuple[int, int], tuple[Floats, Floats]]) -> bool:
        sizes = [(len(self.models[i].read(at)), len(self.models[j].read(partner))) for at, partner in seen]
        for way in (0, 1):
            tested = np.array([_n_tested(size[way]) for size in sizes])
            expected = float(np.sum([_EXCESS * n / size[1 - way] for n, size in zip(tested, sizes, strict=True)]))
            counts = tested @ np.stack([ways[way] for ways in seen.values()])
            if np.nan_to_num(counts).max() >= _unheard_of(round(expected, 6)):
                return False
        return True


def _recognition(a: Coded, b: Coded, said: Mapping[tuple[int, int], Testimony], method: str) -> Recognition:
    """What some layers say as a recognition has it: by the witness that agrees most over all of them."""
    names = [name for name in GATED if all(name in each.agreements for each in said.values())]
    means = {name: float(np.mean([each.agreements[name] for each in said.values()])) for name in names}
    witness = max(means, key=means.__getitem__)
    table = np.full((a.n_layers, b.n_layers), np.nan)
    layers = []
    for (at, partner), each in said.items():
        shares, aligned = each.agreements, operator_cosines(a.read(at), b.read(partner))
        match = LayerMatch(
            at, partner, shares[witness], each.chance, each.n_neurons, aligned=aligned, witnesses=shares
        )
        layers.append(match)
        table[at, partner] = each.best
    return Recognition(method, tuple(layers), means, table, is_complete=False)


def _n_tested(size: int) -> int:
    return min(size, _MOST, max(_FEWEST, _LIKENESSES // max(1, size)))


@cache
def _unheard_of(expected: float) -> int:
    """The least count that a Poisson variable reaches with a probability below `_UNHEARD_OF`."""
    term = left = math.exp(-expected)
    count = 1
    while 1 - left > _UNHEARD_OF:
        term *= expected / count
        left += term
        count += 1
    return count


@dataclass(frozen=True, eq=False)
class _Sample:
    """A few neurons of some models' layers, as one layer."""

    members: tuple[int, ...]
    layers: tuple[LayerCodes, ...]
    group: Hashable

    @cached_property
    def rows(self) -> tuple[NDArray[np.int64], ...]:
        return tuple(sampled_rows(len(layer), _n_tested(len(layer))) for layer in self.layers)

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        ends = np.cumsum([len(rows) for rows in self.rows]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @cached_property
    def codes(self) -> LayerCodes:
        def stacked(name: str) -> Packed:
            taken: Packed = np.concatenate(
                [getattr(layer, name)[rows] for layer, rows in zip(self.layers, self.rows, strict=True)]
            )
            return taken

        up = None if self.layers[0].up is None else stacked("up")
        none = np.zeros((0, self.layers[0].gate.shape[1]), np.uint8)
        return LayerCodes(stacked("gate"), up, stacked("down"), none, none)

    @cached_property
    def is_live(self) -> NDArray[np.bool_]:
        return self.codes.is_live
