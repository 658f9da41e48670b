"""`huref compare --report --sarif --hash` on real files."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from huref import api
from huref.choices import flag
from huref.errors import UsageError
from huref.fingerprints.file import SUFFIX, save_fingerprint
from huref.kinship.record import CompareOptions
from huref.report import collection
from huref.report.collection import command, shown
from huref.report.options import ReportOptions
from kit.command_line import Outcome
from kit.outline import Outline

Cli = Callable[..., Outcome]
pytestmark = pytest.mark.usefixtures("dogs")


def test_both_reports_are_written_and_change_nothing_else(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models["base"].parent)
    page, log = tmp_path / "new" / "out.html", tmp_path / "out.sarif"
    plain = cli("compare", "base", "child", "--json")
    done = cli("compare", "base", "child", "--json", "--report", page, "--sarif", log)
    assert done.code == plain.code and done.document == plain.document and done.err == ""
    outline = Outline(page.read_text())
    assert len(outline.all("img")) == 2
    digest = hashlib.sha256((models["base"] / "model.safetensors").read_bytes()).hexdigest()
    assert f"model.safetensors {digest}" in outline.text
    read = plain.document["read"][0]
    assert (
        f"{read['bytes_read'] / 1e3:.2f} kB" in outline.text and f"{read['bytes_total'] / 1e3:.2f} kB" in outline.text
    )
    assert "huref compare base child --report out.html --sarif out.sarif" in outline.text
    (run,) = json.loads(log.read_text())["runs"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == [
        "base/model.safetensors",
        "child/model.safetensors",
    ]
    assert run["artifacts"][0]["hashes"] == {"sha-256": digest}
    assert run["results"][0]["properties"]["pcs"] == plain.document["pcs"]
    assert run["invocations"][0]["exitCode"] == plain.code


@pytest.mark.parametrize("expect", ["identical", "independent"])
def test_a_policy_decides_exit_code_and_level(cli: Cli, models: dict[str, Path], tmp_path: Path, expect: str) -> None:
    log = tmp_path / "out.sarif"
    done = cli("compare", models["base"], models["copy"], "--method", "pcs", "--expect", expect, "--sarif", log)
    assert done.code == (0 if expect == "identical" else 1) and f"written: {log}" in done.out
    (run,) = json.loads(log.read_text())["runs"]
    assert run["invocations"][0]["exitCode"] == done.code
    assert run["results"][0]["level"] == ("note" if expect == "identical" else "error")
    # no folder of this machine is told
    assert str(models["base"].parent) not in log.read_text()
    asked = ["compare", "base", "copy", "--method", "pcs", "--expect", expect, "--sarif", "out.sarif"]
    assert run["invocations"][0]["arguments"] == asked


def test_saved_fingerprints_say_what_they_hold(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / f"base{SUFFIX}"
    save_fingerprint(api.fingerprint(models["base"]), file)
    page = tmp_path / "out.html"
    done = cli("compare", file, models["stranger"], "--report", page)
    assert done.code == 3
    text = Outline(page.read_text()).text
    assert "a saved fingerprint; no weights were opened" in text and "a vector of 512 numbers and 6 sketches" in text
    assert f"base{SUFFIX} {hashlib.sha256(file.read_bytes()).hexdigest()}" in text
    assert text.count("kB of ") >= 2  # what the maker read then, and what was read of the stranger now
    assert len(Outline(page.read_text()).all("img")) == 2


def test_files_above_the_limit_are_hashed_only_when_asked(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "HASHED_UNASKED", 100_000)
    monkeypatch.setattr(collection, "_BLOCK", 1000)
    log = tmp_path / "out.sarif"
    arguments = ("compare", models["base"], models["child"], "--method", "pcs", "--sarif", log)
    cli(*arguments)
    artifacts = json.loads(log.read_text())["runs"][0]["artifacts"]
    assert all("hashes" not in artifact and artifact["length"] > 0 for artifact in artifacts)
    cli(*arguments, "--hash")
    artifacts = json.loads(log.read_text())["runs"][0]["artifacts"]
    digests = [hashlib.sha256((models[m] / "model.safetensors").read_bytes()).hexdigest() for m in ("base", "child")]
    assert [artifact["hashes"]["sha-256"] for artifact in artifacts] == digests


def test_what_cannot_be_written_is_said_before_anything_is_read(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "a.html"
    file.write_text("before")
    for arguments in (
        ("--report", tmp_path),
        ("--sarif", file / "below.sarif"),
        ("--report", file, "--sarif", file),
        ("--hash",),
    ):
        done = cli("compare", tmp_path / "no-such-model", models["base"], *arguments)
        assert done.code == 2, arguments
    assert file.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_after_an_error_no_report_is_left(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    done = cli("compare", models["base"], tmp_path / "none", "--report", tmp_path / "a.html")
    assert done.code == 4 and list(tmp_path.iterdir()) == []


def test_without_a_generator_the_page_says_so(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huref.errors import WeightsError

    def missing() -> None:
        raise WeightsError("the generator's weights are not there")

    monkeypatch.setattr("huref.portraits.generator.file.shipped_generator", missing)
    page = tmp_path / "a.html"
    done = cli("compare", models["base"], models["child"], "--method", "pcs", "--report", page)
    assert done.code in (0, 3)
    assert Outline(page.read_text()).text.count("the generator's weights are not there") == 2


def test_saved_evidence_is_checked_and_told(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    saved, page, log = tmp_path / "x.evidence.safetensors", tmp_path / "a.html", tmp_path / "a.sarif"
    assert cli("explain", models["base"], models["child"], "--out", saved).code == 0
    reports = ("--report", page, "--sarif", log, "--evidence", saved)
    done = cli("compare", models["child"], models["base"], *reports)  # in either order
    assert done.code in (0, 3)
    outline = Outline(page.read_text())
    assert "Recovered transform" in outline.text and "FAILS" not in outline.text
    held, of = re.search(r"checked (\d+) of (\d+) claims hold on the weights at hand", outline.text).groups()
    assert held == of != "0"
    assert "huref explain child base --check x.evidence.safetensors" in outline.text
    told = json.loads(log.read_text())["runs"][0]["results"][0]["properties"]["transform"]
    assert told[0] == f"checked: {held} of {of} claims hold on the weights at hand"
    assert cli("compare", models["base"], models["stranger"], *reports).code == 4  # of other models
    print_file = tmp_path / f"base{SUFFIX}"
    save_fingerprint(api.fingerprint(models["base"]), print_file)
    assert cli("compare", print_file, models["child"], *reports).code == 2


def test_the_command_repeats_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = CompareOptions(
        method="ics",
        layers="all",
        n_tokens=512,
        tokens_file=tmp_path / "rank ing.txt",
        arch_file=Path("/elsewhere/arch.yaml"),
        expect="derived",
    )
    made = shlex.join(command(("a b", "-c"), options))
    assert made == (
        "huref compare 'a b' ./-c --method ics --layers all --n-tokens 512 --tokens 'rank ing.txt' "
        "--arch-file arch.yaml --expect derived"
    )
    assert command(("a", "b"), CompareOptions()) == ("huref", "compare", "a", "b")
    assert shown(tmp_path / "x" / "y") == "x/y" and shown("/far/away/z") == "z" and shown("../up") == "../up"


def test_every_option_of_a_comparison_is_an_option_of_the_command() -> None:
    from dataclasses import fields

    from kit.references import COMMANDS, reference

    written = {w.split()[0] for _, w, _, _ in reference.parameters(COMMANDS["huref compare"])}
    for item in fields(CompareOptions):
        assert flag(item.name) in written


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two reports into one file"):
        ReportOptions(tmp_path / "a", tmp_path / "a")
    for settings in ({"hash_files": True}, {"transform": tmp_path / "a"}):
        with pytest.raises(UsageError, match="no report to write into"):
            ReportOptions(**settings)
    assert ReportOptions().paths == ()
