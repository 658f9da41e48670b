"""`huref verify PROOF` takes the commitment beside the proof or in the folder above, and says which."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from huref import api
from huref.fingerprints.recipe import Recipe
from huref.proof.sketch.committer import CommitOptions
from kit.command_line import Outcome
from kit.llamas import that_answers

Cli = Callable[..., Outcome]
RECIPE = Recipe(layers="2", n_tokens=256)


@pytest.fixture
def sealed(owner: Path, tmp_path: Path) -> Path:
    """A folder with a commitment and the proof of its fingerprint, to be spoilt."""
    folder = Path(shutil.copytree(owner / "sealed", tmp_path / "sealed"))
    api.prove_fingerprint(owner / "sealed", folder / "base.proof")
    return folder


def test_a_commitment_near_the_proof_is_found(
    sealed: Path, owner: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cli("verify", sealed / "base.proof")
    assert found.code == 0 and f"with   {sealed / 'commitment'}, found near the proof" in found.out
    (sealed / "deeper" / "still").mkdir(parents=True)
    for place, code in (("deeper", 0), ("deeper/still", 2)):
        shutil.copy(sealed / "base.proof", sealed / place)
        done = cli("verify", sealed / place / "base.proof", "--json")
        assert done.code == code
        assert code == 2 or done.document["commitment_file"] == str(sealed / "commitment")
    monkeypatch.chdir(sealed / "deeper")
    assert cli("verify", "base.proof").code == 0
    named = cli("verify", "base.proof", "--commitment", owner / "sealed")
    assert f"with   {owner / 'sealed' / 'commitment'}\n" in named.out


def test_the_commitment_of_another_does_not_do(sealed: Path, owner: Path, cli: Cli) -> None:
    shutil.copy(owner / "other" / "commitment", sealed)
    done = cli("verify", sealed / "base.proof")
    assert done.code == 1 and "about another commitment" in done.err


def test_opened_rows_find_it_too(sealed: Path, owner: Path, cli: Cli) -> None:
    api.prove_rows(owner / "sealed", sealed / "opened.rows", bytes(16), 5)
    done = cli("verify", sealed / "opened.rows", "--nonce", "00" * 16, "--json")
    assert done.code == 0 and done.document["kind"] == "rows"
    assert done.document["commitment_file"] == str(sealed / "commitment")


def test_so_do_answers(models: dict[str, Path], tmp_path: Path, cli: Cli) -> None:
    """Their commitment is another file, and the link beside it says whose portrait it is."""
    model, sealed = that_answers(models["base"], tmp_path / "base"), tmp_path / "sealed"
    api.commit(model, sealed, Recipe("canonical", layers="-1", n_tokens=256), CommitOptions(jobs=1), "inference")
    prove = ("prove", "inference", model, "--commitment", sealed, "--precision", "small", "--ids", "1,2")
    assert cli(*prove, "-o", sealed / "proofs" / "answer").code == 0
    done = cli("verify", sealed / "proofs" / "answer", "--json")
    assert done.code == 0 and done.document["commitment_file"] == str(sealed / "inference-commitment")
    assert done.document["fingerprint_root"] == api.verify(sealed / "commitment").root
