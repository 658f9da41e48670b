"""LoRA adapters: what their files say, tensor by tensor, of the base that they change. Nothing large is read here.

PEFT's folders (`adapter_config.json` with `adapter_model.safetensors` or `.bin`), states of a model saved before its
adapter was merged (`X.base_layer.weight` with `X.lora_A.default.weight`), and llama.cpp's GGUF adapters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huref.errors import InputError
from huref.model.source.checkpoint import Checkpoint

CONFIG = "adapter_config.json"
FILES = ("adapter_model.safetensors", "adapter_model.bin")

_PREFIX = "base_model.model."
_MATRIX = re.compile(
    r"(?P<module>.+)\.lora_(?P<part>embedding_)?(?P<side>[AB])(\.(?P<name>(?!weight$)[^.]+))?(\.weight)?"
)
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(\.(?!weight$)[^.]+)?(\.weight)?")
_GGUF = re.compile(r"(?P<module>.+)\.weight\.lora_(?P<side>[ab])")
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")
"""Ways to begin that change the base as well, so that the base alone is not what the adapter was trained on."""


@dataclass(frozen=True)
class LowRank:
    """The change of one base matrix: scale * B A, added; names are those of the adapter's tensors.

    Attributes:
        a, b: (r, in) and (out, r).
        scale: alpha / r, or alpha / sqrt(r) by rsLoRA; None where no configuration tells alpha.
        is_turned: the base is stored (in, out), as Conv1D and embeddings are.
        magnitude: the lengths that DoRA gives the rows of the sum.
    """

    a: str
    b: str
    scale: float | None
    is_turned: bool = False
    magnitude: str | None = None


@dataclass(frozen=True)
class Changes:
    """What an adapter does: low-rank changes and whole tensors, by the name of the base's module or tensor."""

    low_rank: Mapping[str, LowRank]
    whole: Mapping[str, str]


class AdapterAloneError(InputError):
    """An adapter where a model is expected."""


def adapter_file(folder: Path) -> Path | None:
    """The weights of PEFT's adapter in a folder, or None."""
    return next((path for name in FILES if (path := folder / name).is_file()), None)


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are changes of a model which is not there."""
    if checkpoint.format == "gguf":
        return checkpoint.metadata.get("general.type") == "adapter" or any(map(_GGUF.fullmatch, checkpoint.tensors))
    return any(map(_MATRIX.fullmatch, checkpoint.tensors)) and not is_unmerged(checkpoint.tensors)


def is_unmerged(names: Iterable[str]) -> bool:
    """Whether a model was saved with its adapter beside its matrices."""
    return any(".base_layer." in name for name in names)


def described(config: Mapping[str, Any]) -> str:
    """An adapter in words."""
    kind = str(config.get("peft_type", "LORA"))[:20]
    base = config.get("base_model_name_or_path")
    of = str(base)[:200] if base else "a base it does not name"
    return f"a {kind} adapter of rank {config.get('r')!r:.20}, of {of}"


def refusal(reference: str, config: Mapping[str, Any]) -> AdapterAloneError:
    """The error for an adapter that is named where a model is expected."""
    return AdapterAloneError(
        "an adapter, and no model",
        where=reference,
        expected="a model, or an adapter with its base",
        got=described(config),
        next_step=f"add --base with a copy of that model, or name both as one: '{reference}::BASE'",
    )


def read_changes(adapter: Checkpoint, config: Mapping[str, Any], names: Iterable[str] | None = None) -> Changes:
    """What an adapter changes, checked as far as its names and configuration go.

    Args:
        names: of its tensors, where it stands in one checkpoint with its base.

    Raises:
        InputError: of a kind that is more than low-rank changes, or with tensors of unknown use.
    """
    if adapter.format == "gguf":
        return _gguf_changes(adapter)
    _require_plain(adapter, config)
    sides: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for name in adapter.tensors if names is None else names:
        module = name.removeprefix(_PREFIX)
        if match := _MATRIX.fullmatch(module):
            slot = (match["part"] or "") + match["side"]
            _once(sides.setdefault(match["module"], {}), slot, name, adapter)
        elif match := _MAGNITUDE.fullmatch(module):
            _once(sides.setdefault(match["module"], {}), "magnitude", name, adapter)
        elif "lora_" in name:
            raise _unknown(adapter, name)
        else:
            whole[module] = name
    low_rank = {module: _low_rank(adapter, module, found, config) for module, found in sides.items()}
    return Changes(low_rank, whole)


def _low_rank(adapter: Checkpoint, module: str, found: Mapping[str, str], config: Mapping[str, Any]) -> LowRank:
    is_embedding = set(found) == {"embedding_A", "embedding_B"}
    if not is_embedding and set(found) - {"magnitude"} != {"A", "B"}:
        raise _unknown(adapter, ", ".join(found.values()))
    a, b = (found["embedding_A"], found["embedding_B"]) if is_embedding else (found["A"], found["B"])
    rank = _rank(adapter, a, b)
    alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    scale = (
        None if alpha is None else _number(alpha, adapter) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    )
    is_turned = is_embedding or config.get("fan_in_fan_out") is True
    return LowRank(a, b, scale, is_turned, found.get("magnitude"))


def _gguf_changes(adapter: Checkpoint) -> Changes:
    sides: dict[str, dict[str, str]] = {}
    for name in adapter.tensors:
        match = _GGUF.fullmatch(name)
        if match is None or match["module"] == "token_embd":
            raise _unknown(adapter, name)
        sides.setdefault(match["module"], {})[match["side"]] = name
    alpha = _number(adapter.metadata.get("adapter.lora.alpha"), adapter)
    low_rank = {}
    for module, found in sides.items():
        if set(found) != {"a", "b"}:
            raise _unknown(adapter, ", ".join(found.values()))
        low_rank[module] = LowRank(found["a"], found["b"], alpha / _rank(adapter, found["a"], found["b"]))
    return Changes(low_rank, {})


def without_scale(change: LowRank) -> LowRank:
    """A change that adds nothing whatever its scale, because B is zero."""
    return replace(change, scale=0.0)


def _rank(adapter: Checkpoint, a: str, b: str) -> int:
    first, second = adapter.tensors[a].shape, adapter.tensors[b].shape
    if len(first) != 2 or len(second) != 2 or first[0] != second[1] or not first[0]:
        raise InputError(
            "the two factors of an adapter do not fit together",
            where=f"{adapter.reference}: {a}, {b}",
            expected="(r, in) and (out, r)",
            got=f"{first} and {second}",
            next_step="fetch the adapter again; of convolutions huref reads none",
        )
    return first[0]


def _pattern(patterns: Any, module: str, usual: Any) -> Any:
    """PEFT's rule: a key is the end of the module's name, as a regular expression; here only letter by letter."""
    for key, value in patterns.items() if isinstance(patterns, Mapping) else ():
        plain = str(key).removeprefix("^").replace("\\.", ".").removesuffix("$")
        if module == plain or module.endswith(f".{plain}"):
            return value
    return usual


def _number(value: Any, adapter: Checkpoint) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1e6:
        raise InputError(
            "the adapter's configuration does not give alpha",
            where=adapter.reference,
            expected="a finite number",
            got=repr(value)[:60],
            next_step=f"put the {CONFIG} that it was trained with beside it",
        )
    return float(value)


def _require_plain(adapter: Checkpoint, config: Mapping[str, Any]) -> None:
    """Refuse what a low-rank change does not describe."""
    start = str(config.get("init_lora_weights", "")).lower()
    told = {
        key: config.get(key)
        for key in ("layer_replication", "trainable_token_indices", "use_qalora", "target_parameters")
    }
    odd = [f"{key} {value!r:.60}" for key, value in told.items() if value]
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        odd = [f"peft_type {config.get('peft_type')!r:.60}"]
    elif start.startswith(_CHANGES_BASE):
        odd = [f"init_lora_weights {start!r:.60}, which changes the base too"]
    elif any(re.search(r"[*+?\[({|]", str(key)) for key in config.get("alpha_pattern") or ()):
        odd = ["alpha_pattern with regular expressions"]
    if odd:
        raise InputError(
            "an adapter of a kind that huref does not apply",
            where=adapter.reference,
            expected="LoRA, rsLoRA or DoRA",
            got=", ".join(odd),
            next_step="merge it with PEFT (merge_and_unload, save_pretrained) and name the result",
        )


def _once(found: dict[str, str], slot: str, name: str, adapter: Checkpoint) -> None:
    if slot in found:
        raise InputError(
            "several adapters in one file",
            where=adapter.reference,
            expected="one",
            got=f"{found[slot]} and {name}",
            next_step="save one of them by itself, or merge them with PEFT",
        )
    found[slot] = name


def _unknown(adapter: Checkpoint, name: str) -> InputError:
    return InputError(
        "an adapter holds a tensor that huref has no use for",
        where=f"{adapter.reference}: {name[:200]}",
        expected="pairs lora_A and lora_B of linear layers and embeddings, DoRA's lengths, whole tensors",
        got=name[:200],
        next_step="merge it with PEFT (merge_and_unload, save_pretrained) and name the result",
    )
