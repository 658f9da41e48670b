"""Owners with commitments."""

from __future__ import annotations

from pathlib import Path

import pytest

from huref import api
from huref.fingerprints.recipe import Recipe
from huref.proof.sketch.committer import CommitOptions


@pytest.fixture(scope="module")
def owner(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sealed` and `sealed.secret` of the base, `other` and `other.secret` of the stranger. Read-only."""
    home = tmp_path_factory.mktemp("owner")
    for name, model in (("sealed", "base"), ("other", "stranger")):
        api.commit(models[model], home / name, Recipe(layers="2", n_tokens=256), CommitOptions(jobs=1))
    return home
