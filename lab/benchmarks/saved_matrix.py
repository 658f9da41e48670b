"""`huref matrix *.huref.safetensors` of 100 saved fingerprints of SmolLM2's shape: seconds, memory, what it finds.

    .venv/bin/python lab/benchmarks/saved_matrix.py [--models 100] [--without-plain] [--work DIR] [--text FILE]

No models: random codes of 30 layers of 1,536 neurons, width 576. Every fifth is kin of the one before it, which is
the same codes with bits flipped: 3 % (a light fine-tune), 15 %, 25 % (a far descendant, agreement near 0.9), or 3 %
with five layers left out in the middle. All others are strangers, which without plain codes cannot be said of models
of one width: those pairs are then inconclusive. The command runs in a process of its own with one
thread, and what it says is held against that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import MIB, machine, verdict, workplace

LAYERS, NEURONS, WIDTH, HEADS, BITS, TOKENS = 30, 1536, 576, 9, 256, 4096
FLIPPED = (0.03, 0.15, 0.25, 0.03)
SCRIPT = str(Path(__file__).resolve())


def make(folder: Path, n_models: int, *, has_plain: bool) -> None:
    """Child: write the fingerprints, with codes in the streams' own dimensions on request."""
    import numpy as np

    from huref.fingerprints.codes import OPERATORS, CodeRecipe, Codes, LayerCodes
    from huref.fingerprints.file import save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.sketch import unit_rms

    random = np.random.default_rng(0)
    recipe, coded, listed = Recipe(), CodeRecipe(), np.full(2048, 255, np.uint8)

    def codes(n: int) -> np.ndarray:
        return random.integers(0, 256, (n, BITS // 8), np.uint8)

    def layer(heads: int) -> LayerCodes:
        operators = {kind: random.standard_normal((coded.side, coded.side), np.float32) for kind in OPERATORS}
        return LayerCodes(*(codes(NEURONS) for _ in range(3)), codes(heads), codes(heads), operators)

    def moved(part: np.ndarray, share: float) -> np.ndarray:
        return part ^ np.packbits(random.random((len(part), BITS)) < share, axis=1, bitorder="little")

    def kin(old: LayerCodes, share: float) -> LayerCodes:
        order = random.permutation(NEURONS)
        parts = (moved(part[order], share) for part in (old.gate, old.up, old.down))
        return LayerCodes(*parts, moved(old.qk, share), moved(old.vo, share), old.operators)

    layers, plain = {}, {}
    for k in range(n_models):
        if k % 5 == 4:
            share = FLIPPED[k // 5 % len(FLIPPED)]
            left = [i for i in range(LAYERS) if k // 5 % len(FLIPPED) != 3 or not 12 <= i < 17]
            layers = {new: kin(layers[old], share) for new, old in enumerate(left)}
            plain = {new: kin(plain[old], share) for new, old in enumerate(left) if old in plain}
        else:
            layers = {i: layer(HEADS) for i in range(LAYERS)}
            plain = {i: layer(0) for i in (1, 5, LAYERS - 6, LAYERS - 2) if has_plain}
        sketch = recipe.sketch_rows
        made = Fingerprint(
            model=f"m{k:03}",
            architecture="llama",
            recipe=recipe,
            vector=unit_rms(random.standard_normal(512)),
            sketches={
                f"{i}.{kind}": unit_rms(random.standard_normal((sketch, sketch)))
                for i in (len(layers) - 2, len(layers) - 1)
                for kind in ("qk", "vo", "gate_down")
            },
            tokens={"method": "sampled", "requested": TOKENS, "used": TOKENS, "digest": "00", "vocabulary": "11"},
            geometry={
                "n_layers": len(layers),
                "d_model": WIDTH,
                "d_ff": NEURONS,
                "n_heads": HEADS,
                "vocab_size": 49152,
            },
            weights={"format": "none", "files": {}, "bytes_read": 0, "bytes_total": 0},
            notes=("random codes",),
            version="0",
            codes=Codes(coded, "00", TOKENS, listed, layers, plain),
        )
        save_fingerprint(made, folder / f"m{k:03}.huref.safetensors")


def run(folder: Path) -> tuple[dict[str, object], float, float, float]:
    """The command: its document, seconds, processor seconds, peak bytes."""
    files = sorted(map(str, folder.glob("*.huref.safetensors")))
    command = [sys.executable, "-m", "huref", "matrix", *files, "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"huref matrix ended with {process.returncode}")
    return json.loads(said), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--without-plain", action="store_true", help="files made without --plain-codes")
    parser.add_argument("--work", type=Path, help="folder for the files, kept (600 MB)")
    parser.add_argument("--text", type=Path, help="also write what is printed into this file")
    asked = parser.parse_args()
    with workplace(asked.work, "saved-matrix-") as folder:
        if not list(folder.glob("*.huref.safetensors")):
            what = str(folder), str(asked.models), "" if asked.without_plain else "plain"
            subprocess.run([sys.executable, SCRIPT, "make", *what], check=True)
        document, seconds, processor, peak = run(folder)
    names = document["models"]
    expected = sorted([names[k - 1], names[k]] for k in range(4, len(names), 5))
    n_pairs = len(names) * (len(names) - 1) // 2
    frames = "the tokens' frame alone" if asked.without_plain else "two frames (--plain-codes)"
    lines = [
        f"{machine()}; load {os.getloadavg()[0]:.0f}",
        f"{len(names)} fingerprints, {LAYERS} layers of {NEURONS} neurons, width {WIDTH}: {n_pairs} pairs, "
        f"{len(expected)} of them kin; random codes in {frames}, kin made by flipping bits",
        f"whole process: {seconds:.1f} s, {processor:.1f} processor seconds, peak {peak / MIB:.0f} MiB",
        *(f"note: {note}" for note in document["notes"]),
    ]
    print("\n".join(lines))
    is_right = sorted(document["clusters"]) == expected
    words = [word for row in document["verdicts"] for word in row]
    other = "inconclusive" if asked.without_plain else "independent"
    is_good = all(
        [
            verdict("the kin, and nobody else, in clusters", is_right, f"{len(document['clusters'])} clusters"),
            verdict(
                "all others told",
                words.count(other) // 2 == n_pairs - len(expected),
                f"{words.count(other) // 2} {other}",
            ),
            verdict("at most 60 processor seconds", processor <= 60, f"{processor:.1f}"),
            verdict("at most 1.5 GB", peak <= 1.5e9, f"{peak / 1e9:.2f} GB"),
        ]
    )
    if asked.text:
        asked.text.write_text("\n".join(lines) + "\n")
    return 0 if is_good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), has_plain=sys.argv[4] == "plain")
    else:
        raise SystemExit(main())
