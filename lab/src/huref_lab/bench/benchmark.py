"""`huref lab bench`: huref and the methods of others on one set of pairs of known kinship, in one run."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.progress import Report
from huref_lab.bench.cost import machine, measure_costs, reference_pair
from huref_lab.bench.figures import SCHEMA_VERSION, figures
from huref_lab.bench.methods import find_methods
from huref_lab.bench.pairs import ATTACK, Pair, bases_of, choose_pairs, with_attacks
from huref_lab.bench.report import as_text
from huref_lab.bench.saved import load_known, model_digest
from huref_lab.bench.trials import KnownAnswers, run_methods
from huref_lab.zoo.record import Zoo, load_zoo


@dataclass(frozen=True)
class BenchOptions:
    """What a bench compares.

    Attributes:
        zoo: folder of a zoo.
        attacks: folder of attacked copies, or None.
        peers: folder of the methods of others, or None.
        methods: which ones, by file name, and `huref`; all when empty.
        n_other: sampled pairs of an offspring and a base that has nothing to do with it; None for all.
        seed: of their choice.
        jobs: processes at once.
        has_costs: also measure seconds and memory on SmolLM2.
        reuse: documents of earlier benches, whose answers by the same code on the same files are taken over; later
            ones have precedence.
    """

    zoo: Path
    attacks: Path | None = None
    peers: Path | None = None
    methods: tuple[str, ...] = ()
    n_other: int | None = None
    seed: int = 0
    jobs: int = 1
    has_costs: bool = False
    reuse: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs < 1 or (self.n_other is not None and self.n_other < 0):
            raise UsageError(
                "a bench that cannot be",
                where="huref lab bench",
                expected="--jobs 1 or more, --pairs 0 or more",
                got=f"--jobs {self.jobs}, --pairs {self.n_other}",
            )


def run_bench(options: BenchOptions, report: Report | None = None) -> dict[str, Any]:
    """Compare every chosen pair with every method.

    Returns:
        The `--json` document: figures of every score, verdicts, costs, and the scores themselves.

    Raises:
        UsageError: no such method, a peer's file that is none, or a zoo without a pair.
        InputError: the zoo's list, or that of the attacks, is missing or unsound; SmolLM2 is not installed.
    """
    methods = find_methods(options.peers, options.methods)
    zoo = load_zoo(options.zoo)
    if options.attacks is not None:
        zoo = with_attacks(zoo, options.attacks)
    pairs = choose_pairs(zoo, options.n_other, options.seed)
    if not pairs:
        raise UsageError("a zoo without pairs", where=str(options.zoo), expected="two models or more", got="one")
    names = sorted({name for pair in pairs for name in (pair.a, pair.b)})
    digests = {name: model_digest(zoo.path(name)) for name in names}
    known: dict[str, KnownAnswers] = {}
    for path in options.reuse:
        known |= load_known(path, SCHEMA_VERSION, [(pair.a, pair.b) for pair in pairs], digests)
    start = time.perf_counter()
    runs = run_methods(list(methods.values()), [_paths(zoo, pair) for pair in pairs], options.jobs, report, known)
    seconds = time.perf_counter() - start
    return {
        **figures(pairs, runs),
        "machine": machine(),
        "zoo": {**_census(zoo), "seconds": round(seconds, 1), "jobs": options.jobs},
        "seed": options.seed,
        "models": digests,
        "reused": {run.name: n for run in runs if (n := len(known[run.digest][0]) if run.digest in known else 0)},
        "costs": _costs(list(methods.values())) if options.has_costs else [],
    }


def write_report(document: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """The text to `out`, and the document beside it, with the suffix .json.

    Raises:
        OutputError: the folder cannot be written.
    """
    beside = out.with_suffix(".json")
    if beside == out:
        out = out.with_suffix(".txt")
    write_atomically(out, f"{as_text(document)}\n".encode())
    write_atomically(beside, f"{json.dumps(document, allow_nan=False, separators=(',', ':'))}\n".encode())
    return out, beside


def _paths(zoo: Zoo, pair: Pair) -> tuple[Path, Path]:
    return zoo.path(pair.a), zoo.path(pair.b)


def _census(zoo: Zoo) -> dict[str, int]:
    n_bases = len(bases_of(zoo))
    n_attacked = sum(model.kind.startswith(ATTACK) for model in zoo.models)
    return {
        "models": len(zoo.models),
        "bases": n_bases,
        "offspring": len(zoo.models) - n_bases - n_attacked,
        "attacked": n_attacked,
    }


def _costs(keys: list[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="huref-bench-") as folder:
        return measure_costs(keys, reference_pair(Path(folder)))
