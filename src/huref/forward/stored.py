"""Canonical tensors back under their stored names: the inverse of what `huref.model.arch` does on reading.

Fused matrices are fused again, Conv1D is turned back, 1 is taken off gammas, experts go to their own tensors.
What the decoder does not use (a vision tower, masks) is carried along as it was.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from huref.errors import ArchitectureError
from huref.forward.checkpoint_writer import config_json, stored_name
from huref.forward.decoder import Decoder
from huref.forward.renumbering import new_ids, renumber_config
from huref.forward.settings import LAYER_COUNT_KEYS, PER_LAYER_KEYS
from huref.model.arch.facts import sections
from huref.model.arch.names import expand
from huref.model.arch.schema import Family, NameSet
from huref.model.arch.weights import CanonicalWeights
from huref.model.source.packed.declaration import DECLARATIONS
from huref.numerics.arrays import Array

_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Layout:
    """How a checkpoint stores its tensors, for writing others in their place.

    Attributes:
        weights: the checkpoint that was read.
        family: its architecture file.
    """

    weights: CanonicalWeights
    family: Family

    @property
    def names(self) -> NameSet:
        """The family's names in safetensors and pickles; in GGUF where it is only there."""
        names = self.family.huggingface or self.family.gguf
        if names is None:
            raise ArchitectureError("the architecture file has no names", where=self.family.name)
        return names


def layout_of(weights: CanonicalWeights) -> Layout:
    """The layout of an open checkpoint.

    Raises:
        ArchitectureError: the weights do not come from a checkpoint of a described family.
    """
    if weights.family is None:
        raise ArchitectureError(
            "there is no architecture file behind these weights", where=weights.checkpoint.reference
        )
    return Layout(weights, weights.family)


def stored_tensors(layout: Layout, model: Decoder, dtype: DTypeLike) -> dict[str, Array]:
    """Every tensor of a checkpoint with these canonical weights, by stored name.

    Raises:
        ArchitectureError: the family has no name for an unembedding of its own.
    """
    weights = layout.weights
    if weights.checkpoint.format == "gguf":
        return {stored_name(name): tensor.astype(dtype, copy=False) for name, tensor in model.tensors.items()}
    out: dict[str, Array] = {}
    for name, tensor in model.tensors.items():
        if name == "unembedding" and weights.architecture.is_tied:
            continue
        _put(weights, model, name, tensor, dtype, out)
    claimed = {stored for name in weights.names() for stored in weights.stored_names(name)}
    out |= {name: weights.checkpoint.read(name) for name in weights.checkpoint.tensors if name not in claimed}
    if not model.is_tied and weights.architecture.is_tied:
        return _with_head(layout, out, model.tensors["unembedding"].astype(dtype))
    return out


def stored_config(layout: Layout, model: Decoder, dtype: DTypeLike) -> dict[str, Any]:
    """config.json for these weights: the checkpoint's own, changed only where the model has changed."""
    weights = layout.weights
    if weights.checkpoint.format == "gguf":
        return config_json(model, dtype)
    config: dict[str, Any] = copy.deepcopy(dict(weights.checkpoint.config))
    inner: list[Any] = list(sections(config))  # of the copy, which is changed in place
    for section in (config, *inner):
        for key in DECLARATIONS:  # the copy is plain
            section.pop(key, None)
    config.update(_changes(config, weights, model, is_top=True))
    for section in inner:
        section.update(_changes(section, weights, model, is_top=False))
    if model.token_order is not None:
        config = renumber_config(config, new_ids(model).tolist())
    config["dtype" if "dtype" in config else "torch_dtype"] = np.dtype(dtype).name
    return config


def _put(
    weights: CanonicalWeights, model: Decoder, name: str, tensor: Array, dtype: DTypeLike, out: dict[str, Array]
) -> None:
    """Write one canonical tensor into the stored ones it is cut from."""
    origin = _origin(model, name)
    role = weights.role(origin)
    values = tensor.astype(np.float64) - 1 if role.adds_one else tensor
    at = 0
    for piece in role.pieces:
        stored = piece.stored if origin == name else _LAYER.sub(name.split(".")[1], piece.stored, count=1)
        if stored not in out:
            out[stored] = np.full(weights.checkpoint.tensors[piece.stored].shape, np.nan, dtype)
        whole = out[stored].T if role.is_transposed else out[stored]
        view = whole.reshape(-1, whole.shape[-1]) if piece.is_table else whole  # contiguous: shares memory
        view = whole.reshape(-1) if piece.is_flat else view
        if piece.turned:
            view = view[piece.turned[0] : sum(piece.turned)].T
        n = view.shape[1] if role.axis else piece.rows.n_rows
        taken = slice(at, at + n)
        view[piece.rows.index()] = values[:, taken] if role.axis else values[taken]
        at += n


def _origin(model: Decoder, name: str) -> str:
    """The checkpoint's name for what a canonical tensor takes the place of: an inserted layer's is its copy's."""
    if not name.startswith("layers."):
        return name
    _, layer, role = name.split(".")
    return f"layers.{model.layer_origins[int(layer)]}.{role}"


def _changes(
    section: Mapping[str, Any], weights: CanonicalWeights, model: Decoder, *, is_top: bool
) -> dict[str, Any]:
    """What differs in one section of config.json."""
    new: dict[str, Any] = {}
    if model.is_tied != weights.architecture.is_tied and (is_top or "tie_word_embeddings" in section):
        new["tie_word_embeddings"] = model.is_tied
    key = model.settings.eps_key
    if key in section and float(section[key]) != model.settings.eps:
        new[key] = model.settings.eps
    if model.layer_origins != tuple(range(weights.geometry.n_layers)):
        new |= {key: model.geometry.n_layers for key in LAYER_COUNT_KEYS if key in section}
        for key in PER_LAYER_KEYS:
            if isinstance(section.get(key), list) and len(section[key]) == weights.geometry.n_layers:
                new[key] = [section[key][origin] for origin in model.layer_origins]
    return new


def _with_head(layout: Layout, tensors: dict[str, Array], head: Array) -> dict[str, Array]:
    """An unembedding beside the rest; a bare export (`wte.weight`) takes the prefix that the full model has."""
    rule = layout.names.tensors.get("unembedding")
    if rule is None:
        raise ArchitectureError(
            "the family has no name for an unembedding that is not the embedding",
            where=layout.weights.checkpoint.reference,
            got=layout.family.name,
        )
    full = layout.names.prefixes[0]
    bare = {f"{template.removeprefix('{p}')}.weight" for template in layout.names.tensors["embedding"].from_}
    start = full if layout.weights.stored_name("embedding") in bare else ""
    return {**{start + name: t for name, t in tensors.items()}, f"{expand(rule.from_[0], full)}.weight": head}
