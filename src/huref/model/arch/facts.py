"""The configuration of a checkpoint as the architecture files see it: one lookup for both worlds.

Hugging Face checkpoints are described by config.json, GGUF files by their key-values
(`llama.block_count`), whose architecture prefix is taken off here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from huref.errors import ArchitectureError
from huref.model.arch.canonical import Experts, Geometry
from huref.model.arch.library import library_sizes
from huref.model.arch.schema import Choice, Conditions, Family, NameSet, Scalar, SizeName, SizeRule, Value
from huref.model.source.checkpoint import Checkpoint

MAX_SIZE = 1 << 27  # far above any real width; stops absurd configurations before they size anything
SECTIONS = (
    "text_config",
    "vlm_config",
    "llm_config",
    "language_config",
    "thinker_config",
    "decoder",
    "text_encoder",
    "language",
)
"""Where config.json of a model of several senses describes the decoder."""

_DEEPEST = 3
MAX_EXPERTS = 1024  # the largest released mixtures have 512; each stands for names, so it is capped on its own

GGUF_SIZES: dict[SizeName, tuple[SizeRule, ...]] = {
    "n_layers": (SizeRule(key="block_count", minus="nextn_predict_layers"), SizeRule(key="block_count")),
    "d_model": (SizeRule(key="embedding_length"),),
    "n_heads": (SizeRule(key="attention.head_count"),),
    "n_kv_heads": (SizeRule(key="attention.head_count_kv"), SizeRule(size="n_heads")),
    "head_dim": (SizeRule(key="attention.key_length"), SizeRule(size="d_model", over="n_heads")),
    "d_ff": (SizeRule(key="feed_forward_length"),),
    "rotary_dim": (SizeRule(key="rope.dimension_count"), SizeRule(size="head_dim")),
}
"""Keys that llama.cpp's converters write for every family."""

GGUF_EXPERT_SIZES: dict[SizeName, tuple[SizeRule, ...]] = {
    "n_experts": (SizeRule(key="expert_count"),),
    "expert_width": (SizeRule(key="expert_feed_forward_length"), SizeRule(key="feed_forward_length")),
    "shared_width": (
        SizeRule(key="expert_shared_feed_forward_length"),
        SizeRule(key="expert_shared_count", times="expert_width"),
    ),
}
"""And for mixtures of experts."""


_HUGE = 2.0**53
"""Larger than any size; also than no number and infinity are."""


@dataclass(frozen=True)
class Facts:
    """Configuration values by dotted key, with the family's defaults behind them.

    Attributes:
        library: sizes that the library takes where the configuration has no such key at all.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Scalar]
    where: str
    library: Mapping[str, int] = field(default_factory=dict)

    def size(self, key: str) -> Any:
        """The value of a key that stands for a size."""
        found = self.get(key)
        return self.library.get(key) if found is None and key not in self.values else found

    def get(self, key: str) -> Any:
        """The value of a dotted key; None when it is absent or null."""
        found: Any = self.values.get(key)
        if found is None:
            found = self.values
            for part in key.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        return self.defaults.get(key) if found is None else found

    def hold(self, conditions: Conditions) -> bool:
        """Whether every condition is met."""
        return all(
            self.get(key) in wanted if isinstance(wanted, tuple) else self.get(key) == wanted
            for key, wanted in conditions.items()
        )

    def choose(self, choices: tuple[Choice[Value], ...], what: str) -> Value:
        """The first choice whose conditions hold.

        Raises:
            ArchitectureError: none does.
        """
        for choice in choices:
            if self.hold(choice.when):
                return choice.value
        raise ArchitectureError(
            f"the configuration leaves {what} open",
            where=self.where,
            expected=" or ".join(str(choice.when) for choice in choices),
        )


def read_facts(checkpoint: Checkpoint, names: NameSet) -> Facts:
    """The configuration that applies to a family's names in this checkpoint."""
    if checkpoint.format == "gguf":
        architecture = str(checkpoint.metadata.get("general.architecture", ""))
        prefix = f"{architecture}."
        values = {
            key.removeprefix(prefix): value for key, value in checkpoint.metadata.items() if key.startswith(prefix)
        }
        return Facts(values, names.defaults, f"{checkpoint.reference}, key-values {prefix}*")
    config = decoder_config(checkpoint.config)
    library = library_sizes(str(config.get("model_type", "")))
    return Facts(config, names.defaults, f"{checkpoint.reference}, config.json", library)


def decoder_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json says of the decoder; in models of several senses its section goes before the rest."""
    whole = config
    for section in sections(config):
        # The outer model owns the output matrix, so its word on tying counts.
        tying = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
        whole = {**whole, **section, **tying}
    return whole


def sections(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The section of the decoder, and the section in it, outermost first; none in a model of text alone."""
    found: list[Mapping[str, Any]] = []
    within: Any = config
    while len(found) < _DEEPEST:
        within = next((within[key] for key in SECTIONS if isinstance(within.get(key), Mapping)), None)
        if within is None:
            break
        found.append(within)
    return found


@dataclass(frozen=True)
class Sizes:
    """Geometry plus the sizes that only some families have.

    Attributes:
        dense_ff: of a layer without experts.
        value: dimensions of a head's value.
        nope: of a latent key, those that do not rotate; 0 where keys are not latent.
        other: dimensions of a head and KV heads in layers of another kind; the same where there are none.
        ff_by_layer: dense layers are as wide as they are stored: their widths may differ.
    """

    geometry: Geometry
    embed: int
    rotary: int
    experts: Experts
    dense_ff: int
    value: int
    nope: int
    other: tuple[int, int]
    ff_by_layer: bool = False


def read_sizes(
    facts: Facts,
    family: Family,
    names: NameSet,
    is_gguf: bool,
    vocab_rows: int,
    rows_of: Callable[[str, bool], int | None],
) -> Sizes:
    """Work out every size from the configuration by the family's rules.

    Args:
        vocab_rows: rows of the stored embedding, for configurations that do not tell the vocabulary.
        rows_of: stored rows of a role in the first layer that has it, or the most of any.

    Raises:
        ArchitectureError: a size is missing, fractional, not positive or absurd, or heads do not group.
    """
    rules: dict[SizeName, tuple[SizeRule, ...]] = {**family.sizes}
    if is_gguf:
        rules = GGUF_SIZES | {name: rule for name, rule in GGUF_EXPERT_SIZES.items() if name in family.sizes}
    known: dict[SizeName, int] = {"vocab_size": vocab_rows} if is_gguf else {}
    reader = _SizeReader(facts, {**rules, **names.sizes}, known, rows_of)
    n_experts = reader.optional("n_experts")
    widths = [reader.optional(name) for name in ("expert_width", "shared_width")] if n_experts else [0, 0]
    experts = Experts(n_experts, *widths)
    dense_ff = reader.size("d_ff") if "d_ff" in family.sizes or not experts.n else 0
    geometry = Geometry(
        n_layers=reader.size("n_layers"),
        d_model=reader.size("d_model"),
        n_heads=reader.size("n_heads"),
        n_kv_heads=reader.size("n_kv_heads"),
        head_dim=reader.size("head_dim"),
        d_ff=experts.n_neurons or dense_ff,
        vocab_size=reader.size("vocab_size"),
    )
    if geometry.n_heads % geometry.n_kv_heads:
        raise ArchitectureError(
            "query heads do not divide into KV groups",
            where=facts.where,
            expected=f"a multiple of {geometry.n_kv_heads} KV heads",
            got=f"{geometry.n_heads} query heads",
        )
    embed = reader.optional("embed_dim", geometry.d_model)
    rotary = reader.optional("rotary_dim", geometry.head_dim)
    value, nope = reader.optional("value_dim", geometry.head_dim), reader.optional("nope_dim")
    other = (
        reader.optional("other_head_dim", geometry.head_dim),
        reader.optional("other_kv_heads", geometry.n_kv_heads),
    )
    return Sizes(geometry, embed, rotary, experts, dense_ff, value, nope, other, "d_ff" in reader.by_rows)


class _SizeReader:
    """Evaluates size rules, which may refer to one another."""

    def __init__(
        self,
        facts: Facts,
        rules: dict[SizeName, tuple[SizeRule, ...]],
        known: dict[SizeName, int],
        rows_of: Callable[[str, bool], int | None],
    ) -> None:
        self.facts = facts
        self.rows_of = rows_of
        self.rules = rules
        self.known: dict[str, int] = {str(name): value for name, value in known.items()}
        self.pending: list[str] = []
        self.by_rows: set[str] = set()

    def size(self, name: str) -> int:
        if name in self.known:
            return self.known[name]
        if name in self.pending or name not in self.rules:
            raise self._fault(name, "no rule that ends", " needs ".join([*self.pending, name]))
        self.pending.append(name)
        value = self._first(name)
        value = 2 * ((int(value) + 1) // 2) if name == "rotary_dim" else value  # pairs of a share, rounded down
        self.pending.pop()
        limit = MAX_EXPERTS if name == "n_experts" else MAX_SIZE
        least = 0 if self.may_be_none(name) else 1
        if not least <= value <= limit or value != int(value):
            raise self._fault(name, f"a whole number from {least} to {limit}", str(value))
        self.known[name] = int(value)
        return self.known[name]

    def may_be_none(self, name: str) -> bool:
        """Whether a configuration may say none of it: no shared expert, no experts where layers can be dense."""
        return name == "shared_width" or (name == "n_experts" and "d_ff" in self.rules)

    def optional(self, name: SizeName, otherwise: int = 0) -> int:
        """A size that only some families have a rule for."""
        return self.size(name) if name in self.rules else otherwise

    def _first(self, name: str) -> float:
        for rule in self.rules[name]:  # type: ignore[index]
            if self.facts.hold(rule.when):
                parts = self._source(rule, name), self._factor(rule.times), self._factor(rule.over)
                more, less = (self._more(other) if other else 0 for other in (rule.plus, rule.minus))
                if parts[0] is None or parts[1] is None or parts[2] is None or more is None or less is None:
                    continue
                if rule.rows:
                    self.by_rows.add(name)
                return parts[0] * parts[1] / parts[2] + more - less
        if self.may_be_none(name):
            return 0
        keys = ", ".join(rule.key for rule in self.rules[name] if rule.key)  # type: ignore[index]
        raise self._fault(name, f"one of the keys {keys}" if keys else "a rule that applies", "none")

    def _source(self, rule: SizeRule, name: str) -> float | None:
        if rule.size is not None:
            return self.size(rule.size)
        if rule.value is not None:
            return rule.value
        if rule.rows is not None:
            return self.rows_of(rule.rows, rule.largest)
        if rule.length is not None:
            of = self.facts.get(rule.length)
            return len(of) if isinstance(of, list | str) else None
        found = self.facts.size(rule.key or "")
        if isinstance(found, list | np.ndarray):
            found = self._of_layers(found, rule, name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < _HUGE:
            raise self._fault(name, f"a number under {rule.key}", repr(found)[:100])
        return found

    def _of_layers(self, numbers: Any, rule: SizeRule, name: str) -> Any:
        """The one number of a list that has one for each layer, 0 where a layer lacks the part."""
        listed = numbers.tolist() if isinstance(numbers, np.ndarray) else numbers
        if any(isinstance(number, bool) or not isinstance(number, int | float) for number in listed):
            raise self._fault(name, f"numbers under {rule.key}", repr(numbers)[:100])
        each = sorted({number for number in listed if number != 0})
        if len(each) > 1:
            raise self._fault(name, f"one number under {rule.key} for all layers that have the part", str(each)[:100])
        return each[0] if each else None

    def _factor(self, factor: float | str) -> float | None:
        if not isinstance(factor, str):
            return factor
        if factor in self.rules:
            return self.size(factor)
        found = self.facts.get(factor)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= MAX_SIZE:
            raise self._fault(factor, f"a number above 0, at most {MAX_SIZE}", repr(found)[:100])
        return found

    def _more(self, name: str) -> float | None:
        """What is added: a size, or a key of the configuration."""
        return self.size(name) if name in self.rules else self._source(SizeRule(key=name), name)

    def _fault(self, name: str, expected: str, got: str) -> ArchitectureError:
        return ArchitectureError(
            f"the configuration does not give {name}", where=self.facts.where, expected=expected, got=got
        )
