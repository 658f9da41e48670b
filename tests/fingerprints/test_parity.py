"""The `paper` recipe against the official formulas, written again here in plain numpy and double precision.

The oracle follows the paper (HuRef, NeurIPS 2024, section 4) and nothing of huref: it takes stored tensors by their
stored names, forms every K x K matrix, and knows one line of algebra per family. Where the official code is
wrong (grouped keys and values, GPT-2's Conv1D), the defective formula is here too, to show that the tests would
notice if huref shared it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from huref.fingerprints import pipeline
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.sketch import token_signs
from huref.fingerprints.terms import Bilinear, bilinear, centred, sketch_term, token_embeddings
from huref.kinship.comparison import compare_models
from huref.kinship.record import CompareOptions
from huref.model.tokens import read_ranking
from huref.numerics import products
from kit.dense_terms import correlation, correlation_of_factors, dense

Array = np.ndarray
State = dict[str, torch.Tensor]
Term = tuple[Array, Array]
"""Two (r, d) matrices `L, R` of a term `X L^T R X^T`."""

VOCAB, WIDTH, INNER, LAYERS, HEADS, TOKENS = 640, 64, 96, 3, 4, 512
PAPER = Recipe(name="paper", n_tokens=TOKENS)


# --- The official formulas ---------------------------------------------------------------------------------


def llama_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    at = f"model.layers.{i}."
    q, k, v, o = (w[f"{at}self_attn.{name}_proj.weight"] for name in "qkvo")
    gate, up, down = (w[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return [(q, k), (v, o.T), (gate * up, down.T)]


def opt_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    at = f"model.decoder.layers.{i}."
    q, k, v, o = (w[f"{at}self_attn.{name}.weight"] for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    return [(q, k), (v, o.T), (w[f"{at}fc1.weight"], w[f"{at}fc2.weight"].T)]


def gptj_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    at = f"transformer.h.{i}."
    q, k, v, o = (w[f"{at}attn.{name}.weight"] for name in ("q_proj", "k_proj", "v_proj", "out_proj"))
    return [(q, k), (v, o.T), (w[f"{at}mlp.fc_in.weight"], w[f"{at}mlp.fc_out.weight"].T)]


def baichuan_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    at = f"model.layers.{i}."
    q, k, v = np.split(w[f"{at}self_attn.W_pack.weight"], 3)
    gate, up, down = (w[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return [(q, k), (v, w[f"{at}self_attn.o_proj.weight"].T), (gate * up, down.T)]


def qwen_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    at = f"transformer.h.{i}."
    q, k, v = np.split(w[f"{at}attn.c_attn.weight"], 3)
    inner = w[f"{at}mlp.w1.weight"] * w[f"{at}mlp.w2.weight"]
    return [(q, k), (v, w[f"{at}attn.c_proj.weight"].T), (inner, w[f"{at}mlp.c_proj.weight"].T)]


def gpt2_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    """Conv1D stores (in, out): everything is turned round first."""
    at = f"transformer.h.{i}."
    q, k, v = np.split(w[f"{at}attn.c_attn.weight"].T, 3)
    return [(q, k), (v, w[f"{at}attn.c_proj.weight"]), (w[f"{at}mlp.c_fc.weight"].T, w[f"{at}mlp.c_proj.weight"])]


def gpt2_terms_defective(w: Mapping[str, Array], i: int) -> list[Term]:
    """The official GPT-2 branch: the output projection is transposed as if it were stored (out, in)."""
    (q, k), (v, o), ffn = gpt2_terms(w, i)
    return [(q, k), (v, o.T), ffn]


def grouped_llama_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    """Query head h belongs to KV head h // (heads / groups): each KV head is repeated for its neighbours."""
    return _spread_llama(w, i, lambda heads, times: np.repeat(heads, times, axis=0))


def tiled_llama_terms(w: Mapping[str, Array], i: int) -> list[Term]:
    """The official way of making shapes fit: the whole block of KV heads over and over."""
    return _spread_llama(w, i, lambda heads, times: np.tile(heads, (times, 1, 1)))


def _spread_llama(w: Mapping[str, Array], i: int, spread: Callable[[Array, int], Array]) -> list[Term]:
    (q, k), (v, o), ffn = llama_terms(w, i)
    size = q.shape[0] // HEADS

    def wide(matrix: Array) -> Array:
        heads = matrix.reshape(-1, size, WIDTH)
        return spread(heads, HEADS // len(heads)).reshape(HEADS * size, WIDTH)

    return [(q, wide(k)), (wide(v), o), ffn]


def full_matrices(state: State, terms: Callable[[Mapping[str, Array], int], list[Term]], ids: Array) -> Array:
    """The six (K, K) matrices of the last two layers: QK, VO, FFN of one, then of the other."""
    weights = {name: tensor.double().numpy() for name, tensor in state.items()}
    X = weights[next(name for name in EMBEDDINGS if name in weights)][ids]
    return np.stack([X @ L.T @ R @ X.T for i in (LAYERS - 2, LAYERS - 1) for L, R in terms(weights, i)])


def official_ics(a: Array, b: Array) -> float:
    """Each matrix less its mean over its standard deviation, all flattened, cosine."""
    flat = [np.concatenate([((M - M.mean()) / M.std()).ravel() for M in stack]) for stack in (a, b)]
    return float(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))


def official_mean_pooling(stack: Array) -> Array:
    """`view(512, -1).mean(-1)`, then standardised with n - 1 in the denominator."""
    vector = stack.reshape(512, -1).mean(-1)
    return (vector - vector.mean()) / vector.std(ddof=1)


EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "transformer.wte.weight",
)


# --- Real checkpoints of five families, tiny ---------------------------------------------------------------


def from_transformers(prefix: str, **config: Any) -> tuple[State, dict[str, Any]]:
    """State and config.json of a random model of a family that transformers has."""
    import transformers

    settings = getattr(transformers, f"{prefix}Config")(vocab_size=VOCAB, **config)
    head = "LMHeadModel" if prefix == "GPT2" else "ForCausalLM"
    model = getattr(transformers, prefix + head)(settings)
    document = json.loads(settings.to_json_string(use_diff=False))
    return dict(model.state_dict()), {**document, "architectures": [prefix + head]}


def llama(groups: int = HEADS) -> tuple[State, dict[str, Any]]:
    return from_transformers(
        "Llama",
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=groups,
        tie_word_embeddings=False,
    )


def opt() -> tuple[State, dict[str, Any]]:
    return from_transformers(
        "OPT",
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=32,
    )


def gptj() -> tuple[State, dict[str, Any]]:
    return from_transformers(
        "GPTJ",
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=32,
        rotary_dim=8,
        bos_token_id=1,
        eos_token_id=2,
    )


def gpt2() -> tuple[State, dict[str, Any]]:
    return from_transformers(
        "GPT2", n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=32, bos_token_id=1, eos_token_id=2
    )


def baichuan() -> tuple[State, dict[str, Any]]:
    """Baichuan-7B's names; transformers has no such family."""
    shapes = {"model.embed_tokens": (VOCAB, WIDTH), "model.norm": (WIDTH,), "lm_head": (VOCAB, WIDTH)}
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        shapes |= {at + "input_layernorm": (WIDTH,), at + "post_attention_layernorm": (WIDTH,)}
        shapes |= {at + "self_attn.W_pack": (3 * WIDTH, WIDTH), at + "self_attn.o_proj": (WIDTH, WIDTH)}
        shapes |= {at + "mlp.gate_proj": (INNER, WIDTH), at + "mlp.up_proj": (INNER, WIDTH)}
        shapes |= {at + "mlp.down_proj": (WIDTH, INNER)}
    config = {
        "model_type": "baichuan",
        "architectures": ["BaiChuanForCausalLM"],
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 32,
        "vocab_size": VOCAB,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
    }
    return {f"{name}.weight": torch.empty(shape) for name, shape in shapes.items()}, config


def qwen() -> tuple[State, dict[str, Any]]:
    """Qwen-7B's names (the first Qwen; remote code in transformers)."""
    shapes = {"wte.weight": (VOCAB, WIDTH), "ln_f.weight": (WIDTH,)}
    for i in range(LAYERS):
        at = f"h.{i}."
        shapes |= {at + "ln_1.weight": (WIDTH,), at + "ln_2.weight": (WIDTH,)}
        shapes |= {at + "attn.c_attn.weight": (3 * WIDTH, WIDTH), at + "attn.c_attn.bias": (3 * WIDTH,)}
        shapes |= {at + "attn.c_proj.weight": (WIDTH, WIDTH), at + "mlp.c_proj.weight": (WIDTH, INNER)}
        shapes |= {at + "mlp.w1.weight": (INNER, WIDTH), at + "mlp.w2.weight": (INNER, WIDTH)}
    config = {
        "model_type": "qwen",
        "architectures": ["QWenLMHeadModel"],
        "hidden_size": WIDTH,
        "intermediate_size": 2 * INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "kv_channels": WIDTH // HEADS,
        "vocab_size": VOCAB,
        "rotary_pct": 1.0,
        "no_bias": True,
        "tie_word_embeddings": False,
    }
    state = {f"transformer.{name}": torch.empty(shape) for name, shape in shapes.items()}
    return state | {"lm_head.weight": torch.empty(VOCAB, WIDTH)}, config


FAMILIES = {
    "llama": (llama, llama_terms),
    "opt": (opt, opt_terms),
    "gptj": (gptj, gptj_terms),
    "baichuan": (baichuan, baichuan_terms),
    "qwen": (qwen, qwen_terms),
    "llama-grouped": (lambda: llama(groups=2), grouped_llama_terms),
    "gpt2": (gpt2, gpt2_terms),
}


def randomised(state: State, seed: int) -> State:
    """Every number drawn anew, norms and biases included; an embedding with a common component, as real ones have."""
    rng = torch.Generator().manual_seed(seed)
    fresh = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            fresh[name] = torch.randn(tensor.shape, generator=rng) * 0.1 + (tensor.ndim == 1)
    for name in EMBEDDINGS:
        if name in fresh:
            fresh[name] += 0.05 * torch.randn(fresh[name].shape[1], generator=rng)
    if "model.decoder.embed_tokens.weight" in fresh:  # OPT ties the two
        fresh["lm_head.weight"] = fresh["model.decoder.embed_tokens.weight"]
    return fresh


def related(state: State, noise: float, seed: int) -> State:
    rng = torch.Generator().manual_seed(seed)
    return {k: v + noise * v.std(correction=0) * torch.randn(v.shape, generator=rng) for k, v in state.items()}


def write_model(folder: Path, state: State, config: Mapping[str, Any]) -> Path:
    """A checkpoint folder as publishers write it: model.safetensors, config.json, tokenizer.json."""
    folder.mkdir()
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items()}
    if config["model_type"] == "opt":
        del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(dict(config)))
    write_tokenizer(folder / "tokenizer.json")
    return folder


def write_tokenizer(path: Path) -> None:
    """A BPE tokenizer of VOCAB ids: three special tokens, then words."""
    from tokenizers import Tokenizer, models

    words = ["<unk>", "<s>", "</s>"] + [f"w{i}" for i in range(VOCAB - 3)]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(words[:3])
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token ranking in the official format: every ordinary id once, one a line."""
    path = tmp_path_factory.mktemp("tokens") / "ranking.txt"
    order = np.random.default_rng(3).permutation(np.arange(3, VOCAB))
    path.write_text("".join(f"{i}\n" for i in order))
    return path


def official_tokens(ranking: Path) -> Array:
    """The last K lines."""
    return np.array([int(line) for line in ranking.read_text().split()][-TOKENS:])


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Per family: folders and states of a model, an offspring and a stranger, and the family's formula."""
    make, terms = FAMILIES[request.param]
    state, config = make()
    base = randomised(state, 0)
    states = {"base": base, "offspring": related(base, 0.35, 1), "stranger": randomised(state, 2)}
    root = tmp_path_factory.mktemp(request.param)
    folders = {name: write_model(root / name, tensors, config) for name, tensors in states.items()}
    return folders, states, terms


# --- Parity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["offspring", "stranger"])
def test_ics_equals_the_official_formula(family: Any, ranking: Path, other: str) -> None:
    folders, states, terms = family
    ids = official_tokens(ranking)
    M_a, M_b = (full_matrices(states[name], terms, ids) for name in ("base", other))
    options = CompareOptions(method="ics", n_tokens=TOKENS, tokens_file=ranking)
    found = compare_models(folders["base"], folders[other], options)
    assert found.ics == pytest.approx(official_ics(M_a, M_b), abs=1e-4)
    scores = [term.score for term in found.terms if term.term.startswith("paper/")]
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(M_a, M_b, strict=True)]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert (found.ics > 0.5) == (other == "offspring")


def test_mean_pooling_equals_the_official_vector(family: Any, ranking: Path) -> None:
    folders, states, terms = family
    expected = official_mean_pooling(full_matrices(states["base"], terms, official_tokens(ranking)))
    recipe = replace(PAPER, encoder="mean")
    found = pipeline.fingerprint(folders["base"], recipe, ranking=read_ranking(ranking))
    assert found.vector.shape == (512,)
    np.testing.assert_allclose(found.vector, expected, atol=1e-5)


def test_the_selection_is_the_end_of_the_ranking(family: Any, ranking: Path) -> None:
    model = pipeline.open_model(family[0]["base"])
    with model.weights.checkpoint:
        chosen = pipeline.choose_tokens(model, PAPER, read_ranking(ranking))
    assert chosen.ids.tolist() == official_tokens(ranking).tolist()


# --- Defects of the official code that huref must not share --------------------------------------------------


def rotated_values(state: State, at: str, rng: np.random.Generator) -> State:
    """`Wv <- C Wv, Wo <- Wo C^-1`, another invertible C for each KV head of one Llama layer."""
    v, o = state[f"{at}self_attn.v_proj.weight"], state[f"{at}self_attn.o_proj.weight"]
    size = WIDTH // HEADS
    groups = v.shape[0] // size
    C = torch.from_numpy(rng.normal(size=(groups, size, size)) + 3 * np.eye(size)).float()
    per_query = C.repeat_interleave(HEADS // groups, 0)
    new_v = torch.einsum("gab,gbd->gad", C, v.reshape(groups, size, WIDTH)).reshape_as(v)
    new_o = torch.einsum("dhb,hba->dha", o.reshape(WIDTH, HEADS, size), per_query.inverse()).reshape_as(o)
    return {**state, f"{at}self_attn.v_proj.weight": new_v, f"{at}self_attn.o_proj.weight": new_o}


def rotated_gpt2(state: State, at: str, rng: np.random.Generator) -> State:
    """The same for GPT-2's fused (in, out) storage."""
    fused, o = state[f"{at}attn.c_attn.weight"].clone(), state[f"{at}attn.c_proj.weight"]
    size = WIDTH // HEADS
    C = torch.from_numpy(rng.normal(size=(HEADS, size, size)) + 3 * np.eye(size)).float()
    values = fused[:, 2 * WIDTH :].reshape(WIDTH, HEADS, size)
    fused[:, 2 * WIDTH :] = torch.einsum("dhb,hab->dha", values, C).reshape(WIDTH, WIDTH)
    new_o = torch.einsum("hba,hbd->had", C.inverse(), o.reshape(HEADS, size, WIDTH)).reshape_as(o)
    return {**state, f"{at}attn.c_attn.weight": fused, f"{at}attn.c_proj.weight": new_o}


ROTATIONS = {
    "grouped Llama": (
        lambda: llama(groups=2),
        "model.layers.{}.",
        rotated_values,
        grouped_llama_terms,
        tiled_llama_terms,
    ),
    "GPT-2": (gpt2, "transformer.h.{}.", rotated_gpt2, gpt2_terms, gpt2_terms_defective),
}


@pytest.mark.parametrize("case", list(ROTATIONS))
def test_value_rotation_moves_the_defective_formula_and_not_huref(case: str, tmp_path: Path, ranking: Path) -> None:
    make, prefix, rotate, right, defective = ROTATIONS[case]
    rng = np.random.default_rng(5)
    state, config = make()
    states = {"plain": randomised(state, 4)}
    states["rotated"] = states["plain"]
    for i in range(LAYERS):
        states["rotated"] = rotate(states["rotated"], prefix.format(i), rng)
    folders = {name: write_model(tmp_path / name, tensors, config) for name, tensors in states.items()}
    found = compare_models(
        folders["plain"], folders["rotated"], CompareOptions(method="ics", n_tokens=TOKENS, tokens_file=ranking)
    )
    ids = official_tokens(ranking)

    def change(terms: Callable[[Mapping[str, Array], int], list[Term]]) -> float:
        before, after = (full_matrices(states[name], terms, ids)[1] for name in ("plain", "rotated"))
        return float(np.linalg.norm(after - before) / np.linalg.norm(before))

    assert change(right) < 1e-5
    assert change(defective) > 0.5
    scores = {term.term: term.score for term in found.terms}
    assert scores["paper/vo"] > 0.99995 and scores["vo"] > 0.99995
    wrong = [full_matrices(states[name], defective, ids)[1].ravel() for name in ("plain", "rotated")]
    assert np.corrcoef(*wrong)[0, 1] < 0.9


# --- What bfloat16 operands cost -----------------------------------------------------------------------------


def random_term(rng: np.random.Generator, rank: int, width: int) -> Bilinear:
    left, right = (rng.normal(size=(rank, width)).astype(ml_dtypes.bfloat16) for _ in range(2))
    return Bilinear(0, "qk", left, right)


@pytest.mark.parametrize("is_fast", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize(("rank", "width"), [(64, 64), (128, 256), (1024, 256)])
def test_pearson_error_of_fast_products(
    rank: int, width: int, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64: at most 2e-3 between strangers and 1e-4 between near copies; float32 at most 1e-5."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: is_fast)
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    rng = np.random.default_rng(rank)
    X = rng.normal(size=(1024, width)).astype(np.float32)
    frame = Frame.of(X)
    a, stranger = random_term(rng, rank, width), random_term(rng, rank, width)
    noise = random_term(rng, rank, width)
    near = ml_dtypes.bfloat16(0.03)
    copy = Bilinear(0, "qk", a.left + near * noise.left, a.right + near * noise.right)
    for other, bound in ((stranger, 2e-3), (copy, 1e-4)):
        expected = correlation(dense(a, X), dense(other, X))
        left, right = (ResidualTerm.of(term, frame) for term in (a, other))
        error = abs(left.correlation(right, frame.cosines(frame)) - expected)
        assert error < (bound if is_fast else 1e-5)


def test_product_error_of_bfloat16_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the result's size: two rounded operands and a rounded result, each 2^-9 / sqrt(3) or less."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(300, 700)), rng.normal(size=(700, 200))
    found = products.product(left.astype(np.float32), right.astype(np.float32))
    error = np.linalg.norm(found - left @ right) / np.linalg.norm(left @ right)
    assert 1e-4 < error < 3 * 2.0**-9


def test_sketches_are_exact_to_float32(family: Any) -> None:
    """`S1 M S2^T` from the collapsed route and from the K x K matrix in double precision."""
    model = pipeline.open_model(family[0]["base"])
    recipe = Recipe(n_tokens=TOKENS, sketch_rows=16)
    with model.weights.checkpoint:
        tokens = pipeline.choose_tokens(model, recipe)
        X = token_embeddings(model.weights, tokens.ids, recipe)
        S1, S2 = token_signs(tokens.strings, 16, recipe.seed)
        for kind in ("qk", "vo", "gate_down" if model.weights.architecture.gated else "up_down"):
            term = bilinear(model.weights, LAYERS - 1, kind, recipe)
            found = sketch_term(term, S1 @ centred(X), S2 @ centred(X))
            M = dense(term, centred(X.astype(np.float64)))
            expected = S1.astype(np.float64) @ M @ S2.astype(np.float64).T
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("is_fast", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_correlations_agree_with_float64_also_where_the_mean_is_large(
    offset: float, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2's raw terms have means of twice their standard deviation, which must not eat the digits."""
    monkeypatch.setattr(products, "has_fast_bfloat16", lambda: is_fast)
    monkeypatch.setattr(products, "LARGE_PRODUCT", 0)
    rng = np.random.default_rng(9)
    U, V, noise = (rng.normal(size=(512, 48)) + offset for _ in range(3))
    sides = ((U, V), (U, V + 0.3 * noise))
    expected = np.corrcoef(*((left @ right.T).ravel() for left, right in sides))[0, 1]
    found = correlation_of_factors(*sides)
    assert found == pytest.approx(expected, abs=1e-4 if is_fast else 1e-6)
