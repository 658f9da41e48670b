"""Rankings: the official file format, and counting a corpus."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import MissingFileError, OutputError, TokenizerError
from huref.model.source.checkpoint import Checkpoint
from huref.model.tokens import (
    CountOptions,
    Vocabulary,
    count_tokens,
    load_vocabulary,
    rank_by_count,
    read_ranking,
    write_ranking,
)
from huref.model.tokens import corpus as corpus_module
from huref.model.tokens.corpus import is_latin_or_cyrillic, read_chunks, split_lines
from huref.model.tokens.encoders import EncoderSpec, infer_split, open_encoder
from kit.tiny_tokenizers import (
    byte_level_bpe,
    corpus_lines,
    gguf_metadata,
    gguf_sentencepiece,
    sentencepiece_bytes,
    sentencepiece_processor,
    stub,
    unigram,
)

IN_PROCESS = CountOptions(workers=1)
VOCABULARY = Vocabulary((b"<unk>", b"a", b"b", None, b"c", b"d"), frozenset({0}), "bpe", "test")


@given(ids=st.lists(st.integers(0, 99_999), unique=True, min_size=1, max_size=300))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_ranking_survives_its_file(tmp_path: Path, ids: list[int]) -> None:
    path = tmp_path / "ranking.txt"
    write_ranking(path, ids)
    assert path.read_text() == "".join(f"{i}\n" for i in ids)
    assert read_ranking(path, 100_000).ids.tolist() == ids


def test_windows_line_ends_and_a_missing_last_newline_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"5\r\n3\r\n1")
    assert read_ranking(tmp_path / "r.txt").ids.tolist() == [5, 3, 1]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", 1),
        (b"\n\n", 1),
        (b"1\n\n2\n", 2),
        (b"1\n2\nx\n", 3),
        (b"1\n-2\n", 2),
        (b"1\n2.0\n", 2),
        (b"1\n1_0\n", 2),
        (b"1\n+3\n", 2),
        ("1\n\u0663\n".encode(), 2),
        (b"1\n2\n1\n", 3),
        (b"1\n1000\n", 2),
        (b"1\n1000000000\n", 2),
        (b"9" * 5000, 1),
        (b"\xff\xfe1\n", 1),
        (b"\x00" * 100, 1),
    ],
)
def test_bad_ranking_files_name_the_line(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "r.txt").write_bytes(content)
    with pytest.raises(TokenizerError, match=f"line {line}\n") as caught:
        read_ranking(tmp_path / "r.txt", 1000)
    assert caught.value.exit_code == 4


def test_a_missing_or_huge_ranking_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError):
        read_ranking(tmp_path / "none.txt")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(TokenizerError, match="too large"):
        read_ranking(tmp_path / "huge.txt")


def test_nothing_is_left_behind_where_writing_fails(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError):
        write_ranking(tmp_path / "taken", [1, 2])
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_equal_counts_put_the_higher_id_first_and_unseen_tokens_last() -> None:
    counts = np.array([9, 2, 5, 0, 2])  # id 5 is past the end: it never occurred
    assert rank_by_count(counts, VOCABULARY).ids.tolist() == [2, 4, 1, 5]
    assert rank_by_count(counts, VOCABULARY, keep_unseen=False).ids.tolist() == [2, 4, 1]
    assert rank_by_count(np.zeros(99, dtype=np.int64), VOCABULARY).ids.tolist() == [1, 2, 4, 5]


def test_the_filter_keeps_latin_and_cyrillic_only() -> None:
    def official(text: str) -> bool:
        return all(ord(c) < 592 or 1024 <= ord(c) < 1279 for c in text)

    for code in (*range(0x800), 0x2013, 0x4E2D, 0x1F600, 0xFFFD):
        assert is_latin_or_cyrillic("a" + chr(code)) == official(chr(code)), hex(code)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.text("aé中 \n\r\u2028", max_size=80), size=st.integers(1, 30))
def test_chunks_never_split_a_line(tmp_path: Path, content: str, size: int) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes(content.encode())
    chunks = list(read_chunks([path, path], size))
    assert b"".join(chunks) == content.encode() * 2
    lines = [line for chunk in chunks for line in split_lines(chunk)[0]]
    expected = [line + "\n" for line in content.split("\n")[:-1]] + [t for t in content.split("\n")[-1:] if t]
    assert lines == expected * 2


def test_an_endless_line_is_cut_at_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "LONGEST_LINE", 64)
    path = tmp_path / "corpus.txt"
    text = "слово " * 500 + "\nlast " + "x" * 1000
    path.write_text(text, encoding="utf-8")
    chunks = list(read_chunks([path], 32))
    assert b"".join(chunks).decode() == text
    assert max(map(len, chunks)) < 300
    assert all(split_lines(chunk)[1] == 0 for chunk in chunks)


def write_corpus(folder: Path) -> list[Path]:
    """Two files; one line of each kind that is skipped; no newline at the end of the first."""
    first, second = folder / "a.txt", folder / "b.txt"
    first.write_text("".join(corpus_lines(60, seed=1)) + "中文\nlast line", encoding="utf-8")
    second.write_bytes("".join(corpus_lines(60, seed=2)).encode() + b"caf\xe9\n\n")
    return [first, second]


def counted_lines(paths: list[Path]) -> list[str]:
    lines = []
    for path in paths:
        for raw in path.read_bytes().splitlines(keepends=True):
            text = raw.decode("utf-8", "replace")
            if is_latin_or_cyrillic(text):
                lines.append(text)
    return lines


def place_json(folder: Path) -> tuple[Checkpoint, Callable[[str], list[int]]]:
    (folder / "tokenizer.json").write_text(unigram().to_str())
    return stub(folder), lambda text: unigram().encode(text, add_special_tokens=False).ids


def place_sentencepiece(folder: Path) -> tuple[Checkpoint, Callable[[str], list[int]]]:
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes())
    return stub(folder), sentencepiece_processor().encode


def place_gguf_llama(folder: Path) -> tuple[Checkpoint, Callable[[str], list[int]]]:
    return stub(folder, gguf_sentencepiece()), sentencepiece_processor().encode


def place_gguf_gpt2(folder: Path) -> tuple[Checkpoint, Callable[[str], list[int]]]:
    return stub(folder, gguf_metadata(byte_level_bpe())), _encode_gpt2


def place_gpt2_files(folder: Path) -> tuple[Checkpoint, Callable[[str], list[int]]]:
    (folder / "vocab.json").write_text(json.dumps(byte_level_bpe().get_vocab()))
    merges = gguf_metadata(byte_level_bpe())["tokenizer.ggml.merges"]
    (folder / "merges.txt").write_text("\n".join(merges))
    return stub(folder), _encode_gpt2


def _encode_gpt2(text: str) -> list[int]:
    return byte_level_bpe().encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    "place", [place_json, place_sentencepiece, place_gguf_llama, place_gguf_gpt2, place_gpt2_files]
)
def test_counting_equals_a_naive_count(tmp_path: Path, place: Callable[[Path], Any]) -> None:
    checkpoint, encode = place(tmp_path)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    paths = write_corpus(corpus)
    lines = counted_lines(paths)
    naive = Counter(i for line in lines for i in encode(line))
    found = count_tokens(checkpoint, paths, IN_PROCESS)
    assert {i: n for i, n in enumerate(found.counts.tolist()) if n} == dict(naive)
    assert (found.lines, found.skipped) == (len(lines), 2)
    special = load_vocabulary(checkpoint).special
    ranked = rank_by_count(found.counts, load_vocabulary(checkpoint), keep_unseen=False).ids.tolist()
    assert ranked == sorted(naive.keys() - special, key=lambda i: (naive[i], i), reverse=True)


def test_tiktoken_counts_cover_every_byte(tmp_path: Path) -> None:
    metadata = gguf_metadata(byte_level_bpe())
    vocabulary = load_vocabulary(stub(tmp_path, metadata))
    tokens = [vocabulary.tokens[i] for i in vocabulary.frequency_order()]
    lines = (base64.b64encode(t or b"") + b" %d\n" % rank for rank, t in enumerate(tokens))
    (tmp_path / "x.tiktoken").write_bytes(b"".join(lines))
    (tmp_path / "corpus.txt").write_text("".join(corpus_lines(50)))
    ranks = count_tokens(stub(tmp_path), [tmp_path / "corpus.txt"], IN_PROCESS).counts
    assert sum(n * len(tokens[i] or b"") for i, n in enumerate(ranks.tolist())) == (
        (tmp_path / "corpus.txt").stat().st_size
    )
    same = count_tokens(stub(tmp_path, metadata), [tmp_path / "corpus.txt"], IN_PROCESS).counts
    by_id = np.zeros(len(tokens), dtype=np.int64)
    by_id[: ranks.size] = ranks
    order = vocabulary.frequency_order()
    assert np.array_equal(by_id, np.pad(same, (0, len(vocabulary) - same.size))[order])


def test_the_filter_can_be_switched_off(tmp_path: Path) -> None:
    checkpoint, _ = place_gguf_llama(tmp_path)
    (tmp_path / "corpus.txt").write_text("中文 text\n", encoding="utf-8")
    options = CountOptions(only_latin_and_cyrillic=False, workers=1)
    assert count_tokens(checkpoint, [tmp_path / "corpus.txt"], options).lines == 1
    assert count_tokens(checkpoint, [tmp_path / "corpus.txt"], IN_PROCESS).counts.sum() == 0


def test_processes_count_the_same_and_report_progress(tmp_path: Path) -> None:
    checkpoint, _ = place_gguf_gpt2(tmp_path)
    path = tmp_path / "corpus.txt"
    path.write_text("".join(corpus_lines(2000)) * 8, encoding="utf-8")  # several chunks
    steps: list[tuple[int, int]] = []
    alone = count_tokens(checkpoint, [path], IN_PROCESS)
    together = count_tokens(checkpoint, [path], CountOptions(workers=2), lambda *step: steps.append(step))
    assert np.array_equal(alone.counts, together.counts)
    assert (alone.lines, alone.skipped) == (together.lines, together.skipped)
    size = path.stat().st_size
    assert len(steps) > 1
    assert steps == sorted(steps)
    assert steps[-1] == (size, size)


def test_what_cannot_be_counted_says_why(tmp_path: Path) -> None:
    checkpoint, _ = place_gguf_llama(tmp_path)
    with pytest.raises(MissingFileError, match=r"none\.txt"):
        count_tokens(checkpoint, [tmp_path / "none.txt"])
    with pytest.raises(MissingFileError):
        count_tokens(checkpoint, [tmp_path])
    bert = stub(tmp_path, {"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["\u2581a"]})
    with pytest.raises(TokenizerError, match="enough to tokenise"):
        count_tokens(bert, [])
    for library in ("tokenizers", "sentencepiece", "tiktoken"):
        with pytest.raises(TokenizerError):
            open_encoder(EncoderSpec(library, b"\xff not a model"))


def test_the_splitting_expression_follows_the_vocabulary() -> None:
    words = [b" word%d" % i for i in range(2000)]
    led = [b"(self", b".get", b"_name"] * 10
    assert "{1,3}" in infer_split([*words, *led, b"123"])
    assert "{1,1}" in infer_split([*words, *led])
    assert r" ?\p{N}+" in infer_split([*words, b"1999"])
    assert r" ?\p{N}+" not in infer_split(words)
