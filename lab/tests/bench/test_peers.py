"""The methods of others, written again from their papers: against their formulas, and their known blind spots."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from huref.kinship.comparison import compare_models
from huref.kinship.record import CompareOptions
from huref.model.tokens import rarest
from huref_lab.bench.methods import Peer
from kit.tiny_llama import TinyLlama

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"


def peer(name: str) -> ModuleType:
    return Peer(PEERS / f"{name}.py")._module


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untied Llamas of 3 layers: a base, a little noise, a stranger, a deeper and a wider one."""
    home = tmp_path_factory.mktemp("family")
    made = {
        "base": TinyLlama(),
        "child": TinyLlama(noise=0.05),
        "stranger": TinyLlama(seed=1),
        "deeper": TinyLlama(seed=2, n_layers=5),
        "shallow": TinyLlama(n_layers=2),
        "wider": TinyLlama(seed=3, width=48),
    }
    return {name: model.save(home / name) for name, model in made.items()}


def changed(folder: Path, out: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a checkpoint with every tensor put through `change`."""
    out.mkdir()
    for file in ("config.json", "tokenizer.json"):
        (out / file).write_bytes((folder / file).read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file({name: change(name, t).contiguous() for name, t in tensors.items()}, out / "model.safetensors")
    return out


def shuffled(folder: Path, out: Path) -> Path:
    """Hidden dimensions in another order and with other signs: the same function."""
    rng = np.random.default_rng(5)
    order = torch.from_numpy(rng.permutation(32))
    signs = torch.from_numpy(rng.choice([-1.0, 1.0], 32).astype(np.float32))

    def change(name: str, t: torch.Tensor) -> torch.Tensor:
        if t.ndim == 1:
            return t[order]
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            return t[order] * signs[:, None]
        return t[:, order] * signs

    return changed(folder, out, change)


def rotated(folder: Path, out: Path) -> Path:
    """A dense rotation of the hidden dimensions; gains are ones first, so that it changes nothing but looks."""
    Q = torch.from_numpy(np.linalg.qr(np.random.default_rng(6).normal(size=(32, 32)))[0].astype(np.float32))

    def change(name: str, t: torch.Tensor) -> torch.Tensor:
        if t.ndim == 1:
            return torch.ones_like(t)
        return Q.T @ t if name.endswith(("o_proj.weight", "down_proj.weight")) else t @ Q

    return changed(folder, out, change)


def score(name: str, a: Path, b: Path) -> float:
    module = peer(name)
    return module.compare(module.prepare(a), module.prepare(b))


# --- AWM ---------------------------------------------------------------------------------------------------


def test_hsic_is_the_mean_over_distinct_quadruples() -> None:
    """Song et al. (2012), equation 3: the U-statistic that the closed form stands for."""
    rng = np.random.default_rng(0)
    n = 6
    K, M = (x @ x.T for x in rng.normal(size=(2, n, 3)))
    terms = [K[i, j] * (M[i, j] + M[q, r] - 2 * M[i, q]) for i, j, q, r in permutations(range(n), 4)]
    found = peer("awm").hsic(K[None], M[None])[0, 0]
    assert found / (n * (n - 3)) == pytest.approx(np.mean(terms))


def test_unbiased_cka_is_near_zero_where_the_plain_one_is_not() -> None:
    """16 random features of 12 samples: the plain estimate is far above zero; the unbiased one's mean is not."""
    rng = np.random.default_rng(1)
    module = peer("awm")
    plain, unbiased = [], []
    for _ in range(200):
        x, y = rng.normal(size=(2, 12, 16))
        unbiased.append(module.unbiased_cka((x @ x.T)[None], (y @ y.T)[None])[0, 0])
        x, y = x - x.mean(0), y - y.mean(0)
        plain.append(np.sum((x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))
    assert np.mean(plain) > 0.4
    assert abs(np.mean(unbiased)) < 0.03


def test_awm_undoes_a_permutation_with_signs_and_not_a_rotation(family: dict[str, Path], tmp_path: Path) -> None:
    base = family["base"]
    assert score("awm", base, base) == pytest.approx(1.0)
    assert score("awm", shuffled(base, tmp_path / "shuffled"), base) == pytest.approx(1.0, abs=1e-5)
    assert score("awm", family["child"], base) > 0.9
    assert abs(score("awm", family["stranger"], base)) < 0.3
    assert score("awm", rotated(base, tmp_path / "rotated"), base) < 0.6


def test_awm_matches_layers_and_widths_that_differ(family: dict[str, Path]) -> None:
    assert score("awm", family["shallow"], family["base"]) > 0.99  # the same two layers, and a third
    assert abs(score("awm", family["wider"], family["base"])) < 0.3
    assert abs(score("awm", family["base"], family["deeper"])) < 0.2


# --- Official ICS ------------------------------------------------------------------------------------------


def test_ics_official_is_the_pearson_of_full_matrices_over_the_rarest_tokens(family: dict[str, Path]) -> None:
    module = peer("ics_official")
    states = [module.prepare(family[name]) for name in ("base", "child")]
    ids = rarest(states[0].vocabulary, None, 4096, 400).ids
    per_model = []
    for name in ("base", "child"):
        w = {k: t.double().numpy() for k, t in load_file(family[name] / "model.safetensors").items()}
        X, found = w["model.embed_tokens.weight"][ids], []
        for layer in (1, 2):
            at = f"model.layers.{layer}."
            q, k, v, o = (w[f"{at}self_attn.{x}_proj.weight"] for x in "qkvo")
            gate, up, down = (w[f"{at}mlp.{x}_proj.weight"] for x in ("gate", "up", "down"))
            k, v = (np.repeat(x.reshape(2, 8, 32), 2, axis=0).reshape(32, 32) for x in (k, v))
            found += [X @ q.T @ k @ X.T, X @ v.T @ o.T @ X.T, X @ (gate * up).T @ down.T @ X.T]
        per_model.append(found)
    expected = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(*per_model, strict=True)])
    assert module.compare(*states) == pytest.approx(expected, abs=1e-9)
    ours = compare_models(family["base"], family["child"], CompareOptions(method="ics")).ics
    assert ours == pytest.approx(expected, abs=1e-4)


# --- PDF ---------------------------------------------------------------------------------------------------


def test_pdf_correlates_the_curves_of_standard_deviations(family: dict[str, Path]) -> None:
    curves = []
    for name in ("deeper", "stranger"):
        w = load_file(family[name] / "model.safetensors")
        n = 5 if name == "deeper" else 3
        rows = [[w[f"model.layers.{i}.self_attn.{x}_proj.weight"].std() for i in range(n)] for x in "qkvo"]
        curves.append(np.array(rows, dtype=np.float64))
    stretched = np.array([np.interp([0, 0.5, 1, 1.5, 2], [0, 1, 2], row) for row in curves[1]])
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(curves[0], stretched, strict=True)])
    assert score("pdf", family["deeper"], family["stranger"]) == pytest.approx(expected, abs=1e-4)
    assert score("pdf", family["base"], family["base"]) == pytest.approx(1.0)


def test_pdf_says_nothing_of_two_layers(family: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="two layers"):
        score("pdf", family["shallow"], family["base"])


# --- REEF --------------------------------------------------------------------------------------------------


def test_reef_is_linear_cka_by_its_formula() -> None:
    rng = np.random.default_rng(2)
    module = peer("reef")
    x, y = rng.normal(size=(2, 20, 6)), rng.normal(size=(2, 20, 9))
    expected = []
    for a, b in zip(x, y, strict=True):
        a, b = a - a.mean(0), b - b.mean(0)
        expected.append(np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)))
    assert module.compare(module.grams(x), module.grams(y)) == pytest.approx(np.mean(expected), rel=1e-5)
    Q = np.linalg.qr(rng.normal(size=(9, 9)))[0]
    assert module.compare(module.grams(3 * y @ Q), module.grams(y)) == pytest.approx(1.0, rel=1e-5)


def test_reef_matches_layers_by_relative_depth() -> None:
    module = peer("reef")
    states = np.random.default_rng(3).normal(size=(6, 10, 4))
    every_second = states[[1, 3, 5]]
    assert module.compare(module.grams(every_second), module.grams(states)) == pytest.approx(1.0, rel=1e-5)


def test_reef_reads_what_a_model_computes(family: dict[str, Path], tmp_path: Path) -> None:
    """Another order of the hidden dimensions leaves the states' products as they were."""
    assert len(set(peer("reef").prompts())) == 128
    module = peer("reef")
    state = module.prepare(family["base"])
    assert state.shape == (3, 128, 128)
    twin = module.prepare(shuffled(family["base"], tmp_path / "shuffled"))
    assert module.compare(state, twin) == pytest.approx(1.0, abs=1e-4)
    assert module.compare(state, module.prepare(family["stranger"])) < 0.999


# --- modelDNA ----------------------------------------------------------------------------------------------


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({"verdict": "FINE_TUNE", "probability": 0.98}, 0.98),
        ({"verdict": "NO_MATCH", "probability": 0.02}, 0.02),
        ({"verdict": "NO_MATCH", "probability": None}, 0.0),
    ],
)
def test_modeldna_is_run_as_a_program_and_its_probability_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: dict[str, object], expected: float
) -> None:
    answer, asked = json.dumps({"verdict": verdict}), tmp_path / "asked"
    fake = program(
        tmp_path / "fake", f'echo "$@" > {asked}\ntest -d "$2" && test -d "$3" || exit 1\necho \'{answer}\''
    )
    monkeypatch.setenv("MODELDNA", str(fake))
    file = tmp_path / "weights.gguf"
    file.touch()
    module = peer("modeldna")
    assert module.unavailable() is None
    assert module.compare(module.prepare(tmp_path), module.prepare(file)) == expected
    assert asked.read_text().split()[0] == "compare"
    assert asked.read_text().split()[3] == "--json"


def test_modeldna_fails_where_it_says_so_and_is_unavailable_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = peer("modeldna")
    monkeypatch.setenv("MODELDNA", str(program(tmp_path / "fake", "echo 'error: no safetensors' >&2; exit 1")))
    with pytest.raises(RuntimeError, match="error: no safetensors"):
        module.compare(tmp_path, tmp_path)
    monkeypatch.setenv("MODELDNA", str(tmp_path / "nowhere"))
    assert "pip install modeldna" in module.unavailable()
    with pytest.raises(RuntimeError, match="without a probability"):
        module.probability({"verdict": {"verdict": "UNKNOWN", "probability": None}})
