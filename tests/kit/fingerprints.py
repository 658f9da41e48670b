"""Fingerprints made of random numbers, alike as far as asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.sketch import unit_rms

KINDS = ("qk", "vo", "up_down")


def made(name: str = "base", **changes: Any) -> Fingerprint:
    """A fingerprint of a model that nobody has."""
    random = np.random.default_rng(0)
    recipe = Recipe()
    side = recipe.sketch_rows
    fields = {
        "model": name,
        "architecture": "llama",
        "recipe": recipe,
        "vector": unit_rms(random.standard_normal(512)),
        "sketches": {
            f"{layer}.{kind}": unit_rms(random.standard_normal((side, side))) for layer in (2, 3) for kind in KINDS
        },
        "tokens": {"method": "sampled", "requested": 4096, "used": 400, "digest": "00", "vocabulary": "11"},
        "geometry": {"n_layers": 4, "d_model": 32},
        "weights": {"format": "gguf", "files": {"a.gguf": 10}, "bytes_read": 5, "bytes_total": 10},
        "notes": (),
        "version": "0.1.0",
    }
    return Fingerprint(**{**fields, **changes})


def kin(score: float, name: str, seed: int = 1) -> Fingerprint:
    """A fingerprint whose vector and sketches have the cosine `score` with those of `made()`, exactly."""
    random = np.random.default_rng(seed)
    base = made()

    def mixed(old: np.ndarray) -> np.ndarray:
        noise = random.standard_normal(old.shape)
        noise -= old * (noise * old).sum() / (old * old).sum()
        noise *= np.linalg.norm(old) / np.linalg.norm(noise)
        return unit_rms(score * old + np.sqrt(1 - score * score) * noise)

    sketches = {key: mixed(value) for key, value in base.sketches.items()}
    return replace(base, model=name, vector=mixed(base.vector), sketches=sketches)
