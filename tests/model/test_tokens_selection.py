"""Selections: what min-hash promises, and which rows are never chosen."""

from __future__ import annotations

import hashlib
import random
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import TokenizerError
from huref.model.tokens import Ranking, Vocabulary, common, rarest, sampled, shared
from huref.model.tokens.common_strings import common_strings


def vocabulary(strings: list[bytes | None], special: frozenset[int] = frozenset()) -> Vocabulary:
    return Vocabulary(tuple(strings), special, "bpe", "test")


WORDS = [f" word{i}".encode() for i in range(1200)]
BASE = vocabulary([*WORDS])
SEEDS = st.integers(0, 10_000)
LISTED = common_strings()
UNLISTED = [f"\x00word{i}".encode() for i in range(1200)]


@settings(max_examples=30)
@given(seed=SEEDS, n_extra=st.integers(0, 800), k=st.integers(256, 900))
def test_extending_a_vocabulary_only_displaces(seed: int, n_extra: int, k: int) -> None:
    rng = random.Random(seed)
    extra = {rng.randbytes(rng.randint(1, 9)) for _ in range(n_extra)} - set(WORDS)
    before = sampled(BASE, k)
    after = sampled(vocabulary([*WORDS, *sorted(extra)]), k)
    old = [s for s in after.strings if s not in extra]
    assert old == list(before.strings[: len(old)])  # what stays is the head, in the same order
    assert len(after) == k


@settings(max_examples=30)
@given(seed=SEEDS)
def test_a_permuted_vocabulary_chooses_the_same_strings(seed: int) -> None:
    order = list(range(len(WORDS)))
    random.Random(seed).shuffle(order)
    permuted = vocabulary([WORDS[i] for i in order])
    a, b = sampled(BASE, 300), sampled(permuted, 300)
    assert a.strings == b.strings
    assert a.digest == b.digest
    assert np.array_equal(a.ids, np.array(order)[b.ids])


@settings(max_examples=30)
@given(seed=SEEDS)
def test_shared_is_the_sample_of_the_common_strings(seed: int) -> None:
    rng = random.Random(seed)
    left = [w for w in WORDS if rng.random() < 0.8]
    right = [w for w in WORDS if rng.random() < 0.8]
    rng.shuffle(right)
    a, b = shared(vocabulary([*left]), vocabulary([*right]), 300)
    common = vocabulary([w for w in WORDS if w in set(left) and w in set(right)])
    assert a.strings == b.strings == sampled(common, 300).strings
    assert [left[i] for i in a.ids] == [right[i] for i in b.ids] == list(a.strings)


def test_shared_of_one_vocabulary_is_its_sample() -> None:
    a, b = shared(BASE, vocabulary([*WORDS]), 400)
    alone = sampled(BASE, 400)
    assert a.strings == b.strings == alone.strings
    assert np.array_equal(a.ids, alone.ids)
    assert a.digest == alone.digest


def test_the_sample_is_what_the_format_says() -> None:
    """Golden: a change here changes every fingerprint ever made."""

    def key(token: bytes) -> bytes:
        return hashlib.sha256(b"huref/token-sample/1" + len(token).to_bytes(8, "little") + token).digest()

    chosen = sampled(BASE, 256)
    assert list(chosen.strings) == sorted(WORDS, key=key)[:256]
    assert chosen.digest == "95a8c49f4a4b790b3703a313e79e9f6507f04f0334fcf0ddb873df50e9930713"
    body = b"".join(len(s).to_bytes(8, "little") + s for s in chosen.strings)
    assert chosen.digest == hashlib.sha256(b"huref/token-selection/1" + body).hexdigest()


def test_what_is_never_chosen() -> None:
    strings: list[bytes | None] = [*WORDS[:300], None, b"", b"<s>", WORDS[0], WORDS[1]]
    vocab = vocabulary(strings, frozenset({302}))
    chosen = sampled(vocab, 4096)
    assert sorted(chosen.ids.tolist()) == list(range(300))  # of two equal spellings the lower id
    assert set(rarest(vocab, None, 4096).ids.tolist()) == {*range(300), 303, 304}
    assert sampled(vocab, 4096, n_rows=280).ids.max() == 279
    assert sorted(common(vocab, 4096).ids.tolist()) == [*range(2, 300), 303, 304]  # of two equal spellings the higher
    assert common(vocab, 4096, n_rows=280).ids.max() == 279
    assert rarest(vocab, None, 4096, n_rows=280).ids.max() == 279
    a, b = shared(vocab, vocab, 4096, (None, 270))
    assert max(a.ids.max(), b.ids.max()) == 269


@settings(max_examples=30)
@given(seed=SEEDS, n_listed=st.integers(0, 600), k=st.integers(256, 900))
def test_common_is_the_list_by_rank_and_then_the_sample(seed: int, n_listed: int, k: int) -> None:
    rng = random.Random(seed)
    listed, rest = rng.sample(LISTED, n_listed), rng.sample(UNLISTED, 900)
    own = [*listed, *rest]
    rng.shuffle(own)
    chosen = common(vocabulary([*own]), k)
    head = sorted(listed, key=LISTED.index)[:k]
    tail = sampled(vocabulary([*rest]), 900).strings[: k - len(head)]
    assert chosen.strings == (*head, *tail)
    assert tuple(own[i] for i in chosen.ids) == chosen.strings  # whatever the ids are
    assert (chosen.method, chosen.requested) == ("common", k)


@settings(max_examples=30)
@given(seed=SEEDS, n_extra=st.integers(0, 300), n_extra_listed=st.integers(0, 300), k=st.integers(256, 900))
def test_an_extended_vocabulary_keeps_what_it_has_of_the_list(
    seed: int, n_extra: int, n_extra_listed: int, k: int
) -> None:
    rng = random.Random(seed)
    listed = rng.sample(LISTED, 600)
    base, more = [*listed[:300], *UNLISTED[:900]], UNLISTED[900 : 900 + n_extra]
    before, after = common(vocabulary([*base]), k), common(vocabulary([*base, *more]), k)
    n_kept = min(k, 300)
    assert after.strings[:n_kept] == before.strings[:n_kept]  # strings off the list displace none that is on it
    extra = {*more, *listed[300 : 300 + n_extra_listed]}
    old = [s for s in common(vocabulary([*base, *sorted(extra)]), k).strings if s not in extra]
    assert old == list(before.strings[: len(old)])  # others displace from the end, and keep the order


def test_two_vocabularies_that_have_the_list_choose_the_same() -> None:
    a, b = vocabulary([*LISTED, *WORDS[:600]]), vocabulary([*WORDS[600:], *reversed(LISTED)])
    assert common(a, 4096).strings == common(b, 4096).strings == LISTED[:4096]
    assert common(a, 4096).digest == common(b, 4096).digest


def test_without_a_string_of_the_list_common_is_sampled() -> None:
    strange = vocabulary([*UNLISTED])
    assert common(strange, 400).strings == sampled(strange, 400).strings
    assert np.array_equal(common(strange, 400).ids, sampled(strange, 400).ids)


def test_the_list_is_the_one_that_was_published() -> None:
    """Golden: another list is another name; a change here changes every description made by `common`."""
    content = (resources.files("huref.model.tokens") / "data" / "common-tokens-1.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "7497e26d2b3153cc30fdf5ff03da4c74b3a04c9a3d3ffeee670688fa6ea1650d"
    assert len(LISTED) == len(set(LISTED)) == 16384
    assert all(LISTED)
    assert LISTED[:6] == (b" Adam", b"sim", b"GC", b" song", b"ll", b" mil")
    assert {b" ", b"\n", b"a", b"\x80", b" the"} < set(LISTED)


def test_rarest_takes_the_end_of_the_ranking_in_its_order() -> None:
    ids = np.random.default_rng(0).permutation(1200)
    ranking = Ranking(ids, "test")
    chosen = rarest(BASE, ranking, 256)
    assert chosen.ids.tolist() == ids[-256:].tolist()
    assert chosen.strings == tuple(WORDS[i] for i in ids[-256:])
    special = frozenset(ids[-10:].tolist())
    assert rarest(vocabulary([*WORDS], special), ranking, 256).ids.tolist() == ids[-266:-10].tolist()
    assert rarest(BASE, None, 256).ids.tolist() == list(range(1200 - 256, 1200))


def test_a_ranking_of_another_tokenizer_may_name_ids_that_are_not_there() -> None:
    ranking = Ranking(np.arange(5000), "test")
    assert rarest(BASE, ranking, 300).ids.max() == 1199


def test_a_small_vocabulary_is_used_whole_and_says_so() -> None:
    chosen = sampled(BASE, 4096)
    assert (len(chosen), chosen.requested) == (1200, 4096)


@pytest.mark.parametrize("n", [0, 1, 255])
def test_too_few_tokens_are_refused(n: int) -> None:
    small = vocabulary([*WORDS[:n]])
    for choose in (
        lambda: sampled(small, 4096),
        lambda: common(small, 4096),
        lambda: common(vocabulary([*LISTED]), n),
        lambda: rarest(small, None, 4096),
        lambda: rarest(BASE, Ranking(np.arange(n), "test"), 4096),
        lambda: shared(small, BASE, 4096),
        lambda: sampled(BASE, n),
        lambda: rarest(BASE, None, n),
    ):
        with pytest.raises(TokenizerError) as caught:
            choose()
        assert caught.value.exit_code == 4
