"""`huref publish` and `huref verify FOLDER`: what may be shown is there, nothing secret is, tampering is found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huref import api
from huref.fingerprints.file import load_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.private.publication import PublishOptions
from huref.proof.files import secret as secret_file
from huref.proof.files.opening import find_opening, read_opening, write_opening
from huref.proof.inference.commitment import InferenceOpening
from huref.proof.sketch.committer import CommitOptions
from kit.command_line import Outcome
from kit.llamas import that_answers
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Outcome]
RECIPE = Recipe(layers="2", n_tokens=256)
ALL = {
    "base.huref.safetensors",
    "base.png",
    "base.badge.svg",
    "commitment",
    "base.proof",
    "CARD.md",
    "SHA256SUMS",
}
PASSPHRASE = "HUREF_PASSPHRASE"

pytestmark = pytest.mark.usefixtures("dogs")


@pytest.fixture(autouse=True)
def _nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)


@pytest.fixture(scope="module")
def owner(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sealed` and `sealed.secret` of the base, `other` and `other.secret` of the stranger. Read-only."""
    home = tmp_path_factory.mktemp("owner")
    for name, model in (("sealed", "base"), ("other", "stranger")):
        api.commit(models[model], home / name, RECIPE, CommitOptions(jobs=1))
    return home


@pytest.fixture
def published(owner: Path, models: dict[str, Path], tmp_path: Path) -> Path:
    """A published folder of the base, to be spoilt."""
    api.publish(tmp_path / "shown", models["base"], PublishOptions(owner / "sealed"))
    return tmp_path / "shown"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_sums(folder: Path) -> None:
    """The list made again, as somebody who tampers would."""
    import hashlib

    listed = [line[66:] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))


# What is there


def test_an_owner_publishes_and_anyone_verifies(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "shown"
    done = cli("publish", folder, "--model", models["base"], "--commitment", owner / "sealed")
    assert done.code == 0 and names(folder) == ALL
    assert "may be uploaded" in done.out and f"{owner / 'sealed.secret' / 'opening'} stays" in done.out
    away = Path(shutil.copytree(folder, tmp_path / "away"))
    checked = cli("verify", away)
    assert checked.code == 0 and checked.out.startswith("valid: published")
    assert "portrait is theirs" in checked.out and "6 files" in checked.out
    assert cli("verify", away, "--commitment", owner / "sealed").code == 0
    other = cli("verify", away, "--commitment", owner / "other")
    assert other.code == 1 and "another commitment" in other.err


def test_the_documents(cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    made = cli("publish", folder, "--model", models["base"], "--commitment", owner / "sealed", "--json").document
    assert made["schema_version"] == "huref.published/1.0"
    assert made["model"] == "base" and made["recipe"] == "canonical-2" and made["proved"] is True
    assert {file["name"] for file in made["files"]} == ALL and all(file["is_new"] for file in made["files"])
    assert all(file["bytes"] == (folder / file["name"]).stat().st_size for file in made["files"])
    assert made["opening_file"] == str(owner / "sealed.secret" / "opening") and made["others"] == []
    found = cli("verify", folder, "--json").document
    assert found["kind"] == "published" and found["root"] == made["root"] and found["proved"] is True
    assert found["files"] == sorted(ALL - {"SHA256SUMS"}) and found["unlisted"] == [] and len(found["vector"]) == 512


def test_the_card_says_what_it_is_and_what_it_is_not(published: Path) -> None:
    card = (published / "CARD.md").read_text(encoding="utf-8")
    root = api.verify(published / "commitment").root
    assert root in card and "](base.png)" in card and "huref verify ." in card and "sha256sum -c SHA256SUMS" in card
    assert "What this does not say" in card and "its name is the owner's word" in card


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the tool is not here")
def test_the_usual_tool_reads_the_list(published: Path) -> None:
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=published, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count(": OK") == len(ALL) - 1
    (published / "base.png").write_bytes(b"x")
    assert subprocess.run(command, cwd=published, capture_output=True, check=False).returncode == 1


def test_a_name_with_spaces_and_marks(cli: Cli, tmp_path: Path) -> None:
    model = TinyLlama().save(tmp_path / "my [model] `1` é <b>")
    done = cli("publish", tmp_path / "shown", "--model", model)
    assert done.code == 0
    card = (tmp_path / "shown" / "CARD.md").read_text(encoding="utf-8")
    assert "my%20%5Bmodel%5D" in card and "<b>" not in card.replace("\\<b\\>", "")
    assert cli("verify", tmp_path / "shown").code == 0
    hostile = TinyLlama().save(tmp_path / "x\ny")
    assert cli("publish", tmp_path / "other", "--model", hostile).code == 2
    assert not (tmp_path / "other").exists()


def test_without_a_commitment_it_says_what_is_open(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    done = cli("publish", tmp_path / "shown", "--model", models["base"])
    assert done.code == 0 and names(tmp_path / "shown") == ALL - {"commitment", "base.proof"}
    assert "owner's word" in done.out
    checked = cli("verify", tmp_path / "shown", "--json").document
    assert checked["root"] == "" and checked["proved"] is False and "owner's word" in checked["not_claimed"][0]


def test_without_the_opening_there_is_no_proof(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    folder, public = tmp_path / "shown", Path(shutil.copytree(owner / "sealed", tmp_path / "public"))
    command = ("publish", folder, "--model", models["base"], "--commitment", public)
    done = cli(*command)
    assert done.code == 0 and names(folder) == ALL - {"base.proof"}
    assert "there is no proof" in done.out and "there is no proof" in (folder / "CARD.md").read_text()
    assert cli("verify", folder).code == 0
    assert cli(*command[:-1], tmp_path / "nowhere").code == 4
    again = cli(*command, "--secret", owner / "sealed.secret", "--json").document
    assert {file["name"] for file in again["files"] if file["is_new"]} == {"base.proof", "CARD.md", "SHA256SUMS"}
    assert "there is no proof" not in (folder / "CARD.md").read_text()


def test_the_folder_of_the_commitment_itself(cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path) -> None:
    """`huref commit -o sealed`, then `huref publish sealed`: the opening is beside it, and stays there."""
    for name in ("sealed", "sealed.secret"):
        shutil.copytree(owner / name, tmp_path / name)
    done = cli("publish", tmp_path / "sealed", "--model", models["base"])
    assert done.code == 0 and names(tmp_path / "sealed") == ALL and names(tmp_path / "sealed.secret") == {"opening"}
    assert cli("verify", tmp_path / "sealed").code == 0


def test_codes_and_saved_fingerprints(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    folder, saved = tmp_path / "shown", tmp_path / "saved" / "base.huref.safetensors"
    assert cli("publish", folder, "--model", models["base"], "--codes").code == 0
    assert load_fingerprint(folder / "base.huref.safetensors").codes is not None
    assert cli("fingerprint", models["base"], "--out", tmp_path / "saved").code == 0
    assert cli("publish", tmp_path / "from-saved", "--model", saved).code == 0
    assert cli("fingerprint", models["base"], "--plain-codes", "--out", tmp_path / "saved").code == 0
    refused = cli("publish", tmp_path / "plain", "--model", saved)
    assert refused.code == 2 and "stay private" in refused.err and not (tmp_path / "plain").exists()


def test_a_commitment_to_all_weights(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    model = that_answers(models["base"], tmp_path / "base")
    recipe = Recipe("canonical", layers="-1", n_tokens=256)
    api.commit(model, tmp_path / "sealed", recipe, CommitOptions(jobs=1), "inference")
    folder = tmp_path / "shown"
    done = cli("publish", folder, "--model", model, "--commitment", tmp_path / "sealed")
    assert done.code == 0 and names(folder) == ALL | {"inference-commitment", "link"}
    checked = cli("verify", folder)
    assert checked.code == 0 and "are the fingerprint's own" in checked.out
    prove = ("prove", "inference", model, "--commitment", tmp_path / "sealed", "--precision", "small")
    (folder / "proofs").mkdir()
    for path in (folder / "answer.proof", folder / "proofs" / "answer.proof"):
        assert cli(*prove, "--ids", "1,2", "-o", path).code == 0
        found = cli("verify", path)
        assert found.code == 0 and f"with   {folder / 'inference-commitment'}, found near" in found.out
    listed = cli("verify", folder)
    assert "answer.proof: the owner knows weights" in listed.out and "beside answer.proof" in listed.out
    shutil.copy(folder / "commitment", folder / "link")
    with_sums(folder)
    assert cli("verify", folder).code == 4


# Nothing secret


def test_nothing_secret_is_in_any_published_file(published: Path, owner: Path) -> None:
    opening = read_opening(find_opening(owner / "sealed"))
    haystack = contents(published)
    assert set(haystack) == ALL
    secrets = {"seed": opening.seed, "hex": opening.seed.hex().encode()}
    for index, row in enumerate(opening.rows):
        for kind in ("<i2", "<i4", "<f4", "<f8"):
            secrets[f"row {index} as {kind}"] = row[:8].astype(kind).tobytes()
    for index, blinding in enumerate(opening.blindings().tolist()):
        secrets[f"blinding {index}"] = blinding.to_bytes(32, "little")
    assert any(secrets["row 0 as <i2"] in data for data in [find_opening(owner / "sealed").read_bytes()])
    for name, data in haystack.items():
        assert [what for what, needle in secrets.items() if needle in data] == [], name


@pytest.mark.parametrize("place", ["opening", "notes.txt", ".opening.partial", "deep/er/x.png", "CARD.md", "linked"])
def test_a_folder_with_a_secret_is_refused(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path, place: str
) -> None:
    """By how the file begins, whatever it is called; also behind a link, and when it cannot be read in full."""
    folder = tmp_path / "shown"
    (folder / place).parent.mkdir(parents=True)
    if place == "linked":
        (folder / place).symlink_to(owner / "sealed.secret", target_is_directory=True)
    else:
        (folder / place).write_bytes(find_opening(owner / "sealed").read_bytes()[:100])
    before = contents(folder)
    done = cli("publish", folder, "--model", models["base"], "--commitment", owner / "sealed", "--json")
    assert done.code == 2 and "holds a secret" in done.err and "knows the weights" in done.err
    assert done.document["error"]["type"] == "UsageError"
    assert contents(folder) == before


def test_encrypted_and_inference_openings_are_secrets_too(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_file, "_SCRYPT", {"n": 64, "r": 8, "p": 1})
    opening = read_opening(find_opening(owner / "sealed"))
    (tmp_path / "a").mkdir()
    write_opening(opening, tmp_path / "a" / "x", "correct horse")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(InferenceOpening(bytes(32), bytes(32), bytes(32)).to_bytes())
    (tmp_path / "c").mkdir()
    shutil.copy(tmp_path / "a" / "x", tmp_path / "c" / "opening")  # nobody is asked for its passphrase before
    for name in ("a", "b", "c"):
        assert "holds a secret" in cli("publish", tmp_path / name, "--model", models["base"]).err


def test_a_link_around_in_a_circle_ends(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "shown" / "x").mkdir(parents=True)
    (tmp_path / "shown" / "x" / "back").symlink_to(tmp_path / "shown", target_is_directory=True)
    assert cli("publish", tmp_path / "shown", "--model", models["base"]).code == 0
    assert cli("verify", tmp_path / "shown").code == 0


@pytest.mark.parametrize("name", ["commitment", "inference-commitment", "link"])
def test_an_opening_under_a_public_name_is_not_copied(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    shutil.copytree(owner / "sealed", tmp_path / "sealed")
    shutil.copy(find_opening(owner / "sealed"), tmp_path / "sealed" / name)
    done = cli("publish", tmp_path / "shown", "--model", models["base"], "--commitment", tmp_path / "sealed")
    assert done.code == 4 and not (tmp_path / "shown").exists()


def test_the_opening_of_an_old_folder_is_found_and_not_copied(
    cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """As huref commit left it before: the opening beside the commitment."""
    shutil.copytree(owner / "sealed", tmp_path / "sealed")
    shutil.copy(find_opening(owner / "sealed"), tmp_path / "sealed")
    done = cli("publish", tmp_path / "shown", "--model", models["base"], "--commitment", tmp_path / "sealed")
    assert done.code == 0 and names(tmp_path / "shown") == ALL
    assert cli("publish", tmp_path / "sealed", "--model", models["base"]).code == 2
    assert names(tmp_path / "sealed") == {"commitment", "opening"}


def test_a_chosen_folder_for_the_secret(cli: Cli, owner: Path, models: dict[str, Path], tmp_path: Path) -> None:
    sealed, vault = Path(shutil.copytree(owner / "sealed", tmp_path / "sealed")), tmp_path / "vault"
    shutil.copytree(owner / "sealed.secret", vault)
    made = cli("publish", tmp_path / "shown", "--model", models["base"], "--commitment", sealed, "--secret", vault)
    assert made.code == 0 and names(tmp_path / "shown") == ALL and str(vault / "opening") in made.out


# Run again


def test_run_again_it_writes_nothing(published: Path, owner: Path, models: dict[str, Path]) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in published.iterdir()}
    again = api.publish(published, models["base"], PublishOptions(owner / "sealed"))
    assert not any(file.is_new for file in again.files)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in published.iterdir()} == before
    without = api.publish(published, models["base"])  # the commitment and the proof that are there count
    assert not any(file.is_new for file in without.files) and without.is_proved and without.root == again.root


def test_run_again_it_mends_what_changed(published: Path, owner: Path, models: dict[str, Path]) -> None:
    whole = contents(published)
    (published / "base.png").unlink()
    (published / "base.badge.svg").write_text("x")
    again = api.publish(published, models["base"], PublishOptions(owner / "sealed"))
    assert {file.name for file in again.files if file.is_new} == {"base.png", "base.badge.svg"}
    assert contents(published) == whole


def _another_commitment(folder: Path, owner: Path) -> None:
    shutil.copy(owner / "other" / "commitment", folder)


def _damaged_proof(folder: Path, _: Path) -> None:
    data = (folder / "base.proof").read_bytes()
    (folder / "base.proof").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _another_proof(folder: Path, owner: Path) -> None:
    api.prove_fingerprint(owner / "other", folder / "base.proof")


def _comparison(folder: Path, owner: Path) -> None:
    api.prove_compare(owner / "sealed", owner / "other", folder / "base.proof")


def _own_card(folder: Path, _: Path) -> None:
    (folder / "CARD.md").write_text("# My model\n")


def _own_sums(folder: Path, _: Path) -> None:
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  model.safetensors\n")


def _a_folder(folder: Path, _: Path) -> None:
    (folder / "base.png").unlink()
    (folder / "base.png").mkdir()


def _no_fingerprint(folder: Path, _: Path) -> None:
    (folder / "base.huref.safetensors").unlink()
    (folder / "base.png").write_bytes(b"of something else")


@pytest.mark.parametrize(
    "change",
    [
        _another_commitment,
        _damaged_proof,
        _another_proof,
        _comparison,
        _own_card,
        _own_sums,
        _a_folder,
        _no_fingerprint,
    ],
)
def test_files_of_another_origin_are_not_overwritten(
    published: Path, owner: Path, models: dict[str, Path], cli: Cli, change: Callable[[Path, Path], None]
) -> None:
    change(published, owner)
    before = contents(published)
    done = cli("publish", published, "--model", models["base"], "--commitment", owner / "sealed")
    assert done.code == 2 and "not overwritten" in done.err
    assert contents(published) == before


@pytest.mark.parametrize("name", ["child", "stranger"])
def test_another_model_is_refused(
    published: Path, owner: Path, models: dict[str, Path], cli: Cli, tmp_path: Path, name: str
) -> None:
    before = contents(published)
    link = tmp_path / "base"
    link.symlink_to(models[name], target_is_directory=True)
    for model in (models[name], link):  # another name; the same name and other weights
        done = cli("publish", published, "--model", model)
        assert done.code == 2 and "not overwritten" in done.err
    unlike = cli("publish", tmp_path / "new", "--model", models[name], "--commitment", owner / "sealed")
    assert unlike.code == 2 and "not the committed one" in unlike.err and not (tmp_path / "new").exists()
    assert contents(published) == before


def test_another_choice_of_tokens_is_said(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.txt"
    ranking.write_text("\n".join(map(str, range(400))))
    api.commit(models["base"], tmp_path / "sealed", RECIPE, CommitOptions(jobs=1), tokens_file=ranking)
    command = ("publish", tmp_path / "shown", "--model", models["base"], "--commitment", tmp_path / "sealed")
    refused = cli(*command)
    assert refused.code == 2 and "--tokens" in refused.err
    assert cli(*command, "--tokens", ranking).code == 0
    assert cli("verify", tmp_path / "shown").code == 0


def test_an_encrypted_opening(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_file, "_SCRYPT", {"n": 64, "r": 8, "p": 1})
    api.commit(models["base"], tmp_path / "sealed", RECIPE, CommitOptions(1, "correct horse"))
    command = ("publish", tmp_path / "shown", "--model", models["base"], "--commitment", tmp_path / "sealed")
    nobody = cli(*command)
    assert nobody.code == 2 and PASSPHRASE in nobody.err and not (tmp_path / "shown").exists()
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert cli(*command).code == 0 and cli("verify", tmp_path / "shown").code == 0


# Tampered


@pytest.mark.parametrize("name", sorted(ALL - {"SHA256SUMS"}))
def test_one_changed_byte_or_a_missing_file_is_found(published: Path, cli: Cli, name: str) -> None:
    data = (published / name).read_bytes()
    (published / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = cli("verify", published, "--json")
    assert done.code == 1 and "not the listed one" in done.err and name in done.err
    (published / name).unlink()
    assert cli("verify", published).code == 4


@pytest.mark.parametrize("name", ["base.huref.safetensors", "base.png", "base.badge.svg", "commitment", "base.proof"])
def test_files_of_another_model_with_a_list_to_match_are_found(
    published: Path, owner: Path, models: dict[str, Path], cli: Cli, tmp_path: Path, name: str
) -> None:
    (tmp_path / "base").symlink_to(models["stranger"], target_is_directory=True)
    other = api.publish(tmp_path / "other", tmp_path / "base", PublishOptions(owner / "other"))
    assert other.model == "base"
    shutil.copy(tmp_path / "other" / name, published / name)
    with_sums(published)
    assert cli("verify", published).code in (1, 4)


def test_a_card_with_another_root_is_found(published: Path, cli: Cli) -> None:
    card = (published / "CARD.md").read_text()
    root = api.verify(published / "commitment").root
    (published / "CARD.md").write_text(card.replace(root, "0" * 64))
    with_sums(published)
    done = cli("verify", published)
    assert done.code == 1 and "names something else" in done.err


def test_a_portrait_without_a_proof_is_held_against_its_fingerprint(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    from PIL import Image

    api.publish(tmp_path / "shown", models["base"])
    picture = tmp_path / "shown" / "base.png"
    with Image.open(picture) as image:
        image.convert("RGB").rotate(90).save(picture)
    with_sums(tmp_path / "shown")
    assert cli("verify", tmp_path / "shown").code == 1


def test_a_secret_in_a_published_folder_is_told(published: Path, owner: Path, cli: Cli) -> None:
    shutil.copy(find_opening(owner / "sealed"), published / "readme.txt")
    done = cli("verify", published)
    assert done.code == 1 and "holds a secret" in done.err


def test_links_in_a_folder_from_elsewhere_are_not_followed(published: Path, owner: Path, cli: Cli) -> None:
    """One to the root of the file system would have the verifier read all of it."""
    (published / "all").symlink_to("/", target_is_directory=True)
    (published / "one").symlink_to(find_opening(owner / "sealed"))
    assert cli("verify", published, "--json").document["unlisted"] == []
    moved = published / "base.png"
    moved.rename(published.parent / "blob")
    moved.symlink_to(published.parent / "blob")  # as caches of downloads have it
    assert cli("verify", published).code == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "x",
        f"{'0' * 64} base.png\n",
        f"{'0' * 63}g  base.png\n",
        f"{'0' * 64}  ../base.png\n",
        f"{'0' * 64}  /etc/hostname\n",
        f"{'0' * 64}  a\n{'1' * 64}  a\n",
        f"{'0' * 64}  ..\n",
        "\udcff",
    ],
)
def test_hostile_lists(published: Path, cli: Cli, text: str) -> None:
    (published / "SHA256SUMS").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert cli("verify", published).code == 4


def test_what_is_no_published_folder(cli: Cli, owner: Path, published: Path, tmp_path: Path) -> None:
    assert cli("verify", owner / "sealed").code == 4
    assert cli("verify", tmp_path).code == 4
    assert cli("verify", published, "--image", published / "base.png").code == 2
    (published / "x.txt").write_text("of the owner's own")
    found = cli("verify", published)
    assert found.code == 0 and "beside x.txt" in found.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(published: Path, cli: Cli, models: dict[str, Path]) -> None:
    published.chmod(0o500)
    assert cli("publish", published, "--model", models["base"]).code == 2
    published.chmod(0o700)


# Pictures


def test_the_card_is_one_document(published: Path) -> None:
    """Whatever the badge and the picture say of themselves is of the fingerprint beside them."""
    from huref.portraits.image.png import read_png_metadata
    from huref.portraits.image.svg import read_svg_metadata

    told: list[Any] = [
        json.loads(read(published / name)["huref:picture"])["fingerprints"]
        for read, name in ((read_png_metadata, "base.png"), (read_svg_metadata, "base.badge.svg"))
    ]
    assert told[0] == told[1] and told[0][0]["sha256"] in (published / "CARD.md").read_text()
