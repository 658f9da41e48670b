"""Advice that helps: what is missing is named, and nobody is told to write YAML for a file that was left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from huref.errors import ArchitectureError
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from kit.hostile_files import assert_complete
from kit.tiny_llama import TinyLlama


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "put the model's config.json into"),
        ({"model_type": None, "architectures": None}, "add model_type to config.json"),
        ({"model_type": "unheard_of", "architectures": ["UnheardOf"]}, "--arch-file"),
    ],
)
def test_the_missing_file_is_named(config: dict[str, object] | None, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    TinyLlama().save(folder)
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(json.dumps({**TinyLlama().config, **config}))
    with open_checkpoint(folder) as checkpoint, pytest.raises(ArchitectureError) as caught:
        open_weights(checkpoint)
    assert_complete(caught.value)
    assert said in caught.value.next_step and ("--arch-file" in caught.value.next_step) == ("--arch" in said)
