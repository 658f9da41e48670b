"""From a checkpoint to integer weights in the canonical gauge: proof-inference-v1, section 1.

The attention norm's gain is folded into q, k and v, the feed-forward norm's into gate and up; each neuron's row of
the transposed down projection has unit length, its row of `up` the inverse factor. None of it changes the function.
The same matrices serve the fingerprint's terms `qk`, `vo` and `gate_down`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from huref.errors import ArchitectureError, NotFiniteError
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import float32
from huref.proof.arithmetic.fixed_point import quantised
from huref.proof.inference.model import IntegerModel, Step
from huref.proof.inference.precision import MATRICES, PRECISIONS, Scales, Shape

_BITS = 16
_NORMS = {"attention_norm", "feed_forward_norm"}


def integer_model(weights: CanonicalWeights, step: Step | None = None) -> IntegerModel:
    """Read a whole model as integers of 16 bits.

    Args:
        step: called with (matrices done, matrices).

    Raises:
        ArchitectureError: not a plain Llama.
        NotFiniteError: NaN or infinity.
    """
    theta, epsilon = _constants(weights)
    g = weights.geometry
    is_tied = "unembedding" not in weights.names()
    matrices: dict[str, np.ndarray] = {}
    exponents: dict[str, int] = {}
    count = 2 + (not is_tied) + len(MATRICES) * g.n_layers
    for name, matrix in _gauged(weights, is_tied):
        if not np.isfinite(matrix).all():
            raise NotFiniteError("NaN or infinity in a weight", where=name, expected="finite weights")
        matrices[name], exponents[name] = quantised(matrix, _BITS)
        if step:
            step(len(matrices), count)
    sizes = (g.n_layers, g.d_model, g.n_heads, g.n_kv_heads, g.head_dim, g.d_ff, g.vocab_size)
    try:
        shape = Shape(*sizes, theta, epsilon, is_tied, exponents)
        for precision in PRECISIONS.values():
            Scales(precision, shape)
    except ValueError as error:
        raise _refusal(weights, str(error)) from None
    return IntegerModel(shape, matrices)


def _gauged(weights: CanonicalWeights, is_tied: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Every matrix of the commitment, (rows, d) float32 or wider, in order."""
    yield "embedding", _read(weights, "embedding")
    yield "final_norm", _read(weights, "final_norm")[None]
    if not is_tied:
        yield "unembedding", _read(weights, "unembedding")
    for layer in range(weights.geometry.n_layers):
        at = f"layers.{layer}."
        front, middle = _read(weights, f"{at}attention_norm"), _read(weights, f"{at}feed_forward_norm")
        for role in "qkv":
            yield at + role, _read(weights, at + role) * front
        yield f"{at}o", _read(weights, f"{at}o").T
        down = _read(weights, f"{at}down").T.astype(np.float64)
        length = np.sqrt(np.square(down).sum(axis=1, keepdims=True))
        length[length == 0] = 1.0
        yield f"{at}gate", _read(weights, f"{at}gate") * middle
        yield f"{at}up", _read(weights, f"{at}up") * middle * length
        yield f"{at}down", down / length


def _read(weights: CanonicalWeights, name: str) -> np.ndarray:
    return float32(weights.read(name))


def _constants(weights: CanonicalWeights) -> tuple[str, str]:
    """The rotary base and the norms' epsilon as exact fractions; everything that is no plain Llama is refused."""
    arch = weights.architecture
    plain = (
        (arch.norm, arch.position, arch.gated, arch.activation) == ("rms", "rope_half", True, "silu")
        and arch.rotary_dim == weights.geometry.head_dim
        and not (arch.parallel or arch.norm_after_residual or arch.unit_norms or arch.n_experts)
    )
    roles = {*MATRICES, *_NORMS, "embedding", "unembedding", "final_norm"}
    others = sorted({name.rsplit(".", 1)[-1] for name in weights.names()} - roles)
    if not plain or others:
        raise _refusal(weights, f"family {arch.name}" + (f", with {', '.join(others)}" if others else ""))
    theta, epsilon, others = _stated(weights)
    if others:
        raise _refusal(weights, ", ".join(others))
    return str(Fraction(theta)), str(Fraction(epsilon))


def _stated(weights: CanonicalWeights) -> tuple[float, float, list[str]]:
    """theta, epsilon, and settings that change the function."""
    checkpoint = weights.checkpoint
    if checkpoint.format == "gguf":
        prefix = f"{checkpoint.metadata.get('general.architecture', 'llama')}."
        said: dict[str, Any] = {k.removeprefix(prefix): v for k, v in checkpoint.metadata.items()}
        epsilon, theta = said.get("attention.layer_norm_rms_epsilon"), said.get("rope.freq_base", 10000.0)
        keys: tuple[str, ...] = (
            "attention.scale",
            "logit_scale",
            "embedding_scale",
            "residual_scale",
            "attention.sliding_window",
        )
        scaling = said.get("rope.scaling.type", "none")
    else:
        said = dict(checkpoint.config)
        rope = {**(said.get("rope_scaling") or {}), **(said.get("rope_parameters") or {})}
        epsilon, theta = said.get("rms_norm_eps"), rope.get("rope_theta", said.get("rope_theta", 10000.0))
        keys = (
            "embedding_multiplier",
            "residual_multiplier",
            "attention_multiplier",
            "logits_scaling",
            "no_rope_layers",
            "sliding_window",
        )
        scaling = rope.get("rope_type", rope.get("type", "default"))
    others = [key for key in keys if said.get(key)]
    others += [f"rotations {scaling}"] if scaling not in ("none", "default") else []
    others += ["no norm epsilon"] if epsilon is None else []
    act = said.get("hidden_act", "silu")
    others += [f"activation {act}"] if act != "silu" else []
    return float(theta), float(epsilon or 1e-5), others


def _refusal(weights: CanonicalWeights, got: str) -> ArchitectureError:
    return ArchitectureError(
        "the inference proof does not cover this model",
        where=weights.checkpoint.reference,
        expected="a plain Llama: RMS norms, rotary positions in halves, SiLU-gated feed-forward, no biases",
        got=got,
        next_step="choose a Llama or SmolLM checkpoint; fingerprints and their proofs take every family",
    )
