"""What commitments and proofs cost: SmolLM2's real weights, the shape of a 7B Llama, and how cost grows with size.

    .venv/bin/python lab/benchmarks/proofs.py [--shapes smollm2,growth,7b] [--work DIR] [--plot FILE.svg]

Every step is a process of its own. CPU seconds count all of its processes; peaks are the largest process's. The 7B
shape is random int16 of a Llama's spread: a proof's cost depends on sizes alone. Committing to it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import GIB, Clock, machine, run_child

SCRIPT = str(Path(__file__).resolve())
GOALS = {
    "smollm2": {"commit": 30.0, "prove": 5.0, "verify": 1.5, "proof": 1.0},
    "7b": {"commit": 1200.0, "prove": 40.0, "verify": 6.0, "proof": 8.0},
}
SHAPES = {
    "d128": (128, 352, 128),
    "d256": (256, 704, 256),
    "d512": (512, 1408, 512),
    "d1024": (1024, 2816, 1024),
    "7b": (4096, 11008, 4096),
}
"""Width, feed-forward width, rows of the attention factors; two layers and 4,096 tokens each."""


@dataclass(frozen=True)
class Step:
    """One measured step: wall and CPU seconds, peak bytes of its largest process, sizes of what it wrote."""

    wall: float
    cpu: float
    peak: float
    notes: dict[str, Any]


def child(step: str, shape: str, folder: Path) -> None:
    """In a process of its own: one step."""
    from huref.fingerprints.recipe import Recipe
    from huref.private.verification import verify
    from huref.proof.files.opening import find_opening
    from huref.proof.sketch.committer import CommitOptions, commit_model, commit_rows
    from huref.proof.sketch.prover import prove_fingerprint

    made = _synthetic(shape) if step == "commit" and shape != "smollm2" else None
    clock, before = Clock(), _cpu()
    notes: dict[str, Any] = {}
    if step == "commit" and made is not None:
        commit_rows(made, folder, CommitOptions())
    elif step == "commit":
        from huref.demo.bundled import bundled_model

        notes["integers"] = _integers(commit_model(bundled_model(), folder, Recipe(), CommitOptions()))
    elif step == "prove":
        (folder / "proof").write_bytes(prove_fingerprint(folder).to_bytes())
    else:
        verify(folder / "proof", folder)
    if made is not None:
        notes["integers"] = made.rows.size
    notes["cpu"] = _cpu() - before
    notes["child_peak"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    notes["sizes"] = {path.name: path.stat().st_size for path in [*folder.iterdir(), find_opening(folder)]}
    clock.finish(**notes)


def _cpu() -> float:
    own = time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + children.ru_utime + children.ru_stime


def _integers(commitment: Any) -> int:
    return int(commitment.layout.n_rows * commitment.layout.width)


def _synthetic(shape: str) -> Any:
    """Random int16 rows of a shape: normal, the largest of each matrix at 16 bits, as `quantised` leaves them."""
    import numpy as np

    from huref.fingerprints.recipe import Recipe
    from huref.proof.files.layout import Layout, Matrix, Term
    from huref.proof.sketch.no_wrap import column_norm
    from huref.proof.sketch.quantisation import Quantised

    width, d_ff, heads = SHAPES[shape]
    matrices, terms = [Matrix("embedding", 4096, 14)], []
    for layer in (30, 31):
        for kind, rank in (("qk", heads), ("vo", heads), ("gate_down", d_ff)):
            matrices += [Matrix(f"{layer}.{kind}.{side}", rank, 14) for side in ("left", "right")]
            terms.append(Term(f"{layer}.{kind}", f"{layer}.{kind}.left", f"{layer}.{kind}.right"))
    rng = np.random.default_rng(1)
    rows = np.empty((sum(m.rows for m in matrices), width), np.int16)
    for start in range(0, len(rows), 4096):
        block = rows[start : start + 4096]
        block[:] = np.clip(rng.standard_normal(block.shape, np.float32) * 2500, -32767, 32767)
    strings = tuple(f"token {i}".encode() for i in range(4096))
    layout = Layout(
        shape, "llama", Recipe("canonical"), 32, width, 16, column_norm(rows), tuple(matrices), tuple(terms)
    )
    if not layout.is_free_of_wraps():
        raise SystemExit(f"{shape}: 16 bits would wrap around")
    return Quantised(layout, strings, rows)


def measure(shape: str, work: Path) -> dict[str, Step]:
    """Commit, prove and verify one shape."""
    folder = work / shape
    folder.mkdir(parents=True)
    found = {}
    for step in ("commit", "prove", "verify"):
        sample = run_child(SCRIPT, "--child", step, shape, str(folder))
        notes = sample.notes
        found[step] = Step(sample.seconds, notes["cpu"], max(sample.peak, notes["child_peak"]), notes)
        print(f"  {shape} {step}: {sample.seconds:.2f} s, {notes['cpu']:.2f} CPU-s", file=sys.stderr, flush=True)
    return found


def report(shape: str, found: dict[str, Step]) -> bool:
    """Print a shape's table; whether every goal was met."""
    sizes, integers = found["verify"].notes["sizes"], found["commit"].notes["integers"]
    print(f"\n{shape}: {integers:,} integers; wall seconds, CPU seconds, peak GiB")
    for step, sample in found.items():
        print(f"  {step:<8}{sample.wall:10.2f}{sample.cpu:10.2f}{sample.peak / GIB:8.2f}")
    rate = found["commit"].cpu / integers * 1e6
    print(f"  {rate:.2f} CPU-microseconds an integer")
    print("  " + ", ".join(f"{name} {sizes[name] / 1e6:.2f} MB" for name in ("commitment", "proof", "opening")))
    goals = GOALS.get(shape, {})
    reached = {step: sample.wall for step, sample in found.items()} | {"proof": sizes["proof"] / 1e6}
    reached |= {"memory": max(sample.peak for sample in found.values()) / GIB}
    if goals:
        goals = {**goals, "memory": 2.0}
    for name, goal in goals.items():
        print(f"  [{'met' if reached[name] <= goal else 'MISSED'}] {name}: {reached[name]:.2f}, goal {goal:g}")
    return all(reached[name] <= goal for name, goal in goals.items())


def committers() -> None:
    """Short integers against the obvious way: scalars of the field, negative ones wrapped around."""
    import numpy as np

    from huref.proof.arithmetic.curve import ShortCommitter, commit, generators
    from huref.proof.arithmetic.field import integers

    rows = np.random.default_rng(0).integers(-8000, 8000, (40, 576))
    short = ShortCommitter(576, 1 << 15)
    generators(576)
    ratios = []
    for row in rows:
        start = time.perf_counter()
        quick = short.commit(row, 5)
        middle = time.perf_counter()
        slow = commit(integers(row.tolist()), 5)
        ratios.append((time.perf_counter() - middle) / (middle - start))
        if quick != slow:
            raise SystemExit("two ways of one commitment differ")
    low, high = np.percentile(ratios, [10, 90])
    print(
        f"\nsigned short scalars against field scalars, a row of 576: {np.median(ratios):.1f} times faster "
        f"({low:.1f} to {high:.1f})"
    )


def plot(found: dict[str, dict[str, Step]], path: Path) -> None:
    """Seconds against integers, both logarithmic: a small SVG."""
    import math

    points = {
        step: sorted(
            (steps["commit"].notes["integers"], steps[step].cpu) for n, steps in found.items() if n in SHAPES
        )
        for step in ("commit", "prove", "verify")
    }
    flat = [value for line in points.values() for value in line]
    x0, x1 = (f(math.log10(x) for x, _ in flat) for f in (min, max))
    y0, y1 = (f(math.log10(y) for _, y in flat) for f in (min, max))

    def place(x: float, y: float) -> str:
        across = 70 + 520 * (math.log10(x) - x0) / (x1 - x0)
        return f"{across:.1f},{315 - 265 * (math.log10(y) - y0) / (y1 - y0):.1f}"

    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 380" font-family="sans-serif" font-size="13">']
    title = "CPU seconds against committed integers (both logarithmic)"
    lines.append(f'<rect width="720" height="380" fill="#fff"/><text x="70" y="24">{title}</text>')
    for (step, line), colour in zip(points.items(), ("#b5482a", "#2a6fb5", "#2a8f5a"), strict=True):
        path_text = " ".join(place(x, y) for x, y in line)
        lines.append(f'<polyline points="{path_text}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in line:
            across, down = (float(part) for part in place(x, y).split(","))
            is_above = step == "commit" or (step == "prove") == (x > 1e7)
            lines.append(f'<circle cx="{across}" cy="{down}" r="3" fill="{colour}"/>')
            label = f'x="{across - 12:.1f}" y="{down + (-8 if is_above else 16):.1f}"'
            lines.append(f'<text {label} font-size="11">{y:.3g}</text>')
        across, down = place(*line[-1]).split(",")
        lines.append(f'<text x="{float(across) + 10:.1f}" y="{float(down) + 4:.1f}" fill="{colour}">{step}</text>')
    lines.append('<path d="M60 340H600" stroke="#888" fill="none"/>')
    for x, _ in points["commit"]:
        across = place(x, 10**y0).split(",")[0]
        lines.append(f'<text x="{float(across) - 14:.1f}" y="355" font-size="11">{x / 1e6:.1f} M</text>')
    path.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", default="smollm2,growth")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3)
    options = parser.parse_args()
    if options.child:
        child(options.child[0], options.child[1], Path(options.child[2]))
        return
    names = [
        n
        for part in options.shapes.split(",")
        for n in ([s for s in SHAPES if s != "7b"] if part == "growth" else [part])
    ]
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        print(machine())
        found = {name: measure(name, work) for name in names}
        met = [report(name, steps) for name, steps in found.items()]
        committers()
        if options.plot:
            plot(found, options.plot)
        if options.json:
            options.json.write_text(
                json.dumps({n: {s: vars(v) for s, v in f.items()} for n, f in found.items()}, indent=1)
            )
    finally:
        shutil.rmtree(work)
    raise SystemExit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
