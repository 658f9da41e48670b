"""SARIF: valid by the schema (as `pydantic-sarif` has it) and by the rules of the text that no schema can say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from huref.kinship.record import VERDICTS, Comparison
from huref.report import Evidence, sarif_log
from huref.report.sarif import message_text, severity
from kit import reports
from kit.reports import CASES


def log_of(found: Comparison, evidence: Evidence | None = None) -> dict[str, Any]:
    """As a reader gets it: through JSON, in which NaN has no place."""
    return json.loads(json.dumps(sarif_log(found, evidence or reports.evidence()), allow_nan=False))


@pytest.mark.parametrize("case", CASES)
def test_the_log_is_valid_by_the_schema(case: str) -> None:
    model = pytest.importorskip("pydantic_sarif.model")
    log = log_of(*CASES[case])
    model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)
    with pytest.raises(ValueError):  # the binding does refuse what the schema does not have
        model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate({**log, "verdict": "derived"})


@pytest.mark.parametrize("case", CASES)
def test_the_log_keeps_the_rules_of_the_text(case: str) -> None:
    log = log_of(*CASES[case])
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    (result,) = run["results"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [f"huref-{verdict}" for verdict in VERDICTS]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == f"huref-{CASES[case][0].verdict}"
    assert result["kind"] == "fail" or result["level"] == "none"  # 3.27.10
    artifacts = run["artifacts"]
    assert len({json.dumps(artifact, sort_keys=True) for artifact in artifacts}) == len(artifacts)  # 3.14.15: unique
    places = [*result["locations"], *result["relatedLocations"]]
    assert len(result["locations"]) == 1
    for place in (item["physicalLocation"]["artifactLocation"] for item in places):
        assert artifacts[place["index"]]["location"] == {k: v for k, v in place.items() if k != "index"}
        assert place["uriBaseId"] in run["originalUriBaseIds"]
    for artifact in artifacts:
        parts = urlsplit(artifact["location"]["uri"])
        assert not parts.scheme and not parts.netloc and not parts.path.startswith("/")
        assert artifact["location"]["uri"].isascii() and " " not in artifact["location"]["uri"]
    stamp = datetime.fromisoformat(run["invocations"][0]["endTimeUtc"])
    assert stamp.utcoffset() is not None


@pytest.mark.parametrize(
    ("verdict", "expect", "kind", "level"),
    [
        ("identical", None, "fail", "warning"),
        ("requantised", None, "fail", "warning"),
        ("derived", None, "fail", "warning"),
        ("merged", None, "fail", "warning"),
        ("independent", None, "pass", "none"),
        ("inconclusive", None, "open", "none"),
        ("derived", "derived", "fail", "note"),
        ("independent", "independent", "pass", "none"),
        ("inconclusive", "inconclusive", "open", "none"),
        ("derived", "independent", "fail", "error"),
        ("independent", "derived", "fail", "error"),
        ("inconclusive", "derived", "fail", "error"),
    ],
)
def test_level_follows_verdict_and_policy(verdict: str, expect: str | None, kind: str, level: str) -> None:
    assert severity(verdict, expect) == (kind, level)
    (result,) = log_of(reports.derived(verdict=verdict), reports.evidence(expect=expect))["runs"][0]["results"]
    assert (result["kind"], result["level"]) == (kind, level)


def test_every_score_is_in_the_properties() -> None:
    found = reports.derived()
    (run,) = log_of(found)["runs"]
    (result,) = run["results"]
    properties = result["properties"]
    for name in ("pcs", "ics", "ics_canonical_2", "vectors", "aligned", "agreement", "z", "p_value", "verdict"):
        assert properties[name] == getattr(found, name)
    assert properties["background"]["nearest"]["a"] == "llama-tied/seed1" and "values" not in properties["background"]
    assert [layer["agreement"] for layer in properties["layers"]] == [layer.agreement for layer in found.layers]
    assert properties["derivation"]["reasons"] == found.derivation["reasons"]
    assert properties["notes"] == list(found.notes)
    assert "consistent with derivation from base-1, or from a relative of it." in result["message"]["text"]
    invocation = run["invocations"][0]
    assert invocation["exitCode"] == 0 and invocation["executionSuccessful"] is True
    assert invocation["commandLine"].split() == ["huref", *invocation["arguments"]]


def test_numbers_of_numpy_and_numbers_that_are_none_are_written() -> None:
    odd = {"mean": np.float32(0.5), "n": np.int64(3), "max": float("nan"), "values": np.ones(2), "list": np.arange(2)}
    (result,) = log_of(reports.derived(background=odd, z=float("inf"), pcs=np.float64(0.25)))["runs"][0]["results"]
    assert result["properties"]["background"] == {"mean": 0.5, "n": 3, "max": None, "list": [0, 1]}
    assert result["properties"]["z"] is None and result["properties"]["pcs"] == 0.25


def test_a_model_against_itself_has_two_artifacts() -> None:
    item = reports.weights("same", files=1)
    artifacts = log_of(reports.derived(a="same", b="same"), reports.evidence(item, item))["runs"][0]["artifacts"]
    assert [artifact["description"]["text"][0] for artifact in artifacts] == ["A", "B"]
    assert (
        artifacts[0]["hashes"] == {"sha-256": item.files[0].sha256} and artifacts[0]["length"] == item.files[0].size
    )


def test_inputs_without_files_and_digests_are_still_located() -> None:
    bare = replace(reports.weights("bare"), files=())
    plain = replace(reports.weights("plain"), files=(replace(reports.weights("plain").files[0], sha256=""),))
    artifacts = log_of(reports.derived(), reports.evidence(bare, plain))["runs"][0]["artifacts"]
    assert [sorted(artifact) for artifact in artifacts] == [
        ["description", "location", "roles"],
        ["description", "length", "location", "roles"],
    ]


def test_no_name_becomes_a_link_or_a_placeholder() -> None:
    assert message_text("[x](http://y) {0} \\") == "\\[x\\](http://y) {{0}} \\\\"
    (result,) = log_of(*CASES["hostile"])["runs"][0]["results"]
    text = result["message"]["text"]
    assert "\\[{{0}}\\](http" in text and "\u202e" not in text and "\x00" not in text
    assert len(text) < 2000
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(uri) == reports.weights(reports.HOSTILE, files=30).files[0].path


def test_one_pair_has_one_fingerprint_whatever_was_found() -> None:
    def digest(found: Comparison) -> str:
        return log_of(found)["runs"][0]["results"][0]["fingerprints"]["hurefPair/v1"]

    assert digest(reports.derived()) == digest(reports.derived(verdict="independent", pcs=0.0))
    assert digest(reports.derived()) != digest(reports.derived(a="base-2"))
