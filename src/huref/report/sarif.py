"""A comparison as SARIF 2.1.0 (OASIS, errata 01), for continuous integration: one run with one result.

Which verdict is a problem is the caller's policy. Without one, kinship of any kind is a warning; with `--expect`, the
verdict wanted is a note and any other an error. Independence passes, and what is open stays open.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from huref.kinship.record import VERDICTS, Comparison
from huref.report import words
from huref.report.markup import plain
from huref.report.numbers import json_ready
from huref.report.records import Evidence, FileRecord, InputRecord

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
_EXIT_CODES = {0: "a verdict, or the expected one", 1: "another verdict than expected", 3: "inconclusive"}
_RULES = {
    "identical": "Every value of every tensor is equal.",
    "requantised": "All tensors agree within the rounding of the number formats they are stored in.",
    "derived": "The weights are statistically consistent with derivation from one origin.",
    "merged": "The weights are statistically consistent with derivation from one origin by merging.",
    "independent": "The weights are statistically consistent with independent training.",
    "inconclusive": "The evidence supports neither derivation nor independence.",
}
_SCORES = ("pcs", "ics_canonical_2", "ics", "ics_canonical", "vectors", "aligned", "agreement", "z", "p_value")


def sarif_log(found: Comparison, evidence: Evidence) -> dict[str, Any]:
    """The log, ready to be written as JSON."""
    named = zip("AB", evidence.inputs, (found.a, found.b), strict=True)
    artifacts = [_artifact(side, item, file, title) for side, item, title in named for file in files_of(item)]
    run = {
        "tool": {"driver": driver(evidence.version)},
        "automationDetails": {"id": "huref/compare"},
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder in which huref was run."}}},
        "invocations": [_invocation(evidence)],
        "artifacts": artifacts,
        "results": [_result(found, evidence)],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def severity(verdict: str, expect: str | None) -> tuple[str, str]:
    """Kind and level of a result: SARIF allows a level other than `none` only for the kind `fail`."""
    if expect is not None and verdict != expect:
        return "fail", "error"
    if verdict in ("independent", "inconclusive"):
        return ("pass" if verdict == "independent" else "open"), "none"
    return "fail", "warning" if expect is None else "note"


def files_of(item: InputRecord) -> Iterable[FileRecord]:
    """An input's files; where none is known, the input itself."""
    return item.files or (FileRecord(item.reference, -1, path=item.reference),)


def uri_of(file: FileRecord) -> str:
    """A relative reference (RFC 3986), whatever letters the path has."""
    return quote(file.path.lstrip("/"), errors="replace")


def driver(version: str) -> dict[str, Any]:
    """The tool, of this version, and a rule for each verdict."""
    return {
        "name": "huref",
        "version": version,
        "semanticVersion": version,
        "shortDescription": {"text": "Kinship of language models, read from their weights."},
        "rules": [_rule(verdict) for verdict in VERDICTS],
    }


def _rule(verdict: str) -> dict[str, Any]:
    _, level = severity(verdict, None)
    return {
        "id": f"huref-{verdict}",
        "name": verdict.capitalize(),
        "shortDescription": {"text": words.LABELS[verdict]},
        "fullDescription": {"text": _RULES[verdict]},
        "help": {"text": words.LIMIT},
        "defaultConfiguration": {"level": level},
    }


def _invocation(evidence: Evidence) -> dict[str, Any]:
    return {
        "commandLine": shlex.join(evidence.command),
        "arguments": list(evidence.command[1:]),
        "exitCode": evidence.exit_code,
        "exitCodeDescription": _EXIT_CODES.get(evidence.exit_code, "an error"),
        "executionSuccessful": True,
        "endTimeUtc": evidence.made,
    }


def _artifact(side: str, item: InputRecord, file: FileRecord, title: str) -> dict[str, Any]:
    """One file; the side keeps entries apart where a model is compared with itself, as SARIF demands."""
    what = "fingerprint" if item.is_saved else "weights"
    entry: dict[str, Any] = {
        "location": {"uri": uri_of(file), "uriBaseId": _ROOT},
        "roles": ["analysisTarget"],
        "description": {"text": message_text(f"{side}: {what} of {plain(title, 200)}")},
    }
    if file.size >= 0:
        entry["length"] = file.size
    if file.sha256:
        entry["hashes"] = {"sha-256": file.sha256}
    return entry


def _result(found: Comparison, evidence: Evidence) -> dict[str, Any]:
    kind, level = severity(found.verdict, evidence.expect)
    n_first = len(list(files_of(evidence.inputs[0])))
    sentence = words.verdict_sentence(found).fill(*(plain(text, 200) for text in words.distinct(found)))
    expected = "" if evidence.expect is None else f" Expected: {evidence.expect}; found: {found.verdict}."
    return {
        "ruleId": f"huref-{found.verdict}",
        "ruleIndex": VERDICTS.index(found.verdict),
        "kind": kind,
        "level": level,
        "message": {"text": message_text(f"{sentence}{expected} {words.LIMIT}")},
        "locations": [_location(evidence.inputs[0], 0)],
        "relatedLocations": [{**_location(evidence.inputs[1], n_first), "message": {"text": "compared with"}}],
        "fingerprints": {"hurefPair/v1": _pair_digest(found)},
        "properties": _properties(found, evidence),
    }


def _location(item: InputRecord, index: int) -> dict[str, Any]:
    file = next(iter(files_of(item)))
    return {"physicalLocation": {"artifactLocation": {"uri": uri_of(file), "uriBaseId": _ROOT, "index": index}}}


def _properties(found: Comparison, evidence: Evidence) -> dict[str, Any]:
    """Everything that the comparison says, but the terms and tables, which `--json` has."""
    scores = {name: getattr(found, name) for name in _SCORES}
    known = {name: getattr(found, name) for name in ("alignment", "self_null", "derivation")}
    background = {key: value for key, value in (found.background or {}).items() if key != "values"}
    properties: dict[str, Any] = json_ready(
        {
            "verdict": found.verdict,
            "expected": evidence.expect,
            **scores,
            **known,
            "background": background or None,
            "transform": [f"{plain(term)}: {plain(text)}" for term, text in evidence.transform],
            "layers": [vars(layer) for layer in found.layers],
            "bytes_read": [item.bytes_read for item in evidence.inputs],
            "notes": [plain(note) for note in found.notes],
        }
    )
    return properties


def _pair_digest(found: Comparison) -> str:
    """One name for one pair, whatever was found about it."""
    return hashlib.sha256(f"{found.a}\0{found.b}".encode("utf-8", "replace")).hexdigest()


def message_text(text: str) -> str:
    """A plain message in which nothing is a link or a placeholder (SARIF, 3.11.5 and 3.11.6)."""
    escaped = text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    return escaped.replace("{", "{{").replace("}", "}}")
