"""The inference proof on SmolLM2-135M: agreement of the integer model with the float one, and what a proof costs.

    OMP_NUM_THREADS=1 .venv/bin/python lab/benchmarks/inference_proof.py agreement [--passages 8] [--length 64]
    OMP_NUM_THREADS=1 .venv/bin/python lab/benchmarks/inference_proof.py layers [--tokens 8]
    OMP_NUM_THREADS=1 .venv/bin/python lab/benchmarks/inference_proof.py whole --work DIR [--tokens 8,16,32]

agreement  every position of passages of English (this repository's pages) and Python (its standard library): the
           largest and mean difference of logits, their Kullback-Leibler divergence, equal top tokens; for the model
           as specified, with fewer bits, and for torch in float32 and bfloat16 as a yardstick. Reference: float64.
layers     proofs of the first 1, 2, 4 layers *as models of their own*, to see how costs grow.
whole      all 30 layers: commits (once, kept in DIR), proves, verifies.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from huref.demo import differentiable
from huref.demo.bundled import bundled_model
from huref.demo.demonstration import encode
from huref.demo.tensors import as_tensor
from huref.demo.training_text import standard_library_text
from huref.forward.checkpoint_writer import tokenizer_files
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.proof.inference.commitment import commit_model, parse_commitment, parse_opening
from huref.proof.inference.model import IntegerModel, Run, exact_product, run_model
from huref.proof.inference.precision import PRECISIONS, Precision, Scales
from huref.proof.inference.proof_file import Statement
from huref.proof.inference.prover import prove_inference
from huref.proof.inference.verifier import verify_inference
from huref.proof.inference.weights import integer_model
from measure import machine

STANDARD = PRECISIONS["standard"]
ROOT = Path(__file__).resolve().parents[2]
PROMPT = (
    "The capital of France is the city of Paris. The capital of Italy is the city of Rome. The capital of Spain is"
)


def load() -> tuple[IntegerModel, dict[str, bytes]]:
    """The bundled model as integers, and its tokenizer."""
    with open_checkpoint(bundled_model()) as checkpoint:
        return integer_model(open_weights(checkpoint)), tokenizer_files(checkpoint)


def load_floats() -> Decoder:
    """The bundled model in float64."""
    with open_checkpoint(bundled_model()) as checkpoint:
        return load_decoder(open_weights(checkpoint))


def passages(tokenizer: dict[str, bytes], count: int, length: int) -> list[list[int]]:
    """Half of them English, half Python, each from another place."""
    english = "\n".join(
        (ROOT / "docs/explanation" / name).read_text() for name in ("reading-a-fingerprint.md", "verdict.md")
    )
    texts = [encode(tokenizer, text).tolist() for text in (english, standard_library_text(60_000))]
    out = []
    for index in range(count):
        ids = texts[index % 2]
        start = (len(ids) - length) * (index // 2) // max(1, count // 2)
        out.append(ids[start : start + length])
    return out


def all_logits(model: IntegerModel, run: Run, precision: Precision) -> np.ndarray:
    """Real logits of every position: (n, V)."""
    hidden = run.norms[-1].normed * model.matrices["final_norm"][0].astype(np.int64)
    product = exact_product(hidden, model.matrices[model.shape.unembedding])
    shift = Scales(precision, model.shape).logit_shift
    return ((product + (1 << (shift - 1))) >> shift).astype(np.float64) / 2.0**precision.logit_scale


def rounded(model: IntegerModel, bits: int) -> IntegerModel:
    """The same weights with the lowest of their 16 bits set to zero."""
    drop = 16 - bits
    matrices = {name: ((m.astype(np.int32) + (1 << drop >> 1) >> drop) << drop) for name, m in model.matrices.items()}
    return replace(model, matrices={n: np.clip(m, -32768, 32767).astype(np.int16) for n, m in matrices.items()})


def coarser(drop: int) -> Precision:
    """`standard` with so many bits less in every activation that is rounded."""
    p = STANDARD
    return replace(
        p,
        norm_bits=p.norm_bits - drop,
        score_scale=p.score_scale - min(drop, 6),
        exp_scale=p.exp_scale - drop,
        prob_scale=p.prob_scale - drop,
        gate_scale=p.gate_scale - min(drop, 6),
        silu_scale=p.silu_scale - drop,
    )


def differences(found: list[np.ndarray], wanted: list[np.ndarray]) -> str:
    """A row of the table."""
    a, b = np.concatenate(found), np.concatenate(wanted)
    log_p, log_q = (
        x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
        for x in (b, a)
    )
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(1)
    aligned = a - b - (a - b).mean(axis=1, keepdims=True)
    same = (a.argmax(1) == b.argmax(1)).mean()
    return (
        f"{np.abs(a - b).max():8.3f} {np.abs(a - b).mean():8.4f} {np.abs(aligned).mean():8.4f} "
        f"{divergence.mean():10.2e} {divergence.max():9.2e} {same:8.2%}"
    )


def agreement(count: int, length: int) -> None:
    """Print the table."""
    llama, (model, tokenizer) = load_floats(), load()
    texts = passages(tokenizer, count, length)
    wanted = [logits(llama, np.array([ids]))[0] for ids in texts]
    tensors = llama.with_each(as_tensor)
    with torch.inference_mode():
        floats = {
            f"torch, {name}": [
                differentiable.logits(tensors, torch.tensor([ids]), dtype)[0].double().numpy() for ids in texts
            ]
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        }
    spread = np.concatenate(wanted).std()
    print(f"{count} passages of {length} tokens, {count * length} positions; logits spread {spread:.2f}")
    print(f"{'':34}{'largest':>8} {'mean':>8} {'less shift':>8} {'KL mean':>9} {'KL max':>9} {'same top':>8}")
    for name, found in floats.items():
        print(f"{name:34}{differences(found, wanted)}", flush=True)
    variants = [("integers as specified", model, STANDARD)]
    variants += [(f"activations {drop} bits coarser", model, coarser(drop)) for drop in (2, 4, 6, 8)]
    variants += [(f"root_scale {scale}", model, replace(STANDARD, root_scale=scale)) for scale in (12, 16)]
    variants += [(f"weights of {bits} bits", rounded(model, bits), STANDARD) for bits in (14, 12, 10, 8)]
    for name, weights, precision in variants:
        found = [all_logits(weights, run_model(weights, ids, precision), precision) for ids in texts]
        print(f"{name:34}{differences(found, wanted)}", flush=True)


def truncated(model: IntegerModel, layers: int) -> IntegerModel:
    """The first layers as a model of its own."""
    names = [
        "embedding",
        "final_norm",
        *(f"layers.{i}.{r}" for i in range(layers) for r in ("q", "k", "v", "o", "gate", "up", "down")),
    ]
    shape = replace(model.shape, layers=layers, exponents={name: model.shape.exponents[name] for name in names})
    return IntegerModel(shape, {name: model.matrices[name] for name in names})


class Costs:
    """CPU and wall-clock seconds since it was made, and the largest memory so far."""

    def __init__(self) -> None:
        self.cpu, self.wall = self._cpu(), time.perf_counter()

    def _cpu(self) -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    def __str__(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return f"{self._cpu() - self.cpu:7.1f} CPU-s {time.perf_counter() - self.wall:7.1f} s, peak {peak:.2f} GiB"


def prove_and_verify(model: IntegerModel, commitment: bytes, opening: bytes, tokens: list[int]) -> None:
    """Print what one proof costs, stage by stage."""
    public, secret, costs = parse_commitment(commitment, "commitment"), parse_opening(opening, "opening"), Costs()
    proof = prove_inference(
        model,
        public,
        secret,
        tokens,
        report=lambda p: print(f"    {p.stage:24} {costs}") if p.done == p.total else None,
    )
    data = proof.to_bytes()
    inventory = Statement.of(public.root, "standard", tuple(tokens)).inventory(model.shape)
    lookups = sum(x.inverse.rows * inventory.widths[x.inverse.group] for x in inventory.lookups)
    print(
        f"  prove   {costs}; {len(data):,} bytes; {lookups:,} lookups, {inventory.n_entries:,} table entries",
        flush=True,
    )
    costs = Costs()
    answer = verify_inference(public, data)
    print(f"  verify  {costs}; top token {answer.top}", flush=True)


def whole(work: Path, counts: Iterator[int]) -> None:
    """All layers."""
    model, tokenizer = load()
    files = work / "inference-commitment", work / "inference-opening"
    if not files[0].exists():
        costs = Costs()
        made = commit_model(model, "SmolLM2-135M-Instruct")
        print(f"commit  {costs}; {len(made[0].to_bytes()):,} bytes", flush=True)
        for file, item in zip(files, made, strict=True):
            file.write_bytes(item.to_bytes())
    ids = encode(tokenizer, PROMPT).tolist() * 8
    for count in counts:
        print(f"{model.shape.layers} layers, {count} tokens")
        prove_and_verify(model, files[0].read_bytes(), files[1].read_bytes(), ids[:count])


def layers(count: int) -> None:
    """One, two and four layers."""
    model, tokenizer = load()
    for kept in (1, 2, 4):
        part, costs = truncated(model, kept), Costs()
        commitment, opening = commit_model(part, f"the first {kept} layers of SmolLM2-135M")
        print(f"{kept} layers, {count} tokens: commit {costs}", flush=True)
        prove_and_verify(part, commitment.to_bytes(), opening.to_bytes(), encode(tokenizer, PROMPT)[:count].tolist())


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agreement", "layers", "whole"))
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--tokens", default="8")
    parser.add_argument("--work", type=Path, default=Path("runs/inference"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    if asked.what == "agreement":
        agreement(asked.passages, asked.length)
    elif asked.what == "layers":
        layers(int(asked.tokens))
    else:
        asked.work.mkdir(parents=True, exist_ok=True)
        whole(asked.work, map(int, asked.tokens.split(",")))


if __name__ == "__main__":
    main()
