"""Every byte of a commitment and of a proof counts: no mutant is accepted, and every refusal is an error of huref's.

The smallest possible commitment and proof are mutated at every byte. What is cheap is done for each mutant: parsing,
decoding of points, and for a proof all equations. The equations of a commitment are linear in its masked sums and
blindings, so it is enough that every mutant of those has another number; a sample of them goes through all equations.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import CorruptFileError, HurefError, InputError, RejectedError, UsageError
from huref.files.canonical_json import canonical_json
from huref.private.verification import verify
from huref.proof.arithmetic import curve
from huref.proof.arithmetic.equations import PointEquations
from huref.proof.files.commitment import Commitment, parse_commitment
from huref.proof.files.container import MAX_HEADER, Reader, checked
from huref.proof.files.layout import PROJECTIONS
from huref.proof.files.opening import read_opening, write_opening
from huref.proof.files.proof import parse_proof
from huref.proof.sketch import protocol, verifier
from huref.proof.sketch.opened_rows import open_rows, parse_rows, verify_rows
from huref.proof.sketch.verifier import verify_commitment, verify_sketches
from kit import proofs as kit
from kit.proof_cheats import remembering
from kit.proofs import smallest as owner

Fuzz = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
REFUSALS = (RejectedError, InputError, UsageError)


@cache
def sealed() -> Commitment:
    return kit.committed(owner())


@cache
def proofs() -> tuple[bytes, bytes]:
    """Two proofs of one statement."""
    first, second = (kit.prove_fingerprint(owner(), sealed()).to_bytes() for _ in range(2))
    assert len(first) == len(second) and first != second
    return first, second


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (verifier, protocol):
        monkeypatch.setattr(module, "decode_points", remembering)


def is_accepted_proof(data: bytes) -> bool:
    """All that `verify_sketches` checks but the commitment's own equations, which do not change here."""
    try:
        proof = parse_proof(data, sealed().layout, "proof")
        verifier._require_claim(sealed(), proof)
        equations = PointEquations()
        first = equations.extend(remembering(sealed().points, "commitment"))
        protocol.require_sketches(sealed().layout, sealed().strings, proof, first, equations)
    except (RejectedError, CorruptFileError):
        return False
    return equations.hold()


def is_accepted_commitment(data: bytes) -> bool:
    try:
        verify_commitment(parse_commitment(data, "commitment"), remembering)
    except (RejectedError, CorruptFileError):
        return False
    return True


def flips(data: bytes, start: int, stop: int, seed: int) -> Iterator[tuple[int, bytes]]:
    """Each byte from `start` to `stop` changed to another one."""
    rng = np.random.default_rng(seed)
    for at in range(start, stop):
        yield at, data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]


def test_what_is_not_mutated_is_accepted() -> None:
    verify_commitment(sealed())
    verify_sketches(sealed(), parse_proof(proofs()[0], sealed().layout, ""))
    assert is_accepted_commitment(sealed().to_bytes())
    assert all(is_accepted_proof(data) for data in proofs())


# Proofs


@pytest.mark.parametrize("seed", [0, 1])
def test_every_byte_of_a_proof(seed: int) -> None:
    data = proofs()[0]
    assert not [at for at, mutant in flips(data, 0, len(data), seed) if is_accepted_proof(mutant)]


def test_every_bit_of_the_flags_of_points_and_of_the_ends_of_scalars() -> None:
    data = proofs()[0]
    layout = sealed().layout
    proof = parse_proof(data, layout, "")
    points = data.index(proof.products)
    scalars = points + len(proof.products) + len(proof.quadratic.masks)
    places = [*range(points, scalars, 48), *range(scalars + 31, len(data), 32), *range(scalars, len(data), 32)]
    for at in places:
        for bit in range(8):
            assert not is_accepted_proof(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]), (at, bit)


def test_bytes_taken_out_put_in_or_doubled() -> None:
    data = proofs()[0]
    for at in range(len(data)):
        assert not is_accepted_proof(data[:at] + data[at + 1 :])
        assert not is_accepted_proof(data[:at] + b"\0" + data[at:])
        assert not is_accepted_proof(data[: at + 1] + data[at:])
        assert not is_accepted_proof(data[:at])


def test_blocks_exchanged() -> None:
    data = proofs()[0]
    proof = parse_proof(data, sealed().layout, "")
    points = data.index(proof.products)
    scalars = points + len(proof.products) + len(proof.quadratic.masks)
    for size, start, stop in ((48, points, scalars), (32, scalars, len(data))):
        for one in range(start, stop, size):
            for other in range(one + size, stop, size):
                a, b = data[one : one + size], data[other : other + size]
                assert a != b
                mutant = data[:one] + b + data[one + size : other] + a + data[other + size :]
                assert not is_accepted_proof(mutant)


def test_splices_of_two_good_proofs() -> None:
    """A head of one and a tail of the other: only the two themselves are accepted."""
    for first, second in (proofs(), proofs()[::-1]):
        for cut in range(0, len(first), 8):
            mutant = first[:cut] + second[cut:]
            assert is_accepted_proof(mutant) == (mutant in proofs())


@Fuzz
@given(data=st.data())
def test_mutants_of_larger_proofs(data: st.DataObject) -> None:
    """The kit's, with heads summed and several pieces, through `verify_sketches` itself."""
    compare = kit.compare_proofs()
    good = [proof.to_bytes() for proof in (kit.fingerprint_proof(), *compare)]
    which = data.draw(st.integers(0, 2))
    commitment = kit.commitment_b() if which == 2 else kit.commitment_a()
    mutant = data.draw(mutants(good[which], good[data.draw(st.integers(0, 2))]))
    if mutant == good[which]:
        return
    with pytest.raises((RejectedError, CorruptFileError)):
        verify_sketches(commitment, parse_proof(mutant, commitment.layout, ""), remembering)


@st.composite
def mutants(draw: st.DrawFn, data: bytes, other: bytes) -> bytes:
    """One change of any kind."""
    start, stop = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
    kind = draw(st.sampled_from(["flip", "cut", "double", "splice", "fill", "add", "reverse"]))
    if kind == "flip":
        at = min(start, len(data) - 1)
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    piece = {
        "cut": b"",
        "double": data[start:stop] * 2,
        "splice": other[start:stop],
        "fill": bytes([draw(st.integers(0, 255))]) * (stop - start),
        "add": draw(st.binary(max_size=50)) + data[start:stop],
        "reverse": data[start:stop][::-1],
    }[kind]
    return data[:start] + piece + data[stop:]


# Commitments


def places() -> dict[str, tuple[int, int]]:
    """Where the sections of the smallest commitment are."""
    data, commitment = sealed().to_bytes(), sealed()
    points = data.index(commitment.points)
    masks = points + len(commitment.points)
    sums = masks + PROJECTIONS * 48
    blindings = len(data) - PROJECTIONS * 32
    return {
        "front": (0, points),
        "points": (points, masks),
        "masks": (masks, sums),
        "sums": (sums, blindings),
        "blindings": (blindings, len(data)),
    }


def test_every_byte_of_header_and_tokens() -> None:
    data, root = sealed().to_bytes(), sealed().root
    accepted = []
    for at, mutant in flips(data, *places()["front"], seed=0):
        try:
            assert parse_commitment(mutant, "").root != root
        except CorruptFileError:
            continue
        accepted += [at] * is_accepted_commitment(mutant)
    assert not accepted


@pytest.mark.parametrize("section", ["points", "masks"])
def test_every_byte_of_the_points(section: str) -> None:
    data = sealed().to_bytes()
    start, stop = places()[section]
    for at, mutant in flips(data, start, stop, seed=0):
        begin = start + (at - start) // 48 * 48
        try:
            curve.decode_points(mutant[begin : begin + 48], "")
        except CorruptFileError:
            continue
        assert not is_accepted_commitment(mutant)


@pytest.mark.parametrize("section", ["sums", "blindings"])
def test_every_byte_of_sums_and_blindings(section: str) -> None:
    data, honest = sealed().to_bytes(), sealed().no_wrap
    start, stop = places()[section]
    width = (stop - start) // PROJECTIONS
    for at, mutant in flips(data, start, stop, seed=0):
        index, byte = divmod(at - start, width)
        try:
            found = parse_commitment(mutant, "").no_wrap
        except CorruptFileError:
            continue
        differs = (found.sums != honest.sums).any() or (found.blindings != honest.blindings).any()
        assert differs, at
        if index % width == byte:  # one byte of every number, each place in turn
            assert not is_accepted_commitment(mutant), at


def test_a_commitment_cut_or_longer() -> None:
    data = sealed().to_bytes()
    for cut in range(0, len(data), 7):
        with pytest.raises(CorruptFileError):
            parse_commitment(data[:cut], "")
    for more in (b"\0", data, data[-32:], data[-48:]):
        with pytest.raises(CorruptFileError):
            parse_commitment(data + more, "")


def test_blocks_of_a_commitment_exchanged() -> None:
    data = sealed().to_bytes()
    rng = np.random.default_rng(0)
    for section, size in (("points", 48), ("masks", 48), ("blindings", 32), ("sums", 3)):
        start, stop = places()[section]
        for _ in range(12):
            one, other = sorted(rng.choice((stop - start) // size, 2, replace=False) * size + start)
            a, b = data[one : one + size], data[other : other + size]
            mutant = data[:one] + b + data[one + size : other] + a + data[other + size :]
            assert mutant == data or not is_accepted_commitment(mutant)


# Opened rows


def test_every_byte_of_opened_rows() -> None:
    nonce = bytes(range(16))
    opened = open_rows(kit.commitment_a(), kit.a(), nonce, 3, "0.0.0")
    data = opened.to_bytes()
    verify_rows(kit.commitment_a(), parse_rows(data, kit.commitment_a(), ""), nonce)
    version = data.index(b"0.0.0")
    for at, mutant in flips(data, 0, len(data), seed=0):
        if version <= at < version + 5:  # a claim, bound by nothing
            continue
        with pytest.raises((RejectedError, CorruptFileError)):
            verify_rows(kit.commitment_a(), parse_rows(mutant, kit.commitment_a(), ""), nonce)


# Hostile headers


def with_header(data: bytes, text: bytes) -> bytes:
    """Other bytes for the header, with their length."""
    end = 12 + int.from_bytes(data[8:12], "little")
    return data[:8] + len(text).to_bytes(4, "little") + text + data[end:]


def header_of(data: bytes) -> dict[str, Any]:
    return json.loads(data[12 : 12 + int.from_bytes(data[8:12], "little")])


def raw(data: bytes, old: str, new: str) -> bytes:
    """The header's text with a piece replaced as it stands."""
    text = canonical_json(header_of(data))
    assert old in text
    return with_header(data, text.replace(old, new, 1).encode())


TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "an empty object": b"{}",
    "deep lists": b"[" * MAX_HEADER,
    "deep objects": b'{"a":' * (MAX_HEADER // 5),
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "a deep value": b'{"schema":' + b"[" * 500 + b"]" * 500 + b"}",
    "bytes that are no UTF-8": b"\xff\xfe{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a lone surrogate": b'{"schema":"\\ud800"}',
    "a lone surrogate in UTF-8": b'{"schema":"\xed\xa0\x80"}',
    "NUL": b"{}\0",
    "a huge integer": b'{"rows":' + b"9" * 5000 + b"}",
    "a large integer": b'{"rows":' + b"9" * 4000 + b"}",
    "a huge exponent": b'{"rows":1e999999999}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_header_that_is_none(name: str) -> None:
    for data, parse in readers():
        with pytest.raises(CorruptFileError):
            parse(with_header(data, TEXTS[name]))


def readers() -> list[tuple[bytes, Callable[[bytes], object]]]:
    return [
        (sealed().to_bytes(), lambda data: parse_commitment(data, "")),
        (proofs()[0], lambda data: parse_proof(data, sealed().layout, "")),
        (
            open_rows(sealed(), owner(), bytes(16), 2, "0").to_bytes(),
            lambda data: parse_rows(data, sealed(), ""),
        ),
    ]


def test_headers_longer_than_they_say_or_than_they_may_be() -> None:
    for data, parse in readers():
        for length in (0, 1, 1 << 20, (1 << 20) + 1, (1 << 32) - 1):
            with pytest.raises(CorruptFileError):
                parse(data[:8] + length.to_bytes(4, "little") + data[12:])
        text = canonical_json(header_of(data)).encode()
        for changed in (text + b" ", b" " + text, text.replace(b":", b": ", 1), text + b"\n"):
            with pytest.raises(CorruptFileError):
                parse(with_header(data, changed))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"norm":1024', '"norm":NaN'),
        ('"norm":1024', '"norm":Infinity'),
        ('"norm":1024', '"norm":1024.0'),
        ('"norm":1024', '"norm":1.024e3'),
        ('"norm":1024', '"norm":"1024"'),
        ('"norm":1024', '"norm":-1024'),
        ('"norm":1024', '"norm":01024'),
        ('"norm":1024', '"norm":1024,"norm":1024'),
        ('"norm":1024', '"norm":1024,"other":1'),
        ('"norm":1024', '"norm":true'),
        ('"width":1', '"width":true'),
        ('"width":1', '"width":0'),
        ('"width":1', '"width":-1'),
        ('"width":1', '"width":32769'),
        ('"width":1', '"width":9223372036854775808'),
        ('"n_layers":1', '"n_layers":null'),
        ('"rows":3', '"rows":-3'),
        ('"rows":3', '"rows":4194305'),
        ('"rows":3', '"rows":18446744073709551616'),
        ('"rows":3', '"rows":[3]'),
        ('"exponent":0', '"exponent":-0'),
        ('"exponent":0', '"exponent":256'),
        ('"groups":[1,1]', '"groups":[1]'),
        ('"groups":[1,1]', '"groups":[]'),
        ('"groups":[1,1]', '"groups":[1,1,1]'),
        ('"groups":[1,1]', '"groups":[0,0]'),
        ('"groups":[1,1]', '"groups":[1,1.0]'),
        ('"groups":[1,1]', '"groups":{"0":1,"1":1}'),
        ('"groups":[1,1]', '"groups":"11"'),
        ('"head_dim":0', '"head_dim":1'),
        ('"key":"0.qk"', '"key":"0"'),
        ('"key":"0.qk"', '"key":""'),
        ('"key":"0.qk"', '"key":"."'),
        ('"key":"0.qk"', '"key":"-1.qk"'),
        ('"key":"0.qk"', '"key":"00.qk"'),
        ('"key":"0.qk"', '"key":"0_0.qk"'),
        ('"key":"0.qk"', '"key":" 0.qk"'),
        ('"key":"0.qk"', '"key":"0.q k"'),
        ('"key":"0.qk"', '"key":"0.\u00e9"'),
        ('"key":"0.qk"', '"key":"\u0660.qk"'),
        ('"key":"0.qk"', f'"key":"{"9" * 4500}.qk"'),
        ('"left":"q"', '"left":"embedding"'),
        ('"left":"q"', '"left":"none"'),
        ('"left":"q"', '"left":["q"]'),
        ('"left":"q"', '"left":null'),
        ('"name":"q"', '"name":"k"'),
        ('"name":"q"', '"name":"embedding"'),
        ('"name":"q"', f'"name":"{"q" * 4097}"'),
        ('"n_tokens":256', '"n_tokens":"256"'),
        ('"n_tokens":256', '"n_tokens":256.0'),
        ('"n_tokens":256', '"n_tokens":255'),
        ('"sketch_rows":8', '"sketch_rows":9'),
        ('"ranking":""', '"ranking":5'),
        ('"seed":"huref/1"', '"seed":1'),
        ('"recipe":{', '"recipe":{"unknown":1,'),
        ('"recipe":{', '"recipe":{"encoder_weights":"",'),
        ('"schema":"huref.commitment/1"', '"schema":"huref.commitment/01"'),
    ],
)
def test_values_that_no_commitment_has(old: str, new: str) -> None:
    with pytest.raises(CorruptFileError):
        parse_commitment(raw(sealed().to_bytes(), old, new), "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"bytes":1', '"bytes":0'),
        ('"bytes":1', '"bytes":true'),
        ('"bytes":1', '"bytes":32'),
        ('"bytes":1', '"bytes":1000000000'),
        ('"rows":8', '"rows":8.0'),
        ('"rows":8', '"rows":512'),
        ('"rows":8', '"rows":-8'),
        ('"rows":8', '"rows":1000000000'),
        ('"peer":null', '"peer":""'),
        ('"peer":null', '"peer":0'),
        ('"kind":"fingerprint"', '"kind":null'),
        ('"kind":"fingerprint"', '"kind":["fingerprint"]'),
        ('"root":"', '"root":"0x'),
        ('"root":"', '"root":" '),
        ('"version":"0.0.0"', '"version":0'),
        ('"version":"0.0.0"', '"version":"0.0.0","version":"0.0.0"'),
        ('"seed":"huref/1"', '"seed":null'),
    ],
)
def test_values_that_no_proof_has(old: str, new: str) -> None:
    data = proofs()[0]
    width = f'"bytes":{header_of(data)["bytes"]}'
    with pytest.raises(CorruptFileError):
        parse_proof(raw(data, width if old == '"bytes":1' else old, new), sealed().layout, "")


def test_a_root_in_capitals_is_another_spelling() -> None:
    data = proofs()[0]
    root = header_of(data)["root"]
    with pytest.raises(CorruptFileError):
        parse_proof(raw(data, root, root.upper()), sealed().layout, "")


@pytest.mark.parametrize("fault", [ZeroDivisionError, OverflowError, IndexError, KeyError, RecursionError, TypeError])
def test_whatever_is_wrong_with_a_header_is_one_error(fault: type[Exception]) -> None:
    """A fraction 1/0, a list that is too short, and the like."""

    def make() -> None:
        raise fault("x")

    with pytest.raises(CorruptFileError, match="says something impossible"):
        checked(Reader(b"", "x"), make)


VALUES: list[Any] = [None, True, -1, 0, 1, 3, 8.5, 1 << 62, 1 << 80, "", "qk", "\x00", "0.q", "1", [], [1], {}, [[]]]


@Fuzz
@given(data=st.data())
def test_any_value_of_a_header_may_be_anything(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, 1))
    file, parse = readers()[which]
    document = header_of(file)
    node: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    node[key] = data.draw(st.sampled_from(VALUES))
    mutant = with_header(file, canonical_json(document).encode())
    if mutant == file:
        return
    try:
        parse(mutant)
    except CorruptFileError:
        return
    assert not (is_accepted_commitment, is_accepted_proof)[which](mutant)


def costs(run: Callable[[], object]) -> tuple[float, int]:
    """Seconds of the processor, and bytes at the highest."""
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(HurefError):
        run()
    seconds = time.process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


def giants() -> dict[str, Callable[[], object]]:
    """Small files that claim to be large ones."""
    file, proof = sealed().to_bytes(), proofs()[0]
    many = [{"exponent": 0, "name": f"m{i}", "rows": 1} for i in range(9_000)]
    terms = [{"groups": [1, 1], "head_dim": 0, "key": f"{i}.a", "left": f"m{i}", "right": "m0"} for i in range(6_500)]
    header = header_of(file)
    crowd = {**header, "n_layers": 9_000, "matrices": [header["matrices"][0], *many], "terms": terms}
    again = [{**terms[0], "left": "m0", "key": f"{i}.a"} for i in range(9_000)]
    worn = {**header, "n_layers": 9_000, "matrices": [header["matrices"][0], {**many[0], "rows": 50_000}]}
    wide = {**header, "width": 1 << 15}
    long = {**header, "matrices": [{**header["matrices"][0], "rows": (1 << 22) - 2}, *header["matrices"][1:]]}
    tall = {**header, "matrices": [header["matrices"][0], *({**m, "rows": 1 << 20} for m in header["matrices"][1:])]}
    big = header_of(proof) | {"rows": 512, "bytes": 31}

    def commitment(document: dict[str, Any]) -> Callable[[], object]:
        data = with_header(file, canonical_json(document).encode())
        assert len(data) < 1_100_000
        return lambda: parse_commitment(data, "")

    return {
        "a crowd of matrices and terms": commitment(crowd),
        "a matrix in thousands of terms": commitment({**worn, "terms": again}),
        "a width of 2^15": commitment(wide),
        "4 million tokens": commitment(long),
        "2 million rows": commitment(tall),
        "512 rows of 31 bytes": lambda: parse_proof(
            with_header(proof, canonical_json(big).encode()), sealed().layout, ""
        ),
    }


@pytest.mark.parametrize("name", giants())
def test_claims_of_size_cost_nothing(name: str) -> None:
    seconds, peak = costs(giants()[name])
    assert seconds < 2 and peak < 60e6


def test_a_matrix_in_thousands_of_terms_is_no_layout() -> None:
    """Each use costs the verifier a pass over its rows, and the file 100 bytes."""
    with pytest.raises(CorruptFileError, match="impossible") as fault:
        giants()["a matrix in thousands of terms"]()
    assert "too many terms" in fault.value.got


def test_token_strings_that_lie_about_their_length() -> None:
    data = sealed().to_bytes()
    at = data.index(b"\1\0\0\0a\1\0\0\0b")
    for length in (0, 2, 4096, 4097, (1 << 32) - 1):
        with pytest.raises(CorruptFileError):
            parse_commitment(data[:at] + length.to_bytes(4, "little") + data[at + 4 :], "")
    with pytest.raises(CorruptFileError, match="twice"):
        parse_commitment(data[: at + 9] + b"a" + data[at + 10 :], "")


# Anything at all


@Fuzz
@given(head=st.sampled_from([b"", b"HUREFCM1", b"HUREFPF1", b"HUREFRW1", b"HUREFOP1"]), body=st.binary(max_size=200))
def test_anything_at_all_is_refused_by_its_name(
    head: bytes, body: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "x").write_bytes(head + body)
    (folder / "commitment").write_bytes(sealed().to_bytes())
    for commitment in (folder, folder / "x", None):
        with pytest.raises(REFUSALS):
            verify(folder / "x", commitment)
    with pytest.raises(REFUSALS):
        read_opening(folder / "x")


def test_an_opening_with_a_hostile_body(tmp_path: Path) -> None:
    write_opening(owner(), tmp_path / "opening")
    data = (tmp_path / "opening").read_bytes()
    body = 12 + int.from_bytes(data[8:12], "little")
    start = body + 32
    for text in (b"[" * 200_000, b"{}", b"\xff", b"9" * 5000):
        mutant = data[:start] + len(text).to_bytes(4, "little") + text
        (tmp_path / "opening").write_bytes(mutant)
        with pytest.raises(CorruptFileError):
            read_opening(tmp_path / "opening")
    for cut in range(0, len(data), 5):
        (tmp_path / "opening").write_bytes(data[:cut])
        with pytest.raises(CorruptFileError):
            read_opening(tmp_path / "opening")
