"""Codes in a fingerprint file: tensor names and shapes, `docs/formats/codes-v1.md`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from huref.files.tensor_file import typed
from huref.fingerprints.codes import OPERATORS, CodeRecipe, Codes, LayerCodes, Packed

SCHEMA = "huref.codes/1"
_PREFIX, _PLAIN = "codes/", "plain/"
_NAME = re.compile("(codes|plain)/(0|[1-9][0-9]{0,5})[.](gate|up|down|qk|vo|operators|copies)")
_LISTED = "codes/listed"
_LISTED_BYTES = 2048
_MOST_BITS = 4096
_MOST_LAYERS = 1024
"""Of a model with codes: tables of pairs of layers are made of any that a file states."""


def is_code_tensor(name: str) -> bool:
    """Whether a tensor of a fingerprint file belongs to its codes."""
    return name.startswith((_PREFIX, _PLAIN))


def code_document(codes: Codes) -> dict[str, Any]:
    """What the file's JSON says under `codes`."""
    return {"schema": SCHEMA, **codes.header()}


def code_tensors(codes: Codes) -> dict[str, np.ndarray]:
    """The codes as tensors of a file: uint8, and float16 for the operators' sketches."""
    found: dict[str, np.ndarray] = {_LISTED: codes.listed}
    for prefix, layers in ((_PREFIX, codes.layers), (_PLAIN, codes.plain)):
        for index, layer in layers.items():
            parts = {"gate": layer.gate, "up": layer.up, "down": layer.down, "qk": layer.qk, "vo": layer.vo}
            found |= {
                f"{prefix}{index}.{name}": part for name, part in parts.items() if part is not None and len(part)
            }
            if layer.operators:
                sketches = np.stack([layer.operators[kind] for kind in OPERATORS])
                scale = np.sqrt(np.square(sketches, dtype=np.float64).mean(axis=(1, 2), keepdims=True))
                found[f"{prefix}{index}.operators"] = (sketches / np.where(scale, scale, 1)).astype("<f2")
            if layer.n_copies > 1:
                found[f"{prefix}{index}.copies"] = np.array([layer.n_copies], "<i4")
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


def parse_codes(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], n_layers: int) -> Codes | None:
    """The codes of a file, None where it has none or those of a version that this huref does not know.

    Raises:
        ValueError, KeyError, TypeError: they contradict their format.
    """
    if "codes" not in document:
        if any(map(is_code_tensor, tensors)):
            raise ValueError("codes without their description")
        return None
    told = typed(document["codes"], dict)
    if typed(told["schema"], str) != SCHEMA:
        return None
    names = [name for name in tensors if is_code_tensor(name) and name != _LISTED]
    if not all(map(_NAME.fullmatch, names)):
        raise ValueError("a tensor of codes whose name is none")
    if n_layers > _MOST_LAYERS:
        raise ValueError("more layers than any model has")
    recipe = _recipe(told["recipe"])
    indices = {key: _indices(told[key], n_layers) for key in ("layers", "plain_layers")}
    stated = {f"{_PREFIX}{i}" for i in indices["layers"]} | {f"{_PLAIN}{i}" for i in indices["plain_layers"]}
    if {name.rpartition(".")[0] for name in names} != stated:
        raise ValueError("codes of other layers than stated")
    listed = tensors[_LISTED]
    if listed.shape != (_LISTED_BYTES,) or listed.dtype != np.uint8:
        raise ValueError("a list of tokens of another size")
    return Codes(
        recipe=recipe,
        tokens=typed(told["tokens"]["digest"], str),
        n_tokens=typed(told["tokens"]["used"], int),
        listed=listed,
        layers={i: _layer(f"{_PREFIX}{i}", tensors, recipe, has_heads=True) for i in indices["layers"]},
        plain={i: _layer(f"{_PLAIN}{i}", tensors, recipe, has_heads=False) for i in indices["plain_layers"]},
        n_experts=typed(told["n_experts"], int),
    )


def _recipe(values: Mapping[str, Any]) -> CodeRecipe:
    usual = CodeRecipe().to_dict()
    if values.keys() != usual.keys():
        raise ValueError("a recipe of codes with other keys")
    recipe = CodeRecipe(**{key: typed(values[key], type(value)) for key, value in usual.items()})
    if recipe.bits % 16 or not 16 <= recipe.bits <= _MOST_BITS or not 1 <= recipe.side <= recipe.bits // 2:
        raise ValueError("a recipe of codes with other sizes")
    return recipe


def _indices(values: Any, n_layers: int) -> tuple[int, ...]:
    found = tuple(typed(value, int) for value in typed(values, list))
    if list(found) != sorted(set(found)) or any(not 0 <= i < n_layers for i in found):
        raise ValueError("codes of layers that the model lacks")
    return found


def _layer(at: str, tensors: Mapping[str, np.ndarray], recipe: CodeRecipe, *, has_heads: bool) -> LayerCodes:
    def codes(name: str) -> Packed:
        found = tensors[f"{at}.{name}"]
        if found.dtype != np.uint8 or found.ndim != 2 or found.shape[1] != recipe.bits // 8 or not len(found):
            raise ValueError(f"codes of another shape: {at}.{name}")
        return found

    gate, down = codes("gate"), codes("down")
    up = codes("up") if f"{at}.up" in tensors else None
    none = np.zeros((0, recipe.bits // 8), np.uint8)
    has_heads_here = f"{at}.qk" in tensors or f"{at}.vo" in tensors  # a layer of a hybrid may have no attention
    qk, vo = (codes("qk"), codes("vo")) if has_heads and has_heads_here else (none, none)
    if len({len(part) for part in (gate, down, gate if up is None else up)}) != 1 or len(qk) != len(vo):
        raise ValueError(f"codes of other numbers of neurons: {at}")
    copies = tensors.get(f"{at}.copies", np.ones(1, np.int32))
    if copies.shape != (1,) or copies.dtype != np.int32 or not 1 <= int(copies[0]) <= len(gate):
        raise ValueError(f"a number of experts that cannot be: {at}")
    return LayerCodes(gate, up, down, qk, vo, _operators(at, tensors, recipe) if has_heads else {}, int(copies[0]))


def _operators(at: str, tensors: Mapping[str, np.ndarray], recipe: CodeRecipe) -> dict[str, np.ndarray]:
    found = tensors[f"{at}.operators"]
    is_right = found.shape == (len(OPERATORS), recipe.side, recipe.side) and found.dtype == np.float16
    if not is_right or not np.isfinite(found).all():
        raise ValueError(f"sketches of operators of another shape, or not finite: {at}")
    return dict(zip(OPERATORS, found.astype(np.float32), strict=True))
