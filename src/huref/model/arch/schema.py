"""What a family's YAML file may say. The schema is closed: an unknown key is an error that names the key.

`docs/how-to/add-an-architecture.md` walks through one file. Nothing here reads a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from huref.errors import ArchitectureError
from huref.model.arch.roles import FUSED_ROLES, GLOBAL_ROLES, LAYER_ROLES, NEURON_ROLES

DATA = Path(__file__).parent / "data"
MAX_BYTES = 64 * 1024
MAX_DEPTH = 12
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where built in, is ten times faster

Value = TypeVar("Value")

Scalar = bool | int | float | str | None
Conditions = dict[str, Scalar]
"""Configuration key (dots go into sections) -> the value it must have; null means absent."""

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
    "n_experts",
    "expert_width",
    "shared_width",
]
EXPERT_SIZES: frozenset[SizeName] = frozenset({"n_experts", "expert_width", "shared_width"})
PER_EXPERT = "{e}"
STACKED = "[e]"
NormKind = Literal["rms", "layer"]
PositionKind = Literal["rope_half", "rope_interleaved", "rope_2d", "learned", "alibi"]
Step = Literal["transpose", "unpermute_rope", "add_one"]
"""`transpose`: stored (in, out), as Conv1D does. `unpermute_rope`: rows of each head were interleaved by
llama.cpp's converter. `add_one`: gamma is stored, the gain is 1 + gamma."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SizeRule(_Closed):
    """One way to get a size; a list of rules is tried in order and the first that applies wins.

    The number is `key` from the configuration, or another size, or a literal; then multiplied and divided.
    """

    key: str | None = None
    size: SizeName | None = None
    value: int | None = None
    times: Factor | str = 1
    over: Factor | str = 1
    when: Conditions = {}

    @model_validator(mode="after")
    def _exactly_one_source(self) -> SizeRule:
        if sum(source is not None for source in (self.key, self.size, self.value)) != 1:
            raise ValueError("a size rule needs exactly one of key, size, value")
        return self


def names_experts(template: str) -> bool:
    """Whether a name stands for experts, one by one or stacked."""
    return PER_EXPERT in template or template.endswith(STACKED)


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
            `{i}` the layer, and `{e}` the expert: the name stands for one tensor per expert. A name that ends
            in `[e]` is one tensor whose first axis counts the experts.
        shared: the shared expert's module, whose neurons follow those of the experts.
        steps: how to undo the storage order.
        split: for fused roles, the layout.
        optional: whether the module may be absent (in every layer alike).
        when: the configuration for which the module exists at all.
        bias: whether a bias must be there, may be there, or must not.
    """

    from_: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(alias="from", min_length=1)
    steps: tuple[Step, ...] = ()
    split: str | None = None
    shared: str | None = None
    optional: bool = False
    when: Conditions = {}
    bias: Literal["required", "optional", "never"] = "optional"

    @property
    def has_experts(self) -> bool:
        """Whether any of the names stands for experts."""
        return self.shared is not None or any(names_experts(template) for template in self.from_)


class NameSet(_Closed):
    """The tensor names of one file format.

    Attributes:
        prefixes: what `{p}` may stand for, most usual first.
        tensors: role -> where it is stored.
        ignored: shell patterns of stored tensors that are no weights (rotary tables, attention masks).
        sizes: rules that replace the family's (GGUF has its own keys, see `sizes.GGUF_SIZES`).
        defaults: configuration values that a missing key stands for.
    """

    prefixes: tuple[str, ...] = ("",)
    tensors: dict[str, Annotated[TensorRule, BeforeValidator(_tensor)]]
    ignored: tuple[str, ...] = ()
    sizes: dict[SizeName, SizeRules] = {}
    defaults: dict[str, Scalar] = {}

    def for_which(self, holds: Callable[[Conditions], bool]) -> NameSet:
        """Only the tensors whose conditions hold."""
        kept = {role: rule for role, rule in self.tensors.items() if holds(rule.when)}
        return self.model_copy(update={"tensors": kept})

    @model_validator(mode="after")
    def _every_necessary_role(self) -> NameSet:
        for either in (("embedding",), ("q", "qkv"), ("o",), ("up", "gate_up"), ("down",)):
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
            if (role in GLOBAL_ROLES) == any("{i}" in name for name in rule.from_):
                raise ValueError(f"role {role!r}: layer roles need {{i}} in their names, the others must not")
        return self

    @model_validator(mode="after")
    def _experts_in_their_place(self) -> NameSet:
        rules = {role: rule for role, rule in self.tensors.items() if rule.has_experts}
        for role, rule in rules.items():
            if role not in NEURON_ROLES or rule.steps or rule.bias == "required":
                raise ValueError(f"role {role!r}: only gate, up and down have experts, without steps and biases")
            for name in (*rule.from_, rule.shared or "{i}"):
                if "{i}" not in name or (PER_EXPERT in name and name.endswith(STACKED)):
                    raise ValueError(f"role {role!r}: {name!r} needs {{i}}, and {PER_EXPERT} or {STACKED}, not both")
            if names_experts(rule.shared or "") or not any(names_experts(name) for name in rule.from_):
                raise ValueError(f"role {role!r}: a shared expert is one, beside others: {rule.shared!r}")
        neurons = {*NEURON_ROLES, "gate_up"} & set(self.tensors)
        if rules and (set(rules) != neurons or len({rule.shared is None for rule in rules.values()}) > 1):
            raise ValueError("gate, up and down have experts all or none, and a shared expert all or none")
        return self

    @property
    def has_experts(self) -> bool:
        """Whether the family is a mixture of experts."""
        return self.tensors["down"].has_experts


class Family(_Closed):
    """One model family, as its YAML file describes it.

    Attributes:
        name: unique; the file is `<name>.yaml`.
        model_types: values of `model_type` in config.json.
        class_names: entries of `architectures` in config.json, where `model_type` does not decide.
        gguf_names: values of `general.architecture`.
        when: what the configuration must also say for this family to apply; it then goes before a family that
            claims the same type without conditions.
        section: sub-section of config.json that holds the decoder in multimodal exports.
        norm_after_residual: norms act on the residual sum instead of in front of a branch.
        unit_norms: the norms in front of the branches have no parameters: gain 1, no bias.
        tied: whether embedding and unembedding are one matrix unless the configuration says otherwise.
    """

    name: str
    model_types: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    gguf_names: tuple[str, ...] = ()
    when: Conditions = {}
    section: str | None = None
    norm: NormChoices
    gated: bool
    activation: str
    position: PositionChoices
    parallel: BoolChoices = (Choice[bool](value=False),)
    norm_after_residual: bool = False
    unit_norms: BoolChoices = (Choice[bool](value=False),)
    tied: bool = False
    sizes: dict[SizeName, SizeRules]
    huggingface: NameSet
    gguf: NameSet | None = None

    @model_validator(mode="after")
    def _names_and_sizes_of_experts_go_together(self) -> Family:
        for names in (self.huggingface, self.gguf):
            if names is None:
                continue
            needed: set[SizeName] = {"n_experts", "expert_width"} if names.has_experts else set()
            needed |= {"shared_width"} if names.tensors["down"].shared else set()
            given = EXPERT_SIZES & set(self.sizes)
            if needed != given or EXPERT_SIZES & set(names.sizes) - given:
                raise ValueError(f"names with experts need the sizes {sorted(needed)}, given are {sorted(given)}")
        return self

    def name_set(self, file_format: str) -> NameSet | None:
        """The names that a checkpoint of this format uses."""
        return self.gguf if file_format == "gguf" else self.huggingface


def load_family(path: Path) -> Family:
    """Read and check one architecture file.

    Raises:
        ArchitectureError: unreadable, too large, no valid YAML, or outside the schema; names the key.
    """
    try:
        raw = _parse(path)
        return Family.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ArchitectureError(
            "the architecture file does not follow the schema",
            where=f"{path}, key {'.'.join(str(part) for part in fault['loc']) or 'top level'}",
            expected=str(fault["msg"]),
            got=repr(fault["input"])[:200],
            next_step="see docs/how-to/add-an-architecture.md",
        ) from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ArchitectureError(
            "the architecture file cannot be read", where=str(path), got=str(error)[:500]
        ) from None


def _parse(path: Path) -> object:
    # Size and depth are capped and aliases are refused before anything is built: a few lines of nested aliases
    # can stand for gigabytes, and the parser's time grows with the square of the depth.
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ArchitectureError(
            "the architecture file is too large", where=str(path), expected=f"at most {MAX_BYTES} bytes"
        )
    text = data.decode("utf-8")
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ArchitectureError("the architecture file is nested too deeply", where=f"{path}{event.start_mark}")
        if isinstance(event, yaml.AliasEvent):
            raise ArchitectureError("YAML aliases are not allowed", where=f"{path}{event.start_mark}")
    return yaml.load(text, Loader=_LOADER)


@cache
def known_families() -> tuple[Family, ...]:
    """Every family in the data folder; adding a file is all the registration there is."""
    return tuple(load_family(path) for path in sorted(DATA.glob("*.yaml")))
