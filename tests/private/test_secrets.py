"""What an owner keeps secret stays in the opening: not in what is published, printed, left over or represented."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huref import api
from huref.errors import CorruptFileError, HurefError, OutputError, UsageError
from huref.fingerprints.recipe import Recipe
from huref.progress import Progress
from huref.proof.arithmetic.quadratic import Opened, OpenedPair, Weights
from huref.proof.files import opening as opening_file
from huref.proof.files import secret as secret_file
from huref.proof.files.opening import Opening, find_opening, is_encrypted, read_opening, write_opening
from huref.proof.sketch import committer
from huref.proof.sketch.committer import CommitOptions, RowsToCommit
from huref.proof.sketch.quantisation import Quantised
from kit import proofs
from kit.command_line import Outcome
from kit.proofs import smallest

Cli = Callable[..., Outcome]
PASSPHRASE = "correct horse, battery staple"


def needles(opening: Opening) -> dict[str, bytes]:
    """Everything that must not be seen, in the spellings that a leak would have."""
    found = {"seed": opening.seed, "seed in hexadecimal": opening.seed.hex().encode(), "seed repr": repr_of(opening)}
    for index, blinding in enumerate(opening.blindings().tolist()):
        found[f"blinding {index}"] = blinding.to_bytes(32, "little")
        found[f"blinding {index}, big-endian"] = blinding.to_bytes(32, "big")
        found[f"blinding {index}, decimal"] = str(blinding).encode()
        found[f"blinding {index}, hexadecimal"] = f"{blinding:x}".encode()
    for index, row in enumerate(opening.rows):
        part = row[:8]
        for kind in ("<i2", ">i2", "<i4", "<i8", "<f4", "<f8"):
            found[f"row {index} as {kind}"] = part.astype(kind).tobytes()
        found[f"row {index}, a list"] = ", ".join(map(str, part[:4].tolist())).encode()
        found[f"row {index}, an array"] = np.array2string(part[:4])[1:-1].encode()
    return found


def repr_of(opening: Opening) -> bytes:
    return repr(opening.seed)[2:-1].encode()


def leaks(opening: Opening, data: bytes | str) -> list[str]:
    haystack = data.encode() if isinstance(data, str) else data
    return [name for name, needle in needles(opening).items() if needle in haystack]


@pytest.fixture(scope="module")
def sealed(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commitment to the base; read-only."""
    folder = tmp_path_factory.mktemp("secrets") / "sealed"
    api.commit(models["base"], folder, Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_search_finds_what_is_there(sealed: Path) -> None:
    opening = read_opening(find_opening(sealed))
    found = leaks(opening, (find_opening(sealed)).read_bytes())
    assert "seed" in found and "row 0 as <i2" in found and f"row {len(opening.rows) - 1} as <i2" in found
    assert leaks(opening, f"x{opening.seed.hex()}y {opening.blindings()[3]}") == [
        "seed in hexadecimal",
        "blinding 3, decimal",
    ]
    assert leaks(opening, str(opening.rows[0].tolist()))


def test_nothing_secret_is_published_printed_or_reported(
    cli: Cli, models: dict[str, Path], sealed: Path, tmp_path: Path
) -> None:
    opening = read_opening(find_opening(sealed))
    peer, out = tmp_path / "peer", tmp_path / "out"
    api.commit(models["stranger"], peer, Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    out.mkdir()
    told: list[str] = []

    def report(step: Progress) -> None:
        told.append(repr(step))

    outcomes = [
        cli("prove", "fingerprint", "--commitment", sealed, "-o", out / "a.proof"),
        cli("prove", "compare", "--commitment", sealed, "--peer", peer, "-o", out / "b.proof", "--json"),
        cli("verify", out / "a.proof", "--commitment", sealed, "--json"),
        cli("verify", out / "b.proof", "--commitment", sealed),
        cli("verify", find_opening(sealed), "--commitment", sealed),
        cli("prove", "fingerprint", models["stranger"], "--commitment", sealed, "-o", out / "c.proof"),
        cli("commit", models["base"], "-o", sealed),
        cli("prove", "fingerprint", "--commitment", sealed, "-o", tmp_path),
    ]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0, 0, 4, 2, 2, 2]
    api.prove_fingerprint(sealed, out / "d.proof", report=report)
    for outcome in outcomes:
        assert not leaks(opening, outcome.out + outcome.err)
    assert told and not leaks(opening, "".join(told))
    for path in [sealed / "commitment", *out.iterdir()]:
        assert not leaks(opening, path.read_bytes()), path


def test_damage_to_an_opening_is_told_without_its_contents(sealed: Path, tmp_path: Path) -> None:
    opening, data = read_opening(find_opening(sealed)), (find_opening(sealed)).read_bytes()
    body = data.index(opening.seed)
    for cut in (9, 40, body, body + 10, body + 33, body + 100, len(data) // 2, len(data) - 1, len(data) + 1):
        (tmp_path / "opening").write_bytes(data[:cut] + bytes(max(0, cut - len(data))))
        with pytest.raises(CorruptFileError) as fault:
            read_opening(tmp_path / "opening")
        assert not leaks(opening, f"{fault.value}{fault.value!r}{fault.value.args}")


def test_no_representation_shows_secrets(sealed: Path) -> None:
    opening = read_opening(find_opening(sealed))
    secret = proofs.secret(opening)
    opened = Opened(opening.blindings(), int(opening.blindings()[0]))
    made = Quantised(opening.layout, opening.strings, opening.rows)
    for thing in (
        opening,
        secret,
        opened,
        OpenedPair(opened, opened, Weights(1)),
        made,
        RowsToCommit([opening.rows], opening.blindings(), 16),
        CommitOptions(passphrase=PASSPHRASE),
    ):
        for text in (repr(thing), str(thing), f"{[thing]}"):
            assert not leaks(opening, text), type(thing)
            assert PASSPHRASE not in text
            assert "array(" not in text.replace("array([], dtype=object)", "")


# Files


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_its_owner_reads_an_opening(models: dict[str, Path], tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        proofs.write_folder(proofs.a(), proofs.commitment_a(), tmp_path / "plain")
        proofs.write_folder(smallest(), proofs.commitment_a(), tmp_path / "encrypted", PASSPHRASE)
    finally:
        os.umask(before)
    for name in ("plain", "encrypted"):
        secret = tmp_path / f"{name}.secret"
        assert mode(secret) == 0o700 and mode(secret / "opening") == 0o600
        assert {path.name for path in (tmp_path / name).iterdir()} == {"commitment"}
        assert {path.name for path in secret.iterdir()} == {"opening"}


def test_a_commit_keeps_the_opening_private_and_leaves_nothing_else(sealed: Path) -> None:
    assert find_opening(sealed) == sealed.with_name("sealed.secret") / "opening"
    assert mode(find_opening(sealed)) == 0o600 and mode(find_opening(sealed).parent) == 0o700
    assert mode(sealed / "commitment") == 0o644
    assert {path.name for path in sealed.iterdir()} == {"commitment"}
    assert {path.name for path in find_opening(sealed).parent.iterdir()} == {"opening"}


def test_an_opening_is_private_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def look(_: int) -> None:
        seen.extend(mode(path) for path in tmp_path.iterdir())

    monkeypatch.setattr(secret_file.os, "fsync", look)
    before = os.umask(0)
    try:
        write_opening(proofs.a(), tmp_path / "opening")
    finally:
        os.umask(before)
    assert seen == [0o600]


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    def fail(_: int) -> None:
        raise fault

    monkeypatch.setattr(secret_file.os, "fsync", fail)
    with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
        write_opening(proofs.a(), tmp_path / "opening")
    assert not list(tmp_path.iterdir())
    assert not leaks(proofs.a(), str(caught.value))


def test_an_opening_is_never_overwritten_and_no_link_is_followed(tmp_path: Path) -> None:
    write_opening(proofs.a(), tmp_path / "opening")
    before = (tmp_path / "opening").read_bytes()
    with pytest.raises(OutputError, match="cannot write the opening"):
        write_opening(proofs.b(), tmp_path / "opening")
    assert (tmp_path / "opening").read_bytes() == before
    (tmp_path / "other").mkdir()
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "other" / ".opening.partial").symlink_to(target)
    write_opening(proofs.a(), tmp_path / "other" / "opening")
    assert target.read_text() == "mine"
    assert not (tmp_path / "other" / "opening").is_symlink()


def test_an_interrupted_commit_leaves_points_only(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, made = committer.commit_chunk, []

    def chunk(*arguments: Any) -> bytes:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return original(*arguments)

    monkeypatch.setattr(committer, "commit_chunk", chunk)
    with pytest.raises(KeyboardInterrupt):
        api.commit(models["base"], tmp_path / "x", Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"points.partial"}
    assert mode(tmp_path / "x.secret" / "opening") == 0o600
    assert not leaks(
        read_opening(tmp_path / "x.secret" / "opening"), (tmp_path / "x" / "points.partial").read_bytes()
    )


def test_an_interrupted_proof_leaves_nothing(
    cli: Cli, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("huref.proof.sketch.protocol.prove_quadratic", stop)
    folder = Path(shutil.copytree(sealed, tmp_path / "sealed"))
    shutil.copytree(find_opening(sealed).parent, tmp_path / "sealed.secret")
    done = cli("prove", "fingerprint", "--commitment", folder, "-o", folder / "x.proof")
    assert done.code == 130
    assert {path.name for path in folder.iterdir()} == {"commitment"}
    assert {path.name for path in (tmp_path / "sealed.secret").iterdir()} == {"opening"}


# Encryption


@pytest.fixture
def _cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a passphrase is not what these tests are about."""
    monkeypatch.setattr(secret_file, "_SCRYPT", {"n": 64, "r": 8, "p": 1})


def test_the_key_is_dear(tmp_path: Path) -> None:
    """RFC 7914: 32 MiB for each guess."""
    assert secret_file._SCRYPT["n"] * secret_file._SCRYPT["r"] * 128 >= 1 << 25
    write_opening(smallest(), tmp_path / "opening", PASSPHRASE)
    assert is_encrypted(tmp_path / "opening")
    back = read_opening(tmp_path / "opening", PASSPHRASE)
    assert back.seed == smallest().seed and np.array_equal(back.rows, smallest().rows)


@pytest.mark.usefixtures("_cheap_keys")
def test_an_encrypted_opening_shows_nothing(tmp_path: Path) -> None:
    opening = proofs.a()
    write_opening(opening, tmp_path / "opening", PASSPHRASE)
    data = (tmp_path / "opening").read_bytes()
    assert not leaks(opening, data)
    assert not any(string in data for string in opening.strings if len(string) > 3)
    assert b"tiny-a" not in data and PASSPHRASE.encode() not in data
    write_opening(opening, tmp_path / "again", PASSPHRASE)
    again = (tmp_path / "again").read_bytes()
    start = 12 + int.from_bytes(data[8:12], "little") + 4
    assert not {data[i : i + 16] for i in range(start, len(data), 16)} & {
        again[i : i + 16] for i in range(start, len(again), 16)
    }


@pytest.mark.usefixtures("_cheap_keys")
def test_every_byte_of_an_encrypted_opening_counts(tmp_path: Path) -> None:
    path = tmp_path / "opening"
    write_opening(smallest(), path, PASSPHRASE)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :])
        with pytest.raises((CorruptFileError, UsageError)) as fault:
            read_opening(path, PASSPHRASE)
        told = leaks(smallest(), str(fault.value))
        assert all(name.startswith("row") for name in told)  # of one small number each, as in any text
        assert PASSPHRASE not in str(fault.value)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with pytest.raises((CorruptFileError, UsageError)):
            read_opening(path, PASSPHRASE)


def pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    """The front of an encrypted opening, and its pieces with their lengths."""
    at = 12 + int.from_bytes(data[8:12], "little")
    front, found = data[:at], []
    while at < len(data):
        length = 4 + int.from_bytes(data[at : at + 4], "little")
        found.append(data[at : at + length])
        at += length
    return front, found


@pytest.mark.usefixtures("_cheap_keys")
def test_pieces_cannot_be_moved_dropped_or_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "PIECE", 100)
    path = tmp_path / "opening"
    write_opening(smallest(), path, PASSPHRASE)
    assert read_opening(path, PASSPHRASE).seed == smallest().seed
    front, found = pieces(path.read_bytes())
    assert len(found) > 4

    def rearranged() -> Iterator[list[bytes]]:
        for index in range(len(found)):
            yield found[:index]
            yield found[:index] + found[index + 1 :]
            yield found[: index + 1] + found[index:]
        for index in range(1, len(found)):
            yield [*found[: index - 1], found[index], found[index - 1], *found[index + 1 :]]
        yield [*found, b"\0\0\0\0"]
        yield found[::-1]

    for listed in rearranged():
        path.write_bytes(front + b"".join(listed))
        with pytest.raises((CorruptFileError, UsageError)):
            read_opening(path, PASSPHRASE)


@pytest.mark.usefixtures("_cheap_keys")
def test_pieces_are_sealed_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """proof-v1, 5.2, by hand: the nonce counts pieces and marks the last; the header is bound."""
    import hashlib
    import json

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    monkeypatch.setattr(secret_file, "PIECE", 100)
    write_opening(smallest(), tmp_path / "plain")
    write_opening(smallest(), tmp_path / "opening", PASSPHRASE)
    front, found = pieces((tmp_path / "opening").read_bytes())
    header = front[12:]
    given = json.loads(header)["encryption"]
    salt = bytes.fromhex(given["salt"])
    key = hashlib.scrypt(PASSPHRASE.encode(), salt=salt, n=given["n"], r=given["r"], p=given["p"], dklen=32)
    plain = b""
    for index, piece in enumerate(found):
        nonce = index.to_bytes(8, "little") + int(index == len(found) - 1).to_bytes(4, "little")
        plain += AESGCM(key).decrypt(nonce, piece[4:], header)
    assert (tmp_path / "plain").read_bytes().endswith(plain) and plain.startswith(smallest().seed)


@pytest.mark.usefixtures("_cheap_keys")
@pytest.mark.parametrize("given", [None, "", "Correct horse, battery staple", PASSPHRASE + " ", "\u00e9"])
def test_another_passphrase_opens_nothing(tmp_path: Path, given: str | None) -> None:
    write_opening(smallest(), tmp_path / "opening", PASSPHRASE)
    with pytest.raises(UsageError, match="cannot be decrypted") as fault:
        read_opening(tmp_path / "opening", given)
    assert PASSPHRASE not in str(fault.value)
    assert not given or len(given) < 2 or given not in str(fault.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"n":32768', b'"n":1'),
        (b'"n":32768', b'"n":2'),
        (b'"n":32768', b'"n":1099511627776'),
        (b'"r":8', b'"r":0'),
        (b'"p":1', b'"p":-1'),
        (b"AES-256-GCM", b"AES-128-GCM"),
        (b"scrypt", b"pbkdf2"),
        (b'"salt":"', b'"salt":"zz'),
        (b'"encryption":{', b'"encryption":{"more":1,'),
        (b"huref.opening/1", b"huref.opening/2"),
    ],
)
def test_other_ways_to_encrypt_are_refused_before_any_work(tmp_path: Path, old: bytes, new: bytes) -> None:
    """A header cannot ask for a key that is cheap to guess, or for memory without end."""
    path = tmp_path / "opening"
    write_opening(smallest(), path, PASSPHRASE)
    data = path.read_bytes()
    assert old in data
    body = 12 + int.from_bytes(data[8:12], "little")
    header = data[12:body].replace(old, new, 1)
    path.write_bytes(data[:8] + len(header).to_bytes(4, "little") + header + data[body:])
    with pytest.raises(HurefError):
        read_opening(path, PASSPHRASE)


@pytest.mark.usefixtures("_cheap_keys")
def test_an_encrypted_opening_passes_for_no_plain_one(tmp_path: Path) -> None:
    """Its header turned into that of a plain one: garbage is refused."""
    path = tmp_path / "opening"
    write_opening(smallest(), path, PASSPHRASE)
    data = path.read_bytes()
    body = 12 + int.from_bytes(data[8:12], "little")
    header = b'{"encryption":null,"schema":"huref.opening/1"}'
    path.write_bytes(data[:8] + len(header).to_bytes(4, "little") + header + data[body:])
    with pytest.raises(CorruptFileError):
        read_opening(path, PASSPHRASE)


def test_blindings_belong_to_seed_and_row() -> None:
    """One row's blinding says nothing about another's; all are reduced and different."""
    first, other = opening_file.row_blindings(b"a" * 32, 50), opening_file.row_blindings(b"b" * 32, 50)
    assert len({*first.tolist(), *other.tolist()}) == 100
    assert opening_file.row_blindings(b"a" * 32, 10).tolist() == first[:10].tolist()
    import hashlib

    from huref.proof.arithmetic.field import ORDER

    stream = hashlib.shake_256(b"huref/row-blinding/1" + b"a" * 32 + (7).to_bytes(8, "little")).digest(64)
    assert first[7] == int.from_bytes(stream, "little") % ORDER
