"""Weights that no checkpoint holds: of a model that was undone, or of a mixture, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from huref.model.arch.canonical import TensorRole
from huref.model.arch.reader import Reader
from huref.model.arch.weights import CanonicalWeights
from huref.model.source.checkpoint import Rows
from huref.numerics.arrays import Array, float32


class HeldWeights(CanonicalWeights):
    """Canonical tensors in memory, in place of those of a checkpoint of the same family."""

    def __init__(self, tensors: Mapping[str, Array], like: CanonicalWeights, origins: Sequence[int]) -> None:
        """Keep them, float32.

        Args:
            tensors: by canonical name.
            like: the checkpoint's, whose messages and stored types these have.
            origins: the layer of the checkpoint behind each layer.
        """
        self._tensors = {name: float32(tensor) for name, tensor in tensors.items()}
        self._like, self._origins = like, tuple(origins)
        is_tied = "unembedding" not in tensors
        roles = {name: self._role_of(name, tensor) for name, tensor in self._tensors.items()}
        if is_tied and "unembedding" in like:
            self._tensors["unembedding"] = self._tensors["embedding"]
            roles["unembedding"] = TensorRole("unembedding", self._tensors["embedding"].shape, (), is_alias=True)
        geometry = replace(like.geometry, n_layers=len(self._origins))
        super().__init__(like.checkpoint, replace(like.architecture, is_tied=is_tied), geometry, roles)

    def read_by(self, _: Reader, name: str, rows: Rows = None) -> Array:
        """As in a checkpoint, always float32."""
        tensor = self._tensors[self._role(name).name]
        return tensor if rows is None else tensor[rows]

    def stored_dtype(self, name: str) -> str:
        """The checkpoint's."""
        origin = self._origin(name)
        return self._like.stored_dtype(origin) if origin in self._like else "F32"

    def stored_names(self, name: str) -> tuple[str, ...]:
        """For messages."""
        return (self._role(name).name,)

    @property
    def tensors(self) -> Mapping[str, Array]:
        """What is held, under every name, float32; `unembedding` only where it has its own."""
        is_tied = self.architecture.is_tied
        return {name: t for name, t in self._tensors.items() if not (is_tied and name == "unembedding")}

    @property
    def like(self) -> CanonicalWeights:
        """The checkpoint's."""
        return self._like

    @property
    def origins(self) -> tuple[int, ...]:
        """The layer of the checkpoint behind each layer."""
        return self._origins

    def _role_of(self, name: str, tensor: Array) -> TensorRole:
        origin = self._origin(name)
        is_alias = origin in self._like and self._like.role(origin).is_alias and name != "unembedding"
        return TensorRole(name, tensor.shape, (), is_alias=is_alias)

    def _origin(self, name: str) -> str:
        if not name.startswith("layers."):
            return name
        _, layer, role = name.split(".", 2)
        return f"layers.{self._origins[int(layer)]}.{role}"
