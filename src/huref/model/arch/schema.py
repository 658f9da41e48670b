"""What a family's YAML file may say. The schema is closed: an unknown key is an error that names the key.

`docs/how-to/add-an-architecture.md` walks through one file. Nothing here reads a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from huref.model.arch.roles import ATTENTION_ROLES, FUSED_ROLES, GLOBAL_ROLES, LAYER_ROLES, NEURON_ROLES

Value = TypeVar("Value")

Scalar = bool | int | float | str | None
Conditions = dict[str, Scalar | tuple[Scalar, ...]]
"""Configuration key (dots go into sections) -> the value it must have, or one of several; null means absent."""

SizeName = Literal[
    "n_layers",
    "d_model",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "d_ff",
    "vocab_size",
    "embed_dim",
    "rotary_dim",
    "value_dim",
    "other_head_dim",
    "other_kv_heads",
    "nope_dim",
    "n_experts",
    "expert_width",
    "shared_width",
]
EXPERT_SIZES: frozenset[SizeName] = frozenset({"n_experts", "expert_width", "shared_width"})
PER_EXPERT = "{e}"
STACKED = "[e]"
OF_TWO = ("{i/2}", "{i%2}")
"""Where a stored layer holds two of ours, one behind the other: its number, and which of the two."""
NormKind = Literal["rms", "layer"]
PositionKind = Literal["rope_half", "rope_interleaved", "rope_2d", "learned", "alibi"]
Step = Literal["transpose", "transpose_by_shape", "unpermute_rope", "add_one", "flat"]
Half = Literal["first", "second", "even", "odd"]
LayerPart = Literal["attention", "feed_forward"]
Pinned = Literal["heads", "queries", "values", "neurons", "stream", "gains", "experts"]
"""`transpose`: stored (in, out), as Conv1D does. `unpermute_rope`: rows of each head were interleaved by
llama.cpp's converter. `add_one`: gamma is stored, the gain is 1 + gamma. `flat`: stacked experts lack an axis of
their own."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SizeRule(_Closed):
    """One way to get a size; a list of rules is tried in order and the first that applies wins.

    The number is `key` from the configuration, or the `length` of a list or text in it, another size, a literal, or
    the stored rows of a role in the first layer that has it, or the most of any layer (`up.shared`: of the shared
    expert); then multiplied and divided, and what `plus` and `minus` name, a key or a size, is added and taken away.
    """

    key: str | None = None
    size: SizeName | None = None
    value: int | None = None
    rows: str | None = None
    largest: bool = False
    length: str | None = None
    times: Factor | str = 1
    over: Factor | str = 1
    plus: str | None = None
    minus: str | None = None
    when: Conditions = {}

    @model_validator(mode="after")
    def _exactly_one_source(self) -> SizeRule:
        if sum(source is not None for source in (self.key, self.size, self.value, self.rows, self.length)) != 1:
            raise ValueError("a size rule needs exactly one of key, size, value, rows, length")
        return self


def names_experts(template: str) -> bool:
    """Whether a name stands for experts, one by one or stacked."""
    return PER_EXPERT in template or template.endswith(STACKED)


def names_layer(template: str) -> bool:
    """Whether a name has the number of its layer, in one part or in both of two."""
    of_two = [mark in template for mark in OF_TWO]
    return all(of_two) if any(of_two) else "{i}" in template


def _rule(raw: object) -> object:
    return {"key": raw} if isinstance(raw, str) else raw


def _listed(raw: object) -> object:
    return raw if isinstance(raw, list) else [raw]


def _choices(raw: object) -> object:
    return raw if isinstance(raw, list) else [{"value": raw}]


def _tensor(raw: object) -> object:
    return raw if isinstance(raw, dict) else {"from": raw}


SizeRules = Annotated[
    tuple[Annotated[SizeRule, BeforeValidator(_rule)], ...], BeforeValidator(_listed), Field(min_length=1)
]


class Choice(_Closed, Generic[Value]):
    """A fact that depends on the configuration: the first entry whose conditions hold."""

    value: Value
    when: Conditions = {}


_AsChoices = BeforeValidator(_choices)
NormChoices = Annotated[tuple[Choice[NormKind], ...], _AsChoices, Field(min_length=1)]
PositionChoices = Annotated[tuple[Choice[PositionKind], ...], _AsChoices, Field(min_length=1)]
BoolChoices = Annotated[tuple[Choice[bool], ...], _AsChoices, Field(min_length=1)]


class TensorRule(_Closed):
    """Where a role's module is stored, without its `.weight` or `.bias`.

    Attributes:
        from_: template, or alternatives of which the first stored one counts; `{p}` is the export's prefix,
            `{i}` the layer (or `{i/2}` and `{i%2}`, where a stored layer holds two), and `{e}` the expert: the name
            stands for one tensor per expert. A name that ends in `[e]` is one tensor whose first axis counts the
            experts.
        shared: the shared expert's module, whose neurons follow those of the experts.
        half: of each expert's rows in a tensor that holds all experts' gates and ups, named under both.
        by_head: where the factor of latent keys, turned, and that of values are stored, head by head, if not as one.
        steps: how to undo the storage order.
        split: for fused roles, the layout.
        optional: whether the module may be absent (in every layer alike).
        some: whether it may be absent in some layers.
        when: the configuration for which the module exists at all.
        bias: whether a bias must be there, may be there, or must not.
    """

    from_: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(alias="from", min_length=1)
    steps: tuple[Step, ...] = ()
    split: str | None = None
    shared: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    half: Half | None = None
    by_head: tuple[str, str] | None = None
    optional: bool = False
    some: bool = False
    when: Conditions = {}
    bias: Literal["required", "optional", "never"] = "optional"

    def also_under(self, layers: tuple[str, ...]) -> TensorRule:
        """With the same names under others of `layers` behind them."""

        def all_of(names: tuple[str, ...]) -> tuple[str, ...]:
            others = [name.replace("layers.{i}", f"{other}.{{i}}") for other in layers for name in names]
            return tuple(dict.fromkeys((*names, *others)))

        return self.model_copy(update={"from_": all_of(self.from_), "shared": all_of(self.shared)})

    @property
    def has_experts(self) -> bool:
        """Whether any of the names stands for experts."""
        return bool(self.shared) or any(names_experts(template) for template in self.from_)


class NameSet(_Closed):
    """The tensor names of one file format.

    Attributes:
        prefixes: what `{p}` may stand for, most usual first.
        tensors: role -> where it is stored.
        ignored: shell patterns of stored tensors that are no weights (rotary tables, attention masks).
        beside: and of weights that no role describes (recurrent layers, cross-attention): read by nobody, and noted.
        layers_too: what exports write for `layers` in front of `{i}`; these alternatives come behind the usual name.
        sizes: rules that replace the family's (GGUF has its own keys, see `sizes.GGUF_SIZES`).
        defaults: configuration values that a missing key stands for.
    """

    prefixes: tuple[str, ...] = ("",)
    tensors: dict[str, Annotated[TensorRule, BeforeValidator(_tensor)]]
    ignored: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    layers_too: tuple[str, ...] = ()
    sizes: dict[SizeName, SizeRules] = {}
    defaults: dict[str, Scalar] = {}

    def for_which(self, holds: Callable[[Conditions], bool]) -> NameSet:
        """Only the tensors whose conditions hold."""
        kept = {role: rule for role, rule in self.tensors.items() if holds(rule.when)}
        return self.model_copy(update={"tensors": kept})

    def with_head_as_embedding(self) -> NameSet:
        """With the unembedding's names behind the embedding's, for a tied model of which only that one was saved."""
        if "unembedding" not in self.tensors:
            return self
        embedding = self.tensors["embedding"]
        both = embedding.model_copy(update={"from_": (*embedding.from_, *self.tensors["unembedding"].from_)})
        return self.model_copy(update={"tensors": {**self.tensors, "embedding": both}})

    @model_validator(mode="after")
    def _layers_by_all_their_names(self) -> NameSet:
        for role, rule in self.tensors.items():
            self.tensors[role] = rule.also_under(self.layers_too)
        return self

    @model_validator(mode="after")
    def _every_necessary_role(self) -> NameSet:
        """Attention may be left out whole, where none of it can be read; `some_layers` must then say so too."""
        needed = [("embedding",), ("up", "gate_up"), ("down",)]
        if (set(ATTENTION_ROLES) - {"attention_norm", "post_attention_norm"}) & set(self.tensors):
            needed += [("q", "qkv", "q_gate", "q_b"), ("o",)]
        for either in needed:
            if not set(either) & set(self.tensors):
                raise ValueError(f"no names for {' or '.join(either)}")
        return self

    @model_validator(mode="after")
    def _known_roles_and_splits(self) -> NameSet:
        for role, rule in self.tensors.items():
            if role not in GLOBAL_ROLES | LAYER_ROLES | FUSED_ROLES:
                raise ValueError(f"unknown tensor role {role!r}")
            if rule.split not in FUSED_ROLES.get(role, {None: ()}):
                allowed = ", ".join(FUSED_ROLES.get(role, {})) or "none"
                raise ValueError(f"role {role!r} has split {rule.split!r}; allowed: {allowed}")
            if (role in GLOBAL_ROLES) == any(map(names_layer, rule.from_)):
                raise ValueError(f"role {role!r}: layer roles need {{i}} in their names, the others must not")
        return self

    @model_validator(mode="after")
    def _experts_in_their_place(self) -> NameSet:
        rules = {role: rule for role, rule in self.tensors.items() if rule.has_experts or "flat" in rule.steps}
        for role, rule in rules.items():
            if (
                role not in NEURON_ROLES
                or set(rule.steps) - {"transpose", "transpose_by_shape", "flat"}
                or rule.bias == "required"
            ):
                raise ValueError(f"role {role!r}: only gate, up and down have experts, without biases to require")
            for name in (*rule.from_, *rule.shared):
                if not names_layer(name) or (PER_EXPERT in name and name.endswith(STACKED)):
                    raise ValueError(f"role {role!r}: {name!r} needs {{i}}, and {PER_EXPERT} or {STACKED}, not both")
            if any(map(names_experts, rule.shared)) or not any(names_experts(name) for name in rule.from_):
                raise ValueError(f"role {role!r}: a shared expert is one, beside others: {rule.shared!r}")
        neurons = set(NEURON_ROLES) & set(self.tensors)
        if rules and (set(rules) != neurons or len({not rule.shared for rule in rules.values()}) > 1):
            raise ValueError("gate, up and down have experts all or none, and a shared expert all or none")
        return self

    @property
    def has_experts(self) -> bool:
        """Whether the family is a mixture of experts."""
        return self.tensors["down"].has_experts


class Family(_Closed):
    """One model family, as its YAML file describes it.

    Attributes:
        name: unique.
        model_types: values of `model_type` in config.json.
        class_names: entries of `architectures` in config.json, where `model_type` does not decide.
        gguf_names: values of `general.architecture`.
        when: what the configuration must also say for this family to apply; it then goes before a family that
            claims the same type without conditions.
        norm_after_residual: norms act on the residual sum instead of in front of a branch.
        unit_norms: the norms in front of the branches have no parameters: gain 1, no bias.
        some_layers: parts that some layers lack (hybrids).
        pinned: what cannot be rearranged here, though in most families it can: the order of heads, maps of queries
            and keys, maps of values, factors of neurons, the dimensions of the residual stream, gains into the
            matrices behind them, the order of experts.
        has_logits: whether `huref.forward` computes what the family computes.
        tied: whether embedding and unembedding are one matrix unless the configuration says otherwise.
    """

    name: str
    model_types: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    gguf_names: tuple[str, ...] = ()
    when: Conditions = {}
    norm: NormChoices
    gated: bool
    activation: str
    position: PositionChoices
    parallel: BoolChoices = (Choice[bool](value=False),)
    norm_after_residual: bool = False
    unit_norms: BoolChoices = (Choice[bool](value=False),)
    some_layers: tuple[LayerPart, ...] = ()
    pinned: tuple[Pinned, ...] = ()
    has_logits: bool = True
    tied: bool = False
    sizes: dict[SizeName, SizeRules]
    huggingface: NameSet | None = None
    gguf: NameSet | None = None

    @model_validator(mode="after")
    def _names_and_sizes_of_experts_go_together(self) -> Family:
        for names in (self.huggingface, self.gguf):
            if names is None:
                continue
            needed: set[SizeName] = {"n_experts", "expert_width"} if names.has_experts else set()
            needed |= {"shared_width"} if names.has_experts and names.tensors["down"].shared else set()
            given = EXPERT_SIZES & set(self.sizes)
            if needed != given or EXPERT_SIZES & set(names.sizes) - given:
                raise ValueError(f"names with experts need the sizes {sorted(needed)}, given are {sorted(given)}")
        return self

    def name_set(self, file_format: str) -> NameSet | None:
        """The names that a checkpoint of this format uses."""
        return self.gguf if file_format == "gguf" else self.huggingface
