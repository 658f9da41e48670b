"""An opening that does not open every point is refused before anything is proved."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huref import api
from huref.errors import HurefError, UsageError
from huref.fingerprints.recipe import Recipe
from huref.proof.files.opening import find_opening
from huref.proof.sketch.opening_check import opens
from huref.proof.sketch.prover import prove_fingerprint
from kit import proofs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    proofs.write_folder(proofs.a(), proofs.commitment_a(), tmp_path / "sealed")
    return tmp_path / "sealed"


def test_an_honest_opening_proves(folder: Path) -> None:
    assert prove_fingerprint(folder).claim.root == proofs.commitment_a().root


def test_one_flipped_bit_of_seed_or_integers_is_noticed(folder: Path) -> None:
    data = bytearray(find_opening(folder).read_bytes())
    size = 2 * proofs.a().rows.size
    places = [data.index(proofs.a().seed), *(len(data) - 1 - random.Random(1).randrange(size) for _ in range(12))]
    for place in [*places, len(data) - 1, len(data) - size]:
        changed = data.copy()
        changed[place] ^= 1
        find_opening(folder).write_bytes(changed)
        with pytest.raises(HurefError, match="opening is of another commitment"):
            prove_fingerprint(folder)


def test_rows_exchanged_are_noticed() -> None:
    opening, points = proofs.a(), proofs.commitment_a().points
    assert opens(points, [opening.rows[:100], opening.rows[100:]], opening.blindings())
    rows = opening.rows.copy()
    rows[[3, 4]] = rows[[4, 3]]
    assert np.array_equal(rows.sum(axis=0), opening.rows.sum(axis=0))
    assert not opens(points, [rows], opening.blindings())


def test_layers_that_verifiers_do_not_read_are_refused_before_work(models: dict[str, Path], tmp_path: Path) -> None:
    for purpose in ("fingerprint", "inference"):
        with pytest.raises(UsageError, match="verifiers do not read"):
            api.commit(models["base"], tmp_path / "x", Recipe("canonical", layers="1, 2"), purpose=purpose)
    assert not find_opening(tmp_path / "x").exists()


def test_options_that_would_be_ignored_are_refused(cli: Callable[..., Any], folder: Path) -> None:
    assert cli("compare", "--private", folder, folder, "--expect", "derived").code == 2
    assert cli("compare", "--private", folder, folder, "--layers", "all").code == 2
    proof = ("prove", "fingerprint", "--commitment", folder, "-o", folder / "proof")
    assert cli(*proof, "--arch-file", folder / "x.yaml").code == 2
    assert cli(*proof).code == 0
