"""Turning text into token ids, for counting a corpus. Not needed for a fingerprint.

An `EncoderSpec` is plain data, so that it can be sent to worker processes; `open_encoder` turns it into a
function there. The libraries are imported only then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from huref.errors import HurefError, TokenizerError
from huref.model.tokens.spelling import spell_byte_level
from huref.model.tokens.tiktoken_ranks import parse_ranks

Encode = Callable[[list[str]], Iterable[Sequence[int]]]
"""Token ids of each text, without any special tokens added."""

# How text is cut before BPE. GPT-2's published expression, and the later one (cl100k, Llama-3, Qwen) that
# also lets one punctuation mark lead a word and keeps newlines apart; DIGITS is how many digits stay together.
_GPT2_SPLIT = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K_SPLIT = (
    r"(?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PUNCTUATION_AND_WORD = re.compile(rb"[!-&(-/:-@\[-`{-~][A-Za-z]{2,}")
_DIGITS = re.compile(rb" ?[0-9]{2,}")


@dataclass(frozen=True)
class EncoderSpec:
    """What is needed to tokenise text, as data.

    Attributes:
        library: which library does it.
        content: its model: a `tokenizer.json`, a SentencePiece model, or tiktoken rank lines.
        offset: added to tiktoken's ranks.
    """

    library: Literal["tokenizers", "sentencepiece", "tiktoken"]
    content: bytes
    offset: int = 0


def open_encoder(spec: EncoderSpec) -> Encode:
    """The function that tokenises.

    Raises:
        TokenizerError: the library refuses the model.
    """
    opener = {"tokenizers": _open_tokenizers, "sentencepiece": _open_sentencepiece, "tiktoken": _open_tiktoken}
    try:
        return opener[spec.library](spec)
    except HurefError:
        raise
    except Exception as error:  # the libraries raise bare Exception and RuntimeError
        raise TokenizerError(
            "the tokenizer cannot be opened", where=f"the {spec.library} library", got=str(error)[:300]
        ) from error


def byte_level_spec(ids: Mapping[str, int], merges: Sequence[str]) -> EncoderSpec:
    """A byte-level BPE given by its vocabulary and merges, as a `tokenizer.json`."""
    split = {"type": "Split", "pattern": {"Regex": infer_split(spell_byte_level(list(ids)))}}
    document = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {**split, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "model": {"type": "BPE", "vocab": dict(ids), "merges": [merge.split(" ", 1) for merge in merges]},
    }
    return EncoderSpec("tokenizers", json.dumps(document).encode())


def infer_split(spellings: Iterable[bytes]) -> str:
    """The splitting expression that a byte-level vocabulary was made with, judged by its own tokens.

    Rank files and GGUF metadata do not carry the expression. A vocabulary with tokens such as `(self` was
    made with the later one; one without numbers of several digits was made digit by digit.
    """
    tokens = list(spellings)
    n_led = sum(1 for token in tokens if _PUNCTUATION_AND_WORD.fullmatch(token))
    longest = max((len(t.strip()) for t in tokens if _DIGITS.fullmatch(t)), default=1)
    if n_led > len(tokens) // 1000:
        return _CL100K_SPLIT.replace("DIGITS", str(min(longest, 3)))
    return _GPT2_SPLIT if longest > 1 else r"\p{N}|" + _GPT2_SPLIT.replace(r"| ?\p{N}+", "")


def _open_tokenizers(spec: EncoderSpec) -> Encode:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(spec.content.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: list[str]) -> Iterable[Sequence[int]]:
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return (encoding.ids for encoding in encodings)

    return encode


def _open_sentencepiece(spec: EncoderSpec) -> Encode:
    from sentencepiece import SentencePieceProcessor

    processor: Any = SentencePieceProcessor(model_proto=spec.content)

    def encode(texts: list[str]) -> Iterable[Sequence[int]]:
        found: list[list[int]] = processor.encode(texts, out_type=int, num_threads=1)
        return found

    return encode


def _open_tiktoken(spec: EncoderSpec) -> Encode:
    import tiktoken

    ranks = {token: rank - spec.offset for token, rank in parse_ranks(spec.content, "tiktoken ranks").items()}
    encoding = tiktoken.Encoding(
        "huref", pat_str=infer_split(ranks), mergeable_ranks=ranks, special_tokens={}, explicit_n_vocab=None
    )

    def encode(texts: list[str]) -> Iterable[Sequence[int]]:
        for text in texts:
            yield [rank + spec.offset for rank in encoding.encode_ordinary(text)]

    return encode
