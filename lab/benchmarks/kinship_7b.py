"""Pairing agreement of two 7B Llama shapes: seconds, memory, and bytes read of each.

    .venv/bin/python lab/benchmarks/kinship_7b.py [--work DIR] [--layers 4,12,20,28]

Two checkpoints of 13.5 GB of random bfloat16 are written. A stranger is the slow case: the identity, the embeddings
and the weights alone are tried as maps one after another. The quick case is a model against itself. Each is one
`huref compare --method agreement` in a process of its own; seconds count from after the imports.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from measure import GIB, Clock, machine, run_child, verdict, workplace

SIZES = (4096, 11008, 32, 32, 32000)
SCRIPT = str(Path(__file__).resolve())


def write() -> None:
    """Child: write one checkpoint."""
    from llama_shapes import Shape, write_model

    clock = Clock()
    write_model(Path(sys.argv[2]), Shape(*SIZES), 2 << 30, is_repeated=True, seed=int(sys.argv[3]))
    clock.finish()


def compare() -> None:
    """Child: compare two checkpoints by pairing agreement alone."""
    import torch  # noqa: F401

    from huref import api
    from huref.kinship.record import CompareOptions

    clock = Clock()
    options = CompareOptions(method="agreement", layers=sys.argv[4])
    found = api.compare(sys.argv[2], sys.argv[3], options)
    clock.finish(
        agreement=found.agreement,
        verdict=found.verdict,
        tried=(found.alignment or {}).get("tried"),
        layers=[asdict(layer) for layer in found.layers],
        read=[side.get("bytes_read") for side in found.read],
    )


CHILDREN = {"write": write, "compare": compare}


def main() -> int:
    """Write, compare, report."""
    if len(sys.argv) > 1 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]]()
        return 0
    parser = argparse.ArgumentParser(description="Pairing agreement of two 7B Llama shapes")
    parser.add_argument("--work", type=Path, help="keep the checkpoints here")
    parser.add_argument(
        "--layers", default="last2", help="layers of A, as huref compare takes them; last2 leaves it to huref"
    )
    options = parser.parse_args()
    print(machine())
    with workplace(options.work, "huref-kinship-7b-") as work:
        models = [work / "a", work / "b"]
        for seed, model in enumerate(models):
            if not (model / "config.json").is_file():
                run_child(SCRIPT, "write", str(model), str(seed))
        met = [
            report(name, pair, options.layers) for name, pair in (("stranger", models), ("itself", models[:1] * 2))
        ]
    return 0 if all(met) else 1


def report(name: str, pair: list[Path], layers: str) -> bool:
    """One comparison, printed with its goal."""
    found = run_child(SCRIPT, "compare", str(pair[0]), str(pair[1]), layers)
    facts = found.notes
    print(f"\n{name}: {found.seconds:.1f} s, peak {found.peak / GIB:.2f} GiB, {facts['verdict']}")
    print(f"  agreement {facts['agreement']:.4f} over {len(facts['layers'])} layers, maps tried: {facts['tried']}")
    for layer in facts["layers"]:
        told = {key: layer[key] for key in ("layer_a", "layer_b", "agreement", "n_neurons", "heads")}
        print(f"    {told}")
    print(f"  bytes read: {[f'{n / GIB:.2f} GiB' for n in facts['read'] if n]}")
    return verdict("a 7B pair under 60 s, a few layers", found.seconds < 60, f"{found.seconds:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
