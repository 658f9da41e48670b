"""Parents of checkpoints: every kind of merge, what is no merge, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from huref.errors import InputError, MissingFileError, NotFiniteError, UsageError
from huref.parentage import members
from huref.parentage.record import KINDS, Candidate, Parentage
from huref.parentage.search import parents
from huref.progress import Progress
from kit import merge_formulas as formulas
from kit.merge_formulas import State, base_state, save, tuned
from kit.tiny_llama import TinyLlama

BASE = base_state()
ONE, TWO, THREE = (tuned(BASE, seed, amount) for seed, amount in ((1, 0.1), (2, 0.15), (3, 0.08)))
SIZES = {"q": 32, "k": 16, "v": 16}
STATES = {"base": BASE, "one": ONE, "two": TWO, "three": THREE, "stranger": base_state(7), "other": base_state(8)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The family and two strangers."""
    folder = tmp_path_factory.mktemp("family")
    for name, state in STATES.items():
        save(folder / name, state)
    return folder


def find(home: Path, place: Path, child: State, *names: str, **options: object) -> Parentage:
    names = names or tuple(STATES)
    return parents(save(place / "child", child), [home / name for name in names], **options)


def part(found: Parentage, name: str) -> Candidate:
    return next(item for item in found.candidates if item.name == name)


def weights(found: Parentage) -> dict[str, float]:
    return {item.name: item.weight for item in found.candidates if item.weight}


def test_sums_are_those_of_the_whole_models(home: Path, tmp_path: Path) -> None:
    """Against numpy on all parameters at once."""
    child = formulas.noisy(formulas.linear([ONE, TWO], [0.5, 0.5]), 0.05)
    found = find(home, tmp_path, child, "base", "one", "two", base=home / "base")
    c, b, one, two = (formulas.flat(state) for state in (child, BASE, ONE, TWO))
    tasks, target = np.stack([one - b, two - b]), c - b
    expected, squared, *_ = np.linalg.lstsq(tasks.T, target, rcond=None)
    assert [part(found, name).least_squares for name in ("one", "two")] == pytest.approx(expected, abs=1e-4)
    assert found.r2 == pytest.approx(1 - squared[0] / (target @ target), abs=1e-3)
    assert found.residual == pytest.approx((squared[0] / (c @ c)) ** 0.5, rel=1e-2)
    assert part(found, "one").direction == pytest.approx(
        tasks[0] @ target / np.linalg.norm(tasks[0]) / np.linalg.norm(target), abs=1e-5
    )
    assert part(found, "two").distance == pytest.approx(np.linalg.norm(two - c) / np.linalg.norm(c), rel=1e-4)
    matrices = [{k: t for k, t in state.items() if t.ndim > 1 and "layers" in k} for state in (child, TWO)]
    left, right = (formulas.flat(state) for state in matrices)
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert part(found, "two").cosine == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize(
    ("merged", "truth"),
    [
        (formulas.linear([ONE, TWO], [0.7, 0.3]), {"one": 0.7, "two": 0.3}),
        (formulas.linear([ONE, TWO], [0.95, 0.05]), {"one": 0.95, "two": 0.05}),
        (formulas.linear([ONE, TWO, THREE], [0.5, 0.3, 0.2]), {"one": 0.5, "two": 0.3, "three": 0.2}),
        (formulas.linear([BASE, ONE, TWO], [0.4, 0.4, 0.2]), {"base": 0.4, "one": 0.4, "two": 0.2}),
        (formulas.task_arithmetic(BASE, [ONE, TWO], [0.9, 0.8]), {"base": -0.7, "one": 0.9, "two": 0.8}),
        (formulas.linear([BASE, THREE], [0.6, 0.4]), {"base": 0.6, "three": 0.4}),
    ],
)
def test_linear_merges(home: Path, tmp_path: Path, merged: State, truth: dict[str, float]) -> None:
    found = find(home, tmp_path, merged)
    assert (found.verdict, found.kind) == ("merged", "linear")
    assert weights(found) == pytest.approx(truth, abs=1e-3)
    tuned_ones = set(truth) - {"base"}
    assert set(found.parents) == (tuned_ones if len(tuned_ones) > 1 else set(truth))
    assert found.gain > 0.9999 and found.spread < 1e-3 and found.base == "base"
    assert all(part(found, name).weight == 0.0 for name in ("stranger", "other"))
    assert all(part(found, name).least_squares is None for name in ("stranger", "other"))


def test_candidates_in_another_order_are_the_same_candidates(home: Path, tmp_path: Path) -> None:
    merged = formulas.noisy(formulas.linear([ONE, TWO], [0.6, 0.4]), 0.01)
    names = list(STATES)
    straight, turned = find(home, tmp_path, merged, *names), find(home, tmp_path, merged, *names[::-1])
    assert (straight.verdict, straight.kind, straight.base) == (turned.verdict, turned.kind, turned.base)
    assert weights(straight) == pytest.approx(weights(turned), abs=1e-9)
    assert straight.gain == pytest.approx(turned.gain, abs=1e-9)


def test_slerp_is_linear_with_a_scale(home: Path, tmp_path: Path) -> None:
    """Parents far enough apart that the great circle leaves the chord."""
    far = [tuned(BASE, seed, 0.5) for seed in (11, 12)]
    places = [save(tmp_path / str(i), state) for i, state in enumerate(far)]
    child = save(tmp_path / "child", formulas.slerp(*far, 0.3))
    found = parents(child, [home / "base", *places, home / "stranger"])
    assert (found.verdict, found.kind, found.parents) == ("merged", "linear", ("0", "1"))
    angle = np.arccos(1 / 1.25)
    truth = [np.sin(0.7 * angle) / np.sin(angle), np.sin(0.3 * angle) / np.sin(angle)]
    assert [part(found, name).weight for name in ("0", "1")] == pytest.approx(truth, abs=0.01)
    assert "as in SLERP" in found.notes[0] and found.gain > 0.99999 > found.candidates[1].share


def test_slerp_with_other_shares_by_module_is_told_tensor_by_tensor(home: Path, tmp_path: Path) -> None:
    merged = formulas.slerp(ONE, TWO, lambda name: 0.2 if "self_attn" in name else 0.7)
    found = find(home, tmp_path, merged)
    assert (found.verdict, found.kind) == ("merged", "per-layer") and set(found.parents) == {"one", "two"}
    fits = {fit.layer: fit.weights for fit in found.layers}
    assert fits["layers.1.q"] == pytest.approx({"one": 0.8, "two": 0.2}, abs=0.01)
    assert fits["layers.2.down"] == pytest.approx({"one": 0.3, "two": 0.7}, abs=0.01)
    assert found.spread > 0.2


def test_a_frankenmerge_names_one_parent_a_layer(home: Path, tmp_path: Path) -> None:
    found = find(home, tmp_path, formulas.frankenmerge([ONE, TWO], [(0, 0), (1, 1), (0, 2)]))
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "per-layer", {"one", "two"})
    fits = {fit.layer: fit.weights for fit in found.layers}
    for layer, name in (("0", "one"), ("1", "two"), ("2", "one"), ("embedding", "one")):
        assert fits[layer] == pytest.approx({name: 1})
    assert all(fit.residual < 1e-6 for fit in found.layers)


def test_stacked_layers_are_matched_with_those_they_came_from(home: Path, tmp_path: Path) -> None:
    """A passthrough merge has more layers than its parents."""
    stack = [(0, 0), (0, 1), (1, 1), (1, 2), (0, 2)]
    child = save(tmp_path / "child", formulas.frankenmerge([ONE, TWO], stack), n_layers=len(stack))
    found = parents(child, [home / name for name in STATES])
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "per-layer", {"one", "two"})
    fits = {fit.layer: fit.weights for fit in found.layers}
    assert [next(iter(fits[str(i)])) for i in range(5)] == ["one", "one", "two", "two", "one"]
    assert any("one has 3 layers: compared with the child's in the order 0, 1, 1, 2, 2" in n for n in found.notes)


@pytest.mark.parametrize(
    ("merged", "factor", "zero"),
    [
        (formulas.ties(BASE, [ONE, TWO], 0.3), 1.0, None),
        (formulas.ties(BASE, [ONE, TWO], 0.5, scale=0.6), 0.6, None),
        (formulas.dare(BASE, [ONE, TWO], [0.5, 0.5], 0.5), 1.0, 0.25),
        (formulas.dare(BASE, [ONE, TWO], [0.6, 0.6], 0.8), 3.0, 0.64),
        ({k: t.bfloat16() for k, t in formulas.dare(BASE, [ONE, TWO], [0.5, 0.5], 0.5).items()}, 1.0, 0.25),
    ],
)
def test_merges_entry_by_entry(home: Path, tmp_path: Path, merged: State, factor: float, zero: float | None) -> None:
    found = find(home, tmp_path, merged)
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "sparse", {"one", "two"})
    each = found.sparse["candidates"]
    for name in ("one", "two"):
        assert each[name]["factor"] == pytest.approx(factor, rel=0.02) and each[name]["copied"] > 0.1
        assert each[name]["equal_sign"] > 0.7
    assert each["three"]["copied"] - each["three"]["chance"] < 0.01
    assert zero is None or found.sparse["zero"] == pytest.approx(zero, abs=0.02)
    assert found.r2 < 0.99


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_rounded_merge_is_told_by_its_rounding(home: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    merged = {k: t.to(dtype) for k, t in formulas.linear([ONE, TWO], [0.7, 0.3]).items()}
    found = find(home, tmp_path, merged)
    assert (found.verdict, found.kind) == ("merged", "linear")
    assert weights(found) == pytest.approx({"one": 0.7, "two": 0.3, "base": 0.0}, abs=5e-3)
    assert 1 - found.gain == pytest.approx(found.rounding, rel=0.05)


def test_a_quantised_merge_is_told_where_rounding_is_small(home: Path, tmp_path: Path) -> None:
    """Q8_0 rounds a hundredth of what sets these parents apart, Q4_0 more than all of it."""
    merged = formulas.linear([ONE, TWO], [0.7, 0.3])
    names = [home / name for name in STATES]
    fine = parents(formulas.save_gguf(tmp_path / "q8.gguf", merged, gguf.GGMLQuantizationType.Q8_0), names)
    assert (fine.verdict, fine.kind) == ("merged", "linear")
    assert weights(fine) == pytest.approx({"one": 0.7, "two": 0.3, "base": 0.0}, abs=5e-3)
    coarse = parents(formulas.save_gguf(tmp_path / "q4.gguf", merged, gguf.GGMLQuantizationType.Q4_0), names)
    assert coarse.verdict == "inconclusive" and coarse.parents == ()
    assert "it hides whether the child is a merge" in coarse.notes[0] and coarse.rounding > 0.2


def test_a_noisy_merge_is_left_open(home: Path, tmp_path: Path) -> None:
    for amount in (0.01, 0.05):
        found = find(home, tmp_path, formulas.noisy(formulas.linear([ONE, TWO], [0.6, 0.4]), amount))
        assert (found.verdict, found.kind, found.parents) == ("inconclusive", "none", ())
        assert "the child lies between one (0.60) and two (0.40)" in found.notes[0]


@pytest.mark.parametrize(("parent", "state"), [("base", BASE), ("one", ONE)])
@pytest.mark.parametrize("amount", [0.001, 0.02, 0.3])
def test_offspring_of_one_is_no_merge(home: Path, tmp_path: Path, parent: str, state: State, amount: float) -> None:
    found = find(home, tmp_path, tuned(state, 77, amount))
    assert (found.verdict, found.kind, found.parents) == ("derived", "single parent", (parent,))
    assert part(found, parent).is_parent and part(found, "stranger").weight == 0
    assert found.gain < 0.05


def test_rounded_offspring_of_one_is_no_merge(home: Path, tmp_path: Path) -> None:
    child = tuned(ONE, 78, 0.1)
    names = [home / name for name in STATES]
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
        found = parents(formulas.save_gguf(tmp_path / f"{kind.name}.gguf", child, kind), names)
        assert (found.verdict, found.parents) == ("derived", ("one",))


def test_copies(home: Path, tmp_path: Path) -> None:
    same = find(home, tmp_path, ONE)
    assert (same.verdict, same.kind, same.parents) == ("identical", "single parent", ("one",))
    rounded = find(home, tmp_path, {k: t.bfloat16() for k, t in ONE.items()})
    assert (rounded.verdict, rounded.parents) == ("requantised", ("one",))
    dropped = save(tmp_path / "dropped", formulas.frankenmerge([ONE], [(0, 0), (0, 2)]), n_layers=2)
    found = parents(dropped, [home / name for name in ("base", "one", "two")])
    assert (found.verdict, found.parents) == ("derived", ("one",))


def test_strangers_are_never_parents(home: Path, tmp_path: Path) -> None:
    """Independent weights, one of them larger, with the gains and the embedding of nobody."""
    child = {name: 3 * t for name, t in base_state(9).items()}
    found = find(home, tmp_path, child)
    assert (found.verdict, found.kind, found.parents, found.layers) == ("inconclusive", "none", (), ())
    assert all(item.weight == 0 and not item.is_parent for item in found.candidates)
    assert (
        "no part of it was found in one of them" in found.notes[0]
        and found.undone is None
        and max(abs(i.cosine) for i in found.candidates) < 0.05
    )
    among = find(home, tmp_path, tuned(ONE, 5, 0.1), "stranger", "one", "other")
    assert among.parents == ("one",) and set(weights(among)) == {"one"}


def test_a_rearranged_child_is_seen_through_without_a_tokenizer(home: Path, tmp_path: Path) -> None:
    """The stream's axes in another order, found by the weights alone."""
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    writes = ("o_proj.weight", "down_proj.weight")
    child = {k: t[order] if k.endswith(writes) or t.ndim == 1 else t[..., order] for k, t in ONE.items()}
    found = find(home, tmp_path, child)
    assert (found.verdict, found.parents) == ("derived", ("one",)) and part(found, "one").weight == 1
    assert found.undone is not None and found.undone.before < 0.1 and found.undone.after == pytest.approx(1)
    assert "a rearranged copy" in found.notes[0]


def test_without_a_base_weights_are_fitted(home: Path, tmp_path: Path) -> None:
    found = find(home, tmp_path, formulas.linear([ONE, TWO], [0.7, 0.3]), "one", "two", "stranger")
    assert (found.verdict, found.kind, found.base, found.base_source) == ("merged", "linear", None, "none")
    assert weights(found) == pytest.approx({"one": 0.7, "two": 0.3}, abs=1e-3)
    assert part(found, "one").direction is None and found.sparse is None
    assert [part(found, name).simplex for name in ("one", "two")] == pytest.approx([0.7, 0.3], abs=1e-3)


def test_a_given_base_is_one_more_candidate(home: Path, tmp_path: Path) -> None:
    merged = formulas.task_arithmetic(BASE, [ONE, TWO], [0.9, 0.8])
    without = find(home, tmp_path, merged, "one", "two")
    assert without.verdict == "inconclusive"
    found = find(home, tmp_path, merged, "one", "two", base=home / "base")
    assert (found.verdict, found.base, found.base_source) == ("merged", "base", "given")
    assert weights(found) == pytest.approx({"one": 0.9, "two": 0.8, "base": -0.7}, abs=1e-3)
    odd = find(home, tmp_path, formulas.linear([ONE, TWO], [0.7, 0.3]), "one", "two", base=home / "stranger")
    assert odd.verdict == "merged" and any("the base that was given cannot serve" in note for note in odd.notes)


def test_a_base_that_lies_beyond_its_offspring_is_found(home: Path, tmp_path: Path) -> None:
    """One offspring went far: the nearest to the mean is another; sums above 1 need the right one."""
    far = save(tmp_path / "far", tuned(BASE, 21, 1.0))
    near = save(tmp_path / "near", tuned(BASE, 22, 0.05))
    states = [tuned(BASE, 21, 1.0), tuned(BASE, 22, 0.05)]
    child = save(tmp_path / "child", formulas.task_arithmetic(BASE, states, [0.9, 0.9]))
    found = parents(child, [near, far, home / "base"])
    assert found.verdict == "merged" and weights(found) == pytest.approx(
        {"far": 0.9, "near": 0.9, "base": -0.8}, abs=1e-3
    )


def test_what_cannot_be_compared_is_skipped_with_the_reason(home: Path, tmp_path: Path) -> None:
    child = save(tmp_path / "child", formulas.linear([ONE, TWO], [0.7, 0.3]))
    wide = TinyLlama(width=48).save(tmp_path / "wide")
    found = parents(child, [home / "one", wide, home / "two", child])
    assert found.verdict == "merged"
    assert found.skipped["child"] == "it is the child itself"
    assert "other shapes: layers.0.attention_norm is [48], not [32]" in found.skipped["wide"]
    nobody = parents(child, [wide])
    assert nobody.verdict == "inconclusive" and nobody.candidates == () and "architecture" in nobody.notes[0]
    assert nobody.to_dict()["r2"] is None


def test_a_candidate_without_some_tensor_is_of_another_architecture(home: Path, tmp_path: Path) -> None:
    """Qwen 2 is a Llama with biases: they cannot be left out, nor made up."""
    biases = {f"model.layers.{i}.self_attn.{r}_proj.bias": torch.randn(n) for i in range(3) for r, n in SIZES.items()}
    child = save(tmp_path / "child", ONE | biases, model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    found = parents(child, [home / "one"])
    assert (
        found.verdict == "inconclusive" and found.skipped["one"] == "another architecture: it has no layers.0.q_bias"
    )


def test_another_vocabulary_leaves_out_the_embeddings_only(home: Path, tmp_path: Path) -> None:
    more = {k: torch.cat([t, t[:8]]) if len(t) == 400 else t for k, t in TWO.items()}
    child = save(tmp_path / "child", formulas.linear([ONE, TWO], [0.7, 0.3]))
    found = parents(child, [home / "base", home / "one", save(tmp_path / "two", more)])
    assert found.verdict == "merged" and weights(found) == pytest.approx({"one": 0.7, "two": 0.3}, abs=1e-3)
    assert "left out, not of equal shape in every model: embedding, unembedding" in found.notes


def test_two_of_one_name_and_two_of_equal_weights(home: Path, tmp_path: Path) -> None:
    again = save(tmp_path / "again" / "one", ONE)
    child = save(tmp_path / "child", formulas.linear([ONE, TWO], [0.7, 0.3]))
    found = parents(child, [home / "base", home / "one", again, home / "two", home / "one"])
    assert [item.name for item in found.candidates] == ["base", f"{home.name}/one", "again/one", "two"]
    assert found.verdict == "merged" and len(found.parents) == 2 and "two" in found.parents
    assert sum(found.candidates[i].weight for i in (1, 2)) == pytest.approx(0.7, abs=1e-3)


def test_steps_are_reported_and_the_document_is_complete(home: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    found = find(home, tmp_path, tuned(ONE, 5), "base", "one", "two", report=steps.append)
    assert [step.done for step in steps] == list(range(steps[0].total)) and steps[0].unit == "tensor"
    document = found.to_dict()
    assert document["schema_version"] == "huref.parents/1.1" and document["kind"] in KINDS
    assert [item["name"] for item in document["candidates"]] == ["base", "one", "two"]
    assert [fit["layer"] for fit in document["layers"]] == ["embedding", "0", "1", "2", "final_norm", "unembedding"]


def test_faults_are_said(home: Path, tmp_path: Path) -> None:
    child = save(tmp_path / "child", ONE)
    with pytest.raises(UsageError, match="nobody to be the parent"):
        parents(child, [])
    with pytest.raises(UsageError, match="a saved fingerprint has no weights"):
        parents(child, [tmp_path / "x.huref.safetensors"])
    with pytest.raises(MissingFileError):
        parents(child, [home / "one", home / "nowhere"])
    with pytest.raises(MissingFileError):
        parents(child, [home / "one"], base=home / "nowhere")
    broken = {k: t.clone() for k, t in TWO.items()}
    broken["model.layers.1.mlp.up_proj.weight"][3, 3] = torch.nan
    with pytest.raises(NotFiniteError, match=r"layers\.1\.up"):
        parents(child, [home / "one", save(tmp_path / "broken", broken)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        parents(child, [tmp_path / "empty"])


def test_of_layers_that_are_copies_the_first_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An inserted layer repeats the one before it; which of them is likelier by a bit of rounding says nothing."""
    probes = np.eye(3, dtype=np.float32)
    deeper = probes[[0, 1, 1, 2]] * np.float32([[1], [1], [1 + 2e-7], [1]])
    opened = [members.open_weights(members.open_checkpoint(save(tmp_path / n, BASE))) for n in ("child", "other")]
    child, other = (members.Member(name, weights) for name, weights in zip(("c", "o"), opened, strict=True))
    sizes = {id(child.weights): probes, id(other.weights): deeper}
    monkeypatch.setattr(members, "_probe", lambda weights, layer: sizes[id(weights)][layer])
    for weights, rows in ((child.weights, probes), (other.weights, deeper)):
        weights.geometry = replace(weights.geometry, n_layers=len(rows))
    assert members._with_layers(child, other).layers == (0, 1, 3)
    for weights in opened:
        weights.checkpoint.close()
