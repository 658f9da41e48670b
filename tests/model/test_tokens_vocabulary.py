"""Vocabularies: every format spells the same token the same way, and orders it the same way."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from huref.model.tokens import Vocabulary, load_vocabulary
from huref.model.tokens.sentencepiece_proto import parse_model
from huref.model.tokens.special import is_special
from huref.model.tokens.spelling import byte_alphabet
from kit.tiny_tokenizers import (
    byte_level_bpe,
    converted_bpe,
    corpus_lines,
    gguf_metadata,
    gguf_sentencepiece,
    sentencepiece_bytes,
    sentencepiece_processor,
    stub,
    unigram,
    wordpiece,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581"), max_size=40)


def from_tokenizer(tokenizer: Tokenizer, folder: Path) -> Vocabulary:
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    return load_vocabulary(stub(folder))


def from_sentencepiece(folder: Path, model_type: str = "bpe") -> Vocabulary:
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes(model_type))
    return load_vocabulary(stub(folder))


def joined(vocabulary: Vocabulary, ids: list[int]) -> bytes:
    return b"".join(vocabulary.tokens[i] or b"?" for i in ids)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return from_tokenizer(byte_level_bpe(), tmp_path_factory.mktemp("byte-level"))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return from_sentencepiece(tmp_path_factory.mktemp("pieces"))


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_byte_level_spellings_join_to_the_text(byte_level: Vocabulary, text: str) -> None:
    ids = byte_level_bpe().encode(text, add_special_tokens=False).ids
    if not byte_level.special & set(ids):  # the text may spell out `<s>`
        assert joined(byte_level, ids) == text.encode()


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_sentencepiece_spellings_join_to_the_text_after_one_space(pieces: Vocabulary, text: str) -> None:
    ids = sentencepiece_processor().encode(text.replace("\0", ""))
    expected = text.replace("\0", "").encode()
    assert joined(pieces, ids) == (b" " + expected if expected else b"")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([w for line in corpus_lines(30) for w in line.split()]), max_size=8))
def test_unigram_spellings_join_to_the_text_after_one_space(folder: Path, words: list[str]) -> None:
    vocabulary = from_tokenizer(unigram(), folder)
    text = " ".join(words)
    assert joined(vocabulary, unigram().encode(text).ids) == (b" " + text.encode() if text else b"")


def test_kinds_of_tokenizer_agree_on_what_a_piece_says(byte_level: Vocabulary, pieces: Vocabulary) -> None:
    words = {" " + w for line in corpus_lines() for w in line.lower().split() if w.isalpha()}
    by_byte_level, by_pieces = byte_level_bpe().get_vocab(), sentencepiece_processor()
    visible = dict(zip(range(256), byte_alphabet(), strict=True))
    shared = 0
    for word in words:
        gpt2 = by_byte_level.get("".join(visible[b] for b in word.encode()))
        piece = by_pieces.piece_to_id(word.replace(" ", "\u2581"))
        if gpt2 is not None and piece != by_pieces.unk_id():
            assert byte_level.tokens[gpt2] == pieces.tokens[piece] == word.encode()
            shared += 1
    assert shared > 50


def test_wordpiece_words_begin_with_a_space(tmp_path: Path) -> None:
    vocabulary = from_tokenizer(wordpiece(), tmp_path)
    for piece, i in wordpiece().get_vocab().items():
        expected = piece[2:] if piece.startswith("##") else " " + piece
        assert i in vocabulary.special or vocabulary.tokens[i] == expected.encode()
    assert vocabulary.kind == "wordpiece"


def test_special_tokens_are_found(byte_level: Vocabulary, pieces: Vocabulary) -> None:
    assert byte_level.special == {0, 1, 2, 3}
    assert pieces.special == {0, 1, 2}
    assert byte_level.tokens[3] == b"<|im_end|>"


@pytest.mark.parametrize(
    "piece", ["<s>", "</s>", "<unk>", "<|im_end|>", "[PAD151936]", "<unused12>", "<reserved_7>", "<｜end▁of｜>"]
)
def test_control_notation_is_special(piece: str) -> None:
    assert is_special(piece)


@pytest.mark.parametrize("piece", ["<", "<|", "<div>", "[0]", "<0x0A>", "", "the", "[", "<table>", "|>"])
def test_ordinary_notation_is_not_special(piece: str) -> None:
    assert not is_special(piece)


def test_byte_level_formats_agree(byte_level: Vocabulary, tmp_path: Path) -> None:
    metadata = gguf_metadata(byte_level_bpe())
    (tmp_path / "vocab.json").write_text(json.dumps(byte_level_bpe().get_vocab()))
    merges = "#version: 0.2\n" + "\n".join(metadata["tokenizer.ggml.merges"]) + "\n"
    (tmp_path / "merges.txt").write_text(merges)
    for other in (load_vocabulary(stub(tmp_path)), load_vocabulary(stub(tmp_path, metadata))):
        assert other.digest == byte_level.digest
        assert np.array_equal(other.frequency_order(), byte_level.frequency_order())


def test_sentencepiece_formats_agree(pieces: Vocabulary, tmp_path: Path) -> None:
    from_gguf = load_vocabulary(stub(tmp_path, gguf_sentencepiece()))
    converted = from_tokenizer(converted_bpe(), tmp_path)
    assert pieces.digest == from_gguf.digest == converted.digest
    assert np.array_equal(pieces.frequency_order(), from_gguf.frequency_order())
    # A user-defined token has neither score nor merge; the formats place it near the end, not equally.
    orders = [v.frequency_order().tolist() for v in (pieces, converted)]
    user = pieces.tokens.index(b"  ")
    assert [i for i in orders[0] if i != user] == [i for i in orders[1] if i != user]


def test_parser_agrees_with_the_sentencepiece_library() -> None:
    for model_type in ("bpe", "unigram"):
        model, processor = parse_model(sentencepiece_bytes(model_type), "m"), sentencepiece_processor(model_type)
        ids = range(len(processor))
        assert list(model.pieces) == [processor.id_to_piece(i) for i in ids]
        assert list(model.scores) == [processor.get_score(i) for i in ids]
        assert [t == 3 for t in model.types] == [processor.is_control(i) for i in ids]
        assert [t == 6 for t in model.types] == [processor.is_byte(i) for i in ids]
        assert model.model_type == {"unigram": 1, "bpe": 2}[model_type]


def test_bpe_order_is_alphabet_then_merges(byte_level: Vocabulary) -> None:
    document = json.loads(byte_level_bpe().to_str())
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    expected = sorted(vocab[c] for c in byte_alphabet())
    for left, right in merges:
        if vocab[left + right] not in expected:
            expected.append(vocab[left + right])
    assert byte_level.frequency_order().tolist() == expected


def test_unigram_order_is_score_with_bytes_last(tmp_path: Path) -> None:
    vocabulary = from_sentencepiece(tmp_path, "unigram")
    processor = sentencepiece_processor("unigram")
    order = vocabulary.frequency_order().tolist()
    n_last = 257  # the bytes and the user-defined token
    scores = [processor.get_score(i) for i in order[:-n_last]]
    assert scores == sorted(scores, reverse=True)
    assert sum(processor.is_byte(i) for i in order[-n_last:]) == 256
    assert vocabulary.kind == "unigram"


def test_tiktoken_files_under_either_name(byte_level: Vocabulary, tmp_path: Path) -> None:
    tokens = [t for i, t in enumerate(byte_level.tokens) if i not in byte_level.special and t is not None]
    lines = b"".join(base64.b64encode(t) + b" %d\n" % rank for rank, t in enumerate(tokens))
    config = {"added_tokens_decoder": {str(len(tokens) + 2): {"content": "<|eot|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    for name in ("tokenizer.model", "qwen.tiktoken"):
        (tmp_path / name).write_bytes(lines)
        vocabulary = load_vocabulary(stub(tmp_path))
        (tmp_path / name).unlink()
        assert vocabulary.tokens == (*tokens, None, None, b"<|eot|>")
        assert vocabulary.special == {len(tokens) + 2}
        assert vocabulary.frequency_order().tolist() == list(range(len(tokens)))
        assert vocabulary.source == name


def test_tekken_puts_special_tokens_first(tmp_path: Path) -> None:
    entries = [{"rank": i, "token_bytes": base64.b64encode(bytes([i])).decode()} for i in range(256)]
    document = {
        "config": {"default_vocab_size": 300, "default_num_special_tokens": 50},
        "special_tokens": [{"rank": 1, "token_str": "<s>"}],
        "vocab": entries,
    }
    (tmp_path / "tekken.json").write_text(json.dumps(document))
    vocabulary = load_vocabulary(stub(tmp_path))
    assert len(vocabulary) == 300
    assert vocabulary.tokens[1] == b"<s>"
    assert vocabulary.tokens[50 + 65] == b"A"
    assert vocabulary.special == set(range(50))


def test_added_tokens_are_raw_text(tmp_path: Path) -> None:
    document = json.loads(byte_level_bpe().to_str())
    n = len(document["model"]["vocab"])
    extra = [(n, "    ", False), (n + 3, "<|extra|>", False), (n + 4, "été", False), (5, "renamed", True)]
    document["added_tokens"] += [{"id": i, "content": c, "special": s} for i, c, s in extra]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    vocabulary = load_vocabulary(stub(tmp_path))
    assert vocabulary.tokens[n:] == (b"    ", None, None, b"<|extra|>", "été".encode())
    assert vocabulary.tokens[5] == b"renamed"
    assert {5, n + 3} <= vocabulary.special
    assert n not in vocabulary.special


def test_end_of_word_suffix_is_a_space(tmp_path: Path) -> None:
    model = {"type": "BPE", "vocab": {"t": 0, "e</w>": 1, "te</w>": 2}, "merges": ["t e</w>"]}
    document = {"model": {**model, "end_of_word_suffix": "</w>"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    assert load_vocabulary(stub(tmp_path)).tokens == (b"t", b"e ", b"te ")


def test_digest_tells_vocabularies_apart() -> None:
    def make(*tokens: bytes | None, special: frozenset[int] = frozenset()) -> str:
        return Vocabulary(tokens, special, "bpe", "test").digest

    digests = [
        make(b"ab", b"c"),
        make(b"a", b"bc"),
        make(b"c", b"ab"),
        make(b"ab", b"c", None),
        make(b"ab", b"c", b""),
        make(b"ab", b"c", special=frozenset({1})),
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == make(b"ab", b"c")
    assert digests[0] == "828ee4b87f44589bff58d1c5d46e3a7d1ddfd6fb5e0238efe338b7cc62228804"
