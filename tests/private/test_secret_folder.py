"""The opening lies apart from what is public, where every command finds it; old folders keep working."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from huref.fingerprints.recipe import Recipe
from huref.proof.files.opening import find_opening
from kit.command_line import Outcome

Cli = Callable[..., Outcome]
RECIPE = Recipe(layers="2", n_tokens=256)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_chosen_folder_for_the_secret(cli: Cli, models: dict[str, Path], owner: Path, tmp_path: Path) -> None:
    sealed, vault = tmp_path / "sealed", tmp_path / "vault"
    commit = ("commit", models["base"], "-o", sealed, "--layers", "2", "--n-tokens", "256", "--jobs", "1")
    for within in (sealed, sealed / "deep"):
        refused = cli(*commit, "--secret", within)
        assert refused.code == 2 and "within what is public" in refused.err
    done = cli(*commit, "--secret", vault, "--json")
    assert done.code == 0 and Path(done.document["opening_file"]) == vault / "opening"
    assert names(sealed) == {"commitment"} and not (tmp_path / "sealed.secret").exists()
    assert vault.stat().st_mode & 0o777 == 0o700
    prove = ("prove", "fingerprint", "--commitment", sealed, "-o", tmp_path / "x")
    missing = cli(*prove)
    assert missing.code == 4 and "--secret" in missing.err
    assert cli(*prove, "--secret", vault).code == 0
    compare = ("compare", "--private", sealed, owner / "other", "--json")
    waiting = cli(*compare, "--secret", vault).document
    assert str(next(sealed.glob("compare-*.proof"))) in waiting["made"]
    assert cli("compare", models["base"], models["copy"], "--secret", vault).code == 2


def test_old_folders_keep_working(
    cli: Cli, models: dict[str, Path], owner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening beside the commitment: proofs, comparisons, and an interrupted run that goes on."""
    old = Path(shutil.copytree(owner / "sealed", tmp_path / "old"))
    shutil.copy(find_opening(owner / "sealed"), old)
    assert cli("prove", "fingerprint", "--commitment", old, "-o", tmp_path / "x").code == 0
    theirs = Path(shutil.copytree(owner / "other", tmp_path / "theirs"))
    assert len(cli("compare", "--private", old, theirs, "--json").document["made"]) == 1
    interrupted = tmp_path / "interrupted"
    interrupted.mkdir()
    shutil.copy(find_opening(owner / "sealed"), interrupted)
    commit = ("commit", models["base"], "-o", interrupted, "--layers", "2", "--n-tokens", "256", "--jobs", "1")
    done = cli(*commit)
    assert done.code == 0 and "move it to" in done.out
    assert names(interrupted) == {"commitment", "opening"} and not (tmp_path / "interrupted.secret").exists()
    assert (interrupted / "commitment").read_bytes()[:8] == b"HUREFCM1"


def test_the_secret_of_the_folder_one_stands_in(
    cli: Cli, owner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sealed", "sealed.secret"):
        shutil.copytree(owner / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "sealed")
    assert cli("prove", "fingerprint", "--commitment", ".", "-o", "x.proof").code == 0
    (tmp_path / "link").symlink_to(tmp_path / "sealed", target_is_directory=True)
    assert cli("prove", "fingerprint", "--commitment", tmp_path / "link", "-o", "y.proof").code == 0


@pytest.mark.parametrize("name", ["opening", "commitment"])
def test_a_proof_replaces_neither_secret_nor_commitment(cli: Cli, owner: Path, tmp_path: Path, name: str) -> None:
    sealed = Path(shutil.copytree(owner / "sealed", tmp_path / "sealed"))
    secret = Path(shutil.copytree(owner / "sealed.secret", tmp_path / "sealed.secret"))
    target = (secret if name == "opening" else sealed) / name
    before = target.read_bytes()
    done = cli("prove", "fingerprint", "--commitment", sealed, "-o", target)
    assert done.code == 2 and "in the way" in done.err and target.read_bytes() == before
