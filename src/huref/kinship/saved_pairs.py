"""All pairs of many saved fingerprints: a screening tells strangers, and only who may be kin is compared whole."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from huref.errors import InconclusiveError
from huref.fingerprints.codes import Codes, LayerCodes
from huref.fingerprints.file import load_fingerprint
from huref.fingerprints.record import Fingerprint, Reference
from huref.kinship.memory import Memory
from huref.kinship.recognition import Coded
from huref.kinship.record import Comparison
from huref.kinship.saved import compare_fingerprints
from huref.kinship.saved_neurons import can_be_cleared
from huref.kinship.screening import Screening, places
from huref.progress import Progress, Report

_FEW_PAIRS = 15
"""As many are all compared whole."""

_KEPT_WHOLE = 1 << 28
"""Bytes of whole fingerprints that are kept in memory from pair to pair."""


class SavedPairs:
    """Many saved fingerprints; of files only what a screening needs stays in memory.

    Attributes:
        made: the fingerprints, their codes those of the layers that a screening looks at.
        n_screened: pairs that few neurons told to be strangers.
        n_whole: pairs whose codes were compared whole.
    """

    def __init__(self, references: Sequence[Reference], report: Report | None = None) -> None:
        self.references, self.report, self.n_screened, self.n_whole = references, report, 0, 0
        self.made: list[Fingerprint] = []
        for done in range(len(references)):
            self._tell("reading fingerprints", done, len(references), "file")
            self.made.append(_trimmed(self._load(done)))
        self._memory = Memory(_KEPT_WHOLE)

    @property
    def with_codes(self) -> tuple[bool, ...]:
        """Which of them have codes."""
        return tuple(made.codes is not None for made in self.made)

    def compare_all(self) -> Iterator[tuple[int, int, Comparison | InconclusiveError]]:
        """Every pair, the earlier fingerprint first, in any order; or why two do not compare.

        Raises:
            HurefError: a file is gone or was changed meanwhile.
        """
        pairs = list(combinations(range(len(self.made)), 2))
        frames: tuple[Screening, ...] = ()
        if sum(self.with_codes[i] and self.with_codes[j] for i, j in pairs) > _FEW_PAIRS:
            frames = self._frames()
        for done, (i, j) in enumerate(pairs):
            self._tell("comparing pairs", done, len(pairs), "pair")
            try:
                yield i, j, self._compare(i, j, frames)
            except InconclusiveError as error:
                yield i, j, error

    def _tell(self, stage: str, done: int, total: int, unit: str) -> None:
        if self.report:
            self.report(Progress(stage, done, total, unit))

    def _frames(self) -> tuple[Screening, Screening]:
        """The tokens' frame and that of the streams' own dimensions, in which streams of one width compare."""
        recipes = [None if made.codes is None else made.codes.recipe for made in self.made]
        plain: list[Hashable] = [
            None if recipe is None else (recipe, made.geometry["d_model"])
            for recipe, made in zip(recipes, self.made, strict=True)
        ]
        sides = (
            [_coded(made, made.codes.layers if made.codes else {}) for made in self.made],
            [_coded(made, made.codes.plain if made.codes else {}) for made in self.made],
        )
        return (
            Screening(sides[0], recipes, "tokens", self.report),
            Screening(sides[1], plain, "identity", self.report),
        )

    def _compare(self, i: int, j: int, frames: Sequence[Screening]) -> Comparison:
        a, b = self.made[i], self.made[j]
        if a.codes is None or b.codes is None:
            return compare_fingerprints(a, b)
        screened = self._screened(i, j, frames) if frames else None
        if screened is not None:
            self.n_screened += 1
            return screened
        self.n_whole += 1
        return compare_fingerprints(self._read(i), self._read(j))

    def _read(self, i: int) -> Fingerprint:
        return self._memory.get(i, lambda: self._load(i))

    def _load(self, i: int) -> Fingerprint:
        reference = self.references[i]
        return reference if isinstance(reference, Fingerprint) else load_fingerprint(reference)

    def _screened(self, i: int, j: int, frames: Sequence[Screening]) -> Comparison | None:
        """A pair of strangers, by what the screening shows; None where it has to be looked at closely."""
        a, b = self.made[i], self.made[j]
        assert a.codes is not None and b.codes is not None
        seen = {frame.method: screened for frame in frames if (screened := frame.of(i, j)) is not None}
        if "tokens" not in seen or not all(screened.is_chance for screened in seen.values()):
            return None
        result = compare_fingerprints(a, b, {method: screened.found for method, screened in seen.items()})
        if result.verdict == "independent" or not can_be_cleared(a, b, a.codes, b.codes):
            return result
        again = {frame.method: found for frame in frames if (found := frame.second_look(i, j)) is not None}
        result = compare_fingerprints(a, b, again)
        return result if result.verdict == "independent" else None


def _coded(made: Fingerprint, layers: Mapping[int, LayerCodes]) -> Coded:
    return Coded(made.geometry["n_layers"], tuple(sorted(layers)), layers.__getitem__)


def _trimmed(made: Fingerprint) -> Fingerprint:
    """A fingerprint with copies of the codes that a screening needs, so that the rest of the file is let go of."""
    if made.codes is None:
        return made
    kept = places(made.geometry["n_layers"])

    def few(layers: Mapping[int, LayerCodes]) -> dict[int, LayerCodes]:
        return {i: _copied(layers[i]) for i in kept if i in layers}

    codes: Codes = replace(
        made.codes, layers=few(made.codes.layers), plain=few(made.codes.plain), listed=made.codes.listed.copy()
    )
    sketches = {key: sketch.copy() for key, sketch in made.sketches.items()}
    return replace(made, vector=made.vector.copy(), sketches=sketches, codes=codes)


def _copied(layer: LayerCodes) -> LayerCodes:
    none = np.zeros((0, layer.gate.shape[1]), np.uint8)
    up = None if layer.up is None else layer.up.copy()
    return replace(layer, gate=layer.gate.copy(), up=up, down=layer.down.copy(), qk=none, vo=none)
