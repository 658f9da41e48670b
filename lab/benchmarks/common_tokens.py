"""The public list of token strings that most vocabularies have: how it is made, and what choosing by it gains.

    .venv/bin/python lab/benchmarks/common_tokens.py NAME=FILE ... [--held-out NAME=FILE ...] [--out LIST]

FILE is a tokenizer in any format that huref reads: `.gguf` (one without weights will do), `.json` (tokenizer.json;
Tekken if its name says so), `.tiktoken`, or any other for a SentencePiece model or a rank file. Every vocabulary has
one vote; two of one family (nine tenths of their union shared) are refused. The list: strings that more than half of
them have, by votes, then by the hash of `sampled`, 16,384 at most. The order of the arguments does not matter.

Printed: strings by votes; for K tokens, the share |A and B| / |A or B| of what two vocabularies choose, mean and
lowest over all pairs, by hash alone (`sampled`), by the list (`common`), and by the list that is made without the two
(`unseen`). A vocabulary held out has no vote, and is compared with each that has one.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from huref.model.source import Checkpoint
from huref.model.source.byte_source import LocalFile
from huref.model.source.gguf_header import parse_header
from huref.model.tokens import Vocabulary, load_vocabulary, sampled
from huref.model.tokens.spelling import byte_alphabet

MOST = 16384
SIZES = (4096, 8192, 16384)
ONE_FAMILY = 0.9

Strings = dict[bytes, None]
"""A vocabulary's ordinary strings by the hash of `sampled`: an ordered set."""


def read(path: Path) -> Strings:
    """The strings of one file."""
    with tempfile.TemporaryDirectory() as folder:
        metadata: Mapping[str, Any] = {}
        if path.suffix == ".gguf":
            source = LocalFile(path)
            metadata = parse_header(source).metadata
            source.close()
        else:
            (Path(folder) / _usual_name(path)).symlink_to(path.resolve())
        # A checkpoint needs weights; a vocabulary needs its folder and metadata only.
        found = load_vocabulary(cast(Checkpoint, SimpleNamespace(folder=Path(folder), metadata=metadata)))
    return dict.fromkeys(sampled(found, len(found)).strings)


def _usual_name(path: Path) -> str:
    """The name under which readers look for a file of this kind."""
    if path.suffix == ".tiktoken":
        return path.name
    if path.suffix == ".json":
        return "tekken.json" if "tekken" in path.name else "tokenizer.json"
    return "tokenizer.model"


def require_families(vocabularies: Mapping[str, Strings]) -> None:
    """Refuse two votes of one family."""
    for (a, left), (b, right) in itertools.combinations(vocabularies.items(), 2):
        if likeness(left, right) >= ONE_FAMILY:
            sys.exit(f"{a} and {b} are one family: give one of them")


def likeness(a: Iterable[bytes], b: Iterable[bytes]) -> float:
    """|A and B| / |A or B|."""
    left, right = set(a), set(b)
    n_shared = len(left & right)
    return n_shared / (len(left) + len(right) - n_shared)


class Votes:
    """Who has which string; lists of what most have, of all vocabularies or of all but some."""

    def __init__(self, vocabularies: Mapping[str, Strings]) -> None:
        counts = Counter(itertools.chain.from_iterable(vocabularies.values()))
        self.names = tuple(vocabularies)
        self.counts = np.array(list(counts.values()))
        # A string in most of all but two has at least so many votes.
        fewest = (len(self.names) - 2) // 2 + 1
        union = Vocabulary(tuple(s for s, n in counts.items() if n >= fewest), frozenset(), "wordlevel", "union")
        self.strings = sampled(union, len(union)).strings
        has = {name: set(strings) for name, strings in vocabularies.items()}
        self.has = np.array(
            [[s in has[name] for s in self.strings] for name in self.names]
        )  # (vocabularies, strings)

    def ranked(self, without: Sequence[str] = ()) -> list[bytes]:
        """Strings that more than half have, most votes first, then by hash; MOST at most."""
        voting = [name not in without for name in self.names]
        votes = self.has[voting].sum(axis=0)
        order = np.argsort(-votes, kind="stable")
        return [self.strings[i] for i in order[votes[order] > sum(voting) / 2][:MOST]]


def choose(own: Strings, listed: Sequence[bytes], k: int) -> set[bytes]:
    """What `common` chooses by this list; without a list, what `sampled` does."""
    chosen = dict.fromkeys(itertools.islice((s for s in listed if s in own), k))
    rest = (s for s in own if s not in chosen)
    return {*chosen, *itertools.islice(rest, k - len(chosen))}


def summary(found: Mapping[tuple[str, str], float]) -> str:
    """Mean and lowest, in percent, with the pair that is lowest."""
    lowest = min(found, key=found.__getitem__)
    mean = sum(found.values()) / len(found)
    return f"{100 * mean:.1f} | {100 * found[lowest]:.1f} ({' and '.join(lowest)})"


def measure(vocabularies: Mapping[str, Strings], votes: Votes, listed: Sequence[bytes]) -> Iterator[str]:
    """The table's rows."""
    pairs = list(itertools.combinations(vocabularies, 2))
    unseen = {pair: votes.ranked(without=pair) for pair in pairs}
    for k in SIZES:
        for way, lists in (("sampled", {}), ("common", dict.fromkeys(pairs, listed)), ("unseen", unseen)):
            found = {}
            for pair in pairs:
                a, b = (choose(vocabularies[name], lists.get(pair, ()), k) for name in pair)
                found[pair] = likeness(a, b)
            yield f"| {k} | {way} | {summary(found)} |"


def measure_held_out(
    held_out: Mapping[str, Strings], vocabularies: Mapping[str, Strings], listed: Sequence[bytes]
) -> Iterator[str]:
    """The rows of the vocabularies without a vote."""
    for name, strings in held_out.items():
        n_listed = len(strings.keys() & listed)
        for k, (way, used) in itertools.product(SIZES, (("sampled", ()), ("common", listed))):
            mine = choose(strings, used, k)
            found = {(name, other): likeness(mine, choose(theirs, used, k)) for other, theirs in vocabularies.items()}
            yield f"| {name} ({n_listed} of the list) | {k} | {way} | {summary(found)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--held-out", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, help="Where to write the list.")
    options = parser.parse_args()
    named = sorted(text.split("=", 1) for text in options.files)
    vocabularies = {name: read(Path(file)) for name, file in named}
    held_out = {name: read(Path(file)) for name, file in (text.split("=", 1) for text in options.held_out)}
    require_families(vocabularies)
    votes = Votes(vocabularies)
    listed = votes.ranked()
    alphabet = byte_alphabet()
    content = "".join("".join(alphabet[byte] for byte in token) + "\n" for token in listed).encode()
    if options.out:
        options.out.write_bytes(content)

    print(f"{len(listed)} strings, {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    for name, strings in vocabularies.items():
        print(f"| {name} | {len(strings)} | {len(strings.keys() & listed)} |")
    for n in range(len(vocabularies), len(vocabularies) // 2, -1):
        print(f"in at least {n}: {int((votes.counts >= n).sum())}")
    for row in (*measure(vocabularies, votes, listed), *measure_held_out(held_out, vocabularies, listed)):
        print(row)


if __name__ == "__main__":
    main()
