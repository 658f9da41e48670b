"""Comparisons made by hand, of every kind that a report has to show, and the evidence around them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from huref.kinship.record import NO_WEIGHTS, Comparison, LayerMatch, TermScore
from huref.portraits.image import png_bytes
from huref.report import Evidence, FileRecord, InputRecord

HOSTILE = "<script>alert(1)</script>&\"'\u202e\u200f]\x00[{0}](http://example.org/)"
KINDS = ("qk", "vo", "up_down", "gate_down")


def background(own: str = "agreement", n: int = 66) -> dict[str, Any]:
    """Unrelated pairs as a calibration has them: most near chance, a few twins above."""
    values = np.random.default_rng(5).beta(1.2, 40, n)
    values[:3] = 0.1173, 0.0981, 0.0766
    return {
        "score": own,
        "mean": float(values.mean()),
        "std": float(values.std(ddof=1)),
        "n": n,
        "max": float(values.max()),
        "n_bases": 12,
        "rate_bound": 0.0443,
        "scores": {"agreement": {"p_value": 1 / 67, "z": 35.213, "mean": 0.0301, "std": 0.0287, "max": 0.1173}},
        "nearest": {"a": "llama-tied/seed1", "b": "llama-tied/seed2", "score": 0.1173, "twins": True},
        "values": values.tolist(),
        "calibration": "2026-11",
        "matched": "same architecture and width",
    }


def matched(n: int, seed: int = 1, low: float = 0.96) -> tuple[LayerMatch, ...]:
    """Layers in order."""
    dice = np.random.default_rng(seed)
    return tuple(
        LayerMatch(
            k,
            k,
            agreement=float(dice.uniform(low, 1)),
            chance=1 / 352,
            n_neurons=352,
            heads=1.0,
            in_place=0.25,
            aligned={kind: float(dice.uniform(0.8, 0.99)) for kind in KINDS},
        )
        for k in range(n)
    )


def layer_table(rows: int, columns: int, matches: tuple[LayerMatch, ...]) -> np.ndarray:
    """Chance everywhere but where layers are partners."""
    table = np.random.default_rng(2).beta(1.2, 40, (rows, columns))
    for layer in matches:
        table[layer.layer_a, layer.layer_b] = layer.agreement
    return table


def derived(n_layers: int = 4, **changes: Any) -> Comparison:
    """A fine-tune and its base."""
    layers = matched(n_layers)
    found = Comparison(
        a="base-1",
        b="base-1-chat",
        pcs=0.98731,
        ics=0.91234,
        ics_canonical=None,
        ics_canonical_2=0.90871,
        vectors=0.90456,
        terms=(TermScore(2, 2, "qk", 0.93), TermScore(3, 3, "paper/vo", -0.0123)),
        verdict="derived",
        notes=("PCS skips 2 tensors without a partner of equal shape: embed, head",),
        aligned=0.9012,
        agreement=float(np.mean([layer.agreement for layer in layers])),
        layers=layers,
        table=layer_table(n_layers, n_layers, layers),
        alignment={
            "method": "tokens",
            "shared_tokens": 4096,
            "tried": {"tokens": 0.9912},
            "is_complete": True,
        },
        self_null={"mean": 0.021, "std": 0.017, "n": 12, "max": 0.0661},
        background=background(),
        z=35.213,
        p_value=1 / 67,
        derivation={
            "kind": "fine-tuned",
            "strength": "light",
            "direction": "b from a",
            "reasons": ["98.7 % of all parameters point the same way", "no tensor was added"],
        },
    )
    return replace(found, **changes)


def independent() -> Comparison:
    """Twins: the same data, another seed."""
    layers = matched(4, low=0.01)
    layers = tuple(replace(layer, agreement=layer.agreement / 12, aligned={"qk": 0.02}) for layer in layers)
    agreement = float(np.mean([layer.agreement for layer in layers]))
    return derived(
        a="llama-tied/seed1",
        b="llama-tied/seed3",
        pcs=0.0021,
        ics=0.31,
        ics_canonical=None,
        ics_canonical_2=0.23,
        vectors=0.22,
        verdict="independent",
        aligned=0.02,
        agreement=agreement,
        layers=layers,
        table=layer_table(4, 4, layers),
        alignment={"method": "rows", "shared_tokens": 3021},
        z=0.61,
        p_value=0.4179,
        derivation={"kind": "independent", "strength": None, "direction": None, "reasons": []},
        notes=(),
    )


def inconclusive() -> Comparison:
    """Two saved fingerprints: nearly everything is null."""
    notes = (
        NO_WEIGHTS,
        "pcs is null: it needs the weights of both models",
        "ics is null: the fingerprints are of the canonical recipe",
    )
    return Comparison("left", "right", None, None, 0.42, 0.4321, (), "inconclusive", notes)


def deep(n: int = 80) -> Comparison:
    """Many layers; those of B have lost two, and some pairs were not tried."""
    layers = tuple(
        replace(layer, layer_b=layer.layer_b - (layer.layer_a > 30)) for layer in matched(n) if layer.layer_a != 30
    )
    table = layer_table(n, n - 1, layers)
    for row in range(n):
        for column in range(n - 1):
            if abs(row - column) > 24:
                table[row, column] = np.nan
    return derived(n, layers=layers, table=table, verdict="merged", derivation={"kind": "merged"})


def portrait(seed: int = 0) -> bytes:
    """A PNG that is no dog."""
    return png_bytes(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8), {})


def weights(name: str, seed: int = 0, files: int = 2) -> InputRecord:
    """An input that is a folder of shards."""
    return InputRecord(
        reference=f"models/{name}",
        architecture="llama",
        storage="safetensors",
        files=tuple(
            FileRecord(
                f"model-{k + 1:05d}-of-{files:05d}.safetensors",
                4_976_698_592 + k,
                f"{k + seed:064x}",
                f"models/{name}/model-{k + 1:05d}-of-{files:05d}.safetensors",
            )
            for k in range(files)
        ),
        bytes_read=1_234_567_890,
        portrait=portrait(seed),
        portrait_note="canonical recipe, sketch, 4096 tokens",
    )


def saved(name: str) -> InputRecord:
    """An input that is a saved fingerprint."""
    return InputRecord(
        reference=f"{name}.huref.safetensors",
        is_saved=True,
        architecture="gpt2",
        files=(FileRecord(f"{name}.huref.safetensors", 120_000, "ab" * 32, path=f"{name}.huref.safetensors"),),
        contents=(("holds", "a vector of 512 numbers and 6 sketches"), ("recipe", "canonical, sketch")),
        portrait_note="the generator is not there",
    )


def evidence(a: InputRecord | None = None, b: InputRecord | None = None, **changes: Any) -> Evidence:
    """What stands behind a comparison."""
    found = Evidence(
        inputs=(a or weights("base-1"), b or weights("base-1-chat", 9)),
        command=("huref", "compare", "models/base-1", "models/base-1-chat", "--layers", "all"),
        settings=(("recipe", "canonical and paper"), ("layers", "all")),
        expect=None,
        exit_code=0,
        hashing="sha256 of every file.",
        version="0.1.0",
        made="2026-11-25T19:00:00+00:00",
        transform=(),
        accused_from=0.25,
        accusation_rate=0.01,
    )
    return replace(found, **changes)


CASES: dict[str, tuple[Comparison, Evidence]] = {
    "derived": (derived(), evidence(transform=(("residual stream", "61 signs"),))),
    "independent": (independent(), evidence()),
    "inconclusive": (
        inconclusive(),
        evidence(saved("left"), saved("right"), exit_code=3),
    ),
    "deep": (deep(), evidence(expect="derived", exit_code=1)),
    "hostile": (
        derived(
            a=HOSTILE * 200,
            b=HOSTILE + "x" * 10_000,
            notes=tuple(f"{k} {HOSTILE}" for k in range(20)),
            verdict="derived",
            derivation={
                HOSTILE: HOSTILE,
                "kind": HOSTILE,
                "direction": HOSTILE,
                "reasons": [HOSTILE],
            },
            alignment={"method": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: 1}]},
            background={
                **background(),
                "nearest": {"a": HOSTILE, "b": HOSTILE, "score": 0.1},
                "matched": HOSTILE,
                "calibration": HOSTILE,
            },
        ),
        evidence(
            replace(
                weights(HOSTILE, files=30),
                architecture=HOSTILE,
                portrait_note=HOSTILE,
            ),
            replace(saved(HOSTILE), contents=((HOSTILE, HOSTILE),)),
            command=("huref", HOSTILE),
            settings=((HOSTILE, HOSTILE),),
            transform=((HOSTILE, HOSTILE),),
        ),
    ),
}
"""By name: what a report has to show."""
