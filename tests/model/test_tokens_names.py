"""Tokenizer files of every name: the same tokens on the same rows, whatever the file is called."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from transformers import BertTokenizer

from huref.errors import CorruptFileError, TokenizerError
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.json_file import parse_object
from huref.model.tokens import load_vocabulary
from huref.model.tokens.encoders import open_encoder
from huref.model.tokens.loading import load_encoder
from kit.tiny_tokenizers import StubCheckpoint, sentencepiece_bytes, stub, wordpiece


def with_config(folder: Path, config: dict[str, Any]) -> Checkpoint:
    return cast(Checkpoint, replace(StubCheckpoint(folder), config=config))


@pytest.mark.parametrize("name", ["spm.model", "tokenizer.model.v3", "spiece.model"])
def test_sentencepiece_under_other_names(name: str, tmp_path: Path) -> None:
    for folder, file in (("a", "tokenizer.model"), ("b", name)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(sentencepiece_bytes())
    a, b = load_vocabulary(stub(tmp_path / "a")), load_vocabulary(stub(tmp_path / "b"))
    assert a.digest == b.digest and b.source == name
    assert (a.frequency_order() == b.frequency_order()).all()


@pytest.mark.parametrize(("model_type", "first"), [("xlm-roberta", 1), ("camembert", 4)])
def test_fairseq_puts_its_own_tokens_first(model_type: str, first: int, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_bytes())
    plain = load_vocabulary(stub(tmp_path))
    (tmp_path / "tokenizer.model").rename(tmp_path / "sentencepiece.bpe.model")
    found = load_vocabulary(with_config(tmp_path, {"model_type": model_type}))
    assert found.tokens[3 + first :] == plain.tokens[3:] and len(found) == len(plain) + first
    assert {0, 1, 2, 3} <= found.special
    order = plain.frequency_order()
    assert found.frequency_order().tolist() == [i + first for i in order if i >= 3]
    with pytest.raises(TokenizerError):
        load_encoder(stub(tmp_path))


@pytest.mark.parametrize("told", [None, 0, 7])
def test_chatglm_leaves_room_for_pictures(told: int | None, tmp_path: Path) -> None:
    (tmp_path / "ice_text.model").write_bytes(sentencepiece_bytes())
    if told is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": told}))
    found, n = load_vocabulary(stub(tmp_path)), 20_000 if told is None else told
    assert set(found.tokens[:n]) <= {None}
    (tmp_path / "ice_text.model").rename(tmp_path / "tokenizer.model")
    assert found.tokens[n:] == load_vocabulary(stub(tmp_path)).tokens
    assert min(found.frequency_order()) >= n


@pytest.mark.parametrize("told", [-1, 1 << 40, "many", True])
def test_an_impossible_number_of_pictures_is_refused(told: Any, tmp_path: Path) -> None:
    (tmp_path / "ice_text.model").write_bytes(sentencepiece_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": told}))
    with pytest.raises(TokenizerError):
        load_vocabulary(stub(tmp_path))


def test_vocab_txt_is_the_wordpiece_of_tokenizer_json(tmp_path: Path) -> None:
    tokenizer = wordpiece()
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "tokenizer.json").write_text(tokenizer.to_str())
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    a, b = load_vocabulary(stub(tmp_path / "json")), load_vocabulary(stub(tmp_path))
    assert b.source == "vocab.txt" and a.tokens == b.tokens
    ids = next(iter(open_encoder(load_encoder(stub(tmp_path)))(["the karo mi"])))
    oracle = BertTokenizer(str(tmp_path / "vocab.txt"))
    assert list(ids) == oracle("the karo mi", add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_a_vocab_txt_that_is_none_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(TokenizerError):
        load_vocabulary(stub(tmp_path))


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(TokenizerError, match="git lfs pull"):
        load_vocabulary(stub(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-bom"])
def test_json_as_editors_on_windows_write_it(encoding: str) -> None:
    text = '{"a": "ü"}'
    content = b"\xff\xfe" + text.encode("utf-16-le") if encoding.endswith("bom") else text.encode(encoding)
    assert parse_object(content, "x") == {"a": "ü"}
    if encoding != "utf-8":  # a weight file's header is written by programs
        with pytest.raises(CorruptFileError):
            parse_object(content, "x", allow_repeats=False)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(CorruptFileError):
        parse_object(b"\xff\xfe{", "x")


def test_half_of_a_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(TokenizerError, match=r"put merges.txt beside vocab.json"):
        load_vocabulary(stub(tmp_path))
