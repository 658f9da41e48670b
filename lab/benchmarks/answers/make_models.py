"""Make the models that captures are of, once.

    .venv/bin/python lab/benchmarks/answers/make_models.py [TREE] [--work DIR]

TREE is the checkout whose tests' helpers and whose `huref attack` make the models, by default the one that this file
is in; better the state before the change. They go to DIR/models, by default runs/answers/models of the checkout that
this file is in, which must not exist: nothing is ever made again under a capture. `models/SHA256` lists every file's
digest, and capture.py refuses models that differ from it. 650 MB, a minute; extra `test`, the demo's model.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from places import HOME, MODELS, digests, write_digests


def main() -> None:
    """Take TREE's huref and helpers, make the models, and list their digests last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, nargs="?", default=Path(__file__).resolve().parents[3])
    parser.add_argument("--work", type=Path, default=HOME, help="folder of the models and of the runs")
    options = parser.parse_args()
    tree, models = options.tree.resolve(), options.work.resolve() / MODELS
    if models.exists():
        raise SystemExit(f"{models} exists: remove it to make the models again, and capture again what was captured")
    if not (tree / "tests" / "kit").is_dir():
        raise SystemExit(f"{tree} has no tests/kit, which makes the models: take a newer state")
    sys.path[:0] = [str(tree / "src"), str(tree / "tests")]
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

    import huref

    if not Path(huref.__file__).resolve().is_relative_to(tree):
        raise SystemExit(f"huref is {huref.__file__}, not in {tree}")

    from models import make

    models.mkdir(parents=True)
    make(models, tree)
    write_digests(models, digests(models))
    print(f"models in {models}")


if __name__ == "__main__":
    main()
