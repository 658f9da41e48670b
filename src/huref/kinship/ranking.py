"""One model against many: which of the candidates is its kin, the surest first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huref.choices import chosen
from huref.errors import HurefError, UsageError
from huref.files.cache import Cache
from huref.fingerprints.file import as_references, is_fingerprint
from huref.fingerprints.listing import names_of
from huref.fingerprints.record import Fingerprint, Reference
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.references import compare_references
from huref.kinship.verdict import FALSE_ACCUSATION_RATE
from huref.model.kept import Asker, options_of
from huref.progress import Progress, Report, shows_progress
from huref.text import percent, short

_ORDER = ("identical", "requantised", "merged", "derived", "inconclusive", "independent")
_KIN = _ORDER[:4]
_TOLD = {
    "identical": "{s} and {c} are identical",
    "requantised": "{s} and {c} have the same weights, stored otherwise",
}
_UNDIRECTED = "which of {s} and {c} came first is not told: they are of one origin"
_DIRECTED = {
    "a from b": "{s} is made from {c}, or from a relative of it",
    "b from a": "{c} is made from {s}, or from a relative of it",
}


@dataclass(frozen=True)
class Ranked:
    """A candidate.

    Attributes:
        name: what it is called among the candidates.
        reference: as the user named it.
        comparison: A is the suspect, B the candidate; None where the candidate cannot be read.
        p_corrected: the p-value times the number of candidates (Bonferroni), at most 1; None without one.
        error: why it cannot be read, or empty.
    """

    name: str
    reference: str
    comparison: Comparison | None
    p_corrected: float | None = None
    error: str = ""

    @property
    def verdict(self) -> str:
        """Of the comparison, `inconclusive` without one."""
        return self.comparison.verdict if self.comparison else "inconclusive"

    @property
    def direction(self) -> str:
        """`a from b` where the suspect is made from the candidate, `b from a` the other way round, or `unknown`."""
        told = self.comparison.derivation if self.comparison else None
        return str((told or {}).get("direction", "unknown"))

    def to_dict(self) -> dict[str, Any]:
        """An entry of the `--json` document."""
        found = self.comparison
        return {
            "name": self.name,
            "reference": self.reference,
            "verdict": self.verdict,
            "p_corrected": self.p_corrected,
            "error": self.error or None,
            "comparison": None if found is None else found.to_dict(),
        }


@dataclass(frozen=True)
class Ranking:
    """One model against many.

    Attributes:
        suspect: its name.
        candidates: the surest kin first, those that cannot be read last.
        notes: what holds for all of them.
    """

    suspect: str
    candidates: tuple[Ranked, ...]
    notes: tuple[str, ...] = ()

    @property
    def kin(self) -> tuple[Ranked, ...]:
        """Candidates with a verdict of kinship."""
        return tuple(item for item in self.candidates if item.verdict in _KIN)

    @property
    def said(self) -> str:
        """The headline with names in it."""
        names = {"c": (self.kin or self.candidates)[0].name}
        said = set[str]()

        def name(found: re.Match[str]) -> str:
            is_again = found[1] == "s" and "s" in said
            said.add(found[1])
            return "it" if is_again else names.get(found[1], self.suspect)

        return re.sub(r"\{([sc])\}", name, self.headline)

    @property
    def headline(self) -> str:
        """What is shown of the suspect, in one sentence with `{s}` for it and `{c}` for its surest kin.

        What is not known of them comes first.
        """
        n, more = len(self.candidates), len(self.kin) - 1
        if self.verdict == "independent":
            return "{s} and {c} are independent" if n == 1 else f"{{s}} is independent of all {n} candidates"
        if not self.kin:
            return f"no kinship of {{s}} with any of {n} candidates is shown, and not all of them are excluded"
        told = _TOLD.get(self.verdict) or _DIRECTED.get(self.kin[0].direction) or _UNDIRECTED
        return told + (f"; {more} more {'is' if more == 1 else 'are'} kin of {{s}}" if more > 0 else "")

    @property
    def verdict(self) -> str:
        """The surest verdict of kinship; else `independent` where all are, else `inconclusive`."""
        if self.kin:
            return self.kin[0].verdict
        is_alone = all(item.verdict == "independent" for item in self.candidates)
        return "independent" if is_alone else "inconclusive"

    def __str__(self) -> str:
        """The table that the command line prints."""
        return _text(self)

    def __repr__(self) -> str:
        """One line."""
        return f"<Ranking of {len(self.candidates)} candidates for {short(self.suspect)}: {self.verdict}>"

    def exit_code(self, expect: str | None = None) -> int:
        """0 a verdict, 1 another verdict than `expect`, 3 inconclusive."""
        if expect is not None:
            return 0 if self.verdict == expect else 1
        return 3 if self.verdict == "inconclusive" else 0

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.ranking/1.0",
            "suspect": self.suspect,
            "verdict": self.verdict,
            "headline": self.said,
            "kin": [item.name for item in self.kin],
            "candidates": [item.to_dict() for item in self.candidates],
            "notes": list(self.notes),
        }


@shows_progress
def rank(
    suspect: Reference,
    candidates: Sequence[Reference],
    options: CompareOptions | None = None,
    report: Report | None = None,
    *,
    method: str | None = None,
    layers: str | None = None,
    n_tokens: int | None = None,
    tokens_file: str | Path | None = None,
    arch_file: str | Path | None = None,
    encoder_weights: str | Path | None = None,
    is_exact: bool | None = None,
    recipe: str | None = None,
    tokenizer: str | Path | None = None,
    names: Sequence[str] | None = None,
    cache: Cache | bool = False,
) -> Ranking:
    """Compare a model with every candidate; what is computed of it is computed once.

    Args:
        candidates: models, fingerprints, or files of these; see `huref.fingerprints.listing.listed` for folders.
        options: instead of the keywords `method` to `tokenizer`, which are the attributes of `CompareOptions`.
        report: called with a `Progress` at each candidate; a notebook shows bars without it.
        names: what to call the suspect and the candidates, in this order; else by their paths.
        cache: True to keep each comparison on this machine, and to take it from there the next time; or a `Cache`.

    Raises:
        UsageError: no candidates, or a candidate twice; options as an object and as keywords.
        InputError: the suspect cannot be read, or no candidate. Of one that cannot, the ranking says why.
    """
    options = chosen(
        CompareOptions,
        options,
        method=method,
        layers=layers,
        n_tokens=n_tokens,
        tokens_file=tokens_file,
        arch_file=arch_file,
        encoder_weights=encoder_weights,
        is_exact=is_exact,
        recipe=recipe,
        tokenizer=tokenizer,
    )
    candidates = as_references(candidates)
    _require_different(candidates)
    called = names_of([suspect, *candidates], names)
    suspect_name, *others = called
    found, faults = [], []
    comparisons = _comparisons(suspect, candidates, options, called if names else (), Cache.of(cache))
    for done, (name, candidate) in enumerate(zip(others, candidates, strict=True)):
        if report:
            report(Progress(f"comparing with {name}", done, len(candidates), "candidate"))
        compared = next(comparisons)
        if isinstance(compared, HurefError):
            found.append(Ranked(name, _written(candidate), None, error=compared.what))
            faults.append(compared)
            continue
        p = compared.p_value
        corrected = None if p is None else min(1.0, p * len(candidates))
        found.append(Ranked(name, _written(candidate), replace(compared, a=suspect_name, b=name), corrected))
    if len(faults) == len(found):
        raise faults[0]
    return Ranking(suspect_name, tuple(sorted(found, key=_surest)), _notes(found))


def _written(candidate: Reference) -> str:
    """A reference as a document has it; of a fingerprint in memory its model's name."""
    return candidate.model if isinstance(candidate, Fingerprint) else str(candidate)


def _require_different(candidates: Sequence[Reference]) -> None:
    paths = [os.path.realpath(candidate) for candidate in candidates if not isinstance(candidate, Fingerprint)]
    repeated = len(paths) - len(set(paths))
    if repeated or not candidates:
        raise UsageError(
            "a candidate twice" if repeated else "no candidates",
            where="CANDIDATE",
            expected="one or more models, each once",
            got=f"{repeated} repeats" if repeated else "none",
        )


def _comparisons(
    suspect: Reference,
    candidates: Sequence[Reference],
    options: CompareOptions,
    called: Sequence[str],
    cache: Cache | None,
) -> Iterator[Comparison | HurefError]:
    """One after the other; the suspect stays open."""
    pairs = [(called[0], name) for name in called[1:]] if called else [()] * len(candidates)
    asker = Asker(cache, Comparison, "rank", options_of(options, "expect"))
    if isinstance(suspect, Fingerprint) or is_fingerprint(suspect) or options.encoder_weights:
        for candidate, pair_names in zip(candidates, pairs, strict=True):
            make = partial(compare_references, suspect, candidate, options, None, pair_names)
            yield _tried(partial(asker.ask(suspect, candidate, called=pair_names).answer, make))
        return
    from huref.kinship.comparison import compare_prepared
    from huref.kinship.prepared import OpenModels

    named = {str(model): name for model, name in zip([suspect, *candidates], called, strict=False)}
    with OpenModels(options.arch_file, options.tokenizer, most=2, names=named) as opened:

        def pair(candidate: Reference) -> Comparison:
            if isinstance(candidate, Fingerprint) or is_fingerprint(candidate):
                return compare_references(suspect, candidate, options)
            return compare_prepared(opened.get(suspect), opened.get(candidate), options)

        for candidate, pair_names in zip(candidates, pairs, strict=True):
            asked = asker.ask(suspect, candidate, called=pair_names)
            if (found := asked.recall()) is not None:
                yield found
                continue
            opened.get(suspect)
            yield _tried(lambda: asked.keep(pair(candidate)))  # noqa: B023 called at once


def _tried(make: Callable[[], Comparison]) -> Comparison | HurefError:
    """A comparison, or what is wrong with the candidate: a layer that it lacks, say."""
    try:
        return make()
    except HurefError as error:
        return error


def _surest(item: Ranked) -> tuple[int, int, float, float]:
    """Verdict first, then what it rests on."""
    found = item.comparison
    if found is None:
        return (1, 0, 0.0, 0.0)
    unknown = 2.0 if found.verdict == "identical" else -2.0  # copies of one file are not measured
    agreement, ics = (unknown if score is None else score for score in (found.agreement, found.invariant_ics))
    return (0, _ORDER.index(found.verdict), -agreement, -ics)


def _notes(found: Sequence[Ranked]) -> tuple[str, ...]:
    """What holds for several candidates at once."""
    known = [item for item in found if item.p_corrected is not None]
    if len(found) < 2 or not known:
        return ()
    notes = [f"p is multiplied by the number of candidates, {len(found)} (Bonferroni)"]
    if any(item.verdict in _KIN and (item.p_corrected or 0) > FALSE_ACCUSATION_RATE for item in known):
        notes.append(
            f"with so many candidates the unrelated pairs alone cannot bring p below {FALSE_ACCUSATION_RATE:g}: a "
            "verdict then rests on the number of neurons that agree, which chance does not explain"
        )
    return tuple(notes)


def _text(found: Ranking) -> str:
    """Who is kin, in a table, the surest first."""
    width = max([9, *(len(item.name) for item in found.candidates)])
    words = [_word(item) for item in found.candidates]
    wide = max([7, *map(len, words)])
    lines = [
        found.said,
        f"  {'candidate':<{width}}  {'verdict':<{wide}}  {'p':>8} {'agreement':>10} {'ICS':>10} {'PCS':>10}",
    ]
    for item, word in zip(found.candidates, words, strict=True):
        compared = item.comparison
        scores = (None,) * 3 if compared is None else (compared.agreement, compared.invariant_ics, compared.pcs)
        p = "-" if item.p_corrected is None else f"{item.p_corrected:.2g}"
        numbers = " ".join(f"{percent(score):>10}" for score in scores)
        lines.append(f"  {item.name:<{width}}  {word:<{wide}}  {p:>8} {numbers}")
    lines += [f"  not read: {item.name}: {item.error}" for item in found.candidates if item.error]
    return "\n".join([*lines, *(f"  note: {note}" for note in found.notes)])


def _word(item: Ranked) -> str:
    """The verdict on a candidate, its direction only where it is known."""
    if item.comparison is None:
        return "not read"
    told = item.comparison.derivation or {}
    direction = {"a from b": "the suspect is of its line", "b from a": "of the suspect's line"}.get(
        item.direction, ""
    )
    is_open = not direction and item.verdict in ("derived", "merged")
    parts = ["direction not told" if is_open else direction, told.get("kind", ""), told.get("strength", "")]
    listed = ", ".join(part for part in parts if part and part != item.verdict)
    return f"{item.verdict} ({listed})" if listed else item.verdict
