"""The verifier in one file, verifier/huref_verify.py, against `huref.proof`: the same verdicts, the same numbers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import HurefError, InconclusiveError
from huref.proof.files.commitment import parse_commitment
from huref.proof.files.layout import Matrix, Term
from huref.proof.files.opening import Opening
from huref.proof.files.proof import parse_proof
from huref.proof.sketch.no_wrap import column_norm
from huref.proof.sketch.pair import score_pair
from huref.proof.sketch.verifier import Verified, passed_over
from kit import proofs as kit
from kit.two_verifiers import PATH, Files, main_verdict, minimal, minimal_verdict

P = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
IDENTITY = b"\xc0" + bytes(47)
ON_CURVE_ONLY = b"\x80" + bytes(46) + b"\x04"  # x = 4: on the curve, outside the subgroup

Fuzz = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@cache
def honest() -> dict[str, Files]:
    """Files that hold."""
    a, b = kit.commitment_a().to_bytes(), kit.commitment_b().to_bytes()
    of_a, of_b = (proof.to_bytes() for proof in kit.compare_proofs())
    return {
        "commitment": (a, b""),
        "fingerprint": (a, kit.fingerprint_proof().to_bytes()),
        "compare a": (a, of_a),
        "compare b": (b, of_b),
    }


@pytest.mark.parametrize("name", ["commitment", "fingerprint", "compare a", "compare b"])
def test_both_accept_what_is_honest(name: str) -> None:
    assert main_verdict(honest()[name])
    assert isinstance(minimal_verdict(honest()[name]), tuple)


def test_both_find_one_vector_and_one_ics() -> None:
    ours, theirs = (
        [verdict(honest()[name]) for name in ("fingerprint", "compare a", "compare b")]
        for verdict in (main_verdict, minimal_verdict)
    )
    assert theirs[0][0].root == kit.commitment_a().root
    assert theirs[0][1].Y["1.qk"] == ours[0].proof.sketches["1.qk"].ravel().tolist()
    vector = minimal().vector(*theirs[0])
    assert vector.dtype == ours[0].vector.dtype == np.float32
    np.testing.assert_array_equal(vector, ours[0].vector)
    assert minimal().compare(*theirs[1], *theirs[2]) == pytest.approx(score_pair(ours[1], ours[2]).ics, abs=1e-12)


def unusual() -> Opening:
    """Head sums on both sides, a matrix in two terms, one in none, an odd width, tokens that fill no byte."""
    owner = kit.a()
    parts = (("embedding", 257), ("q", 12), ("k", 8), ("unused", 1), ("up", 15))
    rows = np.random.default_rng(3).integers(-2047, 2048, (sum(n for _, n in parts), 7)).astype(np.int16)
    layout = replace(
        owner.layout,
        recipe=replace(owner.layout.recipe, layers="9,-2"),
        n_layers=12,
        width=7,
        norm=column_norm(rows),
        matrices=tuple(Matrix(name, n, 0) for name, n in parts),
        terms=(
            Term("9.qk", "q", "k", (3, 2), 2),
            Term("10.up_down", "up", "up"),
            Term("10.qk", "k", "q", (2, 3), 1),
        ),
    )
    return Opening(owner.seed, layout, owner.strings[:257], rows)


def test_an_unusual_layout() -> None:
    owner = unusual()
    commitment = kit.committed(owner)
    files = (commitment.to_bytes(), kit.prove_fingerprint(owner, commitment).to_bytes())
    ours, theirs = main_verdict(files), minimal_verdict(files)
    assert isinstance(ours, Verified)
    np.testing.assert_array_equal(minimal().vector(*theirs), ours.vector)


def dual(layers: str, *keys: str) -> Opening:
    """Under canonical-2, of a model of 12 layers."""
    owner = kit.a()
    rows = np.random.default_rng(4).integers(-2047, 2048, (257 + 8, 7)).astype(np.int16)
    layout = replace(
        owner.layout,
        recipe=replace(owner.layout.recipe, name="canonical-2", layers=layers),
        n_layers=12,
        width=7,
        norm=column_norm(rows),
        matrices=(Matrix("embedding", 257, 0), Matrix("left", 4, 0), Matrix("right", 4, 0)),
        terms=tuple(Term(key, "left", "right") for key in keys),
    )
    return Opening(owner.seed, layout, owner.strings[:257], rows)


@pytest.mark.parametrize(
    ("layers", "keys", "is_right"),
    [
        ("last2", "10.qk 10.vo 10.up_down 11.qk 11.vo 11.up_down", True),
        ("last2", "3.qk 3.vo 7.up_down 9.qk 9.vo 11.up_down", True),
        ("last2", "11.up_down", True),
        ("last2", "9.qk 9.vo 10.qk 10.vo 11.qk 11.vo", False),
        ("last2", "9.up_down 10.up_down 11.up_down", False),
        ("last2", "11.qk 11.up_down", False),
        ("last2", "11.qk 10.vo", False),
        ("last2", "11.qk 11.vo 11.gate_down", False),
        ("9,-2", "9.qk 9.vo 10.up_down", True),
        ("9,-2", "9.qk 9.vo 11.up_down", False),
        ("all", "0.up_down 4.up_down 11.up_down", True),
    ],
)
def test_both_take_some_of_the_layers_under_canonical_2(layers: str, keys: str, *, is_right: bool) -> None:
    owner = dual(layers, *keys.split())
    commitment = kit.committed(owner)
    files = (commitment.to_bytes(), kit.prove_fingerprint(owner, commitment).to_bytes())
    ours, theirs = main_verdict(files), minimal_verdict(files)
    assert isinstance(ours, Verified) is isinstance(theirs, tuple) is is_right
    if is_right:
        np.testing.assert_array_equal(minimal().vector(*theirs), ours.vector)


def test_no_one_believes_in_more_layers_than_there_are() -> None:
    owner = dual("all", "0.up_down")
    owner = replace(owner, layout=replace(owner.layout, n_layers=100_000))
    commitment = kit.committed(owner)
    files = (commitment.to_bytes(), kit.prove_fingerprint(owner, commitment).to_bytes())
    assert not isinstance(main_verdict(files), Verified) and not isinstance(minimal_verdict(files), tuple)


@pytest.mark.parametrize(
    ("layers", "keys", "said"),
    [
        ("last2", "10.qk 10.vo 10.up_down 11.qk 11.vo 11.up_down", ()),
        ("last2", "3.qk 3.vo 11.qk 11.vo 10.up_down 11.up_down", ("attention of 7 layers",)),
        ("last2", "11.qk 11.vo 11.up_down", ("attention of 11 layers", "feed-forward of 11 layers")),
        ("last2", "10.up_down 11.up_down", ("all attention",)),
        ("all", "0.qk 0.vo 11.up_down", ("attention of 11 layers", "feed-forward of 11 layers")),
        ("9,-2", "9.qk 9.vo 9.up_down 10.up_down", ("attention of 1 layers",)),
    ],
)
def test_what_a_commitment_leaves_out_is_said(layers: str, keys: str, said: tuple[str, ...]) -> None:
    assert passed_over(dual(layers, *keys.split()).layout) == said


def test_terms_of_canonical_2_meet_by_their_place_among_their_kind() -> None:
    a, b = dual("last2", "3.qk", "3.vo", "9.qk", "9.vo", "11.up_down"), dual("last2", "1.qk", "1.vo", "2.up_down")
    b = replace(b, seed=b"b" * 32, layout=replace(b.layout, n_layers=3))
    owners, commitments = (a, b), (kit.committed(a), kit.committed(b))
    proofs = [kit.prove_compare(owners[i], commitments[i], commitments[1 - i], 8) for i in (0, 1)]
    files = [(commitments[i].to_bytes(), proofs[i].to_bytes()) for i in (0, 1)]
    ours = score_pair(*(main_verdict(pair) for pair in files))
    pairs = {term.key_a: term.key_b for term in ours.terms}
    assert pairs == {"9.qk": "1.qk", "9.vo": "1.vo", "11.up_down": "2.up_down"}
    theirs = minimal().compare(*minimal_verdict(files[0]), *minimal_verdict(files[1]))
    assert theirs == pytest.approx(ours.ics, abs=1e-12)


def body(data: bytes) -> int:
    """Where the sections begin."""
    return 12 + int.from_bytes(data[8:12], "little")


def with_header(data: bytes, change: Callable[[dict[str, Any]], None], **style: Any) -> bytes:
    """Another header in front of the same sections."""
    header = json.loads(data[12 : body(data)])
    change(header)
    canonical: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    text = json.dumps(header, **(canonical | style)).encode()
    return data[:8] + len(text).to_bytes(4, "little") + text + data[body(data) :]


def overwritten(data: bytes, at: int, new: bytes) -> bytes:
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


def padded(files: Files) -> Files:
    """A bit behind the last token's."""
    at = body(files[1]) + (kit.N_A + 7) // 8 - 1
    return files[0], overwritten(files[1], at, bytes([files[1][at] | 0x80]))


def first_point(files: Files, new: bytes) -> Files:
    strings = sum(4 + len(string) for string in kit.commitment_a().strings)
    return overwritten(files[0], body(files[0]) + strings, new), files[1]


def in_commitment(change: Callable[[dict[str, Any]], Any]) -> Callable[[Files], Files]:
    """Change its header."""
    return lambda files: (with_header(files[0], change), files[1])


def in_proof(change: Callable[[dict[str, Any]], Any], **style: Any) -> Callable[[Files], Files]:
    """Change its header."""
    return lambda files: (files[0], with_header(files[1], change, **style))


def tau(number: int) -> Callable[[Files], Files]:
    """Add to the last scalar of the proof."""
    return lambda f: (
        f[0],
        f[1][:-32] + min(int.from_bytes(f[1][-32:], "little") + number, 2**256 - 1).to_bytes(32, "little"),
    )


MUTANTS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "another commitment": (lambda f: (honest()["compare b"][0], f[1]), "another commitment"),
    "another owner's proof": (lambda f: (f[0], honest()["compare b"][1]), "another commitment"),
    "a byte more": (lambda f: (f[0], f[1] + b"\0"), "bytes after the end"),
    "a byte less": (lambda f: (f[0], f[1][:-1]), "ends too early"),
    "a byte more in the commitment": (lambda f: (f[0] + b"\0", f[1]), "bytes after the end"),
    "no bytes": (lambda f: (b"", f[1]), "ends too early"),
    "swapped files": (lambda f: (f[1], f[0]), "not a HUREFCM1 file"),
    "spaces in the header": (in_proof(lambda _: None, separators=(", ", ":")), "not canonical"),
    "keys not sorted": (in_proof(lambda h: h.update(bytes=h.pop("bytes")), sort_keys=False), "not canonical"),
    "escaped letters": (in_proof(lambda h: h.update(version="\u00e9"), ensure_ascii=True), "not canonical"),
    "a key more": (in_proof(lambda h: h.update(note=1)), "other keys"),
    "a key less": (in_proof(lambda h: h.pop("version")), "other keys"),
    "a nested header": (lambda f: (f[0], f[1][:8] + (90000).to_bytes(4, "little") + b"[" * 90000), "not JSON"),
    "a header without an end": (lambda f: (f[0], f[1][:8] + b"\xff\xff\xff\xff" + f[1][12:]), "ends too early"),
    "tau plus p": (tau(P), "not below p"),
    "tau plus 1": (tau(1), "equations"),
    "a scalar of ones": (lambda f: (f[0][:-32] + b"\xff" * 32, f[1]), "not below p"),
    "a padding bit": (padded, "padding"),
    "the identity": (lambda f: first_point(f, IDENTITY), "the identity"),
    "outside the subgroup": (lambda f: first_point(f, ON_CURVE_ONLY), "not on the curve|outside the group"),
    "zeros for a point": (lambda f: first_point(f, bytes(48)), "not on the curve"),
    "ones for a point": (lambda f: first_point(f, b"\xff" * 48), "the identity"),
    "another version": (in_proof(lambda h: h.update(version="9")), "equations"),
    "a peer": (in_proof(lambda h: h.update(peer="00" * 32)), "a fingerprint with a peer"),
    "the other kind": (in_proof(lambda h: h.update(kind="compare", peer="00" * 32)), "pair's seed"),
    "no kind": (in_proof(lambda h: h.update(kind="inference")), "neither"),
    "another root": (in_proof(lambda h: h.update(root="00" * 32)), "another commitment"),
    "another seed": (in_proof(lambda h: h.update(seed="huref/2")), "other signs"),
    "true for a number": (in_proof(lambda h: h.update(bytes=True)), "bytes out of range"),
    "a float": (in_proof(lambda h: h.update(rows=8.0)), "rows out of range"),
    "no rows": (in_proof(lambda h: h.update(rows=0)), "rows out of range"),
    "no terms": (in_commitment(lambda h: h.update(terms=[])), "no terms"),
    "another norm": (in_commitment(lambda h: h.update(norm=h["norm"] + 1)), "."),
    "no bound": (in_commitment(lambda h: h.update(norm=1 << 61)), "wrap-around"),
    "17 bits": (in_commitment(lambda h: h.update(bits=17)), "out of range"),
    "a CNN": (in_commitment(lambda h: h["recipe"].update(encoder="cnn")), "without proofs"),
    "the embedding as a factor": (in_commitment(lambda h: h["terms"][1].update(left="embedding")), "not committed"),
    "a matrix twice": (in_commitment(lambda h: h["matrices"][2].update(name="1.q")), "a matrix twice"),
    "a term twice": (in_commitment(lambda h: h["terms"][1].update(key="1.qk")), "a term twice"),
    "a layer too many": (in_commitment(lambda h: h["terms"][1].update(key="2.gate_down")), "a term's key"),
    "other groups": (in_commitment(lambda h: h["terms"][0].update(groups=[1, 2])), "different ranks"),
    "other heads": (in_commitment(lambda h: h["terms"][0].update(head_dim=3)), "a term's heads"),
    "another name": (in_commitment(lambda h: h.update(model="other")), "another commitment"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_both_refuse(name: str) -> None:
    change, reason = MUTANTS[name]
    files = change(honest()["fingerprint"])
    assert not main_verdict(files)
    assert re.search(reason, minimal_verdict(files))


@Fuzz
@given(st.sampled_from(["fingerprint", "compare b"]), st.booleans(), st.floats(0, 1), st.integers(1, 255))
def test_both_refuse_a_changed_byte(name: str, is_proof: bool, place: float, flip: int) -> None:
    files = list(honest()[name])
    data = files[is_proof]
    at = min(int(place * len(data)), len(data) - 1)
    files[is_proof] = overwritten(data, at, bytes([data[at] ^ flip]))
    assert not main_verdict((files[0], files[1]))
    assert isinstance(minimal_verdict((files[0], files[1])), str)


@Fuzz
@given(st.booleans(), st.data())
def test_both_parse_the_same_headers(is_proof: bool, data: st.DataObject) -> None:
    """Any one value of a header replaced: both parse it or neither does; neither crashes."""
    files = list(honest()["fingerprint"])

    def change(node: Any) -> None:
        while True:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
                break
            node = node[key]
        node[key] = data.draw(st.sampled_from(VALUES))

    files[is_proof] = with_header(files[is_proof], change)
    ours, theirs = (parse_main, parse_minimal) if is_proof else (bounded_main, minimal().read_commitment)
    both = is_accepted(theirs, files[is_proof]), is_accepted(ours, files[is_proof])
    assert both[0] <= both[1] if is_proof else both[0] == both[1]  # parse_minimal also compares with the commitment


VALUES: list[Any] = [None, True, -1, 0, 1, 3, 8.0, 1 << 62, "", "qk", "0.é", "0.q", [], [1, 1], {}, float("nan")]


def parse_main(data: bytes) -> Any:
    return parse_proof(data, kit.commitment_a().layout, "p")


def parse_minimal(data: bytes) -> Any:
    return minimal().read_proof(data, minimal_verdict(honest()["commitment"])[0])


def bounded_main(data: bytes) -> bool:
    return parse_commitment(data, "c").layout.is_free_of_wraps()


def is_accepted(parse: Callable[[bytes], Any], data: bytes) -> bool:
    """Whether it neither raises nor says False."""
    try:
        return parse(data) is not False
    except (HurefError, minimal().Refused):
        return False


def test_a_pair_must_be_a_pair() -> None:
    a, b = (minimal_verdict(honest()[name]) for name in ("compare a", "compare b"))
    fingerprint = minimal_verdict(honest()["fingerprint"])
    assert minimal().compare(*a, *b) == pytest.approx(minimal().compare(*b, *a))
    for first, second in ((a, a), (fingerprint, b), (a, fingerprint)):
        with pytest.raises(minimal().Refused, match="not of this pair"):
            minimal().compare(*first, *second)


def test_both_refuse_a_comparison_with_zeros() -> None:
    owner = kit.a()
    rows = owner.rows.copy()
    rows[owner.layout.start("1.q") :][:16] = 0
    owner = replace(owner, rows=rows)
    own, other = kit.committed(owner), kit.commitment_b()
    pair = [(own, kit.prove_compare(owner, own, other)), (other, kit.prove_compare(kit.b(), other, own))]
    files = [(commitment.to_bytes(), proof.to_bytes()) for commitment, proof in pair]
    with pytest.raises(InconclusiveError, match="a sketch of zeros"):
        score_pair(*map(main_verdict, files))
    with pytest.raises(minimal().Refused, match="a sketch of zeros"):
        minimal().compare(*minimal_verdict(files[0]), *minimal_verdict(files[1]))


def test_it_is_small_and_alone() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 650
    nodes = list(ast.walk(ast.parse(text)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert outside == {"numpy", "py_arkworks_bls12381"}


def test_it_runs_on_files(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a", "pa", "b", "pb")]
    contents = [data for name in ("compare a", "compare b") for data in honest()[name]]
    for path, data in zip(paths, contents, strict=True):
        Path(path).write_bytes(data)
    done = subprocess.run([sys.executable, "-I", str(PATH), *paths], capture_output=True, text=True, check=False)
    ics = score_pair(*(main_verdict(honest()[name]) for name in ("compare a", "compare b"))).ics
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"ICS {ics:.6f}"
    assert minimal().main([paths[0], paths[3]]) == minimal().main(paths[:3]) == minimal().main([str(tmp_path)]) == 1


@pytest.mark.parametrize(
    "layers", ["last2", "all", "9", "9,10,11", "-13", "10,09,x", " 9,10", "", "9,-2,10", "+9,10"]
)
def test_terms_of_other_layers_than_the_recipes_are_refused(layers: str) -> None:
    """The recipe names layers; its commitment has terms of 9 and 10 of 12."""
    owner = unusual()
    recipe = replace(owner.layout.recipe, layers=layers)
    owner = replace(owner, layout=replace(owner.layout, recipe=recipe))
    commitment = kit.committed(owner)
    files = (commitment.to_bytes(), kit.prove_fingerprint(owner, commitment).to_bytes())
    is_right = layers == "9,-2,10"
    assert isinstance(main_verdict(files), Verified) is is_right
    assert isinstance(minimal_verdict(files), str) is not is_right
