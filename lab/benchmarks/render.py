"""How long a portrait takes: the first, each next, enlarged and written, and the whole command.

    .venv/bin/python lab/benchmarks/render.py [--generator PATH] [--repeats 7] [--next 20]

Ways, each in a process of its own, in turn:

first      after imports: read the weights (with their SHA-256), draw one fingerprint at the generator's own size.
portrait   the same, enlarged to 512 pixels and written as PNG.
command    `huref render FINGERPRINT`, the whole process.
badge      `huref render FINGERPRINT --format svg`, likewise.

The next portraits are drawn one by one in the process of `first`, each from another vector. The picture of one vector
must be the same for one thread and for all, within one level of 255.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import Clock, Sample, alternate, machine, median, run_child, run_command, spread, table, verdict

SCRIPT = str(Path(__file__).resolve())


def write() -> None:
    """Child: a fingerprint of random numbers."""
    import numpy as np

    from huref.fingerprints.file import save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.sketch import unit_rms

    clock = Clock()
    random = np.random.default_rng(0)
    tokens, geometry = {"requested": 4096, "used": 4096}, {"n_layers": 2, "d_model": 64}
    weights = {"bytes_read": 0, "bytes_total": 0}
    sketches = {f"{k}.{kind}": unit_rms(random.standard_normal((64, 64))) for k in (0, 1) for kind in ("qk", "vo")}
    vector = unit_rms(random.standard_normal(512))
    item = Fingerprint("random", "none", Recipe(), vector, sketches, tokens, geometry, weights, (), "0")
    save_fingerprint(item, Path(sys.argv[2]))
    clock.finish()


def draw() -> None:
    """Child: the first portrait, and, in turn, the next ones or the enlarged file."""
    import time

    import numpy as np

    from huref.fingerprints.file import load_fingerprint
    from huref.portraits.generator.file import SHIPPED, SHIPPED_SHA256, load_generator
    from huref.portraits.image import render, resize, save_png

    file, weights, out, count = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
    vector = load_fingerprint(file).vector
    others = np.random.default_rng(1).standard_normal((count, 512))
    clock = Clock()
    network = load_generator(Path(weights)) if weights else load_generator(SHIPPED, SHIPPED_SHA256)
    picture = render(vector, network)[0]
    if out.endswith(".png"):
        save_png(Path(out), resize(picture, 512), {})
        clock.finish()
        return
    seconds, first_cpu = time.perf_counter() - clock.start, time.process_time() - clock.cpu
    each, each_cpu = [], []
    for other in others:
        start, cpu = time.perf_counter(), time.process_time()
        render(other, network)
        each.append(time.perf_counter() - start)
        each_cpu.append(time.process_time() - cpu)
    np.save(out, picture)
    notes = {"each": each, "each_cpu": each_cpu, "side": int(picture.shape[0])}
    clock.start = time.perf_counter() - seconds
    clock.finish(
        first_cpu=first_cpu, threads=int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))), **notes
    )


def threads_agree(file: str, weights: str, folder: Path) -> tuple[int, int]:
    """Largest difference between one thread's picture and all threads', in levels of 255, and how many are all."""
    import numpy as np

    pictures, threads = [], 1
    for name, setting in (("one", "1"), ("all", "")):
        if setting:
            os.environ["OMP_NUM_THREADS"] = setting
        else:
            os.environ.pop("OMP_NUM_THREADS", None)
        threads = run_child(SCRIPT, "draw", file, weights, str(folder / f"{name}.npy"), "0").notes["threads"]
        pictures.append(np.load(folder / f"{name}.npy").astype(int))
    return int(np.abs(pictures[0] - pictures[1]).max()), threads


def main() -> int:
    """Measure, print, judge; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, help="weights; the shipped ones when left out")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--next", type=int, default=20, dest="count", help="portraits after the first")
    options = parser.parse_args()
    weights = str(options.generator or "")
    chosen = ("--generator", weights) if weights else ()
    huref = str(Path(sys.executable).with_name("huref"))
    with tempfile.TemporaryDirectory(prefix="huref-render-") as place:
        folder = Path(place)
        file = str(folder / "random.huref.safetensors")
        run_child(SCRIPT, "write", file)
        ways = {
            "first": lambda: run_child(SCRIPT, "draw", file, weights, str(folder / "a.npy"), str(options.count)),
            "portrait": lambda: run_child(SCRIPT, "draw", file, weights, str(folder / "a.png"), "0"),
            "command": lambda: run_command(huref, "render", file, *chosen, "--out", str(folder / "b.png")),
            "badge": lambda: run_command(huref, "render", file, *chosen, "--out", str(folder / "b.svg")),
        }
        samples: dict[str, list[Sample]] = alternate(ways, dict.fromkeys(ways, options.repeats))
        sizes = {name: (folder / name).stat().st_size for name in ("b.png", "b.svg")}
        levels, threads = threads_agree(file, weights, folder)
    each = [second for run in samples["first"] for second in run.notes["each"]]
    print(f"portraits of {samples['first'][0].notes['side']} pixels, {Path(weights).name or 'shipped weights'}")
    print(machine())
    table(samples)
    print(
        f"each next portrait: {spread(each)} s  n={len(each)}; first to next {ratio(samples['first'], each):.1f} : 1"
    )
    cpu = [run.notes["first_cpu"] for run in samples["first"]]
    each_cpu = [second for run in samples["first"] for second in run.notes["each_cpu"]]
    print(f"processor time: the first {spread(cpu)} s, each next {spread(each_cpu)} s")
    print(f"files: PNG of 512 pixels {sizes['b.png'] / 1024:.0f} KiB, badge {sizes['b.svg'] / 1024:.0f} KiB")
    first = median([run.seconds for run in samples["first"]])
    met = [
        verdict("the first portrait under 1.0 s", first < 1.0, f"{first:.3f} s"),
        verdict("each next under 0.15 s", median(each) < 0.15, f"{median(each):.3f} s"),
        verdict(f"1 thread and {threads} within one level of 255", levels <= 1, f"{levels}"),
    ]
    return 0 if all(met) else 1


def ratio(first: list[Sample], each: list[float]) -> float:
    """How many of the next portraits take as long as the first."""
    return median([run.seconds for run in first]) / median(each)


if __name__ == "__main__":
    children = {"write": write, "draw": draw}
    if len(sys.argv) > 1 and sys.argv[1] in children:
        children[sys.argv[1]]()
        sys.exit(0)
    sys.exit(main())
