"""huref against the official way on a 1.3B multi-head Llama shape: seconds after imports and peak memory.

    .venv/bin/python lab/benchmarks/shape_1b.py [--work DIR] [--repeats 5] [--official-repeats 5]

Ways, each in a process of its own, in turn:

official   transformers loads the model in float32; six full K x K matrices; mean pooling. Written again here
           from the paper; products run from left to right, as the official code's do. No image is drawn.
huref      `huref.fingerprint` with the default sketch and `api.write`: fingerprint file and image.
command    the same through the command line, the whole process counted.
full terms huref's own six K x K terms of the paper recipe, kept in memory together, and their mean pooling.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from measure import MIB, Clock, alternate, machine, median, run_child, run_command, table, verdict, workplace

K = 4096
SCRIPT = str(Path(__file__).resolve())


def write() -> None:
    """Child: write the checkpoint."""
    from llama_shapes import Shape, write_model

    clock = Clock()
    write_model(Path(sys.argv[2]), Shape(2048, 5504, 24, 16, 32000), 1 << 33, is_repeated=False)
    clock.finish()


def official() -> None:
    """Child: the official way, for a Llama with one key head a query head."""
    import torch
    import transformers.models.llama.modeling_llama  # loaded lazily otherwise, inside the timing
    from transformers import AutoModelForCausalLM

    transformers.utils.logging.disable_progress_bar()
    folder = Path(sys.argv[2])
    clock = Clock()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    weights = model.state_dict()
    ids = [int(line) for line in (folder / "ranking.txt").read_text().split()][-K:]
    X = weights["model.embed_tokens.weight"][ids]
    terms = []
    n_layers = model.config.num_hidden_layers
    for i in (n_layers - 2, n_layers - 1):
        at = f"model.layers.{i}."
        Wq, Wk, Wv, Wo = (weights[f"{at}self_attn.{name}_proj.weight"] for name in "qkvo")
        gate, up, down = (weights[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
        pairs = ((Wq.T, Wk), (Wv.T, Wo.T), ((gate * up).T, down.T))
        terms.append(torch.stack([X @ left @ right @ X.T for left, right in pairs]))
    vector = torch.cat(terms).view(512, -1).mean(-1)
    vector = (vector - vector.mean()) / vector.std()
    clock.finish(head=vector[:4].tolist())


def huref() -> None:
    """Child: fingerprint and image through the front door."""
    # What the calls below import on first use is imported before the clock starts.
    import PIL.Image
    import safetensors.numpy  # noqa: F401

    from huref import api
    from huref.fingerprints import pipeline  # noqa: F401
    from huref.model.arch.schema import known_families  # noqa: F401
    from huref.model.source.opening import formats
    from huref.model.tokens import readers
    from huref.portraits import drawing  # noqa: F401
    from huref.portraits.generator import file as weights_file

    PIL.Image.preinit()
    formats(), readers.readers()
    if len(sys.argv) > 3:
        weights_file.SHIPPED, weights_file.SHIPPED_SHA256 = Path(sys.argv[3]), None  # type: ignore[assignment, misc]
    with tempfile.TemporaryDirectory() as out:
        clock = Clock()
        found = api.fingerprint(sys.argv[2])
        file, picture = api.write(found, Path(out))
        clock.finish(read=found.weights["bytes_read"], file=file.stat().st_size, image=picture.stat().st_size)


def full_terms() -> None:
    """Child: six K x K terms from huref's matrices, the cheaper of `(X L^T)(X R^T)^T` and `X (L^T R) X^T` each."""
    import torch

    from huref.fingerprints import pipeline
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.terms import layer_terms, token_embeddings
    from huref.model.source.opening import formats
    from huref.model.tokens import read_ranking, readers
    from huref.numerics.products import product
    from huref_lab.encoder_study.similarity import factors

    formats(), readers.readers()
    clock = Clock()
    recipe = Recipe(name="paper", n_tokens=K)
    model = pipeline.open_model(sys.argv[2])
    with model.weights.checkpoint:
        tokens = pipeline.choose_tokens(model, recipe, read_ranking(Path(sys.argv[2]) / "ranking.txt"))
        X = token_embeddings(model.weights, tokens.ids, recipe)
        terms, slot = torch.empty(6, K, K), 0
        for layer in recipe.layer_indices(model.weights.geometry.n_layers):
            for term in layer_terms(model.weights, layer, recipe):
                rank, width = term.left.shape
                if 2 * K * rank * width + K * K * rank < width * width * (rank + K) + K * K * width:
                    U, V = factors(term, X)
                    terms[slot] = torch.from_numpy(product(U, V.T))
                else:
                    terms[slot] = torch.from_numpy(product(product(X, product(term.left.T, term.right)), X.T))
                slot += 1
    vector = terms.view(512, -1).mean(-1)
    vector = (vector - vector.mean()) / vector.std()
    clock.finish(head=vector[:4].tolist())


CHILDREN = {"write": write, "official": official, "huref": huref, "full-terms": full_terms}


def main() -> int:
    """Measure all ways and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where the 2.7 GB checkpoint is kept; default: temporary")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--official-repeats", type=int, default=5)
    parser.add_argument("--generator", type=Path, help="image generator weights; default: the shipped ones")
    options = parser.parse_args()
    with workplace(options.work, "huref-1b-") as work:
        folder = work / "llama-1b"
        if not (folder / "ranking.txt").exists():
            print("writing the checkpoint ...", file=sys.stderr)
            run_child(SCRIPT, "write", str(folder))
        return report(folder, options)


def report(folder: Path, options: argparse.Namespace) -> int:
    """Run, print the table and the verdicts; 0 when all goals are met."""
    model, generator = str(folder), [str(options.generator)] if options.generator else []
    out = tempfile.mkdtemp(prefix="huref-out-")
    command = (sys.executable, "-m", "huref", "fingerprint", model, "--out", out)
    ways = {
        "official": lambda: run_child(SCRIPT, "official", model),
        "huref": lambda: run_child(SCRIPT, "huref", model, *generator),
        "command": lambda: run_command(*command),
        "full terms": lambda: run_child(SCRIPT, "full-terms", model),
    }
    if generator:
        del ways["command"]  # it knows only the shipped weights
    repeats = {name: options.official_repeats if name == "official" else options.repeats for name in ways}
    ways["huref"]()  # the checkpoint enters the page cache before the first run that counts
    samples = alternate(ways, repeats)
    shutil.rmtree(out)
    print("1.3B Llama shape (d 2048, ff 5504, 24 layers, V 32000, bf16, 2.7 GB in the page cache), K 4096")
    print(machine())
    table(samples)
    return conclude(
        {name: (median([r.seconds for r in s]), median([r.peak for r in s])) for name, s in samples.items()}
    )


def conclude(middle: dict[str, tuple[float, float]]) -> int:
    """Verdict lines from the medians (seconds, peak bytes) of each way."""
    seconds = {name: value[0] for name, value in middle.items()}
    peak = {name: value[1] for name, value in middle.items()}
    times = seconds["official"] / seconds["huref"]
    full = seconds["official"] / seconds["full terms"]
    memory = peak["huref"] / peak["official"]
    met = [
        verdict("huref, image included, at least 20 times faster", times >= 20, f"{times:.1f} times"),
        verdict(
            "huref in at most 1/8 of the memory",
            memory <= 1 / 8,
            f"1/{1 / memory:.1f} ({peak['huref'] / MIB:.0f} of {peak['official'] / MIB:.0f} MiB)",
        ),
        verdict("the six full K x K terms at least 3 times faster", full >= 3, f"{full:.1f} times"),
    ]
    if "command" in seconds:
        print(f"whole process of `huref fingerprint`: {seconds['command']:.3f} s")
    return 0 if all(met) else 1


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]]()
    else:
        sys.exit(main())
