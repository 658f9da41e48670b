"""Measuring the background: `huref lab calibrate` compares the unrelated pairs of a zoo, as a user would.

Which pairs: every two bases that share no first weights (a distilled student is a base: it shares no weights); every
offspring with each other base of its base's text, the hard case; and a sample of the rest.
"""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from huref.errors import InconclusiveError
from huref.kinship.comparison import compare_prepared
from huref.kinship.prepared import OpenModels
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.verdict.calibration import IN_FRAME, SCORES, Calibration, UnrelatedPair
from huref.progress import Progress, Report
from huref.version import __version__
from huref_lab.training.workers import workers
from huref_lab.zoo.record import Zoo, ZooModel, load_zoo

_FEWEST = 20


@dataclass(frozen=True)
class CalibrationOptions:
    """What is compared.

    Attributes:
        zoo: folder of a zoo.
        version: names the result in every verdict.
        n_sampled: pairs of an offspring and a base of another text.
        seed: of their choice.
        jobs: processes at once, of one thread each. It does not change what is found.
        journal: where pairs are noted as they are measured, so that an interrupted run goes on; None notes nothing.
    """

    zoo: Path
    version: str = "2"
    n_sampled: int = 200
    seed: int = 0
    jobs: int = 2
    journal: Path | None = None


def calibrate(options: CalibrationOptions, report: Report | None = None) -> Calibration:
    """Compare the unrelated pairs of a zoo.

    Raises:
        CorruptFileError: the zoo's list cannot be read.
        InconclusiveError: the zoo has too few unrelated pairs to calibrate anything.
    """
    zoo = load_zoo(options.zoo)
    pairs = unrelated_pairs(zoo, options.n_sampled, options.seed)
    if len(pairs) < _FEWEST:
        raise InconclusiveError(
            "too few unrelated pairs for a background",
            where=str(options.zoo),
            expected=f"at least {_FEWEST}",
            got=str(len(pairs)),
            next_step="huref lab zoo --out DIR",
        )
    known = _journal(options.journal)
    stamps = {frozenset((a.name, b.name)): _stamp(zoo, a, b) for a, b in pairs}
    found = {names: entry for names, (stamp, entry) in known.items() if stamps.get(names) == stamp}
    left = [(zoo, a, b) for a, b in pairs if frozenset((a.name, b.name)) not in found]
    with workers(options.jobs, _one_thread, "huref lab calibrate") as submit:
        for done, future in enumerate([submit(_measured, job) for job in left]):
            pair: UnrelatedPair = future.result()
            names = frozenset((pair.a, pair.b))
            found[names] = pair
            _note(options.journal, stamps[names], pair)
            if report:
                report(Progress("comparing unrelated pairs", len(pairs) - len(left) + done + 1, len(pairs), "pair"))
    made = {
        "command": f"huref lab calibrate --sampled {options.n_sampled} --seed {options.seed}",
        "huref": __version__,
        "models": len({model.name for pair in pairs for model in pair}),
        "bases": sorted({root for pair in pairs for model in pair for root in model.roots}),
        "what": "small language models trained from random weights, and offspring of theirs: huref lab zoo",
    }
    return Calibration(options.version, made, tuple(found[frozenset((a.name, b.name))] for a, b in pairs))


def unrelated_pairs(zoo: Zoo, n_sampled: int, seed: int) -> list[tuple[ZooModel, ZooModel]]:
    """The pairs that the module's docstring tells of, in the order of the zoo."""
    bases = zoo.bases
    first = [(a, b) for i, b in enumerate(bases) for a in bases[:i] if zoo.truth(a.name, b.name) == "independent"]
    hard: list[tuple[ZooModel, ZooModel]] = []
    rest: list[tuple[ZooModel, ZooModel]] = []
    for model in zoo.models:
        is_base = model.roots == (model.name,)
        for base in () if is_base else bases:
            if zoo.truth(model.name, base.name) == "independent":
                is_hard = any(zoo[root].text == base.text for root in model.roots)
                (hard if is_hard else rest).append((model, base))
    dice = random.Random(seed)
    return [*first, *dice.sample(hard, min(n_sampled, len(hard))), *dice.sample(rest, min(n_sampled, len(rest)))]


def _one_thread() -> None:
    torch.set_num_threads(1)


_opened = OpenModels(most=16)
"""Of each process: most pairs have a base that the one before had."""


def _measured(job: tuple[Zoo, ZooModel, ZooModel]) -> UnrelatedPair:
    zoo, a, b = job
    opened = _opened.get(zoo.folder / a.path), _opened.get(zoo.folder / b.path)
    found = compare_prepared(opened[0], opened[1], CompareOptions())
    older = compare_prepared(opened[0], opened[1], CompareOptions(method="ics", recipe="canonical"))
    found = replace(found, ics_canonical=older.ics_canonical)
    roots = (a.roots[0], b.roots[0])
    return UnrelatedPair(
        a=a.name,
        b=b.name,
        same_vocabulary=a.tokenizer == b.tokenizer,
        twins=zoo[roots[0]].text == zoo[roots[1]].text,
        bases=roots,
        scores={name: _rounded(getattr(found, name)) for name in SCORES} | _by_frame(found),
    )


def _by_frame(found: Comparison) -> dict[str, float | None]:
    """The agreement in every frame: of unrelated models all are tried, as none is clear."""
    tried = (found.alignment or {}).get("tried", {})
    return {IN_FRAME + name: _rounded(value) for name, value in tried.items()}


def _rounded(value: float | None) -> float | None:
    """Six decimals: no difference beyond them is told by these scores, and files stay equal between machines."""
    return None if value is None else round(value, 6)


def _stamp(zoo: Zoo, a: ZooModel, b: ZooModel) -> list[int]:
    """Sizes and times of two checkpoints' files: a model made anew is measured anew."""
    places = [zoo.folder / model.path for model in (a, b)]
    files = [path for place in places for path in ([place] if place.is_file() else sorted(place.glob("*")))]
    return [number for path in files for number in (path.stat().st_size, path.stat().st_mtime_ns)]


def _journal(path: Path | None) -> dict[frozenset[str], tuple[list[int], UnrelatedPair]]:
    """Pairs that an earlier run measured; a line cut short by an interrupt is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path and path.is_file() else ():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            pair = UnrelatedPair(**entry["pair"] | {"bases": tuple(entry["pair"]["bases"])})
            found[frozenset((pair.a, pair.b))] = (entry["stamp"], pair)
    return found


def _note(path: Path | None, stamp: list[int], pair: UnrelatedPair) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(
                "\n" + json.dumps({"stamp": stamp, "pair": asdict(pair)}) + "\n"
            )  # an earlier line may be cut short
