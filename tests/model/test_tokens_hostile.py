"""Vocabulary files that lie, are broken or want too much: always a TokenizerError, exit code 4."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from huref.errors import TokenizerError
from huref.model.tokens import load_encoder, load_vocabulary
from huref.model.tokens.files import MAX_BYTES
from kit.tiny_tokenizers import byte_level_bpe, gguf_metadata, sentencepiece_bytes, stub

BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}


def refuse(folder: Path, metadata: dict[str, Any] | None = None) -> TokenizerError:
    with pytest.raises(TokenizerError) as caught:
        load_vocabulary(stub(folder, metadata)).frequency_order()
    assert caught.value.exit_code == 4
    return caught.value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"model": 3}',
        b'{"model": {"type": "Magic", "vocab": {}}}',
        b'{"model": {"type": ["BPE"], "vocab": {}}}',
        b'{"model": {"type": "BPE", "vocab": [1]}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 1, "b": 1}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": -1}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 1000000000}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 1e9}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": "0"}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": true}}}',
        b'{"model": {"type": "BPE", "vocab": {"\\ud800": 0}, "merges": []}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": {"a": 1}}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}}',
        b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b", 5]}}',
        b'{"model": {"type": "Unigram", "vocab": {"a": 0}}}',
        b'{"model": {"type": "Unigram", "vocab": [["a", "x"]]}}',
        b'{"model": {"type": "Unigram", "vocab": [["a", NaN]]}}',
        b'{"model": {"type": "Unigram", "vocab": [["a"]]}}',
        b'{"model": {"type": "Unigram", "vocab": [[["a"], 0.0]]}}',
        b'{"model": ' + b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_broken_tokenizer_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    refuse(tmp_path)


@pytest.mark.parametrize(
    "added",
    [
        [{"id": 10**9, "content": "x"}],
        [{"id": -1, "content": "x"}],
        [{"content": "x"}],
        [{"id": "7", "content": "x"}],
        [{"id": 7, "content": 5}],
        [{"id": 7, "content": "x"}, {"id": 7, "content": "y"}],
        [{"id": 7, "content": "\ud800"}],
        ["x"],
        {"x": 7},
    ],
)
def test_broken_added_tokens(tmp_path: Path, added: Any) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": BPE, "added_tokens": added}))
    refuse(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    ("model",),
    ("model", "type"),
    ("model", "vocab"),
    ("model", "merges"),
    ("model", "byte_fallback"),
    ("model", "continuing_subword_prefix"),
    ("model", "end_of_word_suffix"),
    ("added_tokens",),
    ("decoder",),
    ("decoder", "type"),
    ("decoder", "decoders"),
    ("decoder", "replacement"),
    ("pre_tokenizer",),
    ("normalizer",),
    ("normalizer", "pattern"),
]


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), JSON, st.sampled_from(["Metaspace", "Replace", "Sequence", "ByteLevel"]))
@example(("model", "merges"), [[[], []]], "ByteLevel")
@example(("model", "merges"), [[1, 2]], "ByteLevel")
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path, path: tuple[str, ...], value: Any, kind: str) -> None:
    document: dict[str, Any] = {
        "model": copy.deepcopy(BPE),
        "decoder": {"type": kind},
        "normalizer": {"type": kind, "pattern": {"String": " "}, "content": "\u2581"},
    }
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with contextlib.suppress(TokenizerError):
        load_vocabulary(stub(tmp_path)).frequency_order()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_sentencepiece_models(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(sentencepiece_bytes()[: data.draw(st.integers(0, 3000))])
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "tokenizer.model").write_bytes(bytes(content))
    with contextlib.suppress(TokenizerError):
        load_vocabulary(stub(tmp_path)).frequency_order()


@pytest.mark.parametrize(
    "content", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x7f", b"version https://git-lfs\n", b"\x80" * 99]
)
def test_broken_sentencepiece_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    refuse(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        b"!!!! 3",
        b"YQ== x",
        b"YQ==",
        b"YQ== 1 2",
        b"YQ== -1",
        b"YQ== 1000000000",
        b"YQ= 3",
        b"Yg== 7",
        b"YQ== 0",
        b"YQ== " + b"9" * 5000,
    ],
)
def test_broken_tiktoken_file(tmp_path: Path, line: bytes) -> None:
    start = base64.b64encode(b"a") + b" 0\n" + base64.b64encode(b"c") + b" 7\n"
    (tmp_path / "x.tiktoken").write_bytes(start + line + b"\n")
    error = refuse(tmp_path)
    assert "line 3" in str(error) or "id" in error.what


def test_two_tiktoken_files_are_ambiguous(tmp_path: Path) -> None:
    for name in ("a.tiktoken", "b.tiktoken"):
        (tmp_path / name).write_bytes(b"YQ== 0\n")
    assert "a.tiktoken, b.tiktoken" in str(refuse(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "magic"),
        ("model", 3),
        ("model", np.arange(3)),
        ("tokens", []),
        ("tokens", np.arange(3)),
        ("tokens", "abc"),
        ("tokens", 7),
        ("tokens", [1, 2]),
        ("token_type", [1]),
        ("token_type", 1),
        ("token_type", ["x"]),
        ("merges", [1]),
        ("merges", "a b"),
    ],
)
def test_broken_gguf_metadata(tmp_path: Path, key: str, value: Any) -> None:
    refuse(tmp_path, {**gguf_metadata(byte_level_bpe()), f"tokenizer.ggml.{key}": value})


@pytest.mark.parametrize("scores", [[0.0], [float("nan")] * 3, [[0.0]] * 3, ["x"] * 3, None])
def test_broken_gguf_scores(tmp_path: Path, scores: Any) -> None:
    tokens = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a", "b", "c"]}
    refuse(tmp_path, {**tokens, "tokenizer.ggml.scores": scores})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"config": {"default_vocab_size": 9, "default_num_special_tokens": -1}, "vocab": []},
        {"config": {"default_vocab_size": 9, "default_num_special_tokens": 10**9}, "vocab": []},
        {"config": {"default_vocab_size": "9", "default_num_special_tokens": 1}, "vocab": []},
        {"config": {"default_vocab_size": 9, "default_num_special_tokens": 1}, "vocab": [{"rank": 1}]},
        {
            "config": {"default_vocab_size": 9, "default_num_special_tokens": 1},
            "vocab": [{"rank": 0, "token_bytes": "!"}],
        },
        {"config": {"default_vocab_size": 9, "default_num_special_tokens": 1}, "vocab": ["x"]},
    ],
)
def test_broken_tekken(tmp_path: Path, document: Any) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(document))
    refuse(tmp_path)


def test_broken_side_files(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_bytes(b"\xff\n")
    refuse(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"a b c\nlonely\n")
    load_vocabulary(stub(tmp_path)).frequency_order()
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"x": {"content": "y"}}}')
    refuse(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "added_tokens.json").write_text('{"y": 5000000}')
    refuse(tmp_path)


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    error = refuse(tmp_path)
    for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken", "tekken.json", "GGUF"):
        assert name in error.expected
    with pytest.raises(TokenizerError):
        load_encoder(stub(tmp_path))


def test_sizes_are_capped_before_reading(tmp_path: Path) -> None:
    assert MAX_BYTES == 256 << 20
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(10 << 30)  # sparse: costs no disk, and would cost 10 GiB to read
    assert "too large" in refuse(tmp_path).what


def test_a_folder_named_like_a_tokenizer_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").mkdir()
    assert "no tokenizer" in refuse(tmp_path).what
