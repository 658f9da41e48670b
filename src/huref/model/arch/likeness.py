"""How a checkpoint of an unknown family differs from known ones: what it says of itself first, then its names.

Tensors of equal names do not make equal models: LayerNorm instead of RMSNorm, neighbours that rotate together, a
factor on the residual stream leave every name as it was. So the configuration is held against the nearest families,
and what it says otherwise is told before any likeness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from huref.model.arch.facts import decoder_config
from huref.model.arch.names import compare_names, patterns, shown
from huref.model.arch.schema import Family, NameSet
from huref.model.source.checkpoint import Checkpoint

_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
_SAME = ({"gelu_new", "gelu_fast", "gelu_tanh", "gelu_pytorch_tanh", "gelu"}, {"silu", "swish"})

_FACTORS: Mapping[str, float] = {
    "embedding_multiplier": 1,
    "residual_multiplier": 1,
    "attention_multiplier": 0,
    "logits_scaling": 1,
    "logit_scale": 1,
    "query_pre_attn_scalar": 0,
    "attn_logit_softcapping": 0,
    "final_logit_softcapping": 0,
    "clip_qkv": 0,
    "scale_emb": 1,
    "scale_depth": 0,
}
"""Numbers that change what a model computes, and the value of each that changes nothing; 0 stands for "not set"."""

_SWITCHES = ("alibi", "parallel_attn", "use_parallel_residual", "rope_interleave", "rope_interleaved", "use_qk_norm")


def nearest(checkpoint: Checkpoint, families: Iterable[tuple[Family, NameSet]]) -> tuple[float, str, str, str]:
    """The known families whose tensor names are most like a checkpoint's.

    Returns:
        Jaccard similarity of the name patterns; what the configuration says otherwise than the first family; the
        families, first the one of which it says least otherwise; how names differ.
    """
    compared = [(*compare_names(names, checkpoint.tensors), family) for family, names in families]
    alike = max(score for score, *_ in compared)
    most = [entry for entry in compared if entry[0] == alike]
    _, only_here, only_there, first = min(
        most, key=lambda entry: (len(differences(checkpoint, entry[3])), -len(entry[3].model_types))
    )
    others = [family.name for *_, family in most if family is not first]
    named = ", ".join([first.name, *others[:2]]) + (f" and {len(others) - 2} more" if len(others) > 2 else "")
    differing = f"only in this checkpoint: {shown(only_here)}; only in {first.name}: {shown(only_there)}"
    return alike, "; ".join(differences(checkpoint, first)), named, differing


def differences(checkpoint: Checkpoint, family: Family) -> tuple[str, ...]:
    """What a checkpoint's configuration and stored norms say otherwise than a family, as far as keys are usual."""
    config = decoder_config(checkpoint.config)
    found = [_norm(checkpoint, config, family), _activation(config, family), _rotation(config, family)]
    factors = [key for key, neutral in _FACTORS.items() if _is_set(config.get(key), neutral)]
    switches = [key for key in _SWITCHES if config.get(key) is True and not _knows(family, key)]
    found += [f"{key} {config[key]!r}, which {family.name} has not" for key in (*factors, *switches)]
    return tuple(text for text in found if text)


def _norm(checkpoint: Checkpoint, config: Mapping[str, Any], family: Family) -> str:
    kinds = {choice.value for choice in family.norm}
    has_bias = any("norm" in name and name.endswith(".bias") for name in patterns(checkpoint.tensors))
    if has_bias and kinds == {"rms"}:
        return f"its norms have biases, as LayerNorm has, and {family.name} has RMSNorm"
    if not has_bias and kinds == {"layer"} and config.get("rms_norm_eps") is not None:
        return f"rms_norm_eps, and {family.name} has LayerNorm"
    if kinds == {"rms"} and config.get("layer_norm_eps") is not None and config.get("rms_norm_eps") is None:
        return f"layer_norm_eps, and {family.name} has RMSNorm"
    return ""


def _activation(config: Mapping[str, Any], family: Family) -> str:
    said = next((config[key] for key in _ACTIVATIONS if isinstance(config.get(key), str)), family.activation)
    is_same = said == family.activation or any({said, family.activation} <= group for group in _SAME)
    return "" if is_same else f"activation {said}, and {family.name} has {family.activation}"


def _rotation(config: Mapping[str, Any], family: Family) -> str:
    rope = config.get("rope_parameters")
    said = [part.get("partial_rotary_factor") for part in (config, rope) if isinstance(part, Mapping)]
    share = next((share for share in said if isinstance(share, float) and share != 1.0), None)
    if share is None or "rotary_dim" in family.sizes:
        return ""
    return f"{share:.0%} of a head rotates, and in {family.name} all"


def _is_set(value: object, neutral: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in (0, neutral)


def _knows(family: Family, key: str) -> bool:
    """Whether one of the family's conditions asks for a key."""
    asked = [family.when, *(choice.when for choice in family.position), *(choice.when for choice in family.parallel)]
    turns_neighbours = any(choice.value == "rope_interleaved" for choice in family.position)
    return any(key in conditions for conditions in asked) or ("interleave" in key and turns_neighbours)
