"""The zoo: its list, what is true of pairs, and a small one made for real."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from huref.cli.app import app
from huref.errors import CorruptFileError, HurefError, MissingFileError, UsageError
from huref.model.model import open_model
from huref.progress import Progress
from huref_lab.zoo import construction as zoo_module
from huref_lab.zoo.construction import Zoo, ZooModel, ZooOptions, build_plans, build_zoo, load_zoo
from huref_lab.zoo.contents import RICH, full_plans, small_plans
from huref_lab.zoo.makers import MAKERS
from huref_lab.zoo.plan import FULL, OTHER, SMALL, digests
from huref_lab.zoo.record import MANIFEST, save_zoo
from huref_lab.zoo.stored import layer_of, read_stored

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The small zoo, made by one process."""
    return build_zoo(tmp_path_factory.mktemp("zoo"), ZooOptions("small", 1))


def model(name: str, roots: tuple[str, ...], **more: Any) -> ZooModel:
    return ZooModel(name, f"models/{name}", "base" if roots == (name,) else "fine-tune", roots=roots, **more)


def sample(folder: Path) -> Zoo:
    models = (
        model("a", ("a",), init="x/1", losses={"after": 3.5}),
        model("b", ("b",), init="x/1"),
        model("c", ("c",), init="x/2"),
        model("a-child", ("a",), parents=("a",), made="briefly"),
        model("b-child", ("b",), parents=("b",)),
        model("ac", ("a", "c"), parents=("a", "c"), init="x/1+x/2"),
    )
    return Zoo(folder, models)


def test_what_is_true_of_a_pair_follows_from_its_roots(tmp_path: Path) -> None:
    zoo = sample(tmp_path)
    expected = {
        ("a", "a-child"): "kin",
        ("a", "ac"): "kin",
        ("c", "ac"): "kin",
        ("a", "c"): "independent",
        ("a-child", "c"): "independent",
        ("a", "b"): "same-init",
        ("a-child", "b-child"): "same-init",
        ("b", "ac"): "same-init",
        ("a", "a"): "kin",
    }
    for (one, other), truth in expected.items():
        assert zoo.truth(one, other) == zoo.truth(other, one) == truth
    pairs = list(zoo.pairs())
    assert len(pairs) == 15
    assert all(truth == zoo.truth(one.name, other.name) for one, other, truth in pairs)
    assert [base.name for base in zoo.bases] == ["a", "b", "c"]
    with pytest.raises(UsageError, match="no such model"):
        zoo.path("d")


def test_a_saved_list_comes_back(tmp_path: Path) -> None:
    save_zoo(sample(tmp_path))
    assert load_zoo(tmp_path) == sample(tmp_path)
    assert load_zoo(tmp_path).path("a") == tmp_path / "models/a"


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "m", "path": "m", "kind": "base", "roots": ["m"]} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "huref.zoo/9"},
        {"models": "all"},
        {"models": []},
        {"models": [3]},
        {"models": [{}]},
        {"models": [entry(), entry()]},
        {"models": [entry(extra=1)]},
        {"models": [entry(path="/etc/passwd")]},
        {"models": [entry(path="../m")]},
        {"models": [entry(path="models/../../m")]},
        {"models": [entry(path="..\\m")]},
        {"models": [entry(path="")]},
        {"models": [entry(path="a\x00b")]},
        {"models": [entry(name=5)]},
        {"models": [entry(roots=[])]},
        {"models": [entry(roots="m")]},
        {"models": [entry(roots=["n"])]},
        {
            "models": [
                entry(),
                entry(name="n", roots=["n"]),
                entry(name="k", roots=["k", "m"]),
                entry(name="j", roots=["k"]),
            ]
        },
        {"models": [entry(parents=["n"])]},
        {"models": [entry(parents=[1])]},
        {"models": [entry(losses={"after": "low"})]},
        {"models": [entry(losses={"after": True})]},
        {"models": [entry(losses={"after": float("nan")})]},
        {"models": [entry(losses=[1.0])]},
    ],
)
def test_a_list_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    document = {"schema_version": "huref.zoo/1.0", "models": [entry()]}
    (tmp_path / MANIFEST).write_text(json.dumps(document))
    assert len(load_zoo(tmp_path).models) == 1
    (tmp_path / MANIFEST).write_text(json.dumps(document | changes))
    with pytest.raises(CorruptFileError, match="contradicts its format"):
        load_zoo(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"null"], ids=range(6))
def test_a_list_that_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(CorruptFileError):
        load_zoo(tmp_path)


def test_no_zoo_and_too_much_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match="cannot be read"):
        load_zoo(tmp_path)
    save_zoo(sample(tmp_path))
    monkeypatch.setattr("huref_lab.zoo.record._MOST_BYTES", 100)
    with pytest.raises(CorruptFileError):
        load_zoo(tmp_path)


def test_the_full_plan_is_what_is_asked_for() -> None:
    plans = full_plans()
    position = {plan.name: i for i, plan in enumerate(plans)}
    assert len(position) == len(plans)
    assert len({plan.path for plan in plans}) == len(plans)
    assert all(position[parent] < position[plan.name] for plan in plans for parent in plan.parents)
    assert {plan.maker for plan in plans} == MAKERS.keys()
    bases = [plan for plan in plans if plan.kind == "base"]
    assert len(bases) >= 20
    assert len({plan.settings["architecture"] for plan in bases}) >= 7
    assert len({plan.settings["init"] for plan in bases}) == len(bases) - 3, "three begin as another does"
    assert len({plan.seed for plan in plans}) == len(plans)
    assert all(text != other for text, other in OTHER.items())
    kinds = {plan.kind for plan in plans if plan.name.startswith(f"{RICH[0]}/")}
    assert len(kinds) >= 19


def test_a_digest_changes_with_the_plan_its_parents_and_the_scale() -> None:
    plans = small_plans()
    before = digests(plans, SMALL)
    assert len(set(before.values())) == len(plans)
    other = [replace(plans[0], settings={**plans[0].settings, "text": "python:sympy"}), *plans[1:]]
    after = digests(other, SMALL)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {plan.name for plan in plans if plan.name == "llama-tied-1" or plan.parents}
    assert not set(before.values()) & set(digests(plans, FULL).values())


def test_a_small_zoo_is_made(made: Zoo) -> None:
    assert [m.name for m in made.models] == [plan.name for plan in small_plans()]
    assert load_zoo(made.folder) == made
    for base in made.bases:
        assert base.losses["after"] < base.losses["before"] - 0.5
    for item in made.models:
        found = open_model(made.path(item.name))
        found.weights.checkpoint.close()
    assert not list(made.folder.rglob(".*")), "nothing half-written is left"
    lines = made.to_text().splitlines()
    assert lines[-1] == "12 models, 4 of them with weights of their own"
    assert "after" in lines[0]


def test_kinship_in_the_small_zoo(made: Zoo) -> None:
    assert made.truth("llama-tied-1", "llama-tied-2") == "independent"
    assert made.truth("llama-tied-1", "llama-tied-1-order") == "same-init"
    assert made.truth("llama-tied-1/merge-ties", "llama-tied-1/wrapped") == "kin"
    assert made.truth("llama-tied-1", "llama-tied-1/student") == "independent"
    assert made.truth("across/frankenmerge", "llama-tied-2") == "kin"
    assert made.truth("across/frankenmerge", "llama-tied-1/lora") == "kin"
    assert made["llama-tied-1/merge-ties"].roots == ("llama-tied-1",)


def tensors(zoo: Zoo, name: str) -> dict[str, torch.Tensor]:
    return dict(read_stored(zoo.path(name)).tensors)


def test_equal_first_weights_are_equal_before_training(made: Zoo) -> None:
    first, order, twin = (
        made[name].losses["before"] for name in ("llama-tied-1", "llama-tied-1-order", "llama-tied-2")
    )
    assert first == order != twin
    a, b = tensors(made, "llama-tied-1"), tensors(made, "llama-tied-1-order")
    assert not torch.equal(a["model.embed_tokens.weight"], b["model.embed_tokens.weight"])


def test_the_merged_adapter_changes_attention_alone_and_by_its_rank(made: Zoo) -> None:
    base, child = tensors(made, "llama-tied-1"), tensors(made, "llama-tied-1/lora")
    for name, tensor in child.items():
        delta = (tensor - base[name]).double()
        if "self_attn" not in name:
            assert not delta.any(), name
        else:
            assert 1 <= int(torch.linalg.matrix_rank(delta, rtol=1e-4)) <= 2, name


def test_what_needs_no_training_is_its_parents(made: Zoo) -> None:
    base, twin = tensors(made, "llama-tied-1"), tensors(made, "llama-tied-2")
    dropped, stacked = tensors(made, "llama-tied-1/layers-dropped"), tensors(made, "across/frankenmerge")
    assert dropped.keys() == {name for name in base if layer_of(name) != 1}
    assert all(torch.equal(tensor, base[name]) for name, tensor in dropped.items())
    for name, tensor in stacked.items():
        assert torch.equal(tensor, (twin if layer_of(name) == 1 else base)[name])
    tuned, wrapped = tensors(made, "llama-tied-1/tune-light"), tensors(made, "llama-tied-1/wrapped")
    assert all(torch.equal(tensor, wrapped[f"language_model.{name}"]) for name, tensor in tuned.items())
    assert any(name.startswith("vision_tower.") for name in wrapped)


def test_nothing_is_made_twice(made: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(zoo_module, "make_model", refuse)
    assert build_zoo(made.folder, ZooOptions("small", 1)) == made


def test_another_zoo_is_left_alone(made: Zoo) -> None:
    before = (made.folder / MANIFEST).read_bytes()
    with pytest.raises(UsageError, match="holds another zoo"):
        build_plans(made.folder, small_plans()[:5], SMALL, 1)
    with pytest.raises(UsageError, match="holds another zoo"):
        build_zoo(made.folder, ZooOptions("full", 1))
    assert (made.folder / MANIFEST).read_bytes() == before


def test_an_interrupted_build_goes_on_where_it_was(
    made: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, real, names = small_plans()[3:5], zoo_module.make_model, []
    plans = [small_plans()[0], *plans]

    def make(folder: Path, plan: Any, *rest: Any) -> ZooModel:
        if len(names) == 2:
            names.clear()
            raise KeyboardInterrupt
        names.append(plan.name)
        return real(folder, plan, *rest)

    monkeypatch.setattr(zoo_module, "make_model", make)
    with pytest.raises(KeyboardInterrupt):
        build_plans(tmp_path, plans, SMALL, 1)
    assert [m.name for m in load_zoo(tmp_path).models] == [plan.name for plan in plans[:2]]
    reports: list[Progress] = []
    zoo = build_plans(tmp_path, plans, SMALL, 1, reports.append)
    assert names == [plans[2].name]
    assert [(r.done, r.total) for r in reports] == [(3, 3)]
    for plan in plans:
        again = (zoo.path(plan.name) / "model.safetensors").read_bytes()
        assert again == (made.path(plan.name) / "model.safetensors").read_bytes(), "the seed decides every byte"


def test_processes_make_the_same_bytes_as_one(made: Zoo, tmp_path: Path) -> None:
    plans = [plan for plan in small_plans() if plan.name in ("llama-tied-1", "llama-tied-2", "llama-tied-1/lora")]
    zoo = build_plans(tmp_path, plans, SMALL, 2)
    assert [m.name for m in zoo.models] == [plan.name for plan in plans]
    for plan in plans:
        again = (zoo.path(plan.name) / "model.safetensors").read_bytes()
        assert again == (made.path(plan.name) / "model.safetensors").read_bytes()
        assert zoo[plan.name] == made[plan.name]


def test_a_fault_in_a_process_is_the_fault(tmp_path: Path) -> None:
    plan = small_plans()[0]
    lost = replace(plan, settings={**plan.settings, "tokenizer": "python:no_such_package_here"})
    with pytest.raises(MissingFileError, match="not installed") as fault:
        build_plans(tmp_path, [lost], SMALL, 2)
    assert fault.value.where == "python:no_such_package_here"
    assert not (tmp_path / MANIFEST).exists()


def test_the_command(made: Zoo, tmp_path: Path) -> None:
    asked = ["lab", "zoo", "--out", str(made.folder), "--size", "small", "--jobs", "1"]
    shown = CliRunner().invoke(app, [*asked, "--json"])
    assert json.loads(shown.stdout) == json.loads((made.folder / MANIFEST).read_text())
    assert "12 models" in CliRunner().invoke(app, asked).stdout
    for wrong in (["--size", "huge"], ["--jobs", "0"]):
        fault = CliRunner().invoke(app, ["lab", "zoo", "--out", str(tmp_path), *wrong]).exception
        assert isinstance(fault, SystemExit) and fault.code == 2
    (tmp_path / "file").write_text("")
    fault = CliRunner().invoke(app, ["lab", "zoo", "--out", str(tmp_path / "file"), "--size", "small", "--jobs", "1"])
    assert isinstance(fault.exception, HurefError)


def test_without_transformers_nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    for jobs in (1, 2):
        with pytest.raises(MissingFileError, match=r"\./lab\[zoo\]") as caught:
            build_zoo(tmp_path / "zoo", ZooOptions("small", jobs))
        assert caught.value.where == "transformers" and not (tmp_path / "zoo").exists()


LAZY = """
import sys, types
logging = types.ModuleType("transformers.utils.logging")
logging.disable_progress_bar = lambda: None
utils = types.ModuleType("transformers.utils")
utils.logging = logging
sys.modules |= {"transformers.utils": utils, "transformers.utils.logging": logging}
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise ImportError("needs another torch")
"""


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ImportError('built for another torch')", "ImportError: built for another torch"),
        ("import os; os._exit(9)", "it ended before it could say why"),
        (LAZY, "ImportError: needs another torch"),
    ],
    ids=["a broken package", "a process that dies", "a package that breaks when it is asked for something"],
)
def test_workers_that_cannot_start_are_one_clear_error(code: str, why: str, jobs: int, tmp_path: Path) -> None:
    """With a transformers of their own, since each process imports it afresh."""
    if jobs == 1 and "_exit" in code:
        pytest.skip("it would end the command itself")
    (tmp_path / "transformers.py").write_text(code)
    command = [sys.executable, "-m", "huref", "lab", "zoo", "--out", tmp_path / "zoo", "--size", "small"]
    command += ["--jobs", str(jobs), "--json"]
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    fault = json.loads(done.stdout)["error"]
    assert done.returncode == 3 and "Traceback" not in done.stderr and "memory" not in fault["what"]
    assert fault["what"] == "a process could not start its work" and fault["got"] == why
