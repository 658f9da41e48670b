"""The commands of a working day as whole processes, beside an earlier huref: seconds before and after, in one run.

    .venv/bin/python lab/benchmarks/everyday.py BEFORE --model GGUF --other GGUF [--repeats 1] [--limit 400]

BEFORE is a checkout of an earlier state (`git worktree add ../before COMMIT`); both run in this environment. The
models are real ones of different tokenizers; the tiny ones are written here: a base, steps of a run, and a stranger.
The third column is the command again, with what the second kept (`docs/how-to/cache.md`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import machine, spread

ROOT = Path(__file__).parents[2]
Command = tuple[str, ...]


def commands(model: str, other: str, place: Path) -> dict[str, Command]:
    """By what they do; `{out}` is a folder of each run's own."""
    tiny = [str(place / name) for name in ("base", "step_1", "step_2", "step_3", "step_4", "stranger")]
    return {
        "fingerprint, two models": ("fingerprint", model, other, "--out", "{out}"),
        "compare, stranger of another tokenizer": ("compare", model, other),
        "compare, its attacked copy": ("compare", model, "{hidden}"),
        "compare --method agreement, stranger": ("compare", model, other, "--method", "agreement"),
        "explain, its attacked copy": ("explain", model, "{hidden}"),
        "parents, two candidates": ("parents", "{hidden}", model, other),
        "matrix of two and a tiny one": ("matrix", model, other, tiny[0]),
        "attack all": ("attack", "all", model, "{out}/hidden"),
        "commit": ("commit", model, "-o", "{out}/sealed"),
        "compare, tiny": ("compare", tiny[0], tiny[1]),
        "matrix, six tiny": ("matrix", *tiny),
        "a misspelt path": ("fingerprint", "nowhere"),
    }


def timed(source: Path, words: Command, home: Path, limit: float) -> float:
    """Seconds of a command, or -1 where it took longer than the limit."""
    env = {**os.environ, "PYTHONPATH": str(source / "src"), "HUREF_HOME": str(home)}
    env.pop("HUREF_NO_CACHE", None)
    start = time.perf_counter()
    try:
        subprocess.run(
            [sys.executable, "-m", "huref", *words],
            env=env,
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1.0
    return time.perf_counter() - start


def make_tiny(place: Path) -> None:
    """Tiny models, written by the tests' own helper."""
    sys.path.insert(0, str(ROOT / "tests"))
    from kit.tiny_llama import TinyLlama

    sizes = {"n_tokens": 600, "n_layers": 4, "width": 128}
    for step in range(5):
        TinyLlama(noise=0.01 * step, **sizes).save(place / (f"step_{step}" if step else "base"))
    TinyLlama(seed=1, **sizes).save(place / "stranger")


def shown(seconds: list[float], limit: float) -> str:
    """A cell of the table."""
    return f"over {limit:.0f}" if min(seconds) < 0 else spread(seconds) if len(seconds) > 1 else f"{seconds[0]:.1f}"


def main() -> int:
    """Run every command in turn with both, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--other", required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=400, help="seconds")
    options = parser.parse_args()
    print(machine())
    print(f"{'seconds, whole process':42} {'before':>22} {'now':>22} {'again':>10} {'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="huref-everyday-") as folder:
        place = Path(folder)
        make_tiny(place)
        hidden = place / "hidden"
        timed(ROOT, ("attack", "all", options.model, str(hidden)), place, options.limit)
        for name, words in commands(options.model, options.other, place).items():
            taken: dict[str, list[float]] = {"before": [], "now": [], "again": []}
            for turn in range(options.repeats):
                for which, seconds in taken.items():
                    home = place / f"{'before' if which == 'before' else 'now'}-{turn}-{len(name)}-{name[:4]}"
                    home.mkdir(exist_ok=True)
                    out = home / which
                    out.mkdir()
                    put = [word.replace("{out}", str(out)).replace("{hidden}", str(hidden)) for word in words]
                    source = options.before if which == "before" else ROOT
                    seconds.append(timed(source, tuple(put), home, options.limit))
            cells = {which: shown(values, options.limit) for which, values in taken.items()}
            first, second = min(taken["before"]), min(taken["now"])
            ratio = f"{first / second:.1f}" if first > 0 < second else ""
            print(f"{name:42} {cells['before']:>22} {cells['now']:>22} {cells['again']:>10} {ratio:>8}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
