"""What names a model elsewhere, and what is a path: told without asking anyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from huref.errors import UsageError
from huref.model.name import distinct_names, model_name
from huref.model.source.place import split_reference
from huref.model.source.remote.naming import RemoteName, remote_name

HUB = {
    "org/name": ("org/name", "", ""),
    "org/name@v1": ("org/name", "v1", ""),
    "org/name@refs/pr/3": ("org/name", "refs/pr/3", ""),
    "org/name@main": ("org/name", "", ""),
    "org/name:model.gguf": ("org/name", "", "model.gguf"),
    "org/name@v1:sub/model.gguf": ("org/name", "v1", "sub/model.gguf"),
    "org/Name-7B.v2_x:Q4_K_M": ("org/Name-7B.v2_x", "", "Q4_K_M"),
    "hf://org/name": ("org/name", "", ""),
    "hf://models/org/name": ("org/name", "", ""),
    "hf://gpt2": ("gpt2", "", ""),
    "hf://org/name@v1/sub/model.safetensors": ("org/name", "v1", "sub/model.safetensors"),
    "https://huggingface.co/org/name": ("org/name", "", ""),
    "https://huggingface.co/org/name/": ("org/name", "", ""),
    "https://hf.co/org/name/tree/v1": ("org/name", "v1", ""),
    "https://huggingface.co/org/name/blob/main/model.gguf?x=1": ("org/name", "", "model.gguf"),
    "https://huggingface.co/org/name/resolve/refs%2Fpr%2F1/a%20b.gguf": ("org/name", "refs/pr/1", "a b.gguf"),
}
PATHS = (
    "name",
    "./org/name",
    "../name",
    "/org/name",
    "~/x/y",
    "a/b/c",
    "org/model.safetensors",
    "org/model.gguf",
    "C:\\x\\y",
    "",
)


@pytest.mark.parametrize("text", HUB)
def test_names_on_a_hub(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = remote_name(text)
    assert found is not None
    assert (found.kind, found.repository, found.revision, found.file) == ("hub", *HUB[text])


@pytest.mark.parametrize("text", PATHS)
def test_paths_are_paths(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert remote_name(text) is None
    assert remote_name(Path("org/name")) is None  # a Path is one


def test_what_is_here_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert remote_name("org/name") is not None
    Path("org").mkdir()
    assert remote_name("org/name") is None  # a slip in a path of this machine
    assert remote_name("org/name:Q4_0") is not None
    Path("org/name").mkdir()
    assert remote_name("org/name") is None
    assert remote_name("hf://org/name") is not None


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("http://localhost:8000/models/x/", "web", "http://localhost:8000/models/x/"),
        ("https://example.org/x/model.gguf?sig=1", "web", "https://example.org/x/model.gguf?sig=1"),
        ("https://huggingface.co/datasets/org/name", "web", "https://huggingface.co/datasets/org/name"),
        ("s3://bucket/some/model", "bucket", "s3://bucket/some/model"),
        ("gs://bucket/x", "bucket", "gs://bucket/x"),
        ("az://container/x", "bucket", "az://container/x"),
    ],
)
def test_addresses(text, kind, place):
    found = remote_name(text)
    assert found is not None
    assert (found.kind, found.repository) == (kind, place)


def test_a_mirror_of_the_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    found = remote_name("https://mirror.example/org/name/tree/v2")
    assert found == RemoteName("hub", "", "org/name", "v2")


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/x",
        "hf://",
        "hf://datasets/org/name",
        "hf://org/name/../../x",
        "https://user:secret@host/x",
        "http://",
        "https://[::1/x",
        "file:///etc/passwd",
        "org/name:../../x",
    ],
)
def test_what_names_nothing_is_refused(text):
    with pytest.raises(UsageError) as caught:
        remote_name(text)
    assert "secret" not in str(caught.value)
    assert caught.value.expected


def test_an_address_of_ipv6_is_no_adapter_on_a_base():
    assert split_reference("http://[::1]:8000/model") == ("http://[::1]:8000/model", None)
    assert split_reference("org/adapter::org/base") == ("org/adapter", "org/base")
    assert split_reference("hf://org/adapter::hf://org/base") == ("hf://org/adapter", "hf://org/base")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", "name"),
        ("org/name@v1", "name@v1"),
        ("org/name@refs/pr/3", "name@refs-pr-3"),
        (f"hf://org/name@{'a' * 40}", "name@aaaaaaaaaaaa"),
        ("org/name:Q4_K_M", "name-Q4_K_M"),
        ("org/name:sub/name-Q4_K_M.gguf", "name-Q4_K_M"),
        ("https://example.org/models/x/", "x"),
        ("https://example.org/models/x.gguf?sig=a", "x"),
        ("s3://bucket/models/x", "x"),
        ("https://example.org/", "example.org"),
    ],
)
def test_names_are_fit_for_files(text, name):
    assert model_name(text) == name


def test_names_beside_each_other():
    assert distinct_names(["one/model", "two/model", "one/other"]) == ("one/model", "two/model", "other")
