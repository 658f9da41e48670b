"""From a family's names to a plan: every canonical tensor's place, and no stored tensor unaccounted for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from huref.errors import ArchitectureError, MissingTensorError
from huref.model.arch.canonical import Experts, Geometry, Piece, RowMap, TensorRole
from huref.model.arch.facts import Sizes
from huref.model.arch.names import choose_prefix, expand, experts_stored, is_ignored, layers_stored, shown
from huref.model.arch.roles import FUSED_ROLES, GLOBAL_ROLES, NEURON_ROLES, ROUTER_ROLES, Widths, symbols_of
from huref.model.arch.schema import PER_EXPERT, STACKED, NameSet, TensorRule, names_experts
from huref.model.source.checkpoint import TensorInfo

MANY = 1000  # missing tensors after which looking for more only costs time


class Planner:
    """Resolves one checkpoint's names against one name set."""

    def __init__(self, names: NameSet, tensors: Mapping[str, TensorInfo], reference: str) -> None:
        self.names = names
        self.tensors = tensors
        self.reference = reference
        self.prefix = choose_prefix(names, {_first_layer(name) for name in tensors})
        self.missing: list[str] = []
        self.experts = Experts()

    def vocab_rows(self) -> int:
        """Rows of the stored embedding.

        Raises:
            MissingTensorError: there is no embedding.
        """
        rule = self.names.tensors["embedding"]
        template = self._stored_template(rule.from_, None)
        if template is None:
            self._miss(expand(rule.from_[0], self.prefix) + ".weight")
            self._check_missing()
        shape = self.tensors[f"{expand(template or '', self.prefix)}.weight"].shape
        return shape[0] if shape else 0

    def roles(self, sizes: Sizes) -> dict[str, TensorRole]:
        """Every canonical tensor that the checkpoint holds, in model order.

        Raises:
            ArchitectureError: more layers are stored than configured, or a shape disagrees.
            MissingTensorError: a tensor is missing, or one is left over that no role claims.
        """
        self.experts = sizes.experts
        self._check_layer_count(sizes.geometry.n_layers)
        self._check_expert_count()
        found: dict[str, TensorRole] = {}
        for name, role in self._all(sizes):
            found[name] = role
        left = self._unclaimed(found)
        self._check_missing(left)
        self._check_complete(found, sizes.geometry.n_layers)
        self._check_leftovers(left)
        self._check_every_layer_alike(found, sizes.geometry.n_layers)
        return _mark_aliases(found)

    def _all(self, sizes: Sizes) -> Iterator[tuple[str, TensorRole]]:
        widths = Widths(sizes.geometry, sizes.embed, sizes.experts, sizes.dense_ff)
        rules = self.names.tensors
        for role in ("embedding", "position", "embedding_norm", "project_in"):
            if role in rules:
                yield from self._module(role, rules[role], rules[role].from_, None, widths)
        for layer in range(sizes.geometry.n_layers):
            yield from self._layer(layer, widths)
        for role in ("final_norm", "project_out", "unembedding"):
            if role in rules:
                yield from self._module(role, rules[role], rules[role].from_, None, widths)

    def _layer(self, layer: int, widths: Widths) -> Iterator[tuple[str, TensorRole]]:
        rules = self.names.tensors
        down = self._stored_template(rules["down"].from_, layer) or rules["down"].from_[0]
        is_sparse = names_experts(down)
        for role, rule in rules.items():
            if role in GLOBAL_ROLES or (role in ROUTER_ROLES and not is_sparse):
                continue
            templates: Sequence[str] = rule.from_
            if role in NEURON_ROLES:  # all three of one kind: a layer is either sparse or dense
                templates = [template for template in templates if names_experts(template) == is_sparse]
            yield from self._module(role, rule, templates, layer, widths)

    def _module(
        self, role: str, rule: TensorRule, templates: Sequence[str], layer: int | None, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        template = self._stored_template(templates, layer)
        if template is None:
            if not rule.optional:
                self._miss(*(f"{module}.weight" for module in self._modules((*templates, *rule.from_)[0], layer)))
            return
        start = "" if layer is None else f"layers.{layer}."
        if names_experts(template):
            yield from self._union(role, rule, template, layer, widths)
            return
        module = expand(template, self.prefix, layer)
        yield from self._parts(role, rule, f"{module}.weight", start, widths)
        bias = f"{module}.bias"
        if bias in self.tensors and rule.bias != "never":
            yield from self._parts(f"{role}_bias", rule, bias, start, widths)
        elif rule.bias == "required":
            self._miss(bias)

    def _union(
        self, role: str, rule: TensorRule, template: str, layer: int | None, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        """The neurons of all experts, the shared one's last: rows of `gate` and `up`, columns of `down`."""
        axis = 1 if role == "down" else 0
        d = widths.geometry.d_model

        def shape(n_neurons: int) -> tuple[int, int]:
            return (d, n_neurons) if axis else (n_neurons, d)

        modules = self._modules(template, layer)
        if template.endswith(STACKED):
            pieces = self._stack(f"{modules[0]}.weight", shape(self.experts.width), axis)
        else:
            pieces = [self._piece(f"{module}.weight", shape(self.experts.width)) for module in modules]
        if rule.shared:
            module = expand(rule.shared, self.prefix, layer)
            pieces.append(self._piece(f"{module}.weight", shape(self.experts.shared)))
        name = f"layers.{layer}.{role}"
        yield name, TensorRole(name, shape(self.experts.n_neurons), tuple(pieces), axis)

    def _piece(self, stored: str, shape: tuple[int, int]) -> Piece:
        if stored in self.tensors:
            self._check_shape(stored, [shape], is_transposed=False)
        else:
            self._miss(stored)
        return Piece(stored, RowMap(1, shape[0], 0, shape[0]))

    def _stack(self, stored: str, shape: tuple[int, int], axis: int) -> list[Piece]:
        """Experts stacked in one tensor: side by side they are pieces, one below the other a single one."""
        n = self.experts.n
        self._check_shape(stored, [(n, *shape)], is_transposed=False)
        if axis == 0:
            return [Piece(stored, RowMap(1, n * shape[0], 0, n * shape[0]), is_table=True)]
        return [Piece(stored, RowMap(1, shape[0], e * shape[0], shape[0]), is_table=True) for e in range(n)]

    def _parts(
        self, role: str, rule: TensorRule, stored: str, start: str, widths: Widths
    ) -> Iterator[tuple[str, TensorRole]]:
        suffix = "_bias" if role.endswith("_bias") else ""
        whole = role.removesuffix("_bias")
        parts = FUSED_ROLES[whole][rule.split] if rule.split else (whole,)
        shapes = [self._shape(part + suffix, stored, widths, is_part=bool(rule.split)) for part in parts]
        is_vector = role == "shared_router" and len(self.tensors[stored].shape) == 1  # llama.cpp drops the axis
        if is_vector:
            self._check_shape(stored, [shape[1:] for shape in shapes], is_transposed=False)
        else:
            self._check_shape(stored, shapes, "transpose" in rule.steps and not suffix)
        for part, shape, rows in zip(parts, shapes, _row_maps(rule, shapes, widths.geometry), strict=True):
            name = f"{start}{part}{suffix}"
            yield (
                name,
                TensorRole(
                    name=name,
                    shape=shape,
                    pieces=(Piece(stored, rows, is_table=is_vector),),
                    is_transposed="transpose" in rule.steps and not suffix,
                    adds_one="add_one" in rule.steps and not suffix,
                ),
            )

    def _shape(self, role: str, stored: str, widths: Widths, is_part: bool) -> tuple[int, ...]:
        """The canonical shape; where the symbols leave a choice, the stored one if it is acceptable."""
        actual = self.tensors[stored].shape
        symbols = symbols_of(role)
        options = [widths.sizes(symbol) for symbol in symbols]
        if "norm" in symbols[0]:  # query and key norms: one head's gain, or all heads', as (e,), (h e,) or (h, e)
            return actual if prod(actual) in options[0] else (options[0][0],)
        if not is_part and len(actual) == len(options):
            return tuple(
                size if not option or size in option else option[0]
                for size, option in zip(actual, options, strict=True)
            )
        return tuple(option[0] if option else 0 for option in options)

    def _check_shape(self, stored: str, shapes: list[tuple[int, ...]], is_transposed: bool) -> None:
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
            if any(f"{module}.weight" in self.tensors for module in self._modules(template, layer)):
                return template
        return None

    def _modules(self, template: str, layer: int | None) -> list[str]:
        """The stored modules that a name stands for: one, or one per expert."""
        if PER_EXPERT not in template:
            return [expand(template, self.prefix, layer)]
        return [expand(template, self.prefix, layer, expert) for expert in range(self.experts.n)]

    def _check_layer_count(self, n_layers: int) -> None:
        stored = layers_stored(self.names, self.prefix, self.tensors)
        if stored and max(stored) >= n_layers:
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
        stored = experts_stored(self.names, self.prefix, self.tensors)
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

    def _check_complete(self, found: dict[str, TensorRole], n_layers: int) -> None:
        """Families with alternatives (fused or separate) mark all of them optional; one must be there."""
        self.missing = [
            f"layers.{layer}.{role}"
            for layer in range(n_layers)
            for role in ("q", "k", "v", "o", "up", "down")
            if f"layers.{layer}.{role}" not in found
        ]
        self._check_missing()

    def _unclaimed(self, found: dict[str, TensorRole]) -> list[str]:
        claimed = {piece.stored for role in found.values() for piece in role.pieces}
        return [name for name in self.tensors if name not in claimed and not is_ignored(name, self.names)]

    def _check_leftovers(self, left: list[str]) -> None:
        if left:
            raise MissingTensorError(
                f"{len(left)} stored tensors have no place in this family",
                where=self.reference,
                got=shown(left),
                next_step="the model is a variant: describe it in a file for --arch-file "
                "(docs/how-to/add-an-architecture.md)",
            )

    def _check_every_layer_alike(self, found: dict[str, TensorRole], n_layers: int) -> None:
        """An optional tensor is there in all layers or in none; otherwise part of a checkpoint is missing."""
        kinds = {name.split(".", 2)[2] for name in found if name.startswith("layers.")}
        self.missing = [
            f"layers.{layer}.{kind}"
            for kind in sorted(kinds)
            for layer in range(n_layers)
            if f"layers.{layer}.{kind}" not in found and kind not in ROUTER_ROLES
        ]
        self._check_missing()


def _row_maps(rule: TensorRule, shapes: list[tuple[int, ...]], geometry: Geometry) -> Iterator[RowMap]:
    """How the parts lie in the stored rows; `q`, `k`, `v` or `gate`, `up` in stored order."""
    rope_head = geometry.head_dim if "unpermute_rope" in rule.steps else 0
    groups = geometry.n_kv_heads if rule.split == "grouped" else 1
    stride = sum(shape[0] for shape in shapes) // groups
    offset = 0
    for shape in shapes:
        run = shape[0] // groups
        yield RowMap(groups, stride, offset, run, rope_head)
        offset += run


def _mark_aliases(found: dict[str, TensorRole]) -> dict[str, TensorRole]:
    seen: set[tuple[Piece, ...]] = set()
    marked = {}
    for name, role in found.items():
        marked[name] = replace(role, is_alias=True) if role.pieces in seen else role
        seen.add(role.pieces)
    return marked


def _first_layer(name: str) -> str:
    return ".".join("{i}" if part == "0" else part for part in name.split("."))
