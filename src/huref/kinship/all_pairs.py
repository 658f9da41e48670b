"""All pairs of some models, as in the paper's tables 1 to 3 and 7."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.choices import chosen, option
from huref.errors import AccessError, HurefError, InconclusiveError, InputError, NetworkError, UsageError
from huref.files.cache import Cache
from huref.fingerprints.file import as_references, is_fingerprint
from huref.fingerprints.listing import names_of
from huref.fingerprints.recipe import require
from huref.fingerprints.record import Fingerprint, Reference
from huref.kinship.record import ICS_OF, CompareOptions, Comparison, Matrix
from huref.kinship.references import compare_references, require_options_of, require_use
from huref.kinship.saved_pairs import SavedPairs
from huref.model.kept import Asker, options_of
from huref.numerics.threads import alone, in_two
from huref.progress import Progress, Report, shows_progress

if TYPE_CHECKING:
    from huref.kinship.prepared import OpenModels, Prepared

SCORES = ("pcs", "ics", "ics_canonical_2", "ics_canonical", "aligned", "agreement", "vectors")

_SKIPPED = (InputError, AccessError, NetworkError)
"""What one model of many may be missing for."""

KIN = ("identical", "requantised", "derived", "merged")
"""Verdicts that put two models into one cluster."""


@shows_progress
def matrix(
    models: Sequence[Reference],
    score: str | None = None,
    options: CompareOptions | None = None,
    report: Report | None = None,
    *,
    layers: str | None = None,
    n_tokens: int | None = None,
    tokens_file: str | Path | None = None,
    arch_file: str | Path | None = None,
    encoder_weights: str | Path | None = None,
    is_exact: bool | None = None,
    recipe: str | None = None,
    tokenizer: str | Path | None = None,
    names: Sequence[str] | None = None,
    against_first: bool = False,
    cache: Cache | bool = False,
) -> Matrix:
    """Compare every pair of models, as in the paper's tables 1 to 3 and 7.

    Saved fingerprints with neuron codes get verdicts too, quickly: most pairs are told to be strangers by a few
    neurons. Of models, the verdicts are those that the score needs (`agreement`, `aligned`), or that the stored
    weights say themselves (`pcs`).

    Args:
        models: two or more: models, fingerprints, or files of these, mixed as you like.
        score: one of `SCORES`; `agreement` where every model is a fingerprint with codes, else the ICS of the
            fingerprints' recipe, or of canonical-2.
        options: instead of the keywords `layers` to `tokenizer`, which are the attributes of `CompareOptions`.
        report: called with a `Progress` at each step; a notebook shows bars without it.
        names: what to call the models, in their order; else by their paths.
        against_first: compare only the first with each other one; the other cells stay empty.
        cache: True to keep each pair on this machine as soon as it is compared, and to take it from there the next
            time: what was interrupted goes on, and one more model costs its own pairs; or a `Cache`.

    Of three models or more, one that cannot be read leaves its cells empty, with a note.

    Raises:
        UsageError: fewer than two models, or no such score; options as an object and as keywords.
        HurefError: of two models one cannot be read; of more, fewer than two can.
    """
    models = as_references(models)
    if len(models) < 2:
        raise UsageError(
            "a matrix needs two models or more",
            where="models (huref matrix)",
            expected="2 or more models or fingerprints",
            got=str(len(models)),
            next_step="name more, or fingerprint the one",
        )
    require(score is None or score in SCORES, "unknown score", option("score"), " or ".join(SCORES), str(score))
    options = chosen(
        CompareOptions,
        options,
        layers=layers,
        n_tokens=n_tokens,
        tokens_file=tokens_file,
        arch_file=arch_file,
        encoder_weights=encoder_weights,
        is_exact=is_exact,
        recipe=recipe,
        tokenizer=tokenizer,
    )
    return _filled(models, score, options, names, report, Cache.of(cache), against_first=against_first)


def _filled(
    models: Sequence[Reference],
    score: str | None,
    options: CompareOptions,
    names: Sequence[str] | None,
    report: Report | None,
    cache: Cache | None,
    *,
    against_first: bool,
) -> Matrix:
    """`matrix` of options as an object."""
    called = names_of(models, names)
    saved = [i for i, model in enumerate(models) if is_fingerprint(model)]
    files = SavedPairs([models[i] for i in saved], report)
    for made in files.made:
        require_options_of(made.recipe, options)
    has_codes = dict(zip(saved, files.with_codes, strict=True))
    if score is None:
        first = files.made[0].recipe.name if files.made else options.ics_recipe
        likeness = ICS_OF.get(first, "vectors")  # sketches of the paper's recipe give no ICS
        score = "agreement" if len(saved) == len(models) and all(has_codes.values()) else likeness
    recipes = {name: recipe for recipe, name in ICS_OF.items()}
    if len(saved) == len(models):
        require_use(options.encoder_weights, "no model is to be encoded by the CNN encoder")
    table = _Table(called, score)
    for i, j, found in files.compare_all():
        if against_first and saved[i] != 0:
            continue
        if isinstance(found, InconclusiveError):
            table.notes[f"{found.where}: {found.what}"] = None
            continue
        table.put(saved[i], saved[j], found, has_verdict=has_codes[saved[i]] and has_codes[saved[j]])
    method = score if score in ("pcs", "aligned", "agreement") else "ics"
    wanted = replace(options, method=method, recipe=recipes.get(score, options.recipe))
    pairs = [(j, i) for i in range(len(models)) for j in range(1 if against_first and i else i)]
    pairs = [pair for pair in pairs if not all(i in has_codes for i in pair)]
    weights = _Weights(wanted, options.recipe, has_codes, cache, table.names if names else ())
    _compare_weights(models, pairs, weights, table, report)
    without = [table.names[i] for i in saved if not has_codes[i]] if any(has_codes.values()) else []
    if without:
        table.notes[
            f"without neuron codes, and so without verdicts: {', '.join(without)} (fingerprint with --codes)"
        ] = None
    return table.finished(files)


@dataclass(frozen=True)
class _Weights:
    """How pairs are compared of which one is a model.

    Attributes:
        options: what is asked of each pair.
        asked: the recipe that the user named, which saved fingerprints must have.
        has_codes: by the number of each saved fingerprint; with one of them, what was asked for is all the same.
        cache: where results are kept, or None.
        called: the user's own names of the models, which notes are to have too.
    """

    options: CompareOptions
    asked: str | None
    has_codes: Mapping[int, bool]
    cache: Cache | None
    called: Sequence[str]

    def has_verdict(self, j: int, i: int) -> bool:
        """Whether a pair has a verdict."""
        is_asked = self.options.method in ("aligned", "agreement")
        return self.has_codes.get(i, self.has_codes.get(j, is_asked))


def _compare_weights(
    models: Sequence[Reference],
    pairs: Sequence[tuple[int, int]],
    how: _Weights,
    table: _Table,
    report: Report | None,
) -> None:
    """Pairs, by number, of which one is a model; those that are kept are taken from there."""
    asker = Asker(how.cache, Comparison, "matrix", {**options_of(how.options, "expect"), "asked": how.asked})
    questions = {}
    for pair in pairs:
        called = [how.called[i] for i in pair] if how.called else ()
        questions[pair] = asker.ask(*(models[i] for i in pair), called=called)
    found = {pair: known for pair, question in questions.items() if (known := question.recall()) is not None}
    left = [pair for pair in pairs if pair not in found]
    needed = sorted({i for pair in left for i in pair} - how.has_codes.keys())
    names = dict(zip(map(str, models), how.called, strict=False))
    is_lenient = len(models) > 2  # of many models the others are still a table
    with _Opened(how.options, how.asked, names) as opened, alone():
        faults = opened.open([models[i] for i in needed], is_lenient=is_lenient)
        unread = {i: fault for i, fault in zip(needed, faults, strict=True) if fault is not None}
        for i, fault in unread.items():
            table.notes[f"{table.names[i]}: not read: {fault.what}; {fault.got or fault.where}"] = None
        left = [pair for pair in left if not set(pair) & unread.keys()]
        if unread and not left and not found:
            raise next(iter(unread.values()))

        def compared(pair: tuple[int, int]) -> Comparison | HurefError:
            try:
                return questions[pair].keep(opened.compare(*(models[i] for i in pair)))
            except _SKIPPED as error:
                if not is_lenient:
                    raise
                return error

        for done in range(0, len(left), 2):
            if report:
                report(Progress("comparing pairs", done, len(left), "pair"))
            two = left[done : done + 2]  # side by side
            for pair, answer in zip(two, in_two(two, compared), strict=True):
                if isinstance(answer, HurefError):
                    table.notes[f"{' ~ '.join(table.names[i] for i in pair)}: {answer.what}; {answer.where}"] = None
                else:
                    found[pair] = answer
    for j, i in (pair for pair in pairs if pair in found):
        table.put(j, i, found[j, i], has_verdict=how.has_verdict(j, i))


class _Table:
    """A matrix that is being filled."""

    def __init__(self, names: Sequence[str], score: str) -> None:
        self.names, self.score, self.notes = tuple(names), score, dict[str, None]()
        self.values = np.where(np.eye(len(names)) > 0, 1.0, np.nan)
        self.verdicts: list[list[str | None]] = [[None] * len(names) for _ in names]
        for i, row in enumerate(self.verdicts):
            row[i] = "identical"
        self._kinds = {"float32"}

    def put(self, i: int, j: int, found: Comparison, *, has_verdict: bool) -> None:
        """A pair's score and verdict, and why it has no score.

        Args:
            has_verdict: what was compared gives one; else only the stored weights' own word counts.
        """
        value = getattr(found, self.score)
        self.values[i, j] = self.values[j, i] = np.nan if value is None else value
        self.notes.update(dict.fromkeys(found.notes if value is None else ()))
        self._kinds.add(found.arithmetic)
        if has_verdict or found.verdict != "inconclusive":
            self.verdicts[i][j] = self.verdicts[j][i] = found.verdict

    def finished(self, files: SavedPairs) -> Matrix:
        """The matrix, its notes complete."""
        notes = [*self.notes, *(f"arithmetic: {kind}" for kind in sorted(self._kinds - {"float32"}))]
        if files.n_screened:
            notes.append(
                f"{files.n_screened} of {files.n_screened + files.n_whole} pairs show no more than unrelated models "
                "in a few neurons of two layers, from which their scores are; the others were compared whole"
            )
        verdicts = tuple(map(tuple, self.verdicts))
        return Matrix(self.names, self.score, self.values, tuple(notes), verdicts, clusters(self.names, verdicts))


def clusters(names: Sequence[str], verdicts: Sequence[Sequence[str | None]]) -> tuple[tuple[str, ...], ...]:
    """Models that verdicts of kinship connect, names sorted, the largest cluster first; none of a single model."""
    left, found = set(range(len(names))), []
    while left:
        members, reached = set[int](), {left.pop()}
        while reached:
            at = reached.pop()
            members.add(at)
            reached |= {other for other in left if verdicts[at][other] in KIN}
            left -= reached
        if len(members) > 1:
            found.append(tuple(sorted(names[i] for i in members)))
    return tuple(sorted(found, key=lambda cluster: (-len(cluster), cluster)))


class _Opened(contextlib.ExitStack):
    """Models that stay open from pair to pair, with what was computed of each."""

    def __init__(self, options: CompareOptions, asked: str | None, names: Mapping[str, str]) -> None:
        super().__init__()
        self.options, self.asked, self.names = options, asked, names
        self.models: OpenModels | None = None

    def open(self, models: Sequence[Reference], *, is_lenient: bool) -> list[HurefError | None]:
        """Open models that will be compared from their weights, before threads ask for them; what keeps each from it.

        Args:
            is_lenient: say why a model cannot be read, instead of raising.
        """
        faults: list[HurefError | None] = []
        for model in models:
            try:
                if not self.options.encoder_weights:
                    self._opened(model)
                faults.append(None)
            except _SKIPPED as error:
                if not is_lenient:
                    raise
                faults.append(error)
        return faults

    def compare(self, a: Reference, b: Reference) -> Comparison:
        """`huref.kinship.references.compare`."""
        if is_fingerprint(a) or is_fingerprint(b) or self.options.encoder_weights:
            return compare_references(a, b, replace(self.options, recipe=self.asked))
        from huref.kinship.comparison import compare_prepared

        return compare_prepared(self._opened(a), self._opened(b), self.options)

    def _opened(self, model: Reference) -> Prepared:
        assert not isinstance(model, Fingerprint)
        from huref.kinship.prepared import OpenModels

        if self.models is None:
            files = self.options.arch_file, self.options.tokenizer
            self.models = self.enter_context(OpenModels(*files, names=self.names))
        return self.models.get(model)
