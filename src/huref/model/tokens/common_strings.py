"""The public list of token strings that most vocabularies of language models have, most widely shared first.

Made by lab/benchmarks/common_tokens.py from 24 vocabularies (docs/decisions/2026-11-29-common-tokens.md). A list that
is shipped never changes: another one gets another name.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from huref.model.tokens.spelling import spell_byte_level

_SHIPPED = Path(__file__).parent / "data" / "common-tokens-1.txt"


@cache
def common_strings() -> tuple[bytes, ...]:
    """The list's strings by rank, all different, spelled as a `Vocabulary` spells them.

    The file holds one string a line, each byte as the printable character that byte-level BPE writes for it
    (`spelling.byte_alphabet`), so no space or line break occurs in a string.
    """
    return tuple(spell_byte_level(_SHIPPED.read_text(encoding="utf-8").splitlines()))
