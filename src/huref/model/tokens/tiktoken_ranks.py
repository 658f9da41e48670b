"""The text of a tiktoken rank file: a token in base64, a space and its rank, a line each."""

from __future__ import annotations

import binascii

from huref.errors import TokenizerError


def parse_ranks(content: bytes, source: str) -> dict[bytes, int]:
    """Rank by token, in file order.

    Raises:
        TokenizerError: a line that is not base64 and a rank, or a token listed twice.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            if not rank.isdigit():
                raise ValueError("the rank is not a number")
            token = binascii.a2b_base64(encoded, strict_mode=True)
            if token in ranks:
                raise ValueError("the token is listed twice")
            ranks[token] = int(rank)
        except ValueError as error:
            raise TokenizerError(
                "a line of a tiktoken file is malformed",
                where=f"{source}, line {number}",
                expected="a token in base64, a space and its rank",
                got=f"{line[:60]!r}: {error}",
            ) from error
    return ranks
