"""One model against many: the surest kin first, p-values of many looks, and who cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import huref
from huref.errors import HurefError, UsageError
from huref.fingerprints.listing import listed
from huref.fingerprints.references import fingerprint
from huref.kinship import rank
from huref.kinship.record import CompareOptions
from huref.model.name import distinct_names, model_name
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a child of it, a stranger, and a folder of copies with more and more noise."""
    folder = tmp_path_factory.mktemp("models")
    TinyLlama().save(folder / "base")
    TinyLlama(noise=0.02).save(folder / "child")
    TinyLlama(seed=7).save(folder / "stranger")
    for step in (10, 9, 100):
        TinyLlama(noise=0.001 * step).save(folder / "run" / f"checkpoint-{step}")
    (folder / "broken").mkdir()
    (folder / "broken" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
    return folder


def test_the_surest_kin_comes_first(home: Path) -> None:
    found = rank(home / "child", [home / "stranger", home / "base", home / "broken"])
    assert [item.name for item in found.candidates] == ["base", "stranger", "broken"]
    assert [item.verdict for item in found.candidates] == ["derived", "independent", "inconclusive"]
    assert found.verdict == "derived" and found.exit_code() == 0
    assert found.candidates[2].comparison is None and found.candidates[2].error
    assert found.said.startswith("which of child and base came first is not told")
    for item in found.candidates[:2]:
        assert item.comparison is not None and item.comparison.p_value is not None
        assert item.p_corrected == pytest.approx(min(1.0, 3 * item.comparison.p_value))


def test_a_ranking_says_of_each_what_a_comparison_says(home: Path) -> None:
    found = rank(home / "child", [home / "stranger", home / "base"])
    for item in found.candidates:
        alone = huref.compare(home / "child", item.reference)
        assert item.comparison is not None
        assert (item.comparison.verdict, item.comparison.agreement) == (alone.verdict, alone.agreement)
        assert item.comparison.ics_canonical_2 == pytest.approx(alone.ics_canonical_2, abs=1e-6)


def test_nobody_is_accused_where_all_are_strangers(home: Path) -> None:
    found = rank(home / "stranger", [home / "base", home / "child"])
    assert found.verdict == "independent" and not found.kin
    assert found.said == "stranger is independent of all 2 candidates"
    assert found.exit_code("independent") == 0 and found.exit_code("derived") == 1


def test_what_cannot_be_read_leaves_the_question_open(home: Path) -> None:
    found = rank(home / "stranger", [home / "base", home / "broken"])
    assert found.verdict == "inconclusive" and found.exit_code() == 3


def test_candidates_may_be_fingerprints(home: Path, tmp_path: Path) -> None:
    saved = tmp_path / "base.huref.safetensors"
    huref.save_fingerprint(fingerprint(home / "base", codes=True), saved)
    found = rank(home / "child", [saved, home / "stranger"])
    assert [item.name for item in found.candidates] == ["base", "stranger"]
    assert found.candidates[0].verdict == "derived"


@pytest.mark.parametrize("which", [[], ["base", "base"]])
def test_no_candidates_or_one_twice(home: Path, which: list[str]) -> None:
    with pytest.raises(UsageError):
        rank(home / "child", [home / name for name in which])


def test_a_suspect_that_cannot_be_read_is_an_error(home: Path) -> None:
    with pytest.raises(HurefError):
        rank(home / "broken", [home / "base"])


@pytest.mark.parametrize("method", ["all", "pcs", "ics", "aligned", "agreement"])
def test_one_verdict_whatever_was_asked(home: Path, tmp_path: Path, method: str) -> None:
    """Copies, other storage and added rows are told by every method; training is never claimed without looking."""
    TinyLlama(dtype="float16").save(tmp_path / "half")
    options = CompareOptions(method=method)
    same = huref.compare(home / "base", home / "base", options)
    half = huref.compare(home / "base", tmp_path / "half", options)
    assert (same.verdict, half.verdict) == ("identical", "requantised")
    assert "fine-tuned" not in json.dumps([same.to_dict(), half.to_dict()])


# Several models by one name


def test_a_folder_stands_for_its_checkpoints_in_order(home: Path) -> None:
    assert [Path(model).name for model in listed([home / "run"])] == [f"checkpoint-{n}" for n in (9, 10, 100)]


def test_a_model_stands_for_itself(home: Path) -> None:
    weights = home / "base" / "model.safetensors"
    assert listed([home / "base", weights, home / "broken"]) == [home / "base", weights, home / "broken"]


def test_a_list_stands_for_its_lines(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"# bases\n{home / 'base'}\n\n{home / 'run'}  # a run\n")
    assert [Path(model).name for model in listed([f"@{file}"])][:2] == ["base", "checkpoint-9"]
    file.write_text("# nothing\n")
    for reference in (f"@{file}", f"@{tmp_path / 'nowhere'}"):
        with pytest.raises(HurefError):
            listed([reference])


def test_a_folder_of_the_hubs_cache_stands_for_its_snapshot(home: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--acme--tiny"
    snapshot = repository / "snapshots" / ("0123456789abcdef" * 2 + "01234567")
    TinyLlama().save(snapshot)
    TinyLlama(noise=0.1).save(repository / "snapshots" / "older")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    assert listed([repository]) == [snapshot]
    assert model_name(snapshot) == "tiny"
    (repository / "refs" / "main").write_text("../../../../etc")
    assert listed([repository]) == [repository]


def test_names_tell_models_apart() -> None:
    assert distinct_names(["a/final", "b/final", "c/base"]) == ("a/final", "b/final", "base")
    assert distinct_names(["x/a/final", "y/a/final"]) == ("x/a/final", "y/a/final")
    assert distinct_names(["final", "final"]) == ("final", "final")


# The command


def test_the_command(cli: Cli, home: Path, tmp_path: Path) -> None:
    page, log = tmp_path / "r.html", tmp_path / "r.sarif"
    done = cli("compare", home / "child", home / "stranger", home / "base", "--report", page, "--sarif", log)
    assert done.code == 0
    assert done.out.splitlines()[0].startswith("which of child and base came first is not told")
    assert [line.split()[0] for line in done.out.splitlines()[2:4]] == ["base", "stranger"]
    document = json.loads(log.read_text())
    assert [run["results"][0]["ruleId"] for run in document["runs"]] == ["huref-derived", "huref-independent"]
    assert len({run["automationDetails"]["id"] for run in document["runs"]}) == 2
    html = page.read_text()
    assert "came first is not told" in html and html.count("<details") >= 2
    told = cli("compare", home / "child", home / "run", "--json").document
    assert told["schema_version"] == "huref.ranking/1.0" and len(told["candidates"]) == 3
    assert cli("compare", home / "stranger", home / "run", "--expect", "independent").code == 0
    assert cli("compare", home / "child", home / "run", "--expect", "independent").code == 1


# What a review found


def test_two_fingerprints_of_one_name_are_told_apart_in_the_reports(cli: Cli, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    saved = tmp_path / "other" / "base.huref.safetensors"
    huref.save_fingerprint(fingerprint(home / "stranger", codes=True), saved)
    log = tmp_path / "r.sarif"
    done = cli("compare", home / "child", saved, home / "base", "--sarif", log)
    assert done.code == 0
    results = [run["results"][0] for run in json.loads(log.read_text())["runs"]]
    assert [result["ruleId"] for result in results] == ["huref-derived", "huref-inconclusive"]
    files = [result["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in results]
    assert "base" in files[0] and "huref" not in files[0] and files[1].endswith("base.huref.safetensors")
    names = [line.split()[0] for line in done.out.splitlines()[2:4]]
    assert len(set(names)) == 2 and names[1].endswith("other/base")


def test_names_steer_no_table_and_no_sentence(home: Path, tmp_path: Path) -> None:
    odd = [tmp_path / "a\nacme identical", tmp_path / "{c}", tmp_path / "\u202eevil"]
    for place in odd:
        TinyLlama(noise=0.02).save(place)
    found = rank(odd[1], [odd[0], odd[2], home / "base"])
    assert len(str(found).splitlines()) == 5 + len(found.notes)
    assert "{c}" in found.said and found.said.count("{c}") == 1
    assert all(name.isprintable() for name in (found.suspect, *(item.name for item in found.candidates)))


def test_a_folder_leaves_nobody_out(home: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    TinyLlama(seed=7).save(mixed / "stranger")
    (mixed / "broken").mkdir()
    (mixed / "broken" / "config.json").write_text("{}")
    (mixed / "logs").mkdir()
    (mixed / "a.gguf").write_bytes(b"")
    (mixed / "stray.safetensors").write_bytes(b"")
    huref.save_fingerprint(fingerprint(home / "base", codes=True), mixed / "base.huref.safetensors")
    names = [Path(model).name for model in listed([mixed])]
    assert names == ["a.gguf", "base.huref.safetensors", "broken", "stranger"]
    found = rank(home / "child", listed([mixed]))
    assert [item.name for item in found.candidates[:2]] == ["base", "stranger"]
    assert {item.name for item in found.candidates if item.error} == {"a", "broken"}


def test_one_model_under_two_spellings_is_one_candidate(home: Path) -> None:
    with pytest.raises(UsageError):
        rank(home / "child", [home / "base", home / "run" / ".." / "base"])


def test_where_no_candidate_can_be_read_that_is_the_error(cli: Cli, home: Path) -> None:
    assert cli("compare", home / "child", home / "broken", home / "broken" / "model.safetensors").code == 4


def test_any_iterable_of_candidates_and_one_alone(home: Path) -> None:
    several = rank(home / "child", (home / name for name in ("base", "stranger")))
    assert len(several.candidates) == 2
    assert len(rank(home / "child", str(home / "base")).candidates) == 1


@pytest.mark.parametrize("option", ["--report", "--sarif"])
def test_a_report_replaces_no_weights(cli: Cli, home: Path, tmp_path: Path, option: str) -> None:
    TinyLlama().save(tmp_path / "mine")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        before = (tmp_path / "mine" / name).read_bytes()
        done = cli("compare", tmp_path / "mine", home / "base", option, tmp_path / "mine" / name)
        assert done.code == 2 and "in the way" in done.err
        assert (tmp_path / "mine" / name).read_bytes() == before
    target = tmp_path / "r.out"
    assert cli("compare", tmp_path / "mine", home / "base", option, target).code == 0
    assert cli("compare", tmp_path / "mine", home / "base", option, target).code == 0, "an earlier one may go"


@pytest.mark.parametrize("option", [("--method", "pcs"), ("--exact",)])
def test_a_saved_fingerprint_is_not_asked_for_what_only_weights_have(
    cli: Cli, home: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    saved = tmp_path / "base.huref.safetensors"
    huref.save_fingerprint(fingerprint(home / "base"), saved)
    done = cli("compare", saved, home / "child", *option)
    assert done.code == 2 and option[0] in done.err


def test_a_candidate_without_the_layers_asked_for_is_told_and_ends_nothing(home: Path, tmp_path: Path) -> None:
    TinyLlama(n_layers=2).save(tmp_path / "shallow")
    found = rank(home / "child", [tmp_path / "shallow", home / "base"], layers="2")
    assert [item.name for item in found.candidates] == ["base", "shallow"]
    assert "layer" in found.candidates[1].error
