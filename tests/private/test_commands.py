"""`huref commit`, `prove`, `verify` and `compare --private`, as two owners and a verifier run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huref import api
from huref.errors import CorruptFileError
from huref.fingerprints.file import save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.proof.arithmetic import parallel
from huref.proof.arithmetic.curve import decode_points
from huref.proof.files.commitment import read_commitment
from huref.proof.files.opening import find_opening
from huref.proof.sketch import committer
from huref.proof.sketch.committer import CommitOptions
from kit import proof_cheats as cheats
from kit import proofs as kit
from kit.command_line import Outcome
from kit.tiny_llama import TinyLlama, tokenizer_json

Cli = Callable[..., Outcome]
VARIABLE = "HUREF_PASSPHRASE"
RECIPE = ("--layers", "2", "--n-tokens", "256", "--jobs", "1")


@pytest.fixture(autouse=True)
def _nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(scope="module")
def sealed(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of commitments, read-only: to the base, a noisy child of it, and a stranger."""
    home = tmp_path_factory.mktemp("sealed")
    for name in ("base", "child", "stranger"):
        api.commit(models[name], home / name, Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    return {name: home / name for name in ("base", "child", "stranger")}


@pytest.fixture(scope="module")
def proof(sealed: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the base's fingerprint."""
    path = tmp_path_factory.mktemp("proof") / "base.proof"
    api.prove_fingerprint(sealed["base"], path)
    return path


def public(folder: Path, to: Path) -> Path:
    """What its owner sends: the folder, whole."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    return to


def copied(folder: Path, to: Path) -> Path:
    """The owner's own two folders, to be spoilt."""
    shutil.copytree(folder, to)
    shutil.copytree(find_opening(folder).parent, to.with_name(f"{to.name}.secret"))
    return to


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# One owner


def test_an_owner_commits_proves_and_anyone_verifies(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    folder, path = tmp_path / "sealed", tmp_path / "x.proof"
    done = cli("commit", models["base"], "-o", folder, *RECIPE)
    assert done.code == 0 and done.err == ""
    assert "keep secret" in done.out and "publish" in done.out
    assert names(folder) == {"commitment"} and names(tmp_path / "sealed.secret") == {"opening"}
    assert str(tmp_path / "sealed.secret" / "opening") in done.out
    proved = cli("prove", "fingerprint", "--commitment", folder, "-o", path)
    assert proved.code == 0 and f"huref verify {path}" in proved.out
    elsewhere = public(folder, tmp_path / "published")
    checked = cli("verify", path, "--commitment", elsewhere)
    assert checked.code == 0 and checked.out.startswith("valid: fingerprint")
    assert "a claim" in checked.out and "  not    " in checked.out
    assert cli("verify", path, "--commitment", elsewhere / "commitment").code == 0
    alone = cli("verify", elsewhere / "commitment")
    assert alone.code == 0 and alone.out.startswith("valid: commitment")


def test_the_documents(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    folder, path = tmp_path / "sealed", tmp_path / "x.proof"
    made = cli("commit", models["base"], "-o", folder, *RECIPE, "--json").document
    assert made["schema_version"] == "huref.committed/1.0"
    assert made["model"] == "base" and made["architecture"] == "llama"
    assert made["encrypted"] is False and made["bits"] == 16
    assert Path(made["commitment_file"]).is_file() and Path(made["opening_file"]).is_file()
    assert made["integers"] % 32 == 0
    proved = cli("prove", "fingerprint", "--commitment", folder, "-o", path, "--json").document
    assert proved["schema_version"] == "huref.proved/1.0"
    assert proved["kind"] == "fingerprint" and proved["peer"] is None
    assert proved["root"] == made["root"] and proved["bytes"] == path.stat().st_size
    found = cli("verify", path, "--commitment", folder, "--json").document
    assert found["schema_version"] == "huref.verification/1.1"
    assert found["valid"] is True and found["kind"] == "fingerprint" and found["root"] == made["root"]
    assert len(found["vector"]) == 512 and found["tokens"] == 256 and found["rows"] == 64
    assert found["terms"] == ["2.qk", "2.vo", "2.up_down"]
    assert found["shown"] and found["not_claimed"]
    alone = cli("verify", folder / "commitment", "--json").document
    assert alone["kind"] == "commitment" and alone["vector"] is None


def test_a_proof_needs_its_own_commitment(cli: Cli, sealed: dict[str, Path], proof: Path) -> None:
    none = cli("verify", proof)
    assert none.code == 2 and "needs the commitment" in none.err
    other = cli("verify", proof, "--commitment", sealed["stranger"], "--json")
    assert other.code == 1
    assert other.document["error"]["type"] == "RejectedError"
    assert "about another commitment" in other.err


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data[:-1], 4),
        (lambda data: data + b"\0", 4),
        (lambda data: b"", 4),
        (lambda data: b"PK\x03\x04" + data, 4),
        (lambda data: data[:7] + b"2" + data[8:], 4),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), 1),
        (lambda data: data[:-33] + bytes([data[-33] ^ 1]) + data[-32:], 1),
    ],
    ids=["cut", "longer", "empty", "another kind", "another version", "last response", "last but one"],
)
def test_damage_and_forgery_have_codes(
    cli: Cli, sealed: dict[str, Path], proof: Path, tmp_path: Path, damage: Any, code: int
) -> None:
    bad = tmp_path / "bad.proof"
    bad.write_bytes(damage(proof.read_bytes()))
    done = cli("verify", bad, "--commitment", sealed["base"], "--json")
    assert done.code == code
    assert done.document["error"]["exit_code"] == code


def test_files_that_are_not_there_or_are_folders(
    cli: Cli, sealed: dict[str, Path], proof: Path, tmp_path: Path
) -> None:
    assert cli("verify", tmp_path / "none").code == 4
    assert cli("verify", tmp_path).code == 4
    assert cli("verify", proof, "--commitment", tmp_path).code == 4
    assert cli("verify", find_opening(sealed["base"]), "--commitment", sealed["base"]).code == 4
    assert cli("prove", "fingerprint", "--commitment", tmp_path, "-o", tmp_path / "x").code == 4
    only_public = public(sealed["base"], tmp_path / "public")
    assert cli("prove", "fingerprint", "--commitment", only_public, "-o", tmp_path / "x").code == 4
    assert cli("prove", "fingerprint", "--commitment", sealed["base"], "-o", tmp_path).code == 2
    (only_public / "opening").mkdir()
    assert cli("prove", "fingerprint", "--commitment", only_public, "-o", tmp_path / "x").code == 4


def test_encoders_that_are_not_linear_are_refused_before_any_work(models: dict[str, Path], tmp_path: Path) -> None:
    from huref.errors import UsageError

    with pytest.raises(UsageError, match="only sketches can be proved"):
        api.commit(models["base"], tmp_path / "x", Recipe("canonical", "cnn", n_tokens=256))


# What was published


def test_a_published_fingerprint_and_portrait_are_held_against_the_proof(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], proof: Path, tmp_path: Path, dogs: None
) -> None:
    published = {}
    for name in ("base", "stranger"):
        made = api.fingerprint(models[name], Recipe(layers="2", n_tokens=256))
        published[name] = api.write(made, tmp_path / name)
    verify = ("verify", proof, "--commitment", sealed["base"], "--json")
    file, picture = published["base"]
    done = cli(*verify, "--fingerprint", file, "--image", picture)
    assert done.code == 0
    assert done.document["fingerprint_cosine"] > 0.99999
    assert done.document["image_difference"] < 1
    for option, path in zip(("--fingerprint", "--image"), published["stranger"], strict=True):
        refused = cli(*verify, option, path)
        assert refused.code == 1
        assert "is not the proof's" in refused.err
    other = api.fingerprint(models["base"], Recipe(layers="1", n_tokens=256))
    save_fingerprint(other, tmp_path / "other.huref.safetensors")
    assert cli(*verify, "--fingerprint", tmp_path / "other.huref.safetensors").code == 1
    save_fingerprint(api.fingerprint(models["base"], Recipe("canonical")), tmp_path / "before.huref.safetensors")
    refused = cli(*verify, "--fingerprint", tmp_path / "before.huref.safetensors")
    assert refused.code == 1 and "of another recipe than the proof" in refused.err
    assert cli(*verify, "--image", file).code == 4
    assert cli(*verify, "--fingerprint", picture).code == 4
    commitment = sealed["base"] / "commitment"
    assert cli("verify", commitment, "--fingerprint", file).code == 2
    assert cli("verify", commitment, "--image", picture).code == 2


def test_a_fingerprint_or_a_portrait_that_was_doctored_in_part(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], proof: Path, tmp_path: Path, dogs: None
) -> None:
    """The right vector over other sketches, and a corner painted over: most of it is right, and it is refused."""
    from PIL import Image

    made = api.fingerprint(models["base"], Recipe(layers="2", n_tokens=256))
    other = api.fingerprint(models["stranger"], Recipe(layers="2", n_tokens=256))
    verify = ("verify", proof, "--commitment", sealed["base"])
    for key in made.sketches:
        forged = replace(made, sketches={**made.sketches, key: other.sketches[key]})
        save_fingerprint(forged, tmp_path / "x.huref.safetensors")
        assert cli(*verify, "--fingerprint", tmp_path / "x.huref.safetensors").code == 1
    _, picture = api.write(made, tmp_path)
    with Image.open(picture) as image:
        doctored = image.convert("RGB")
    assert doctored.size[0] == 512
    doctored.paste((255, 0, 255), (0, 0, 24, 24))
    doctored.save(tmp_path / "y.png")
    assert cli(*verify, "--image", picture).code == 0
    assert cli(*verify, "--image", tmp_path / "y.png").code == 1


def test_a_picture_too_small_to_tell_dogs_apart_proves_nothing(
    cli: Cli, sealed: dict[str, Path], proof: Path, tmp_path: Path, dogs: None
) -> None:
    from PIL import Image

    for size in ((1, 1), (8, 8), (64, 65)):
        Image.new("RGB", size, (128, 128, 128)).save(tmp_path / "x.png")
        done = cli("verify", proof, "--commitment", sealed["base"], "--image", tmp_path / "x.png")
        assert done.code in (1, 2)


def test_verifying_loads_no_torch(sealed: dict[str, Path], proof: Path) -> None:
    script = (
        "import sys\n"
        f"sys.argv = ['huref', 'verify', {str(proof)!r}, '--commitment', {str(sealed['base'])!r}, '--json']\n"
        "from huref.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as ended:\n    print(ended.code or 0, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.split() == ["0", "False"]
    assert json.loads(done.stdout)["valid"] is True


def test_names_in_a_commitment_cannot_speak_for_the_verifier(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    """The model's name is its owner's text: no line breaks that look like lines of `huref verify`, no escapes."""
    liar = tmp_path / "x\n  shown  certified by everybody\x1b[2J"
    shutil.copytree(models["base"], liar)
    api.commit(liar, tmp_path / "sealed", Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    done = cli("verify", tmp_path / "sealed" / "commitment")
    assert done.code == 0
    assert not any(line.startswith("  shown  certified") for line in done.out.splitlines())
    assert "\x1b" not in done.out


# Interrupted


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[int]:
    """Ctrl-C in the middle of chunk `count`; the list grows with each chunk made."""
    original, made = committer.commit_chunk, []

    def chunk(task: bytes, committer: Any) -> bytes:
        if len(made) == count:
            raise KeyboardInterrupt
        made.append(int.from_bytes(task[:4], "little"))
        return original(task, committer)

    monkeypatch.setattr(committer, "commit_chunk", chunk)
    return made


def test_an_interrupted_commit_goes_on_where_it_stopped(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sealed"
    command = ("commit", models["base"], "-o", folder, *RECIPE)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        stopped = cli(*command)
    assert stopped.code == 130 and "interrupted" in stopped.err and stopped.out == ""
    assert names(folder) == {"points.partial"}
    known, opening = (folder / "points.partial").read_bytes(), find_opening(folder).read_bytes()
    assert len(known) == 3 * 64 * 48
    with monkeypatch.context() as patch:
        made = interrupt_after(patch, -1)
        done = cli(*command, "--json")
    assert done.code == 0
    assert sum(made) == done.document["integers"] // 32 - 3 * 64
    assert names(folder) == {"commitment"}
    assert known in (folder / "commitment").read_bytes()
    assert find_opening(folder).read_bytes() == opening
    assert cli("verify", folder / "commitment").code == 0
    assert cli("prove", "fingerprint", "--commitment", folder, "-o", tmp_path / "x").code == 0
    assert cli("verify", tmp_path / "x", "--commitment", folder).code == 0


def test_a_half_written_chunk_is_made_again(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sealed"
    command = ("commit", models["base"], "-o", folder, *RECIPE)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        cli(*command)
    with (folder / "points.partial").open("ab") as file:
        file.write(bytes(100))
    assert cli(*command).code == 0
    assert cli("verify", folder / "commitment").code == 0


def test_points_that_a_crash_spoilt_do_not_block_the_folder_for_ever(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sealed"
    command = ("commit", models["base"], "-o", folder, *RECIPE)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        cli(*command)
    (folder / "points.partial").write_bytes(bytes(2 * 64 * 48))
    assert cli(*command).code != 0
    assert not (folder / "commitment").exists()
    assert cli(*command).code == 0
    assert cli("verify", folder / "commitment").code == 0


def test_several_processes_make_the_same_points(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted with one process, resumed with two, under the opening of a commitment made by one."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    shutil.copy(find_opening(sealed["base"]), folder)
    command = ("commit", models["base"], "-o", folder, *RECIPE[:-1])
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert cli(*command, 1).code == 130
    assert cli(*command, 2).code == 0
    one, two = (read_commitment(path) for path in (sealed["base"], folder))
    assert one.points == two.points and one.root == two.root
    assert one.no_wrap.masks != two.no_wrap.masks
    assert names(folder) == {"opening", "commitment"}


def test_several_processes_decode_as_strictly_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = kit.commitment_a().points[: 48 * 10]
    for name, value in (("_WORTH", 2), ("_CHUNK", 4), ("available_cores", lambda: 2)):
        monkeypatch.setattr(parallel, name, value)
    assert parallel.decode_many_points(data, "x") == decode_points(data, "x")
    for bad in (b"\xc0" + bytes(47), cheats.shifted(data[:48]), bytes(48)):
        with pytest.raises(CorruptFileError, match="a point that cannot be accepted") as fault:
            parallel.decode_many_points(data[: 48 * 5] + bad + data[48 * 6 :], "x")
        assert "from 4 on" in fault.value.where


def test_a_folder_of_proofs_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who verifies in a folder that somebody sent must not import what lies there: not in other processes either."""
    for name in ("numpy", "json", "py_arkworks_bls12381", "huref"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
    for name, value in (("_WORTH", 2), ("_CHUNK", 4), ("available_cores", lambda: 2)):
        monkeypatch.setattr(parallel, name, value)
    monkeypatch.chdir(tmp_path)
    data = kit.commitment_a().points[: 48 * 10]
    assert parallel.decode_many_points(data, "x") == decode_points(data, "x")
    assert not (tmp_path / "ran").exists()


def test_another_model_does_not_go_on_with_an_interrupted_folder(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sealed"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        cli("commit", models["base"], "-o", folder, *RECIPE)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = cli("commit", models["stranger"], "-o", folder, *RECIPE)
    assert done.code == 2 and "opening of other weights" in done.err
    other_recipe = cli("commit", models["base"], "-o", folder, *RECIPE, "--layers", "1")
    assert other_recipe.code == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_second_commit_into_a_folder_is_refused_and_loses_nothing(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(sealed["base"], tmp_path / "sealed")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for model in ("base", "stranger"):
        done = cli("commit", models[model], "-o", folder, *RECIPE)
        assert done.code == 2 and "has a commitment already" in done.err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    find_opening(folder).unlink()
    assert cli("commit", models["base"], "-o", folder, *RECIPE).code == 2
    assert names(folder) == {"commitment"}


# The opening


def test_an_encrypted_opening_asks_for_its_passphrase(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sealed"
    command = ("commit", models["base"], "-o", folder, *RECIPE, "--encrypt")
    prove = ("prove", "fingerprint", "--commitment", folder, "-o", tmp_path / "x")
    nobody = cli(*command)
    assert nobody.code == 2 and VARIABLE in nobody.err
    assert not folder.exists() or not names(folder)
    monkeypatch.setenv(VARIABLE, "correct horse")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        assert cli(*command).code == 130
    monkeypatch.setenv(VARIABLE, "wrong horse")
    assert cli(*command).code == 2
    monkeypatch.setenv(VARIABLE, "correct horse")
    done = cli("commit", models["base"], "-o", folder, *RECIPE, "--json")
    assert done.code == 0 and done.document["encrypted"] is True
    monkeypatch.setenv(VARIABLE, "wrong horse")
    wrong = cli(*prove)
    assert wrong.code == 2 and "cannot be decrypted" in wrong.err
    assert "horse" not in wrong.err + wrong.out
    monkeypatch.delenv(VARIABLE)
    none = cli(*prove)
    assert none.code == 2 and VARIABLE in none.err
    assert not (tmp_path / "x").exists()
    monkeypatch.setenv(VARIABLE, "correct horse")
    assert cli(*prove).code == 0
    monkeypatch.delenv(VARIABLE)
    assert cli("verify", tmp_path / "x", "--commitment", folder).code == 0


def test_proving_for_another_model_is_refused(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], tmp_path: Path
) -> None:
    prove = ("prove", "fingerprint", "--commitment", sealed["base"], "-o", tmp_path / "x")
    for name in ("stranger", "child", "rounded"):
        refused = cli(*prove, models[name])
        assert refused.code == 2 and "of another model" in refused.err
        assert not (tmp_path / "x").exists()
    assert cli(*prove, models["copy"]).code == 0


def test_an_opening_of_another_commitment_to_the_same_model_makes_no_proof(
    cli: Cli, models: dict[str, Path], sealed: dict[str, Path], tmp_path: Path
) -> None:
    """Same layout, strings and integers, another seed: what it would prove does not verify."""
    folder = copied(sealed["base"], tmp_path / "sealed")
    api.commit(models["base"], tmp_path / "again", Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    shutil.copy(find_opening(tmp_path / "again"), find_opening(folder))
    done = cli("prove", "fingerprint", "--commitment", folder, "-o", tmp_path / "x")
    assert done.code == 2 and "another commitment" in done.err
    assert not (tmp_path / "x").exists()


# Two owners


def walk(cli: Cli, first: Path, second: Path, place: Path) -> tuple[Outcome, Outcome]:
    """Two owners on two machines: commitments are exchanged, then proofs; each computes the result."""
    machines = []
    for name, own, other in (("x", first, second), ("y", second, first)):
        mine, theirs = copied(own, place / f"{name}-mine"), place / f"{name}-theirs"
        theirs.mkdir()
        shutil.copy(other / "commitment", theirs)
        machines.append((mine, theirs))
    for mine, theirs in machines:
        step = cli("compare", "--private", mine, theirs)
        assert step.code == 3 and "waiting for" in step.out
        assert "opening" not in names(theirs)
    for (_, theirs), (other, _) in (machines, reversed(machines)):
        public(other, theirs)
    results = [cli("compare", "--private", mine, theirs, "--json") for mine, theirs in machines]
    assert all("opening" not in names(theirs) for _, theirs in machines)
    return results[0], results[1]


@pytest.mark.parametrize(("other", "least", "most"), [("child", 0.9, 1.0), ("stranger", -0.3, 0.3)])
def test_two_owners_compare_without_showing_weights(
    cli: Cli, sealed: dict[str, Path], tmp_path: Path, other: str, least: float, most: float
) -> None:
    one, two = walk(cli, sealed["base"], sealed[other], tmp_path)
    assert one.code == two.code == (0 if other == "child" else 3)
    left, right = one.document, two.document
    assert left["schema_version"] == "huref.private-comparison/1.1"
    assert least <= left["ics_canonical_2"] <= most
    assert left["ics_canonical_2"] == pytest.approx(right["ics_canonical_2"], abs=1e-12)
    assert left["error"] == pytest.approx(right["error"])
    assert left["roots"] == right["roots"][::-1]
    assert left["recipe"] == "canonical-2" and left["ics_canonical"] is left["ics"] is None
    assert left["verdict"] == ("derived" if other == "child" else "inconclusive")
    assert left["tokens"] == 256 and left["rows"] == 64 and left["missing"] == []
    assert left["interval"][0] <= left["ics_canonical_2"] <= left["interval"][1]


def with_vocabulary(model: TinyLlama, folder: Path, n_other: int) -> Path:
    """The model with its last `n_other` tokens renamed."""
    model.save(folder)
    document = json.loads(tokenizer_json(model.n_tokens))
    vocabulary = document["model"]["vocab"]
    for token, index in list(vocabulary.items()):
        if index >= model.n_tokens - n_other:
            del vocabulary[token]
            vocabulary[f"other{index}"] = index
    document["model"] = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<s>"}
    document["pre_tokenizer"] = document["decoder"] = None
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(("n_other", "code"), [(40, 0), (150, 1)])
def test_owners_with_other_vocabularies_and_depths(cli: Cli, tmp_path: Path, n_other: int, code: int) -> None:
    """Shared strings decide: 40 other tokens of 400 leave enough, 150 leave fewer than 256."""
    recipe = Recipe(layers="-1")
    child = TinyLlama(noise=0.02)
    one, two = with_vocabulary(TinyLlama(), tmp_path / "a", 0), with_vocabulary(child, tmp_path / "b", n_other)
    for name, model in (("sealed-a", one), ("sealed-b", two)):
        api.commit(model, tmp_path / name, recipe, CommitOptions(jobs=1))
    done = cli("compare", "--private", tmp_path / "sealed-a", tmp_path / "sealed-b", "--json")
    assert done.code == code
    if code == 0:
        assert 256 <= done.document["tokens"] <= 400 - n_other
        assert done.document["ics_canonical_2"] > 0.95
    else:
        assert "cannot be compared" in done.err and "shared tokens" in done.err


def test_a_peer_does_not_decide_how_much_is_shown(cli: Cli, sealed: dict[str, Path], tmp_path: Path) -> None:
    """A proof of 512 rows tells 64 times as much about a term as one of 64: the other owner cannot ask for it."""
    mine, theirs = copied(sealed["base"], tmp_path / "mine"), copied(sealed["child"], tmp_path / "theirs")
    name = f"compare-{json.loads(cli('verify', mine / 'commitment', '--json').out)['root'][:16]}.proof"
    for rows in (4, 128):
        prove = ("prove", "compare", "--commitment", theirs, "--peer", mine, "--rows", rows)
        if cli(*prove, "-o", theirs / name).code == 0:
            done = cli("compare", "--private", mine, public(theirs, tmp_path / "sent"))
            assert done.code in (1, 2)
            assert names(mine) == {"commitment"}


def test_one_side_of_a_comparison_by_hand(cli: Cli, sealed: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.proof"
    peer = public(sealed["child"], tmp_path / "peer")
    made = cli("prove", "compare", "--commitment", sealed["base"], "--peer", peer, "-o", path, "--json")
    assert made.code == 0 and made.document["kind"] == "compare"
    done = cli("verify", path, "--commitment", sealed["base"], "--json")
    assert done.code == 0 and done.document["vector"] is None
    assert made.document["peer"] in " ".join(done.document["shown"])
    assert cli("verify", path, "--commitment", sealed["child"]).code == 1
    assert cli("verify", path, "--commitment", sealed["base"], "--image", path).code == 2
    own = cli("prove", "compare", "--commitment", sealed["base"], "--peer", sealed["base"], "-o", path)
    assert own.code == 1 and "one commitment twice" in own.err
    for rows in (0, -1, 513, 100000):
        refused = cli("prove", "compare", "--commitment", sealed["base"], "--peer", peer, "-o", path, "--rows", rows)
        assert refused.code == 2, refused


def test_blocks_that_add_nothing_are_passed_over_and_named(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    """Inserted layers change neither the proved fingerprint nor a private comparison; verify says what it misses."""
    longer = tmp_path / "longer"
    api.attack(models["base"], longer, kinds="insert_layers")
    owners = {"base": models["base"], "longer": longer}
    for name, model in owners.items():
        api.commit(model, tmp_path / f"{name}-sealed", Recipe(n_tokens=256, layers="all"), CommitOptions(jobs=1))
    proof = tmp_path / "x.proof"
    shown = {}
    for name in owners:
        cli("prove", "fingerprint", "--commitment", tmp_path / f"{name}-sealed", "-o", proof)
        shown[name] = cli("verify", proof, "--commitment", tmp_path / f"{name}-sealed", "--json").document
    assert any("left out as adding next to nothing" in line for line in shown["longer"]["shown"])
    assert not any("left out" in line for line in shown["base"]["shown"])
    vectors = [np.array(document["vector"]) for document in shown.values()]
    assert vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]) > 0.9999
    done = cli("compare", "--private", tmp_path / "base-sealed", tmp_path / "longer-sealed", "--json")
    assert done.document["ics_canonical_2"] > 0.999
