"""Real training: siblings, heirs and neighbours on one path are no merges; merges of them are told from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from huref.parentage.record import Parentage
from huref.parentage.search import parents
from huref_lab.training.language_models import (
    Shape,
    TrainJob,
    TrainOptions,
    encode,
    train_base,
    train_tokenizer,
    tune_further,
)
from huref_lab.training.texts import read_text
from kit import merge_formulas as formulas

pytestmark = pytest.mark.training

SHAPE = Shape(width=48, depth=2, heads=2, kv_heads=1, feed_forward=96)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, fine-tunes of it on two texts, and what was tuned from those; each beside its parent."""
    folder = tmp_path_factory.mktemp("trained")
    texts = {key: read_text(source, 120_000, folder) for key, source in SOURCES.items()}
    tokenizer = train_tokenizer(texts["a"], 512)
    ids = {key: encode(tokenizer, text) for key, text in texts.items()}

    def job(name: str, steps: int, seed: int, rate: float = 2e-3) -> TrainJob:
        return TrainJob(folder / name, TrainOptions(steps, 8, 48, rate, seed), name)

    for name, seed in (("base", 0), ("stranger", 1)):
        train_base(job(name, 80, seed), "llama", SHAPE, tokenizer, ids["a"])
    for name, parent, text, steps, seed, rate in PLANS:
        tune_further(job(name, steps, seed, rate), folder / parent, ids[text])
    return folder


SOURCES = {"a": "python:stdlib", "x": "python:torch", "y": "python:numpy"}
PLANS = [
    ("x1", "base", "x", 20, 1, 2e-3),
    ("x2", "base", "x", 20, 2, 2e-3),
    ("x1-slower", "base", "x", 20, 1, 1e-3),
    ("y1", "base", "y", 20, 3, 2e-3),
    ("x1-y", "x1", "y", 20, 4, 2e-3),
    ("x1-y-alike", "x1", "y", 20, 3, 2e-3),
    ("x1-x", "x1", "x", 20, 5, 1e-3),
    ("step7", "base", "x", 7, 1, 2e-4),
    ("step8", "base", "x", 8, 1, 2e-4),
    ("step9", "base", "x", 9, 1, 2e-4),
]


def find(home: Path, child: str, *candidates: str) -> Parentage:
    return parents(
        home / child, [home / name for name in candidates], home / "base" if "base" in candidates else None
    )


@pytest.mark.parametrize(
    ("child", "candidates"),
    [
        ("x2", ("base", "x1", "y1", "stranger")),
        ("x1-slower", ("base", "x1", "y1", "stranger")),
        ("x1-y", ("base", "x1", "y1", "stranger")),
        ("x1-y-alike", ("base", "x1", "y1", "x2", "stranger")),
        ("x1-y-alike", ("x1", "y1")),
        ("x1-x", ("base", "x1", "x2", "y1", "stranger")),
        ("step8", ("base", "step7", "step9", "stranger")),
        ("step8", ("step7", "step9")),
        ("step8", ("base", "step9", "x1")),
    ],
)
def test_training_is_no_merge(home: Path, child: str, candidates: tuple[str, ...]) -> None:
    found = find(home, child, *candidates)
    assert found.verdict in ("derived", "inconclusive") and found.kind in ("single parent", "none")
    assert len(found.parents) <= 1 and found.gain < 0.9995
    stranger = [item for item in found.candidates if item.name == "stranger"]
    assert all(item.weight == 0.0 and abs(item.cosine) < 0.05 for item in stranger)


@pytest.mark.parametrize(
    ("child", "candidates", "parent"),
    [
        ("x1", ("base", "y1", "stranger"), "base"),
        ("x2", ("base", "x1", "y1", "stranger"), "base"),
        ("x1-x", ("base", "x1", "y1", "stranger"), "x1"),
    ],
)
def test_the_one_parent_is_named(home: Path, child: str, candidates: tuple[str, ...], parent: str) -> None:
    found = find(home, child, *candidates)
    assert (found.verdict, found.kind, found.parents) == ("derived", "single parent", (parent,))


def test_siblings_lean_and_are_not_counted(home: Path) -> None:
    """A sibling on the same data is nearer than the base, has a weight well above its error, and is no parent."""
    found = find(home, "x2", "base", "x1", "y1")
    sibling = next(item for item in found.candidates if item.name == "x1")
    base = next(item for item in found.candidates if item.name == "base")
    assert sibling.weight > 3 * sibling.error > 0 and sibling.distance < base.distance
    assert not sibling.is_parent and base.is_parent


@pytest.mark.parametrize("others", [(), ("x2", "x1-slower", "x1-x")])
def test_merges_of_trained_models_are_told(home: Path, tmp_path: Path, others: tuple[str, ...]) -> None:
    base, x1, y1 = (load_file(home / name / "model.safetensors") for name in ("base", "x1", "y1"))
    candidates = ("base", "x1", "y1", "stranger", *others)
    merges = {
        "linear": formulas.linear([x1, y1], [0.6, 0.4]),
        "task": formulas.task_arithmetic(base, [x1, y1], [0.8, 0.7]),
        "rounded": {name: t.bfloat16() for name, t in formulas.linear([x1, y1], [0.6, 0.4]).items()},
        "ties": formulas.ties(base, [x1, y1], 0.4),
        "dare": formulas.dare(base, [x1, y1], [0.5, 0.5], 0.6),
    }
    for name, state in merges.items():
        config = (home / "base" / "config.json").read_text(encoding="utf-8")
        child = formulas.save(tmp_path / name, state)
        (child / "config.json").write_text(config, encoding="utf-8")
        kind = "sparse" if name in ("ties", "dare") else "linear"
        base_given = home / "base" if others and kind == "sparse" else None
        found = parents(child, [home / candidate for candidate in candidates], base_given)
        assert (found.verdict, found.kind, set(found.parents)) == ("merged", kind, {"x1", "y1"}), name
        if kind == "linear":
            truth = {"x1": 0.8, "y1": 0.7} if name == "task" else {"x1": 0.6, "y1": 0.4}
            told = {item.name: item.weight for item in found.candidates if item.is_parent}
            assert told == pytest.approx(truth, abs=0.01 if name == "rounded" else 1e-3)
