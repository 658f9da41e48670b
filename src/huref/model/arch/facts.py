"""The configuration of a checkpoint as the architecture files see it: one lookup for both worlds.

Hugging Face checkpoints are described by config.json, GGUF files by their key-values
(`llama.block_count`), whose architecture prefix is taken off here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from huref.errors import ArchitectureError
from huref.model.arch.canonical import Experts, Geometry
from huref.model.arch.schema import Choice, Conditions, Family, NameSet, Scalar, SizeName, SizeRule, Value
from huref.model.source.checkpoint import Checkpoint

MAX_SIZE = 1 << 27  # far above any real width; stops absurd configurations before they size anything
MAX_EXPERTS = 1024  # the largest released mixtures have 512; each stands for names, so it is capped on its own

GGUF_SIZES: dict[SizeName, tuple[SizeRule, ...]] = {
    "n_layers": (SizeRule(key="block_count"),),
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
    "shared_width": (SizeRule(key="expert_shared_feed_forward_length"),),
}
"""And for mixtures of experts."""


@dataclass(frozen=True)
class Facts:
    """Configuration values by dotted key, with the family's defaults behind them."""

    values: Mapping[str, Any]
    defaults: Mapping[str, Scalar]
    where: str

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
        return all(self.get(key) == wanted for key, wanted in conditions.items())

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


def read_facts(checkpoint: Checkpoint, family: Family, names: NameSet) -> Facts:
    """The configuration that applies to `family` in this checkpoint."""
    if checkpoint.format == "gguf":
        architecture = str(checkpoint.metadata.get("general.architecture", ""))
        prefix = f"{architecture}."
        values = {
            key.removeprefix(prefix): value for key, value in checkpoint.metadata.items() if key.startswith(prefix)
        }
        return Facts(values, names.defaults, f"{checkpoint.reference}, key-values {prefix}*")
    config: Mapping[str, Any] = checkpoint.config
    section = config.get(family.section) if family.section else None
    if isinstance(section, Mapping):
        # The outer model owns the output matrix, so its word on tying counts.
        tying = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
        config = {**config, **section, **tying}
    return Facts(config, names.defaults, f"{checkpoint.reference}, config.json")


@dataclass(frozen=True)
class Sizes:
    """Geometry plus the sizes that only some families have; `dense_ff` is that of a layer without experts."""

    geometry: Geometry
    embed: int
    rotary: int
    experts: Experts
    dense_ff: int


def read_sizes(facts: Facts, family: Family, names: NameSet, is_gguf: bool, vocab_rows: int) -> Sizes:
    """Work out every size from the configuration by the family's rules.

    Args:
        vocab_rows: rows of the stored embedding, for configurations that do not tell the vocabulary.

    Raises:
        ArchitectureError: a size is missing, fractional, not positive or absurd, or heads do not group.
    """
    rules: dict[SizeName, tuple[SizeRule, ...]] = {**family.sizes}
    if is_gguf:
        rules = GGUF_SIZES | {name: rule for name, rule in GGUF_EXPERT_SIZES.items() if name in family.sizes}
    reader = _SizeReader(facts, {**rules, **names.sizes}, {"vocab_size": vocab_rows} if is_gguf else {})
    experts = Experts(*(reader.optional(name) for name in ("n_experts", "expert_width", "shared_width")))
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
    return Sizes(geometry, embed, rotary, experts, dense_ff)


class _SizeReader:
    """Evaluates size rules, which may refer to one another."""

    def __init__(self, facts: Facts, rules: dict[SizeName, tuple[SizeRule, ...]], known: dict[SizeName, int]) -> None:
        self.facts = facts
        self.rules = rules
        self.known: dict[str, int] = {str(name): value for name, value in known.items()}
        self.pending: list[str] = []

    def size(self, name: str) -> int:
        if name in self.known:
            return self.known[name]
        if name in self.pending or name not in self.rules:
            raise self._fault(name, "no rule that ends", " needs ".join([*self.pending, name]))
        self.pending.append(name)
        value = self._first(name)
        value = int(value) if name == "rotary_dim" else value  # a share of the head, rounded down
        self.pending.pop()
        limit = MAX_EXPERTS if name == "n_experts" else MAX_SIZE
        if not 0 < value <= limit or value != int(value):
            raise self._fault(name, f"a whole number from 1 to {limit}", str(value))
        self.known[name] = int(value)
        return self.known[name]

    def optional(self, name: SizeName, otherwise: int = 0) -> int:
        """A size that only some families have a rule for."""
        return self.size(name) if name in self.rules else otherwise

    def _first(self, name: str) -> float:
        for rule in self.rules[name]:  # type: ignore[index]
            if self.facts.hold(rule.when):
                parts = self._source(rule, name), self._factor(rule.times), self._factor(rule.over)
                if parts[0] is not None and parts[1] is not None and parts[2] is not None:
                    return parts[0] * parts[1] / parts[2]
        keys = ", ".join(rule.key for rule in self.rules[name] if rule.key)  # type: ignore[index]
        raise self._fault(name, f"one of the keys {keys}" if keys else "a rule that applies", "none")

    def _source(self, rule: SizeRule, name: str) -> float | None:
        if rule.size is not None:
            return self.size(rule.size)
        if rule.value is not None:
            return rule.value
        found = self.facts.get(rule.key or "")
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
            raise self._fault(name, f"a number under {rule.key}", repr(found)[:100])
        return found

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

    def _fault(self, name: str, expected: str, got: str) -> ArchitectureError:
        return ArchitectureError(
            f"the configuration does not give {name}", where=self.facts.where, expected=expected, got=got
        )
