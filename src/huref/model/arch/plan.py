"""From a family's names to a plan: every canonical tensor's place, and none of the decoder's unaccounted for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from huref.errors import ArchitectureError, MissingTensorError
from huref.model.arch.canonical import Experts, Piece, RowMap, TensorRole
from huref.model.arch.facts import Sizes
from huref.model.arch.names import (
    choose_prefix,
    expand,
    experts_stored,
    has_no_role,
    is_ignored,
    layers_stored,
    roots,
    shown,
    stored_as,
)
from huref.model.arch.pieces import of_experts, of_heads, of_shared, row_maps
from huref.model.arch.roles import (
    ATTENTION_ROLES,
    FEED_FORWARD_ROLES,
    FUSED_ROLES,
    GLOBAL_ROLES,
    LAYER_ROLES,
    NEURON_ROLES,
    ORDER,
    ROUTER_ROLES,
    Widths,
    symbols_of,
)
from huref.model.arch.schema import PER_EXPERT, LayerPart, NameSet, TensorRule, names_experts
from huref.model.source.checkpoint import TensorInfo

MANY = 1000  # missing tensors after which looking for more only costs time

_PARTS: dict[LayerPart, tuple[str, ...]] = {"attention": ATTENTION_ROLES, "feed_forward": FEED_FORWARD_ROLES}
_NORMS = ("attention_norm", "post_attention_norm", "feed_forward_norm", "post_feed_forward_norm")
"""What stands around a part whatever the part is."""

_NEEDED: dict[LayerPart, tuple[tuple[str, ...], ...]] = {
    "attention": (("q", "q_b"), ("k", "kv_b"), ("v", "kv_b"), ("o",)),
    "feed_forward": (("up",), ("down",)),
}
"""What a layer that has a part must have of it: one of each."""


class Planner:
    """Resolves one checkpoint's names against one name set.

    Attributes:
        beside: stored weights that nothing here describes, found by `roles`: a vision tower, heads, recurrent layers.
        is_entwined: some of them stand in the decoder's layers.
    """

    def __init__(
        self,
        names: NameSet,
        tensors: Mapping[str, TensorInfo],
        reference: str,
        some_layers: tuple[LayerPart, ...] = (),
        *,
        is_nested: bool = True,
    ) -> None:
        self.names = names
        self.tensors = tensors
        self.reference = reference
        self.some_layers = some_layers
        self.prefix = choose_prefix(names, tensors, is_nested=is_nested)
        self.roots = roots(self.prefix)
        self.missing: list[str] = []
        self.experts = Experts()
        self.beside: tuple[str, ...] = ()
        self.is_entwined = False
        self.spare_layers = 0
        self.ff_by_layer = False

    def vocab_rows(self) -> int:
        """Rows of the stored embedding.

        Raises:
            MissingTensorError: there is no embedding.
        """
        rule = self.names.tensors["embedding"]
        template = self._stored_template(rule.from_, None)
        if template is None:
            self._miss(expand(rule.from_[0], self.prefix) + ".weight")
            self._check_missing(self._unclaimed({}))
        shape = self.tensors[self._stored(self._modules(template or "", None)[0])].shape
        return shape[0] if shape else 0

    def rows_of(self, role: str, is_largest: bool = False) -> int | None:
        """Stored rows of a role in the first layer that has it, or the most of any; None where none has."""
        role, _, is_shared = role.partition(".")
        rule = self.names.tensors.get(role)
        if role in GLOBAL_ROLES:
            return self.vocab_rows() if role == "embedding" else None
        found = []
        for layer in sorted(layers_stored(self.names, self.prefix, self.tensors)):
            templates = () if rule is None else rule.shared if is_shared else rule.from_
            template = self._stored_template(templates, layer)
            if template is not None:
                found.append(self.tensors[self._stored(self._modules(template, layer)[0])].shape[0])
            if found and not is_largest:
                break
        return max(found, default=None)

    def roles(self, sizes: Sizes, spare_layers: int = 0) -> dict[str, TensorRole]:
        """Every canonical tensor that the checkpoint holds, in model order.

        Args:
            spare_layers: stored behind those of the model, for predicting further tokens: passed over.

        Raises:
            ArchitectureError: more layers are stored than configured, or a shape disagrees.
            MissingTensorError: a tensor is missing, or one is left over that no role claims.
        """
        self.experts, self.spare_layers, self.ff_by_layer = sizes.experts, spare_layers, sizes.ff_by_layer
        self._check_layer_count(sizes.geometry.n_layers)
        self._check_expert_count()
        found: dict[str, TensorRole] = {}
        for name, role in self._all(sizes):
            found[name] = role
        left = self._unclaimed(found)
        self._check_missing(left)
        lacking = self._check_complete(found, sizes.geometry.n_layers)
        self.beside = tuple(name for name in left if self._is_beside(name, sizes.geometry.n_layers))
        self.is_entwined = any(not self._is_outside(name) for name in self.beside)
        self._check_leftovers([name for name in left if name not in set(self.beside)])
        self._check_every_layer_alike(found, sizes.geometry.n_layers, lacking)
        return _mark_aliases(found)

    def _all(self, sizes: Sizes) -> Iterator[tuple[str, TensorRole]]:
        widths = Widths(
            sizes.geometry, sizes.embed, sizes.experts, sizes.dense_ff, sizes.value, sizes.nope, sizes.other
        )
        at_end = ORDER.index("final_norm")
        yield from self._globals(ORDER[:at_end], widths)
        for layer in range(sizes.geometry.n_layers):
            yield from self._layer(layer, widths)
        yield from self._globals(ORDER[at_end:], widths)

    def _globals(self, roles: Sequence[str], widths: Widths) -> Iterator[tuple[str, TensorRole]]:
        for role in roles:
            if role in self.names.tensors:
                rule = self.names.tensors[role]
                yield from self._module(role, rule, rule.from_, None, widths)

    def _layer(self, layer: int, widths: Widths) -> Iterator[tuple[str, TensorRole]]:
        rules = self.names.tensors
        down = self._stored_template(rules["down"].from_, layer) or rules["down"].from_[0]
        is_sparse = names_experts(down) and self.experts.n > 0
        if self.ff_by_layer and not is_sparse:
            widths = replace(widths, dense_ff=self._width(layer) or widths.dense_ff)
        absent = {role for part in self.some_layers if not self._has(part, layer) for role in _PARTS[part]}
        for role in _in_order(rules):
            rule = rules[role]
            if role in GLOBAL_ROLES or (role in ROUTER_ROLES and not is_sparse):
                continue
            templates: Sequence[str] = rule.from_
            if role in NEURON_ROLES:  # all three of one kind: a layer is either sparse or dense
                templates = [template for template in templates if names_experts(template) == is_sparse]
                if not templates and "gate_up" in rules:
                    continue
            if (role == "gate_up" and is_sparse) or (
                role in absent and not (role in _NORMS and self._any(rule.from_, layer))
            ):
                continue
            yield from self._module(role, rule, templates, layer, widths)

    def _width(self, layer: int) -> int:
        """Neurons of a dense layer by its stored `up`; 0 where it has none of its own."""
        rule = self.names.tensors.get("up")
        template = self._stored_template(rule.from_, layer) if rule else None
        return self.tensors[self._stored(self._modules(template, layer)[0])].shape[0] if template else 0

    def _any(self, templates: Sequence[str], layer: int | None) -> bool:
        return self._stored_template(templates, layer) is not None

    def _has(self, part: LayerPart, layer: int) -> bool:
        """Whether a layer has the matrices that a part must have, as far as the family names them apart."""
        rules = self.names.tensors
        return all(
            any(self._any((*rules[r].from_, *(rules[r].by_head or ())), layer) for r in roles if r in rules)
            for roles in _NEEDED[part]
            if set(roles) & set(rules)
        )

    def _module(
        self, role: str, rule: TensorRule, templates: Sequence[str], layer: int | None, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        template = self._stored_template(templates, layer)
        if template is None and rule.by_head and self._any(rule.by_head, layer):
            yield self._of_heads(role, rule.by_head, layer, widths)
            return
        if template is None:
            if not rule.optional and not rule.some:
                self._miss(*(f"{module}.weight" for module in self._modules((*templates, *rule.from_)[0], layer)))
            return
        start = "" if layer is None else f"layers.{layer}."
        if names_experts(template):
            yield from self._union(role, rule, template, layer, widths)
            return
        stored = self._stored(self._modules(template, layer)[0])
        yield from self._parts(role, rule, stored, start, widths)
        bias = _bias_of(stored)
        if bias in self.tensors and rule.bias != "never":
            yield from self._parts(f"{role}_bias", rule, bias, start, widths)
        elif rule.bias == "required":
            self._miss(bias)

    def _of_heads(
        self, role: str, by_head: tuple[str, str], layer: int | None, widths: Widths
    ) -> tuple[str, TensorRole]:
        """The factor of latent keys and values from the two that llama.cpp multiplies apart."""
        keys, values = (self._stored(self._modules(template, layer)[0]) for template in by_head)
        for name in (keys, values):
            if name not in self.tensors:
                self._miss(name)
        self._check_missing()
        heads, r = widths.geometry.n_heads, (self.tensors[values].shape or (0,))[-1]
        value = widths.value or widths.geometry.head_dim
        pieces = of_heads(self, keys, values, heads, ((widths.nope, r), (value, r)))
        name = f"layers.{layer}.{role}"
        return name, TensorRole(name, (heads * (widths.nope + value), r), tuple(pieces))

    def _union(
        self, role: str, rule: TensorRule, template: str, layer: int | None, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        """The neurons of all experts, the shared one's last: rows of `gate` and `up`, columns of `down`."""
        axis, d = (1 if role == "down" else 0), widths.geometry.d_model

        def shape(n_neurons: int) -> tuple[int, int]:
            return (d, n_neurons) if axis else (n_neurons, d)

        stored = [self._stored(module) for module in self._modules(template, layer)]
        shared = self._stored_template(rule.shared, layer) if self.experts.shared else None
        experts = self.experts if shared else replace(self.experts, shared=0)
        for name in stored:
            if name not in self.tensors:
                self._miss(name)
        if any(name not in self.tensors for name in stored):
            return
        rule = self._turned(rule, layer, shape(experts.width))
        both = [self.names.tensors[name].from_ for name in ("gate", "up") if name in self.names.tensors]
        if rule.half and not all(template in names for names in both):
            rule = rule.model_copy(update={"half": None})  # an alternative where gates and ups are apart
        pieces = of_experts(self, rule, template, stored, shape(experts.width), axis, experts.n)
        if shared:
            name = self._stored(self._modules(shared, layer)[0])
            pieces.append(of_shared(self, rule, name, self.tensors[name].shape, shape(experts.shared)))
        elif rule.shared and self.experts.shared:
            self._miss(f"{self._modules(rule.shared[0], layer)[0]}.weight")
        name = f"layers.{layer}.{role}"
        yield name, TensorRole(name, shape(experts.n_neurons), tuple(pieces), axis)
        if rule.bias != "never":
            yield from self._expert_biases(rule, template, layer, role, stored)

    def _turned(self, rule: TensorRule, layer: int | None, shape: tuple[int, int]) -> TensorRule:
        """The rule with its turning decided by the shape of the stored `down`: as it should be, or turned round."""
        if "transpose_by_shape" not in rule.steps:
            return rule
        template = self._stored_template(self.names.tensors["down"].from_, layer)
        stored = self._stored(self._modules(template or "", layer)[0])
        d, width = (
            self.tensors[self._stored(self._modules(self.names.tensors["embedding"].from_[0], None)[0])].shape[-1],
            min(shape),
        )
        is_turned = self.tensors[stored].shape[-1:] == (d,) and width != d
        return rule.model_copy(update={"steps": ("transpose",) if is_turned else ()})

    def _expert_biases(
        self, rule: TensorRule, template: str, layer: int | None, role: str, stored: Sequence[str]
    ) -> Iterator[tuple[str, TensorRole]]:
        """Biases of the experts' neurons, and those of their outputs, a row each."""
        biases, n = [_bias_of(name) for name in stored], self.experts.n
        if any(bias not in self.tensors for bias in biases):
            return
        if role == "down":
            if len(biases) == n > 1:  # in one tensor they are a role of their own
                d = self.tensors[biases[0]].shape[-1]
                pieces = tuple(Piece(bias, RowMap(1, 1, 0, 1), is_table=True) for bias in biases)
                name = f"layers.{layer}.expert_down_bias"
                yield name, TensorRole(name, (n, d), pieces)
            return
        width = self.experts.width
        found = of_experts(self, rule, template, biases, (width,), 0, n)
        flat = tuple(replace(piece, is_flat=True, is_table=False, turned=None) for piece in found)
        name = f"layers.{layer}.{role}_bias"
        yield name, TensorRole(name, (n * width,), flat)

    def _parts(
        self, role: str, rule: TensorRule, stored: str, start: str, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        suffix = "_bias" if role.endswith("_bias") and role not in LAYER_ROLES else ""  # one role is a bias itself
        whole = role.removesuffix("_bias") if suffix else role
        parts = FUSED_ROLES[whole][rule.split] if rule.split else (whole,)
        shapes = [self._shape(part, suffix, stored, widths, is_part=bool(rule.split)) for part in parts]
        is_vector = role == "shared_router" and len(self.tensors[stored].shape) == 1  # llama.cpp drops the axis
        is_flat = len(shapes[0]) == 1 < len(self.tensors[stored].shape) and not rule.split and "norm" not in role
        is_turned = "transpose" in rule.steps and not suffix and not rule.has_experts  # a dense layer beside stacks
        if is_vector:
            self.check_shape(stored, [shape[1:] for shape in shapes])
        elif not is_flat or prod(self.tensors[stored].shape) != prod(shapes[0]):
            self.check_shape(stored, shapes, is_transposed=is_turned)
        for part, shape, rows in zip(parts, shapes, row_maps(rule, shapes, widths.geometry), strict=True):
            name = f"{start}{part}{suffix}"
            yield (
                name,
                TensorRole(
                    name=name,
                    shape=shape,
                    pieces=(Piece(stored, rows, is_table=is_vector, is_flat=is_flat),),
                    is_transposed=is_turned,
                    adds_one="add_one" in rule.steps and not suffix,
                ),
            )

    def _shape(self, role: str, suffix: str, stored: str, widths: Widths, is_part: bool) -> tuple[int, ...]:
        """The canonical shape; where the symbols leave a choice, the stored one if it is acceptable."""
        actual = self.tensors[stored].shape
        symbols = symbols_of(role)[:1] if suffix else symbols_of(role)
        options = [widths.sizes(symbol) for symbol in symbols]
        if "norm" in symbols[0]:  # query and key norms: one head's gain, or all heads', as (e,), (h e,) or (h, e)
            return actual if prod(actual) in options[0] else (options[0][0],)
        if role == "attention_gate":
            return (widths.sizes("written")[0], *actual[1:]) if is_part else actual
        if not is_part and len(actual) == len(options):
            return tuple(
                size if not option or size in option else option[0]
                for size, option in zip(actual, options, strict=True)
            )
        return tuple(option[0] if option else 0 for option in options)

    def check_shape(self, stored: str, shapes: list[tuple[int, ...]], *, is_transposed: bool = False) -> None:
        """Refuse a stored tensor that is not put together of parts of these shapes."""
        expected = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        expected = expected[::-1] if is_transposed else expected
        actual = self.tensors[stored].shape
        if actual != expected:
            raise ArchitectureError(
                "the configuration and a stored shape disagree",
                where=f"{self.reference}, tensor {stored}",
                expected=str(expected),
                got=str(actual),
                next_step="check that config.json belongs to these weights, and that they are not packed",
            )

    def _stored_template(self, templates: Sequence[str], layer: int | None) -> str | None:
        """The first alternative that is stored; of names with experts, the first with any of them."""
        for template in templates:
            if any(self._is_stored(module) for module in self._modules(template, layer)):
                return template
        return None

    def _is_stored(self, module: str) -> bool:
        return any(name in self.tensors for name in stored_as(module))

    def _stored(self, module: str) -> str:
        """The stored name of a module's weight; the usual one where there is none."""
        usual, bare = stored_as(module)
        return bare if usual not in self.tensors and bare in self.tensors else usual

    def _modules(self, template: str, layer: int | None) -> list[str]:
        """The stored modules that a name stands for: one, or one per expert."""
        if PER_EXPERT in template:
            return [expand(template, self.prefix, layer, expert) for expert in range(self.experts.n)]
        module = expand(template, self.prefix, layer)
        if "{p}" in template:
            return [module]
        return [next((root + module for root in self.roots if self._is_stored(root + module)), module)]

    def _check_layer_count(self, n_layers: int) -> None:
        stored = layers_stored(self.names, self.prefix, self.tensors)
        if stored and max(stored) >= n_layers + self.spare_layers:
            raise ArchitectureError(
                "the configuration and the stored layers disagree",
                where=self.reference,
                expected=f"{n_layers} layers",
                got=f"tensors of layer {max(stored)}, counted from 0",
            )
        if n_layers > len(self.tensors):  # before every layer's names are written out
            first = next(layer for layer in range(n_layers) if layer not in stored)
            self._miss(*(f"{module}.weight" for module in self._modules(self.names.tensors["down"].from_[0], first)))
            self._check_missing()

    def _check_expert_count(self) -> None:
        stored = experts_stored(self.names, self.prefix, (n for n in self.tensors if not has_no_role(n, self.names)))
        if stored and max(stored) >= self.experts.n:
            raise ArchitectureError(
                "the configuration and the stored experts disagree",
                where=self.reference,
                expected=f"{self.experts.n} experts",
                got=f"tensors of expert {max(stored)}, counted from 0",
            )

    def _miss(self, *names: str) -> None:
        self.missing += names
        if len(self.missing) >= MANY:
            self._check_missing()

    def _check_missing(self, left: list[str] | None = None) -> None:
        if self.missing:
            or_more = " or more" if len(self.missing) >= MANY else ""
            raise MissingTensorError(
                f"{len(self.missing)}{or_more} tensors are missing",
                where=self.reference,
                expected=shown(self.missing),
                got=f"no place for {shown(left)}" if left else "",
                next_step="the model is a variant: describe it in a file for --arch-file "
                "(docs/how-to/add-an-architecture.md)"
                if left
                else "check that every shard is there",
            )

    def _check_complete(self, found: dict[str, TensorRole], n_layers: int) -> dict[LayerPart, set[int]]:
        """Families with alternatives (fused or separate) mark all of them optional; one must be there.

        Returns:
            the layers that lack a part which only some layers need to have.
        """
        lacking: dict[LayerPart, set[int]] = {}
        for part, needed in _NEEDED.items():
            for layer in range(n_layers):
                lacks = [roles[0] for roles in needed if not any(f"layers.{layer}.{r}" in found for r in roles)]
                if len(lacks) == len(needed) and part in self.some_layers:
                    lacking.setdefault(part, set()).add(layer)
                else:
                    self.missing += [f"layers.{layer}.{role}" for role in lacks]
        if len(lacking) == len(_NEEDED) and not set.symmetric_difference(*lacking.values()):
            self.missing.append("attention or a feed-forward block in any layer")
        self._check_missing()
        return lacking

    def _unclaimed(self, found: dict[str, TensorRole]) -> list[str]:
        claimed = {piece.stored for role in found.values() for piece in role.pieces}
        return [name for name in self.tensors if name not in claimed and not is_ignored(name, self.names)]

    def _is_beside(self, name: str, n_layers: int) -> bool:
        """Whether a stored tensor is of something else: outside the decoder, or known to have no role."""
        if self._is_outside(name) or has_no_role(name, self.names):
            return True
        layers, _, behind = name.removeprefix(self.prefix).partition(".")
        layer = behind.split(".")[0]
        return self.spare_layers > 0 and layers in ("layers", "blk") and layer.isdigit() and int(layer) >= n_layers

    def _is_outside(self, name: str) -> bool:
        return bool(self.prefix) and not name.startswith(self.prefix)

    def _check_leftovers(self, left: list[str]) -> None:
        if left:
            raise MissingTensorError(
                f"{len(left)} stored tensors have no place in this family",
                where=self.reference,
                got=shown(left),
                next_step="the model is a variant: describe it in a file for --arch-file "
                "(docs/how-to/add-an-architecture.md)",
            )

    def _check_every_layer_alike(
        self, found: dict[str, TensorRole], n_layers: int, lacking: Mapping[LayerPart, set[int]]
    ) -> None:
        """An optional tensor is there in all layers or in none; otherwise part of a checkpoint is missing."""
        without = {role: layers for part, layers in lacking.items() for role in _PARTS[part]}
        kinds = {name.split(".", 2)[2] for name in found if name.startswith("layers.")}
        loose = {*ROUTER_ROLES, *(role for role, rule in self.names.tensors.items() if rule.some)}
        loose |= {"gate_bias", "up_bias", "down_bias"} if self.experts.n else set()
        self.missing = [
            f"layers.{layer}.{kind}"
            for kind in sorted(kinds - loose)
            for layer in range(n_layers)
            if f"layers.{layer}.{kind}" not in found and layer not in without.get(kind.removesuffix("_bias"), ())
        ]
        self._check_missing()


def _in_order(rules: Mapping[str, TensorRule]) -> list[str]:
    """A layer's roles as LAYER_ROLES has them, fused ones with their first part."""
    places = {role: place for place, role in enumerate(LAYER_ROLES)}
    places |= {"qkv": places["q"], "q_gate": places["q"], "gate_up": places["gate"]}
    return sorted((role for role in rules if role in places), key=lambda role: places[role])


def _bias_of(stored: str) -> str:
    """`X.weight` has `X.bias`, and a bare `X` has `X_bias`."""
    return f"{stored.removesuffix('.weight')}.bias" if stored.endswith(".weight") else f"{stored}_bias"


def _mark_aliases(found: dict[str, TensorRole]) -> dict[str, TensorRole]:
    seen: set[tuple[Piece, ...]] = set()
    marked = {}
    for name, role in found.items():
        marked[name] = replace(role, is_alias=True) if role.pieces in seen else role
        seen.add(role.pieces)
    return marked
