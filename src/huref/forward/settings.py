"""What a configuration adds to the weights: epsilon, rotary frequencies, scalings, caps.

Read from a Hugging Face config.json, or for a Llama from GGUF key-values. What is not modelled and changes the
function is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from huref.errors import ArchitectureError
from huref.forward.plain_llama import EXPECTED, unlike_llama
from huref.model.arch.facts import decoder_config
from huref.model.arch.weights import CanonicalWeights

EPSILON_KEYS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
"""Where families state the norms' epsilon; the first present counts."""

LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
PER_LAYER_KEYS = ("layer_types", "no_rope_layers", "mlp_layer_types", "layers_block_type")
"""Lists with an entry per layer."""

_ACTIVATION_KEYS = ("hidden_act", "hidden_activation", "activation_function", "activation")
_CHANGES_THE_FUNCTION = ("clip_qkv", "attn_config.clip_qkv", "attn_config.qk_ln", "altup_num_inputs", "num_nextn")
_CHANGES_THE_FUNCTION_IN_GGUF = {
    "embedding_scale": 1.0,
    "residual_scale": 1.0,
    "logit_scale": 1.0,
    "attention.temperature_scale": 1.0,
    "rope.scale_linear": 1.0,
    "rope.scaling.factor": 1.0,
    "attn_logit_softcapping": 0.0,
    "final_logit_softcapping": 0.0,
}
"""Key-values of families that have Llama's tensors and another function (Granite, Ministral 3), and the value of each
that changes nothing. 0 stands for "not set" in all of them."""

_PLAIN_SCALINGS = ("default", "none")
_KNOWN_SCALINGS = (*_PLAIN_SCALINGS, "linear", "llama3")
_UNSTATED = {"rms": 1e-6, "layer": 1e-5}


@dataclass(frozen=True)
class Settings:
    """Numbers that a forward pass needs and that are not weights.

    Attributes:
        eps: added to the mean square (variance) inside every norm.
        eps_key: where config.json states it; empty where the family fixes it.
        frequencies: radians a position for each rotary pair; one tuple for all layers, or one per layer.
        rope_theta: base of the frequencies where all layers have the plain ones, else None.
        rotates: 1 or 0 per layer, or one for all.
        activation: of the feed-forward block, in transformers' spelling.
        attention_scale: factor of the attention scores; None for 1 / sqrt(head size).
        embedding_scale: factor of the embeddings as they enter the residual stream.
        residual_scale: factor of every branch as it joins the residual stream.
        logit_scale: factor of the logits.
        attention_cap: soft cap of the scores, or None; final_cap: of the logits.
        position_offset: rows of the position table before that of position 0.
        scales_alibi: whether the attention scale applies to the ALiBi slopes too (Falcon).
        experts_per_token: how many experts of a sparse layer act on a token.
        renormalises_experts: whether the chosen experts' weights are made to sum to 1.
        longest: tokens for which all this holds: the smallest window or table.
        layers_are_numbered: settings by which a layer's function depends on its place, beside `PER_LAYER_KEYS`.
        notes: what the configuration asks for and is left out here.
    """

    eps: float = 1e-5
    eps_key: str = ""
    frequencies: tuple[tuple[float, ...], ...] = ((),)
    rope_theta: float | None = None
    rotates: tuple[int, ...] = (1,)
    activation: str = "silu"
    attention_scale: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_cap: float | None = None
    final_cap: float | None = None
    position_offset: int = 0
    scales_alibi: bool = False
    experts_per_token: int = 0
    renormalises_experts: bool = True
    longest: int = 1 << 30
    layers_are_numbered: str = ""
    notes: tuple[str, ...] = ()


def read_settings(weights: CanonicalWeights) -> Settings:
    """Settings of a checkpoint, from its config.json or its GGUF key-values.

    Raises:
        ArchitectureError: the configuration changes the function in a way that is not modelled.
    """
    if weights.checkpoint.format == "gguf":
        return _gguf_settings(weights)
    config, arch = decoder_config(weights.checkpoint.config), weights.architecture
    _check(weights, config)
    model_type = str(config.get("model_type"))
    sections = _rope_sections(config) if arch.position.startswith("rope") else []
    left_out = sorted({_scaling_of(section) for section in sections} - {*_KNOWN_SCALINGS})
    pre_scalar = config.get("query_pre_attn_scalar")
    return Settings(
        eps=float(first_of(config, EPSILON_KEYS, _UNSTATED[arch.norm])),
        eps_key=next((key for key in EPSILON_KEYS if config.get(key) is not None), ""),
        frequencies=tuple(rotary_frequencies(s["rope_theta"], arch.rotary_dim, s) for s in sections) or ((),),
        rope_theta=_plain_theta(sections),
        rotates=_rotates(config),
        activation=activation_of(weights),
        attention_scale=_attention_scale(model_type, pre_scalar, config.get("attention_multiplier")),
        embedding_scale=_embedding_scale(config, model_type, weights.geometry.d_model),
        residual_scale=config.get("residual_multiplier", 1.0),
        logit_scale=config.get("logit_scale") or 1.0 / config.get("logits_scaling", 1.0),
        attention_cap=config.get("attn_logit_softcapping"),
        final_cap=config.get("final_logit_softcapping"),
        position_offset=2 if model_type == "opt" else 0,
        scales_alibi=model_type == "falcon",
        experts_per_token=_experts_per_token(weights, config),
        renormalises_experts=config.get("norm_topk_prob", model_type == "mixtral"),
        longest=_longest(config),
        layers_are_numbered=_numbered(config),
        notes=tuple(f"checked with plain rotary positions, not {kind} ones; the maps suit both" for kind in left_out),
    )


def activation_of(weights: CanonicalWeights) -> str:
    """Of the feed-forward block, as config.json has it, or as is usual in the family."""
    return str(first_of(decoder_config(weights.checkpoint.config), _ACTIVATION_KEYS, weights.architecture.activation))


def _experts_per_token(weights: CanonicalWeights, config: Mapping[str, Any]) -> int:
    """How many experts act on a token; a configuration that leaves it to its default may ask for too many."""
    asked, n = config.get("num_experts_per_tok") or 0, weights.architecture.n_experts
    if asked > n:
        raise ArchitectureError(
            "more experts a token than there are",
            where=f"{weights.checkpoint.reference}: num_experts_per_tok in config.json",
            expected=f"at most {n}, as many as the checkpoint holds",
            got=str(asked),
            next_step="give the number that the model was trained with",
        )
    return int(asked)


def _gguf_settings(weights: CanonicalWeights) -> Settings:
    """Settings of a GGUF file, whose key-values are read for plain Llamas alone."""
    said, prefix = weights.checkpoint.metadata, str(weights.checkpoint.metadata.get("general.architecture", "llama"))
    neutral = {**_CHANGES_THE_FUNCTION_IN_GGUF, "attention.scale": weights.geometry.head_dim**-0.5}
    changes = [key for key, value in neutral.items() if not _is_unset(said.get(f"{prefix}.{key}"), value)]
    changes += ["layers that do not rotate"] if prefix == "smollm3" else []
    changes += ["scaled rotations"] if "rope_freqs.weight" in weights.checkpoint.tensors else []
    unlike = unlike_llama(weights.architecture, weights.geometry, weights.names())
    if unlike or changes:
        _refuse_gguf(weights, EXPECTED, unlike or f"{prefix} with {', '.join(changes)}")
    eps, scaling = said.get(f"{prefix}.attention.layer_norm_rms_epsilon"), said.get(f"{prefix}.rope.scaling.type")
    if eps is None or scaling not in (None, "none"):
        _refuse_gguf(weights, "unscaled rotations and a norm epsilon", f"rotations {scaling}, epsilon {eps}")
    theta = float(said.get(f"{prefix}.rope.freq_base", 10000.0))
    frequencies = rotary_frequencies(theta, weights.geometry.head_dim)
    return Settings(eps=float(eps), eps_key=EPSILON_KEYS[0], frequencies=(frequencies,), rope_theta=theta)


def _is_unset(value: Any, neutral: float) -> bool:
    """Whether a key-value is missing, 0, or the number that changes nothing, to float32."""
    return value is None or (isinstance(value, int | float) and (value == 0 or abs(value - neutral) < 1e-6))


def _refuse_gguf(weights: CanonicalWeights, expected: str, got: str) -> NoReturn:
    raise ArchitectureError(
        "of GGUF files only models built like Llama have a forward pass",
        where=weights.checkpoint.reference,
        expected=expected,
        got=got,
        next_step="use the model's safetensors checkpoint, or a Llama, Mistral or SmolLM; "
        "huref fingerprint takes every family",
    )


def first_of(config: Mapping[str, Any], keys: tuple[str, ...], otherwise: Any) -> Any:
    """The first of several keys that has a value."""
    return next((config[key] for key in keys if config.get(key) is not None), otherwise)


def rotary_frequencies(theta: float, rotary_dim: int, scaling: Mapping[str, Any] | None = None) -> tuple[float, ...]:
    """theta ** (-2 j / r) for each pair j, slowed down as `linear` or `llama3` scaling asks (Dubey et al. 2024)."""
    plain = [theta ** (-2 * j / rotary_dim) for j in range(rotary_dim // 2)]
    kind = _scaling_of(scaling or {})
    if scaling is None or kind not in ("linear", "llama3"):
        return tuple(plain)
    factor = float(scaling["factor"])
    if kind == "linear":
        return tuple(frequency / factor for frequency in plain)
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = [frequency * float(scaling["original_max_position_embeddings"]) / (2 * math.pi) for frequency in plain]
    shares = [min(1.0, max(0.0, (turn - low) / (high - low))) for turn in turns]
    return tuple(f * (share + (1 - share) / factor) for f, share in zip(plain, shares, strict=True))


def _check(weights: CanonicalWeights, config: Mapping[str, Any]) -> None:
    def value(key: str) -> Any:
        found: Any = config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    asked = [key for key in _CHANGES_THE_FUNCTION if value(key)]
    if weights.architecture.position == "rope_2d":
        asked.append("two-dimensional rotary positions")
    if not weights.architecture.has_logits:
        asked.append(f"the family {weights.architecture.name}")
    if asked:
        raise ArchitectureError(
            "there is no forward pass for this model, so an attack on it cannot be checked",
            where=weights.checkpoint.reference,
            expected="a decoder of the families in docs/reference/attacks.md",
            got=", ".join(asked),
        )


def _attention_scale(model_type: str, pre_scalar: float | None, multiplier: float | None) -> float | None:
    if model_type == "gpt_neo":
        return 1.0
    return float(pre_scalar) ** -0.5 if pre_scalar else multiplier


def _embedding_scale(config: Mapping[str, Any], model_type: str, d_model: int) -> float:
    return math.sqrt(d_model) if model_type.startswith("gemma") else config.get("embedding_multiplier", 1.0)


def _rotates(config: Mapping[str, Any]) -> tuple[int, ...]:
    if config.get("model_type") == "cohere2":  # only its sliding layers rotate
        return tuple(int(kind == "sliding_attention") for kind in config.get("layer_types") or ["sliding_attention"])
    return tuple(config.get("no_rope_layers") or (1,))


def _numbered(config: Mapping[str, Any]) -> str:
    keys = ["scale_attn_by_inverse_layer_idx", "attention_types", "attention_layers"]
    keys += (
        ["sliding_window_pattern", "no_rope_layer_interval"] if not any(config.get(k) for k in PER_LAYER_KEYS) else []
    )
    named = [key for key in keys if config.get(key)]
    named += ["mlp_only_layers"] if config.get("mlp_only_layers") else []
    named += ["decoder_sparse_step"] if config.get("decoder_sparse_step", 1) != 1 else []
    return ", ".join(named)


def _longest(config: Mapping[str, Any]) -> int:
    keys = (
        "sliding_window",
        "window_size",
        "max_position_embeddings",
        "n_positions",
        "original_max_position_embeddings",
    )
    return min(
        (int(config[key]) for key in keys if isinstance(config.get(key), int) and config[key] > 0), default=1 << 30
    )


def _rope_sections(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is said of rotary positions, for all layers or for each; `rope_theta` is in every section."""
    ropes: Mapping[str, Any] = config.get("rope_parameters") or {}
    kinds = [kind for kind in config.get("layer_types") or [] if isinstance(ropes.get(kind), Mapping)]
    theta = config.get("rope_theta", config.get("rotary_emb_base", 10000.0))
    sections = [ropes[kind] for kind in kinds] or [ropes or config.get("rope_scaling") or {}]
    return [{**section, "rope_theta": float(section.get("rope_theta", theta))} for section in sections]


def _scaling_of(section: Mapping[str, Any]) -> str:
    """How the frequencies are scaled."""
    return str(section.get("rope_type", section.get("type", "default")))


def _plain_theta(sections: list[dict[str, Any]]) -> float | None:
    thetas = {section["rope_theta"] if _scaling_of(section) in _PLAIN_SCALINGS else None for section in sections}
    return thetas.pop() if len(thetas) == 1 else None
