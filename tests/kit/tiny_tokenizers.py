"""Tokenizers of every kind, trained in the test on a few hundred made-up lines, and a checkpoint to hang them on."""

from __future__ import annotations

import functools
import io
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from huref.model.source.checkpoint import Checkpoint

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_end|>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


@dataclass(frozen=True)
class StubCheckpoint:
    """All that the tokens stage asks of a checkpoint."""

    folder: Path
    metadata: Mapping[str, Any] = field(default_factory=dict)
    format: str = "safetensors"
    config: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None


def stub(folder: Path, metadata: Mapping[str, Any] | None = None) -> Checkpoint:
    return cast(Checkpoint, StubCheckpoint(folder, metadata or {}))


def corpus_lines(n: int = 400, seed: int = 0) -> list[str]:
    """Zipf-distributed made-up words, Latin and Cyrillic, with numbers and punctuation."""
    rng = random.Random(seed)
    syllables = ["ka", "ro", "mi", "the", "sta", "ing", "él", "üb", "na", "tion", "при", "вет", "мо", "х"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(500)]
    weights = [1 / (i + 1) for i in range(len(words))]
    lines = []
    for _ in range(n):
        line = " ".join(rng.choices(words, weights, k=rng.randint(3, 25)))
        lines.append(f"{line.capitalize()}, {rng.randint(0, 9999)}.\n")
    return lines


@functools.cache
def byte_level_bpe(size: int = 900) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus_lines(), trainer)
    return tokenizer


@functools.cache
def unigram(size: int = 700) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus_lines(), trainer)
    return tokenizer


@functools.cache
def wordpiece(size: int = 700) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[UNK]", "[PAD]"], show_progress=False)
    tokenizer.train_from_iterator(corpus_lines(), trainer)
    return tokenizer


@functools.cache
def sentencepiece_bytes(model_type: str = "bpe", size: int = 700) -> bytes:
    """A SentencePiece model file with byte fallback and no normalisation, as Llama's."""
    out = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus_lines()),
        model_writer=out,
        model_type=model_type,
        vocab_size=size,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["\u2581\u2581"],
        minloglevel=2,
        num_threads=1,
    )
    return out.getvalue()


def sentencepiece_processor(model_type: str = "bpe") -> Any:
    return SentencePieceProcessor(model_proto=sentencepiece_bytes(model_type))


@functools.cache
def converted_bpe() -> Tokenizer:
    """The same SentencePiece BPE as a `tokenizer.json`, merges recovered from scores, as converters do."""
    processor = sentencepiece_processor("bpe")
    pieces = [processor.id_to_piece(i) for i in range(len(processor))]
    ids = {piece: i for i, piece in enumerate(pieces)}
    is_word = [not (processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i)) for i in ids.values()]
    words = [i for i in ids.values() if is_word[i] and pieces[i] != "\u2581\u2581"]
    words.sort(key=lambda i: -processor.get_score(i))
    merges = []
    for i in words:
        splits = ((pieces[i][:cut], pieces[i][cut:]) for cut in range(1, len(pieces[i])))
        merges += sorted((p for p in splits if p[0] in ids and p[1] in ids), key=lambda p: (ids[p[0]], ids[p[1]]))
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def gguf_metadata(tokenizer: Tokenizer) -> dict[str, Any]:
    """What llama.cpp stores for a byte-level BPE: types 3 (control), 1 (normal)."""
    document = json.loads(tokenizer.to_str())
    vocab = document["model"]["vocab"]
    pieces = sorted(vocab, key=vocab.__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [3 if piece in SPECIAL else 1 for piece in pieces],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in document["model"]["merges"]],
    }


def gguf_sentencepiece() -> dict[str, Any]:
    """What llama.cpp stores for the SentencePiece BPE."""
    processor = sentencepiece_processor("bpe")
    ids = range(len(processor))
    kinds = []
    for i in ids:
        piece = processor.id_to_piece(i)
        kinds.append(
            2 if processor.is_unknown(i)
            else 3 if processor.is_control(i)
            else 6 if processor.is_byte(i)
            else 4 if piece == "\u2581\u2581"
            else 1
        )  # fmt: skip
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
    }
