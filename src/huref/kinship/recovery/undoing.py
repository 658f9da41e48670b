"""A recovered transform taken off a model's weights: B as A has it, with B's function.

Each step keeps the function whatever the recovered numbers are worth: orders are completed, maps are made exact, and
what a fitted number takes from one side it gives to the other. So a fine-tune that was rearranged comes out as the
fine-tune, and nothing that training did is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from huref.errors import InconclusiveError
from huref.kinship.recovery.branches import blocks_of, undo_heads, undo_neurons, undo_traded_gains
from huref.kinship.recovery.places import LayerPlan, layer_plan, token_order
from huref.kinship.recovery.recovering import Recovered
from huref.kinship.recovery.transform import ROTATION
from huref.kinship.recovery.turning import (
    BEHIND,
    FOLDS,
    HIDDEN,
    WRITERS,
    Turn,
    hide_like,
    hide_written,
    turn_readers,
)
from huref.model.arch.roles import LAYER_ROLES
from huref.model.arch.weights import CanonicalWeights
from huref.model.model import Model
from huref.numerics.arrays import Array, quietly

_ENDS = ("embedding", "unembedding", "unembedding_bias")
APART = "the output matrix stays apart from the embedding"
_WORSE = 1.25
"""How much more a norm's own gain may leave than one like A's, and still stay."""
_TIED, _ROUNDS, _SAMPLED_ROWS = 1e-5, 1000, 512
"""How far an output matrix may lie from the embedding times a gain, and still be the embedding."""


@dataclass(frozen=True)
class Undone:
    """B's weights as A has them.

    Attributes:
        tensors: canonical name -> float64; no `unembedding` where it is the embedding.
        origins: the layer of B whose stored names and settings each layer has.
        token_order: B's number of each token; None where all keep theirs.
        scale: B's stream was so many times as long: the norms' epsilon is divided by its square.
        left: what was not undone, in words.
        has_new_gains: norms have gains like A's, not B's own in another order.
    """

    tensors: Mapping[str, Array]
    origins: tuple[int, ...]
    token_order: Array | None
    scale: float
    left: tuple[str, ...]
    has_new_gains: bool = False


@quietly
def undo(
    tensors: Mapping[str, Array],
    b: Model,
    a: Model,
    found: Recovered,
    *,
    movable: Array,
    activation: str,
    is_numbered: bool = False,
    is_near: bool = False,
    has_own_gains: bool = False,
) -> Undone:
    """Take a transform off.

    Args:
        tensors: all of B's, by canonical name, float64; `unembedding` only where it has its own.
        b, a: what they are; of A some weights are read.
        found: the transform, of all layers of B, between streams of one width.
        movable: token ids of B that may change places.
        activation: of the feed-forward block.
        is_numbered: what a layer of B does depends on its number.
        is_near: B was undone before, against another model: differences that training explains are taken off too.
        has_own_gains: with `is_near`: the gains are B's own and stay.
    """
    work = _Undoing(tensors, b, a, found, activation, is_near=is_near)
    if is_near:
        work.worse = np.inf if has_own_gains else -1.0
    return work.undone(movable, is_numbered=is_numbered)


class _Undoing:
    """One model on its way."""

    def __init__(
        self, tensors: Mapping[str, Array], b: Model, a: Model, found: Recovered, activation: str, *, is_near: bool
    ) -> None:
        self.is_near, self.worse, self.has_new_gains = is_near, _WORSE, False
        self.least = 0.0 if is_near else HIDDEN
        self.tensors, self.b, self.a, self.found, self.activation = dict(tensors), b, a, found, activation
        self.arch = b.weights.architecture
        self.left: list[str] = []
        self.folds = _joined_folds() if _has_one_norm(b.weights) else FOLDS
        self.turn = self._turn()

    def undone(self, movable: Array, *, is_numbered: bool) -> Undone:
        depth_a = self.a.weights.geometry.n_layers
        is_fixed = is_numbered or self.arch.norm_after_residual
        plan = layer_plan(self.found.layers, depth_a, is_parallel=self.arch.parallel, is_fixed=is_fixed)
        self._tell_layers(plan, depth_a)
        new: dict[str, Array] = {}
        for i, each in enumerate(plan):
            new |= {f"layers.{i}.{role}": tensor for role, tensor in self._layer(each).items()}
        order = token_order(self.b.vocabulary, self.a.vocabulary, movable) if len(movable) else None
        if order is None and self.found.ids is not None and (self.found.ids[0] != self.found.ids[1]).any():
            self.left.append("tokens keep their numbers")
        new |= self._ends(None if order is None else self._whole(order, movable))
        whole = None if order is None else self._whole(order, movable)
        return Undone(
            new, tuple(each.attention for each in plan), whole, self.turn.scale, tuple(self.left), self.has_new_gains
        )

    def _turn(self) -> Turn:
        """The stream's map where the family lets the function survive it."""
        residual, is_centred = self.found.stream.transform, self.arch.norm == "layer"
        turn = Turn.of(residual, is_centred=is_centred)
        pinned = self.arch.norm_after_residual or any(self._has(name) for name in ("embedding_norm", *BEHIND))
        is_mixed = is_centred and residual.sign is not None and len(set(residual.sign.tolist())) > 1
        if (residual.kind == ROTATION and pinned) or is_mixed:
            raise InconclusiveError(
                "the map of the residual stream cannot be undone without changing the function",
                where=self.b.name,
                expected="an order of axes with signs: norms of this family pin them",
                got=residual.kind,
                next_step="the models were trained far apart, or the map was recovered badly: see huref explain",
            )
        if residual.kind != ROTATION or not is_centred:
            return turn
        return max((turn, turn.turned_round()), key=self._likeness)

    def _likeness(self, turn: Turn) -> float:
        """How what norms do not hide is along the all-ones direction, against A's: their biases, else the output."""
        pairs = [
            (f"layers.{layer.layer}.{norm}", f"layers.{of}.{norm}")
            for layer in self.found.layers
            for norm, of in (("attention_norm", layer.attention), ("feed_forward_norm", layer.feed_forward))
        ]
        like = 0.0
        for mine, theirs in (*pairs, ("final_norm", "final_norm")):
            if f"{mine}_bias" in self.tensors and f"{theirs}_bias" in self.a.weights:
                bias, gain = (self.a.weights.read(name).astype(np.float64) for name in (f"{theirs}_bias", theirs))
                turned = turn.rows(self.tensors[f"{mine}_bias"] / self.tensors[mine])
                like += float(turned.mean()) * float((bias / gain).mean())
        return like if like or self.found.ids is None else self._output_likeness(turn, *self.found.ids)

    def _output_likeness(self, turn: Turn, mine: Array, theirs: Array) -> float:
        if "project_out" in self.tensors:
            return 0.0
        rows = self.tensors.get("unembedding", self.tensors["embedding"])[mine] * self.tensors.get("final_norm", 1.0)
        A = self.a.weights.read("unembedding", theirs).astype(np.float64) * self._read("", ("final_norm",)).get(
            "final_norm", 1.0
        )
        return float((turn.rows(rows).mean(1) * A.mean(1)).sum())

    def _has(self, role: str) -> bool:
        return any(name.rsplit(".", 1)[-1] == role for name in self.tensors)

    def _of_a(self, layer: int) -> dict[str, Array]:
        return (
            self._read(f"layers.{layer}.", [f"{r}{s}" for r in LAYER_ROLES for s in ("", "_bias")])
            if layer >= 0
            else {}
        )

    def _read(self, at: str, roles: Sequence[str]) -> dict[str, Array]:
        weights = self.a.weights
        return {role: weights.read(at + role).astype(np.float64) for role in roles if at + role in weights}

    def _layer(self, plan: LayerPlan) -> dict[str, Array]:
        """A layer's tensors by role, of one layer of B or of two."""
        parts = [self._undone_branches(plan.attention), self._undone_branches(plan.feed_forward)]
        T = {role: parts[not _is_attention(role)][role] for role in parts[1]}
        A = {
            role: tensor
            for of, mine in ((plan.of_attention, True), (plan.of_feed_forward, False))
            for role, tensor in self._of_a(of).items()
            if _is_attention(role) == mine
        }
        return self._turned(T, A)

    def _undone_branches(self, j: int) -> dict[str, Array]:
        """A layer of B with its neurons and heads in A's order, in B's stream."""
        start, layer = f"layers.{j}.", self.found.layers[j]
        T = {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}
        if layer.feed_forward >= 0:
            blocks = self._blocks_of_a(layer.feed_forward)
            T |= undo_neurons(T, layer, self.arch, self.activation, blocks)
        if layer.attention >= 0:
            T = undo_heads(T, layer, self.arch, self.b.weights.geometry, self.a.weights.geometry)
        return T

    def _blocks_of_a(self, layer: int) -> tuple[int, ...]:
        weights, at = self.a.weights, f"layers.{layer}."
        names = [name for name in ("up", "router") if at + name in weights]
        return blocks_of(weights.architecture, {name: np.empty(weights.shape(at + name)[0]) for name in names})

    def _turned(self, T: Mapping[str, Array], A: Mapping[str, Array]) -> dict[str, Array]:
        """A layer in A's stream."""
        turn = self.turn
        if turn.scale != 1.0 and "q_norm" in T:  # what enters a norm went along with its epsilon
            scaled = ("q", "k", "q_bias", "k_bias")
            T = {name: tensor / turn.scale if name in scaled else tensor for name, tensor in T.items()}
        new = dict(T)
        for norm, readers in self.folds.items():
            new |= self._readers(T, norm, readers, A)
            if norm not in T and not self.arch.unit_norms and turn.scale != 1.0:
                new |= {name: new[name] * turn.scale for name in readers if name in new}
        for role in WRITERS:
            new[role] = turn.columns(T[role])
            new |= {name: turn.rows(T[name]) for name in (f"{role}_bias",) if name in T}
        for norm in BEHIND:
            new |= {norm: turn.gain(T[norm])} if norm in T else {}
            new |= {f"{norm}_bias": turn.rows(T[f"{norm}_bias"])} if f"{norm}_bias" in T else {}
        if turn.scale != 1.0:
            shorter = [f"{name}{suffix}" for name in (*WRITERS, *BEHIND) for suffix in ("", "_bias")]
            new |= {name: new[name] / turn.scale for name in shorter if name in new}
        if self.folds is not FOLDS:  # one norm for both branches, under two names
            pairs = (("feed_forward_norm", "attention_norm"), ("feed_forward_norm_bias", "attention_norm_bias"))
            new |= {other: new[name] for other, name in pairs if other in T}
        new |= undo_traded_gains(new, A, self.arch, self.b.weights.geometry, is_near=self.is_near)
        if turn.is_centred and not self.arch.norm_after_residual:
            for norm, readers in self.folds.items():
                new |= hide_like(new, norm, readers, A, is_unit=self.arch.unit_norms, least=self.least)
            new |= hide_written(new, WRITERS, A, 0, self.least)
            new |= hide_written(new, tuple(f"{role}_bias" for role in WRITERS), A, -1, self.least)
        return new

    def _readers(
        self, T: Mapping[str, Array], norm: str, readers: tuple[str, ...], A: Mapping[str, Array]
    ) -> dict[str, Array]:
        new = turn_readers(self.turn, T, norm, readers, A, self.worse)
        self.has_new_gains |= norm in T and not np.array_equal(new[norm], self.turn.gain(T[norm]))
        return new

    def _ends(self, order: Array | None) -> dict[str, Array]:
        """Embeddings, positions, the last norm, the output matrix."""
        turn = self.turn
        T = {name: t for name, t in self.tensors.items() if not name.startswith("layers.")}
        if order is not None:
            T |= {name: T[name][order] for name in _ENDS if name in T}
        A = self._read("", ("position", "final_norm", "final_norm_bias"))
        T.setdefault("unembedding", T["embedding"])
        is_narrow, new = "project_in" in T, dict(T)
        reads = "project_out" if is_narrow else "unembedding"
        A |= {name: tensor for name, tensor in self._read("", (reads,)).items() if tensor.shape == T[reads].shape}
        new |= self._readers(T, "final_norm", (reads,), A)
        if "final_norm" not in T and not self.arch.unit_norms:
            new[reads] = new[reads] * turn.scale
        new["embedding"] = T["embedding"] if is_narrow else turn.rows(T["embedding"])
        new |= {"project_in": turn.columns(T["project_in"])} if is_narrow else {}
        new |= {name: turn.rows(T[name]) for name in ("position", "embedding_norm_bias") if name in T}
        new |= {"embedding_norm": turn.gain(T["embedding_norm"])} if "embedding_norm" in T else {}
        if turn.scale != 1.0:
            shorter = ("embedding", "position", "embedding_norm", "embedding_norm_bias")
            new |= {name: new[name] / turn.scale for name in shorter if name in new}
        return self._hidden_ends(self._tied(new), A)

    def _tied(self, T: dict[str, Array]) -> dict[str, Array]:
        """Without an output matrix that is the embedding behind a gain, where A has none."""
        if not self.a.weights.architecture.is_tied:
            return T
        E, gain = T["embedding"], T.get("final_norm")
        if E is T["unembedding"] or np.array_equal(E, T["unembedding"]):
            return {name: tensor for name, tensor in T.items() if name != "unembedding"}
        if gain is None or E.shape != T["unembedding"].shape:
            self.left.append(APART)
            return T
        F = T["unembedding"] * gain
        hides = self.turn.is_centred and not self.arch.norm_after_residual
        E, own = _behind_a_gain(F, E, gain, hides=hides)
        if np.linalg.norm(F - E * own) > _TIED * np.linalg.norm(F) or not np.abs(own).min() > 0:
            self.left.append(APART)
            return T
        new = {name: tensor for name, tensor in T.items() if name != "unembedding"} | {
            "final_norm": own,
            "embedding": E,
        }
        if "final_norm_bias" in T:
            new["final_norm_bias"] = T["final_norm_bias"] / gain * own
        return new

    def _hidden_ends(self, T: dict[str, Array], A: Mapping[str, Array]) -> dict[str, Array]:
        if not self.turn.is_centred or self.arch.norm_after_residual:
            return T
        ends = dict(A)
        if "unembedding" in T and "project_in" not in T:  # a tied embedding also reads
            ends |= self._read("", ("embedding",))
            T |= hide_written(T, ("embedding",), ends, -1, self.least)
        T |= hide_written(T, ("position",), ends, -1, self.least)
        return T

    def _whole(self, order: Array, movable: Array) -> Array:
        """B's number of every token."""
        whole = np.arange(self.b.weights.geometry.vocab_size)
        whole[movable] = order
        return whole

    def _tell_layers(self, plan: Sequence[LayerPlan], depth_a: int) -> None:
        of = [each.of_feed_forward for each in plan]
        if of != list(range(depth_a)):
            self.left.append(f"layers stand as they stood: {', '.join('?' if i < 0 else str(i) for i in of)} of A's")
        layers = [layer for layer in self.found.layers if layer.feed_forward >= 0]
        n_lost = sum(int((layer.neurons < 0).sum()) for layer in layers)
        if n_lost:
            self.left.append(f"{n_lost} neurons without a partner stand in places that were free")
        n_heads = sum(int((layer.heads < 0).sum()) for layer in layers if layer.attention >= 0)
        if n_heads:
            self.left.append(f"{n_heads} heads without a partner stand in places that were free")


def _has_one_norm(weights: CanonicalWeights) -> bool:
    name = "layers.0.feed_forward_norm"
    return name in weights and weights.role(name).is_alias


def _joined_folds() -> dict[str, tuple[str, ...]]:
    return {"attention_norm": tuple(reader for readers in FOLDS.values() for reader in readers)}


def _behind_a_gain(F: Array, E: Array, gain: Array, *, hides: bool) -> tuple[Array, Array]:
    """Embedding rows and a gain of least error in `F = E gain`.

    Args:
        hides: the mean of a row over the axes is free in E: no norm sees it.
    """
    if not hides:
        return E, _least_gain(F, E)
    some = np.unique(np.linspace(0, len(E) - 1, min(len(E), _SAMPLED_ROWS)).astype(np.int64))
    Fs, Es = F[some], E[some]
    for _ in range(_ROUNDS):  # by turns: a straight way when the other is known
        before, gain = gain, _least_gain(Fs, Es + (Fs / gain - Es).mean(1, keepdims=True))
        if np.abs(gain - before).max() <= 1e-9 * np.abs(gain).max():
            break
    return E + (F / gain - E).mean(1, keepdims=True), gain


def _least_gain(F: Array, E: Array) -> Array:
    gain: Array = np.einsum("vd,vd->d", F, E) / np.maximum(np.einsum("vd,vd->d", E, E), 1e-300)
    return gain


def _is_attention(role: str) -> bool:
    return role.removesuffix("_bias") in _ATTENTION


_ATTENTION = ("attention_norm", "q", "k", "v", "o", "q_norm", "k_norm", "post_attention_norm")
