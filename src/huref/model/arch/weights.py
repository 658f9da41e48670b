"""CanonicalWeights: a checkpoint seen through its family's architecture file, read lazily."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huref.errors import ArchitectureError, MissingTensorError
from huref.model.arch.canonical import Attention, FeedForward, Geometry, Roles, TensorRole
from huref.model.arch.detect import choose_family
from huref.model.arch.facts import Facts, Sizes, read_facts, read_sizes
from huref.model.arch.families import load_families
from huref.model.arch.latent import latent_heads
from huref.model.arch.names import summary
from huref.model.arch.plan import Planner
from huref.model.arch.reader import Reader
from huref.model.arch.schema import Family, NormKind, Pinned, PositionKind
from huref.model.source.checkpoint import Checkpoint, Rows
from huref.numerics.arrays import Array, float32


@dataclass(frozen=True)
class Architecture:
    """What a family's file says of one checkpoint, with everything conditional decided.

    Attributes:
        name: the family.
        norm: `rms`, or `layer` (which also subtracts the mean).
        gated: whether the feed-forward block has a gate.
        activation: the usual one of the family; a configuration may say otherwise.
        position: how positions enter: `rope_half` turns dimension i with i + rotary_dim / 2,
            `rope_interleaved` 2 i with 2 i + 1, `rope_2d` within each half of a head (ChatGLM-6B).
        rotary_dim: how many of a head's dimensions turn, from the first on; 0 where none do.
        parallel: attention and feed-forward read the same residual stream.
        norm_after_residual: norms act on the residual sum (OPT-350m), not in front of a branch.
        unit_norms: the norms in front of branches have no parameters; their gain is 1.
        is_tied: embedding and unembedding are one matrix.
        n_experts: experts of a sparse layer; 0 in a dense family. `gate`, `up` and `down` of such a layer are
            the union of all experts' neurons; a layer is sparse if it has a `router`.
        expert_width: neurons of each expert; expert e's are `e * expert_width` up to the next one's.
        shared_width: neurons of the shared expert, which come last; 0 where there is none.
        nope_dim: of a latent key, the dimensions that do not rotate, which are a head's first; 0 where keys are not
            latent.
        expert_groups: experts are chosen in two steps, groups of neighbours first; 1 where they are not.
        pinned: what cannot be rearranged, see `Family`.
        has_logits: whether `huref.forward` computes what the family computes.
    """

    name: str
    norm: NormKind
    gated: bool
    activation: str
    position: PositionKind
    rotary_dim: int
    parallel: bool
    norm_after_residual: bool
    unit_norms: bool
    is_tied: bool
    n_experts: int = 0
    expert_width: int = 0
    shared_width: int = 0
    nope_dim: int = 0
    expert_groups: int = 1
    pinned: tuple[Pinned, ...] = ()
    has_logits: bool = True


def open_weights(checkpoint: Checkpoint, arch_file: Path | None = None) -> CanonicalWeights:
    """See a checkpoint through the architecture file of its family.

    Args:
        checkpoint: open; it stays the caller's to close.
        arch_file: an architecture file of the user's own, used instead of the known families.

    Raises:
        ArchitectureError: unknown family, bad architecture file, or shapes that contradict the configuration.
        MissingTensorError: a tensor is missing, or one has no place in the family.
    """
    family = _described(checkpoint, arch_file) if arch_file else choose_family(checkpoint)
    names = family.name_set(checkpoint.format)
    if names is None:
        raise ArchitectureError(
            f"the architecture file has no names for {checkpoint.format} files",
            where=str(arch_file),
            expected=f"a `{checkpoint.format}` section",
        )
    facts = read_facts(checkpoint, names)
    names = names.for_which(facts.hold)
    is_gguf = checkpoint.format == "gguf"
    if not is_gguf and _says_tied(facts, family):
        names = names.with_head_as_embedding()
    planner = Planner(names, checkpoint.tensors, checkpoint.reference, family.some_layers, is_nested=not is_gguf)
    sizes = read_sizes(facts, family, names, is_gguf, planner.vocab_rows(), planner.rows_of)
    roles, spare = planner.roles(sizes, _spare_layers(facts)), None
    if not is_gguf and facts.get("tie_word_embeddings") is True:
        spare = roles.pop("unembedding", None)
    if "unembedding" not in roles and (is_gguf or _says_tied(facts, family)):
        roles["unembedding"] = replace(roles["embedding"], name="unembedding", is_alias=True)
    architecture = _decide(facts, family, sizes, roles)
    return CanonicalWeights(
        checkpoint,
        architecture,
        sizes.geometry,
        roles,
        spare,
        family=family,
        beside=planner.beside,
        is_entwined=planner.is_entwined,
    )


def _described(checkpoint: Checkpoint, arch_file: Path) -> Family:
    """The family of an architecture file; of several, the one that claims the checkpoint."""
    families = load_families(arch_file)
    return families[0] if len(families) == 1 else choose_family(checkpoint, families)


def _spare_layers(facts: Facts) -> int:
    """Layers stored behind the model's own, which predict further tokens."""
    found = [facts.get(key) for key in ("num_nextn_predict_layers", "nextn_predict_layers", "num_mtp_layers")]
    return next((count for count in found if isinstance(count, int) and not isinstance(count, bool)), 0)


class CanonicalWeights:
    """Named canonical tensors of a decoder, read from its checkpoint only when asked for.

    Attributes:
        checkpoint: where the bytes come from; it counts those that were read.
        architecture: the family and its structure.
        geometry: the sizes.
        spare: an unembedding that is stored though the configuration ties it to the embedding: nobody reads it.
        family: what the architecture file says.
        beside: stored weights that are not the decoder's, or that no role describes: read by nobody.
        is_entwined: some of these stand in its layers.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        architecture: Architecture,
        geometry: Geometry,
        roles: Roles,
        spare: TensorRole | None = None,
        *,
        family: Family | None = None,
        beside: tuple[str, ...] = (),
        is_entwined: bool = False,
    ) -> None:
        self.is_entwined = is_entwined
        self.spare = spare
        self.family = family
        self.beside = beside
        self.checkpoint = checkpoint
        self.architecture = architecture
        self.geometry = geometry
        self._roles = roles

    def __contains__(self, name: str) -> bool:
        return name in self._roles

    def names(self) -> tuple[str, ...]:
        """Canonical names in model order, each piece of data once.

        Other names that mean the same data (a tied `unembedding`, a norm that serves two branches) are left
        out, but can be read.
        """
        return tuple(name for name, role in self._roles.items() if not role.is_alias)

    def shape(self, name: str) -> tuple[int, ...]:
        """Canonical shape: projections (out, in), embeddings (vocabulary, width)."""
        return self._role(name).shape

    def stored_dtype(self, name: str) -> str:
        """The type in the file, in the format's own spelling: `BF16`, `Q4_1`.

        Where experts are stored apart, that of the first, which all but a shared expert have in common.
        """
        return self.checkpoint.tensors[self.stored_name(name)].dtype

    def stored_name(self, name: str) -> str:
        """The stored tensor that a canonical one is cut from, for messages and evidence; the first of several."""
        return self.stored_names(name if name in self._roles else _factor_of(name))[0]

    def stored_names(self, name: str) -> tuple[str, ...]:
        """Every stored tensor that a canonical one is put together from: several for experts stored apart."""
        return tuple(dict.fromkeys(piece.stored for piece in self._role(name).pieces))

    def read(self, name: str, rows: Rows = None) -> Array:
        """One canonical tensor, or some of its rows, in its stored type.

        Only norms whose family stores gamma for 1 + gamma change type: they come as float32.

        Raises:
            MissingTensorError: this checkpoint has no such tensor.
        """
        return self.read_by(Reader(self.checkpoint), name, rows)

    def read_by(self, reader: Reader, name: str, rows: Rows = None) -> Array:
        """The same, by a reader that keeps whole matrices which cannot be read in parts."""
        return reader.read(self._role(name), rows)

    def announce(self, names: Iterable[str]) -> None:
        """Say which canonical tensors will be read soon, in that order; those that are not there are left out."""
        roles = (self._roles.get(name) for name in names)
        self.checkpoint.announce([piece.stored for role in roles if role is not None for piece in role.pieces])

    def has_other_spare(self, rows: slice) -> bool:
        """Whether some rows of a spare unembedding differ from the embedding's."""
        if self.spare is None:
            return False
        reader = Reader(self.checkpoint)
        return not np.array_equal(reader.read(self.spare, rows), reader.read(self._role("embedding"), rows))

    def embedding(self, rows: Rows = None) -> Array:
        """Token embeddings (n, d) as they enter the residual stream, without the family's scaling.

        Where embeddings are narrower than the residual stream (OPT-350m) they are projected up, in float32.
        """
        X = self.read("embedding", rows)
        if "project_in" not in self._roles:
            return X
        projected: Array = float32(X) @ float32(self.read("project_in")).T
        return projected

    def attention(self, layer: int) -> Attention:
        """One layer's attention matrices, split by head (views, no copies)."""
        g, read = self.geometry, self._layer_reader(layer)
        gain = self._front(read.maybe("attention_norm"))
        if self.has(layer, "kv_b"):
            q, k, v = latent_heads(read, gain, g, self.architecture.nope_dim)
        else:
            q = read("q").reshape(g.n_heads, -1, g.d_model)
            k = read("k").reshape(-1, q.shape[1], g.d_model)
            v = read("v").reshape(len(k), -1, g.d_model)
        return Attention(
            Wq=q,
            Wk=k,
            Wv=v,
            Wo=read("o").reshape(g.d_model, g.n_heads, -1).transpose(1, 0, 2),
            gain=gain,
            q_gain=_by_head(read.maybe("q_norm"), q.shape[1]),
            k_gain=_by_head(read.maybe("k_norm"), q.shape[1]),
        )

    def has(self, layer: int, role: str) -> bool:
        """Whether a layer has a role; `o` and `down` say whether it has attention and a feed-forward block."""
        return f"layers.{layer}.{role}" in self._roles

    def n_neurons(self, layer: int) -> int:
        """Feed-forward neurons of a layer."""
        return self.shape(f"layers.{layer}.up")[0] if self.has(layer, "up") else 0

    def notes(self) -> tuple[str, ...]:
        """What the checkpoint holds beside what is read of it."""
        notes = [*self.checkpoint.notes]
        notes += [f"not read, beside the decoder: {summary(self.beside)}"] if self.beside else []
        for role, part in (("o", "attention"), ("down", "feed-forward block")):
            without = [layer for layer in range(self.geometry.n_layers) if not self.has(layer, role)]
            if without:
                notes.append(f"{len(without)} of {self.geometry.n_layers} layers have no {part} to read")
        return tuple(notes)

    def feed_forward(self, layer: int) -> FeedForward:
        """One layer's feed-forward matrices."""
        read = self._layer_reader(layer)
        return FeedForward(
            gate=read.maybe("gate"),
            up=read("up"),
            down=read("down"),
            gain=self._front(read.maybe("feed_forward_norm")),
        )

    def _front(self, gain: Array | None) -> Array | None:
        if self.architecture.unit_norms and gain is None:
            return np.ones(self.geometry.d_model, np.float32)
        return None if self.architecture.norm_after_residual else gain

    def _layer_reader(self, layer: int) -> _LayerReader:
        if not 0 <= layer < self.geometry.n_layers:
            raise MissingTensorError(
                f"there is no layer {layer}",
                where=self.checkpoint.reference,
                expected=f"0 to {self.geometry.n_layers - 1}",
            )
        return _LayerReader(self, layer)

    def role(self, name: str) -> TensorRole:
        """Where a canonical tensor is stored, for those who write a checkpoint back.

        Raises:
            MissingTensorError: this checkpoint has no such tensor.
        """
        return self._role(name)

    def _role(self, name: str) -> TensorRole:
        if name not in self._roles:
            raise MissingTensorError(f"there is no canonical tensor {name}", where=self.checkpoint.reference)
        return self._roles[name]


class _LayerReader:
    """Reads roles of one layer."""

    def __init__(self, weights: CanonicalWeights, layer: int) -> None:
        self.weights = weights
        self.layer = layer
        self.reader = Reader(weights.checkpoint)

    def __call__(self, role: str) -> Array:
        """A role that every layer has: the planner saw to that."""
        return self.weights.read_by(self.reader, f"layers.{self.layer}.{role}")

    def maybe(self, role: str) -> Array | None:
        """A role that only some families have."""
        return self(role) if f"layers.{self.layer}.{role}" in self.weights else None


def _by_head(gain: Array | None, head_dim: int) -> Array | None:
    """(e,) stays; a gain for all heads becomes (heads, e)."""
    return gain if gain is None or gain.shape == (head_dim,) else gain.reshape(-1, head_dim)


def _factor_of(name: str) -> str:
    """The stored factor behind a matrix that is a product of several."""
    layer, _, role = name.rpartition(".")
    return f"{layer}.{ {'q': 'q_b', 'k': 'kv_b', 'v': 'kv_b'}.get(role, role) }".replace(" ", "")


def _says_tied(facts: Facts, family: Family) -> bool:
    said = facts.get("tie_word_embeddings")
    return family.tied if said is None else bool(said)


def _expert_groups(facts: Facts) -> int:
    found = [facts.get(key) for key in ("n_group", "num_expert_group", "n_expert_group")]
    return next((count for count in found if isinstance(count, int) and count > 1), 1)


def _decide(facts: Facts, family: Family, sizes: Sizes, roles: Roles) -> Architecture:
    position = facts.choose(family.position, "the position scheme")
    return Architecture(
        name=family.name,
        norm=facts.choose(family.norm, "the norm"),
        gated=family.gated or any(name.endswith(".gate") for name in roles),  # nothing else tells T5's two kinds
        activation=family.activation,
        position=position,
        rotary_dim=sizes.rotary if position.startswith("rope") else 0,
        parallel=facts.choose(family.parallel, "whether blocks are parallel"),
        norm_after_residual=family.norm_after_residual,
        unit_norms=facts.choose(family.unit_norms, "whether norms have parameters"),
        is_tied="unembedding" in roles and roles["unembedding"].is_alias,
        n_experts=sizes.experts.n,
        expert_width=sizes.experts.width,
        shared_width=sizes.experts.shared,
        nope_dim=sizes.nope,
        expert_groups=_expert_groups(facts),
        pinned=family.pinned,
        has_logits=family.has_logits,
    )
