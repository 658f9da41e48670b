"""Forgeries, each by name, by provers who know the opening and the code: none is accepted.

Where a forgery is stopped by a single message of the transcript, a control shows that it succeeds against a verifier
that forgets this message: so the forgery is a real one, and the message is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from huref.errors import CorruptFileError, HurefError, InconclusiveError, RejectedError, UsageError
from huref.fingerprints.recipe import Recipe
from huref.proof.arithmetic import field
from huref.proof.arithmetic.curve import commit, decode_points, encode_points, multiply_sum
from huref.proof.arithmetic.equations import PointEquations
from huref.proof.arithmetic.field import ORDER
from huref.proof.arithmetic.signs import centred_signs, pair_seed
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.commitment import Commitment, NoWrapProof, commitment_root, parse_commitment
from huref.proof.files.layout import PROJECTIONS, Layout, Matrix
from huref.proof.files.opening import Opening
from huref.proof.files.proof import Claim, SketchProof, parse_proof
from huref.proof.sketch import no_wrap, protocol, verifier
from huref.proof.sketch.exact import exact_sketches
from huref.proof.sketch.pair import pair_claim, score_pair
from huref.proof.sketch.verifier import Verified, verify_commitment, verify_sketches
from kit import proof_cheats as cheats
from kit import proofs
from kit.proof_cheats import Lies, deaf_to, prove, remembering, sketch_part_holds

Change = Callable[[SketchProof], SketchProof]


def accepted(commitment: Commitment, proof: SketchProof) -> Verified:
    """What a verifier makes of the two files."""
    read = parse_commitment(commitment.to_bytes(), "commitment")
    return verify_sketches(read, parse_proof(proof.to_bytes(), read.layout, "proof"), remembering)


def refuse(commitment: Commitment, proof: SketchProof, match: str | None = None) -> None:
    """The proof is rejected, not merely damaged."""
    with pytest.raises(RejectedError, match=match):
        accepted(commitment, proof)


def refuse_commitment(commitment: Commitment, match: str | None = None) -> None:
    with pytest.raises(RejectedError, match=match):
        verify_commitment(commitment, remembering)


def with_quadratic(proof: SketchProof, **changes: Any) -> SketchProof:
    return replace(proof, quadratic=replace(proof.quadratic, **changes))


def bumped(values: Any, index: int, by: int = 1) -> list[int]:
    """One number changed, modulo p."""
    listed = [int(value) for value in values]
    listed[index] = (listed[index] + by) % ORDER
    return listed


def exchanged(data: bytes, one: int, other: int, size: int = 48) -> bytes:
    """Two blocks change places."""
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    blocks[one], blocks[other] = blocks[other], blocks[one]
    return b"".join(blocks)


def overwritten(data: bytes, index: int, block: bytes) -> bytes:
    return data[: index * len(block)] + block + data[(index + 1) * len(block) :]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (verifier, protocol):
        monkeypatch.setattr(module, "decode_points", remembering)


@pytest.fixture
def a() -> Opening:
    return proofs.a()


@pytest.fixture
def sealed() -> Commitment:
    return proofs.commitment_a()


def test_the_prover_of_these_tests_is_accepted_when_it_does_not_lie(a: Opening, sealed: Commitment) -> None:
    assert np.array_equal(
        accepted(sealed, prove(a, sealed)).vector, accepted(sealed, proofs.fingerprint_proof()).vector
    )
    assert sketch_part_holds(sealed, prove(a, sealed))


# Other numbers


def lie_about(key: str, place: tuple[int, int], by: int) -> Callable[[cheats.Sketches], cheats.Sketches]:
    def lie(exact: cheats.Sketches) -> cheats.Sketches:
        Y = exact[key].copy()
        Y[place] += by
        return {**exact, key: Y}

    return lie


@pytest.mark.parametrize("by", [1, -1, 1 << 40])
@pytest.mark.parametrize("place", [(0, 0), (3, 4), (7, 7)])
@pytest.mark.parametrize("key", ["1.qk", "1.gate_down"])
def test_a_sketch_entry_changed_and_everything_recomputed(
    a: Opening, sealed: Commitment, key: str, place: tuple[int, int], by: int
) -> None:
    refuse(sealed, prove(a, sealed, Lies(lie_about(key, place, by))), "does not hold")


def test_a_sketch_entry_changed_in_the_file(sealed: Commitment) -> None:
    proof = proofs.fingerprint_proof()
    sketches = lie_about("1.qk", (2, 2), 1)(dict(proof.sketches))
    refuse(sealed, replace(proof, sketches=sketches), "does not hold")


def test_sketches_in_more_bytes_than_they_need(
    a: Opening, sealed: Commitment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers, proved anew under a wider encoding: one value has one encoding."""
    monkeypatch.setattr(cheats, "byte_length", lambda Y: field.byte_length(Y) + 1)
    proof = prove(a, sealed)
    assert sketch_part_holds(sealed, proof)
    with pytest.raises(CorruptFileError, match="more bytes than they need"):
        accepted(sealed, proof)


def test_two_sketches_changed_so_that_their_sum_stays(a: Opening, sealed: Commitment) -> None:
    def lie(exact: cheats.Sketches) -> cheats.Sketches:
        return lie_about("1.gate_down", (0, 0), -1)(lie_about("1.qk", (0, 0), 1)(exact))

    refuse(sealed, prove(a, sealed, Lies(lie)))


def test_sketches_of_two_terms_exchanged(a: Opening, sealed: Commitment) -> None:
    def lie(exact: cheats.Sketches) -> cheats.Sketches:
        return {"1.qk": exact["1.gate_down"], "1.gate_down": exact["1.qk"]}

    refuse(sealed, prove(a, sealed, Lies(lie)))
    refuse(sealed, replace(proofs.fingerprint_proof(), sketches=lie(dict(proofs.fingerprint_proof().sketches))))


def test_a_transposed_or_negated_or_doubled_sketch(a: Opening, sealed: Commitment) -> None:
    """Doubled is the same vector in the end: still it is not what was computed."""
    for change in (lambda Y: Y.T.copy(), lambda Y: -Y, lambda Y: 2 * Y, lambda Y: 0 * Y):
        refuse(sealed, prove(a, sealed, Lies(lambda exact, f=change: {key: f(Y) for key, Y in exact.items()})))


@pytest.mark.parametrize("name", ["embedding", "1.q", "1.k", "1.gate", "1.down"])
@pytest.mark.parametrize("by", [1, -1])
def test_one_weight_changed_and_everything_recomputed_against_the_old_commitment(
    a: Opening, sealed: Commitment, name: str, by: int
) -> None:
    rows = a.rows.copy()
    rows[sealed.layout.start(name) + 3, 5] += by
    refuse(sealed, proofs.prove_fingerprint(replace(a, rows=rows), sealed), "does not hold")


def test_other_blindings_or_another_seed(a: Opening, sealed: Commitment) -> None:
    refuse(sealed, proofs.prove_fingerprint(replace(a, seed=b"x" * 32), sealed), "does not hold")


def test_products_that_do_not_come_from_the_factors(a: Opening, sealed: Commitment) -> None:
    def lie(v: cheats.Vectors, u: cheats.Vectors, _: int) -> tuple[cheats.Vectors, cheats.Vectors]:
        v[0][0] += 1
        return v, u

    refuse(sealed, prove(a, sealed, Lies(products=lie)), "does not hold")


def test_a_factor_combination_that_does_not_come_from_the_rows(a: Opening, sealed: Commitment) -> None:
    refuse(sealed, prove(a, sealed, Lies(linear=1)), "does not hold")


# Parts of a proof


PARTS: dict[str, Change] = {
    "a response": lambda p: with_quadratic(
        p,
        responses=(
            field.integers(bumped(p.quadratic.responses[0], 3)),
            *p.quadratic.responses[1:],
        ),
    ),
    "the last response": lambda p: with_quadratic(
        p,
        responses=(
            *p.quadratic.responses[:-1],
            field.integers(bumped(p.quadratic.responses[-1], -1, -1)),
        ),
    ),
    "responses exchanged": lambda p: with_quadratic(
        p, responses=(p.quadratic.responses[1], p.quadratic.responses[0], *p.quadratic.responses[2:])
    ),
    "two errors that cancel": lambda p: with_quadratic(
        p,
        responses=(
            field.integers(bumped(p.quadratic.responses[0], 0, 1)),
            field.integers(bumped(p.quadratic.responses[1], 0, -1)),
            *p.quadratic.responses[2:],
        ),
    ),
    "two blindings that cancel": lambda p: with_quadratic(
        p, blindings=tuple(bumped(bumped(p.quadratic.blindings, 0, 1), 1, -1))
    ),
    "a blinding": lambda p: with_quadratic(p, blindings=tuple(bumped(p.quadratic.blindings, 2))),
    "tau": lambda p: with_quadratic(p, tau=(p.quadratic.tau + 1) % ORDER),
    "tau negated": lambda p: with_quadratic(p, tau=ORDER - p.quadratic.tau),
    "all responses zero": lambda p: with_quadratic(
        p, responses=tuple(0 * r for r in p.quadratic.responses), blindings=(0,) * len(p.quadratic.blindings), tau=0
    ),
    "a product": lambda p: replace(p, products=overwritten(p.products, 1, p.products[:48])),
    "products exchanged": lambda p: replace(p, products=exchanged(p.products, 0, 1)),
    "left and right products exchanged": lambda p: replace(
        p, products=p.products[len(p.products) // 2 :] + p.products[: len(p.products) // 2]
    ),
    "a product negated": lambda p: replace(p, products=bytes([p.products[0] ^ 0x20]) + p.products[1:]),
    "a mask": lambda p: with_quadratic(p, masks=overwritten(p.quadratic.masks, 0, p.products[:48])),
    "masks exchanged": lambda p: with_quadratic(p, masks=exchanged(p.quadratic.masks, 0, 1)),
    "T_0 and T_1 exchanged": lambda p: with_quadratic(p, masks=exchanged(p.quadratic.masks, -2, -1)),
    "a mask negated": lambda p: with_quadratic(p, masks=bytes([p.quadratic.masks[0] ^ 0x20]) + p.quadratic.masks[1:]),
    "the version": lambda p: replace(p, claim=replace(p.claim, version="9.9.9")),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_a_proof_altered(sealed: Commitment, part: str) -> None:
    refuse(sealed, PARTS[part](proofs.fingerprint_proof()), "does not hold")


@pytest.mark.parametrize("part", ["products", "quadratic", "sketches"])
def test_parts_of_two_good_proofs_mixed(sealed: Commitment, part: str) -> None:
    first, second = proofs.fingerprint_proof(), proofs.prove_fingerprint(proofs.a(), sealed)
    mixed = replace(first, **{part: getattr(second, part)})
    if part == "sketches":  # equal, so nothing was mixed
        accepted(sealed, mixed)
    else:
        refuse(sealed, mixed, "does not hold")


# Commitments


def resealed(sealed: Commitment, **changes: Any) -> tuple[Commitment, SketchProof]:
    """The commitment with something changed, and A's proof told that this is the root."""
    changed = replace(sealed, **changes)
    proof = proofs.fingerprint_proof()
    return changed, replace(proof, claim=replace(proof.claim, root=changed.root))


def test_rows_of_a_commitment_swapped(a: Opening, sealed: Commitment) -> None:
    """The owner swaps points and integers alike, keeps the bounds, and proves anew."""
    swapped = replace(sealed, points=exchanged(sealed.points, 4, 5))
    refuse(swapped, proofs.fingerprint_proof(), "about another commitment")
    rows, blindings = a.rows.copy(), a.blindings()
    rows[[4, 5]] = rows[[5, 4]]
    blindings[[4, 5]] = blindings[[5, 4]]
    refuse_commitment(swapped, "no-wrap proof does not hold")
    refuse(*resealed(sealed, points=swapped.points))
    honest = proofs.secret(replace(a, rows=rows))
    proof = protocol.prove_sketches(
        replace(honest, blindings=blindings), cheats.fingerprint_claim(swapped), np.ones(proofs.N_A, dtype=bool)
    )
    assert sketch_part_holds(swapped, proof)
    refuse(swapped, proof)


BOUNDS: dict[str, Callable[[NoWrapProof], NoWrapProof]] = {
    "a sum": lambda n: replace(n, sums=changed_sum(n.sums, (7, 3), 1)),
    "two sums that cancel": lambda n: replace(n, sums=changed_sum(changed_sum(n.sums, (7, 3), 1), (8, 3), -1)),
    "a blinding": lambda n: replace(n, blindings=field.integers(bumped(n.blindings, 9))),
    "two blindings that cancel": lambda n: replace(
        n, blindings=field.integers(bumped(bumped(n.blindings, 9), 10, -1))
    ),
    "a mask": lambda n: replace(n, masks=overwritten(n.masks, 3, n.masks[:48])),
    "masks exchanged": lambda n: replace(n, masks=exchanged(n.masks, 0, 1)),
    "all rows exchanged alike": lambda n: replace(
        n,
        masks=exchanged(n.masks, 0, 1),
        sums=n.sums[[1, 0, *range(2, PROJECTIONS)]],
        blindings=n.blindings[[1, 0, *range(2, PROJECTIONS)]],
    ),
    "zeros": lambda n: replace(n, sums=0 * n.sums, blindings=0 * n.blindings),
}


def changed_sum(sums: np.ndarray, place: tuple[int, int], by: int) -> np.ndarray:
    out = sums.copy()
    out[place] += by
    return out


@pytest.mark.parametrize("part", BOUNDS)
def test_a_part_of_the_bounds_altered(sealed: Commitment, part: str) -> None:
    changed = replace(sealed, no_wrap=BOUNDS[part](sealed.no_wrap))
    refuse_commitment(changed, "does not hold")
    refuse(changed, proofs.fingerprint_proof(), "does not hold")


def test_the_bounds_of_another_commitment(sealed: Commitment) -> None:
    again = proofs.committed(replace(proofs.a(), seed=b"y" * 32))
    refuse_commitment(replace(sealed, no_wrap=again.no_wrap), "does not hold")


def test_a_sum_out_of_range(sealed: Commitment) -> None:
    layout = sealed.layout
    for value in (layout.mask_bound, -layout.mask_bound, layout.mask_bound - layout.sum_bound + 1):
        sums = sealed.no_wrap.sums.copy()
        sums[0, 0] = value
        changed = replace(sealed, no_wrap=replace(sealed.no_wrap, sums=sums))
        refuse_commitment(parse_commitment(changed.to_bytes(), ""), "does not bound")


def out_of_range(owner: Opening, entries: dict[tuple[int, int], int]) -> tuple[np.ndarray, bytes, bytes]:
    """Integers modulo p as the cheat commits to them, their points, and the root."""
    rows, points, blindings = owner.rows.astype(object), proofs.commitment_a().points, owner.blindings()
    for place, value in entries.items():
        rows[place] = value % ORDER
        points = overwritten(points, place[0], encode_points([commit(rows[place[0]] % ORDER, blindings[place[0]])]))
    return rows, points, commitment_root(owner.layout, owner.strings, points)


def centred(values: np.ndarray) -> np.ndarray:
    """Modulo p, in (-p / 2, p / 2)."""
    reduced = values % ORDER
    return np.where(reduced > ORDER // 2, reduced - ORDER, reduced)


def cheating_bounds(owner: Opening, rows: np.ndarray, root: bytes, trick: str) -> NoWrapProof:
    """Masked sums of integers that are out of range, with masks chosen before E is known, as well as can be."""
    layout = owner.layout
    slack = layout.mask_bound - layout.sum_bound
    large = np.where(np.abs(centred(rows)) > layout.mask_bound, rows, 0).sum(axis=0)
    guess = {"honest masks": 0, "masks that cancel": -1, "masks of half": pow(2, -1, ORDER)}[trick]
    rng = np.random.default_rng(0)
    masks = rng.integers(-slack // 2, slack // 2, (PROJECTIONS, layout.width)).astype(object)
    masks[::2] += guess * large
    z = field.random_vector(PROJECTIONS)
    points = encode_points([commit(mask % ORDER, int(h)) for mask, h in zip(masks, z, strict=True)])
    signs = no_wrap.projections(layout, root, points)
    sums = centred(field.matmul(signs, rows) + masks)
    return NoWrapProof(points, sums, (field.times(signs, owner.blindings()) + z) % ORDER)


ENTRIES = {
    "2^60": 1 << 60,
    "-2^60": -(1 << 60),
    "half of p": (ORDER + 1) // 2,
    "p - 2^50": ORDER - (1 << 50),
    "a third of p": pow(3, -1, ORDER),
    "2^200": 1 << 200,
}


@pytest.mark.parametrize("trick", ["honest masks", "masks that cancel", "masks of half"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_out_of_range_at_commit_time(a: Opening, entry: str, trick: str) -> None:
    rows, points, root = out_of_range(a, {(280, 3): ENTRIES[entry]})
    bounds = cheating_bounds(a, rows, root, trick)
    refuse_commitment(Commitment(a.layout, a.strings, points, bounds), "does not bound")
    slack = a.layout.mask_bound - a.layout.sum_bound
    clipped = replace(bounds, sums=np.clip(bounds.sums, -slack, slack))
    refuse_commitment(Commitment(a.layout, a.strings, points, clipped), "does not hold")
    refuse_commitment(Commitment(a.layout, a.strings, points, proofs.commitment_a().no_wrap), "does not hold")


def test_two_entries_out_of_range_that_cancel(a: Opening) -> None:
    """w and -w in one column: their sum is small only where E agrees on both."""
    rows, points, root = out_of_range(a, {(280, 3): 1 << 60, (281, 3): -(1 << 60)})
    bounds = cheating_bounds(a, rows, root, "honest masks")
    refuse_commitment(Commitment(a.layout, a.strings, points, bounds), "does not bound")


def test_control_masks_made_after_the_projections_are_known(a: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier that does not bind the masks accepts 2^60; the real one does not."""
    rows, points, root = out_of_range(a, {(280, 3): 1 << 60})
    layout = a.layout

    def forged() -> Commitment:
        signs = no_wrap.projections(layout, root, b"")
        wanted = np.zeros((PROJECTIONS, layout.width), dtype=object)
        masks = (wanted - field.matmul(signs, rows)) % ORDER
        z = field.random_vector(PROJECTIONS)
        encoded = encode_points([commit(mask, int(h)) for mask, h in zip(masks, z, strict=True)])
        blindings = (field.times(signs, a.blindings()) + z) % ORDER
        return Commitment(layout, a.strings, points, NoWrapProof(encoded, wanted, blindings))

    with monkeypatch.context() as patch:
        patch.setattr(no_wrap, "Transcript", deaf_to("masks"))
        commitment = forged()
        verify_commitment(commitment)
    refuse_commitment(commitment, "does not hold")


def test_a_norm_that_leaves_room_for_a_wrap(a: Opening) -> None:
    """A bound so loose that products could wrap is no bound, even with an honest proof of it."""
    layout = replace(a.layout, norm=1 << 40)
    assert not layout.is_free_of_wraps()
    points = proofs.commitment_a().points
    root = commitment_root(layout, a.strings, points)
    wide = layout.mask_bound - layout.sum_bound
    sums = np.full((PROJECTIONS, layout.width), wide - 1, dtype=object)
    signs = no_wrap.projections(layout, root, b"")
    assert signs.shape[0] == PROJECTIONS
    bounds = NoWrapProof(proofs.commitment_a().no_wrap.masks, sums, proofs.commitment_a().no_wrap.blindings)
    refuse_commitment(Commitment(layout, a.strings, points, bounds), "does not bound")


# Strange points and scalars


def strange_points(good: bytes) -> dict[str, bytes]:
    return {
        "shifted by a point of order 3": cheats.shifted(good[:48]),
        "of order 3": cheats.encoded(*cheats.ORDER_3),
        "of another large order": cheats.off_subgroup(),
        "off the curve": cheats.off_curve(),
        "the identity": b"\xc0" + bytes(47),
        "the identity with a sign": b"\xe0" + bytes(47),
        "the identity with an x": b"\xc0" + bytes(46) + b"\x01",
        "an x plus q": cheats.second_encoding(good),
        "without the compression flag": bytes([good[0] & 0x7F]) + good[1:48],
        "with the flag of the identity": bytes([good[0] | 0x40]) + good[1:48],
        "zeros": bytes(48),
        "ones": b"\xff" * 48,
    }


STRANGE = tuple(strange_points(proofs.commitment_a().points))
PLACES = ("a row", "a mask of the bounds", "a product", "a mask", "T_1")


def test_a_shifted_point_is_what_it_is_said_to_be() -> None:
    """Three shifts lead back: the arithmetic of these tests is right, and the points are on the curve."""
    good = proofs.commitment_a().points[:48]
    assert cheats.encoded(*cheats.coordinates(good)) == good
    assert cheats.shifted(cheats.shifted(cheats.shifted(good))) == good
    x, y = cheats.coordinates(cheats.shifted(good))
    assert (y * y - x**3 - 4) % cheats.Q == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_point(sealed: Commitment, strange: str, place: str) -> None:
    point = strange_points(sealed.points)[strange]
    commitment, proof = sealed, proofs.fingerprint_proof()
    if place == "a row":
        commitment, proof = resealed(sealed, points=overwritten(sealed.points, 0, point))
    elif place == "a mask of the bounds":
        masks = overwritten(sealed.no_wrap.masks, 0, point)
        commitment = replace(sealed, no_wrap=replace(sealed.no_wrap, masks=masks))
    elif place == "a product":
        proof = replace(proof, products=overwritten(proof.products, 0, point))
    else:
        index = 0 if place == "a mask" else len(proof.quadratic.masks) // 48 - 1
        proof = with_quadratic(proof, masks=overwritten(proof.quadratic.masks, index, point))
    with pytest.raises(CorruptFileError, match="a point that cannot be accepted"):
        accepted(commitment, proof)
    if commitment is not sealed:
        with pytest.raises(CorruptFileError, match="a point that cannot be accepted"):
            verify_commitment(parse_commitment(commitment.to_bytes(), ""))


def plus_p(data: bytes, at: int) -> bytes:
    """32 bytes, the same number plus p."""
    value = int.from_bytes(data[at : at + 32], "little") + ORDER
    return data[:at] + value.to_bytes(32, "little") + data[at + 32 :]


def test_scalars_that_are_not_canonical(sealed: Commitment) -> None:
    """p is below 2^255, so every scalar has a second spelling; every one is refused."""
    proof, file = proofs.fingerprint_proof(), sealed.to_bytes()
    data = proof.to_bytes()
    count = 2 * sum(len(r) for r in proof.quadratic.responses[::2]) + len(proof.quadratic.blindings) + 1
    for index in range(count):
        with pytest.raises(CorruptFileError, match="not canonical"):
            parse_proof(plus_p(data, len(data) - 32 * (index + 1)), sealed.layout, "")
    for index in range(PROJECTIONS):
        with pytest.raises(CorruptFileError, match="not canonical"):
            parse_commitment(plus_p(file, len(file) - 32 * (index + 1)), "")


# Other statements


def relaid(**changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: replace(layout, **changes)


def other_recipe(**changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: replace(layout, recipe=Recipe(**{**layout.recipe.to_dict(), **changes}))


def other_matrix(index: int, **changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: replace(
        layout,
        matrices=(
            *layout.matrices[:index],
            replace(layout.matrices[index], **changes),
            *layout.matrices[index + 1 :],
        ),
    )


def other_term(index: int, **changes: Any) -> Callable[[Layout], Layout]:
    return lambda layout: replace(
        layout, terms=tuple(replace(t, **changes) if i == index else t for i, t in enumerate(layout.terms))
    )


def rows_moved(layout: Layout) -> Layout:
    """One token fewer, and a matrix of one row that nobody uses."""
    K = layout.n_tokens
    first = Matrix("embedding", K - 1, 11)
    return replace(layout, matrices=(first, Matrix("spare", 1, 11), *layout.matrices[1:]))


LAYOUTS: dict[str, Callable[[Layout], Layout]] = {
    "a scale": other_matrix(1, exponent=12),
    "the scale of the embedding": other_matrix(0, exponent=10),
    "the number of layers": relaid(n_layers=3),
    "the norm, looser": lambda layout: replace(layout, norm=layout.norm + 1024),
    "the bits": relaid(bits=16),
    "the model": relaid(model="somebody else's"),
    "the architecture": relaid(architecture="gpt2"),
    "the recipe": other_recipe(name="paper"),
    "the recipe's seed": other_recipe(seed="huref/2"),
    "the recipe's tokens": other_recipe(n_tokens=512),
    "the recipe's ranking": other_recipe(ranking="0" * 64),
    "the recipe's layers": other_recipe(layers="last2"),
    "the recipe's rows": other_recipe(sketch_rows=12),
    "matrices in another order": lambda layout: replace(
        layout, matrices=(*layout.matrices[:3], layout.matrices[4], layout.matrices[3])
    ),
    "terms in another order": lambda layout: replace(layout, terms=layout.terms[::-1]),
    "a term fewer": lambda layout: replace(layout, terms=layout.terms[:1]),
    "a term of another layer": other_term(1, key="0.gate_down"),
    "a term of another kind": other_term(1, key="1.up_down"),
    "factors exchanged": other_term(1, left="1.down", right="1.gate"),
    "a factor twice": other_term(1, right="1.gate"),
    "heads of another size": other_term(0, head_dim=2),
    "a matrix renamed": lambda layout: replace(
        layout,
        matrices=(*layout.matrices[:3], replace(layout.matrices[3], name="1.up"), layout.matrices[4]),
        terms=(layout.terms[0], replace(layout.terms[1], left="1.up")),
    ),
    "a token fewer": rows_moved,
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_a_proof_under_another_header(sealed: Commitment, what: str) -> None:
    """Replayed as it is, with the new root put in, and without the bounds that the root also changes."""
    layout = LAYOUTS[what](sealed.layout)
    strings = sealed.strings[: layout.n_tokens]
    changed, proof = resealed(sealed, layout=layout, strings=strings)
    assert changed.root != sealed.root
    refuse_commitment(changed, "does not")
    for replayed in (proofs.fingerprint_proof(), proof):
        with pytest.raises((RejectedError, CorruptFileError)):
            accepted(changed, replayed)
    try:
        read = parse_proof(proof.to_bytes(), layout, "")
    except CorruptFileError:  # other sizes
        return
    assert not sketch_part_holds(changed, read)


def test_another_encoder_is_no_commitment(sealed: Commitment) -> None:
    data = sealed.to_bytes().replace(b'"encoder":"sketch"', b'"encoder":"kmeans"')
    with pytest.raises(CorruptFileError):
        parse_commitment(data, "")
    for encoder in ("mean", "cnn"):
        with pytest.raises((ValueError, UsageError)):
            replace(sealed.layout, recipe=Recipe(name="paper", encoder=encoder, n_tokens=256))


@pytest.mark.parametrize("what", ["order", "spelling", "swap with a new one"])
def test_another_list_of_tokens(a: Opening, sealed: Commitment, what: str) -> None:
    strings = list(sealed.strings)
    if what == "order":
        strings[10], strings[11] = strings[11], strings[10]
    else:
        strings[10] = b"another" if what == "spelling" else b"\x00"
    changed, proof = resealed(sealed, strings=tuple(strings))
    refuse(replace(sealed, strings=tuple(strings)), proofs.fingerprint_proof(), "about another commitment")
    refuse(changed, proof)
    assert not sketch_part_holds(changed, proof)
    lying = prove(replace(a, strings=tuple(strings)), sealed)
    refuse(sealed, lying, "does not hold")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": "huref/2"},
        {"rows": 12},
        {"seed": "huref/pair/1/" + "0" * 64},
    ],
)
def test_another_seed_or_size_and_everything_recomputed(
    a: Opening, sealed: Commitment, change: dict[str, Any]
) -> None:
    """True statements, but not of the recipe."""
    claim = replace(cheats.fingerprint_claim(sealed), **change)
    proof = prove(a, sealed, claim=claim)
    assert sketch_part_holds(sealed, proof)
    refuse(sealed, proof, "not of the commitment's recipe")


def test_a_fingerprint_of_some_of_the_tokens(a: Opening, sealed: Commitment) -> None:
    chosen = np.ones(proofs.N_A, dtype=bool)
    chosen[-1] = False
    proof = prove(a, sealed, chosen=chosen)
    assert sketch_part_holds(sealed, proof)
    refuse(sealed, proof, "not of the commitment's recipe")
    refuse(sealed, replace(proofs.fingerprint_proof(), chosen=chosen))


def test_a_proof_under_another_root(a: Opening, sealed: Commitment) -> None:
    """The same integers committed to twice: a proof about one is none about the other."""
    again = proofs.committed(replace(a, seed=b"z" * 32))
    proof = proofs.fingerprint_proof()
    refuse(again, proof, "about another commitment")
    moved = replace(proof, claim=replace(proof.claim, root=again.root))
    refuse(again, moved, "does not hold")
    refuse(sealed, moved, "about another commitment")
    with pytest.raises(HurefError):
        accepted(proofs.commitment_b(), proof)


# Comparisons


def test_a_comparison_replayed_for_another_peer(a: Opening, sealed: Commitment) -> None:
    proof = proofs.compare_proofs()[0]
    other = proofs.committed(replace(proofs.b(), seed=b"w" * 32))
    moved = replace(proof, claim=replace(proof.claim, peer=other.root))
    refuse(sealed, moved, "not those of the pair")
    reseeded = replace(moved, claim=replace(moved.claim, seed=pair_seed(sealed.root, other.root)))
    refuse(sealed, reseeded, "does not hold")
    good = accepted(proofs.commitment_b(), proofs.compare_proofs()[1])
    with pytest.raises(RejectedError, match="not of one comparison"):
        score_pair(accepted(sealed, proofs.prove_compare(a, sealed, other)), good)


def test_a_comparison_with_oneself(a: Opening, sealed: Commitment) -> None:
    seed = pair_seed(sealed.root, sealed.root)
    claim = Claim("compare", sealed.root, sealed.root, seed, 12, 1, "0.0.0")
    proof = prove(a, sealed, claim=claim)
    refuse(sealed, proof, "not those of the pair")
    with pytest.raises(RejectedError, match="one commitment twice"):
        pair_claim(sealed, sealed)
    good = accepted(sealed, proofs.compare_proofs()[0])
    with pytest.raises(RejectedError):
        score_pair(good, good)


def test_a_comparison_under_a_seed_of_ones_own(a: Opening, sealed: Commitment) -> None:
    claim, chosen = pair_claim(sealed, proofs.commitment_b(), 12)
    proof = prove(a, sealed, claim=replace(claim, seed="huref/1"), chosen=chosen)
    assert sketch_part_holds(sealed, proof)
    refuse(sealed, proof, "not those of the pair")


def test_tokens_of_ones_own_choice(a: Opening, sealed: Commitment) -> None:
    """True statements over other tokens than those shared: by itself a proof holds, the pair does not."""
    claim, chosen = pair_claim(sealed, proofs.commitment_b(), 12)
    other = chosen.copy()
    other[np.flatnonzero(chosen)[0]] = False
    good = accepted(proofs.commitment_b(), proofs.compare_proofs()[1])
    for tokens in (other, np.ones(proofs.N_A, dtype=bool)):
        alone = accepted(sealed, prove(a, sealed, claim=claim, chosen=tokens))
        with pytest.raises(RejectedError, match="not of one comparison"):
            score_pair(alone, good)
        with pytest.raises(RejectedError, match="not of one comparison"):
            score_pair(good, alone)
    refuse(sealed, replace(proofs.compare_proofs()[0], chosen=other), "does not hold")


def test_fewer_than_256_tokens(a: Opening, sealed: Commitment) -> None:
    claim, chosen = pair_claim(sealed, proofs.commitment_b(), 12)
    for count, is_accepted in ((256, True), (255, False), (1, False), (0, False)):
        few = np.zeros_like(chosen)
        few[np.flatnonzero(chosen)[:count]] = True
        proof = prove(a, sealed, claim=claim, chosen=few)
        if is_accepted:
            accepted(sealed, proof)
        else:
            refuse(sealed, proof, "not those of the pair")


def test_sketches_of_two_sizes(a: Opening, sealed: Commitment) -> None:
    ours = accepted(sealed, proofs.prove_compare(a, sealed, proofs.commitment_b(), rows=16))
    theirs = accepted(proofs.commitment_b(), proofs.compare_proofs()[1])
    with pytest.raises(RejectedError, match="not of one comparison"):
        score_pair(ours, theirs)


def test_sketches_too_small_to_mean_anything(a: Opening, sealed: Commitment) -> None:
    claim, _ = pair_claim(sealed, proofs.commitment_b(), 8)
    for rows in (0, 1, 4, 9, 516):
        with pytest.raises(ValueError, match="out of range"):
            replace(claim, rows=rows)
        with pytest.raises(UsageError, match="no such number of rows"):
            pair_claim(sealed, proofs.commitment_b(), rows)


def test_an_owner_who_committed_to_zeros_gets_no_score(a: Opening) -> None:
    """A cosine with nothing is no number: it is refused, not printed."""
    rows = a.rows.copy()
    start = a.layout.start("1.gate")
    rows[start : start + 20] = 0
    owner = replace(a, rows=rows)
    zeros, b = proofs.committed(owner), proofs.commitment_b()
    sides = (
        accepted(zeros, proofs.prove_compare(owner, zeros, b)),
        accepted(b, proofs.prove_compare(proofs.b(), b, zeros)),
    )
    for pair in (sides, sides[::-1]):
        with pytest.raises(InconclusiveError, match="zeros"):
            score_pair(*pair)


def test_a_comparison_given_as_a_fingerprint_and_the_other_way_round(a: Opening, sealed: Commitment) -> None:
    compare, fingerprint = proofs.compare_proofs()[0], proofs.fingerprint_proof()
    as_fingerprint = replace(compare.claim, kind="fingerprint", peer=None)
    refuse(sealed, replace(compare, claim=as_fingerprint), "not of the commitment's recipe")
    as_compare = replace(fingerprint.claim, kind="compare", peer=proofs.commitment_b().root)
    refuse(sealed, replace(fingerprint, claim=as_compare), "not those of the pair")
    recomputed = prove(a, sealed, claim=as_fingerprint, chosen=compare.chosen)
    refuse(sealed, recomputed, "not of the commitment's recipe")
    with pytest.raises(RejectedError):
        score_pair(accepted(sealed, fingerprint), accepted(proofs.commitment_b(), proofs.compare_proofs()[1]))
    for kind, peer in (("fingerprint", b"x" * 32), ("compare", None), ("inference", None)):
        with pytest.raises(ValueError, match="peer"):
            replace(fingerprint.claim, kind=kind, peer=peer)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HUREFPF1", b"HUREFPF2"),
        (b"HUREFPF1", b"HUREFCM1"),
        (b'"huref.proof/1"', b'"huref.proof/2"'),
        (b'"huref.proof/1"', b'"huref.proof/1.0"'),
        (b'"kind":"fingerprint"', b'"kind":"Fingerprint"'),
    ],
)
def test_another_version_of_the_format(sealed: Commitment, old: bytes, new: bytes) -> None:
    data = proofs.fingerprint_proof().to_bytes()
    assert old in data
    with pytest.raises(CorruptFileError):
        parse_proof(with_header_length(data.replace(old, new, 1)), sealed.layout, "")


def test_another_version_of_a_commitment(sealed: Commitment) -> None:
    data = sealed.to_bytes()
    for old, new in ((b"HUREFCM1", b"HUREFCM2"), (b'"huref.commitment/1"', b'"huref.commitment/2"')):
        with pytest.raises(CorruptFileError):
            parse_commitment(data.replace(old, new, 1), "")


def with_header_length(data: bytes) -> bytes:
    """The length put right after a change of the header."""
    end = data.index(b"}") + 1
    return data[:8] + (end - 12).to_bytes(4, "little") + data[12:]


# Fiat and Shamir


def test_every_message_counts_for_every_later_challenge(a: Opening, sealed: Commitment) -> None:
    proof = proofs.fingerprint_proof()
    other = {
        "header": replace(proof, claim=replace(proof.claim, version="0.0.1")),
        "tokens": replace(proof, chosen=np.arange(proofs.N_A) != 3),
        "sketches": replace(proof, sketches=lie_about("1.gate_down", (7, 7), 1)(dict(proof.sketches))),
    }
    before = challenges(proof)
    for changed in other.values():
        assert not set(challenges(changed)) & set(before)
    late = replace(proof, products=exchanged(proof.products, 0, 1))
    assert challenges(late)[:2] == before[:2] and not set(challenges(late)[2:]) & set(before)
    last = PARTS["a mask"](proof)
    assert challenges(last)[:3] == before[:3] and challenges(last)[3] != before[3]
    assert len(set(before)) == 4


def challenges(proof: SketchProof) -> tuple[int, ...]:
    """a, b, s, e of sections 6 and 8, by the page."""
    transcript = Transcript("huref/proof/1")
    for label, data in proof.bound():
        transcript.absorb(label, data)
    drawn = [transcript.challenge("a"), transcript.challenge("b")]
    transcript.absorb("products", proof.products)
    drawn.append(transcript.challenge("s"))
    transcript.absorb("masks", proof.quadratic.masks)
    return (*drawn, transcript.challenge("e"))


@pytest.mark.parametrize("label", ["header", "tokens", "sketches", "products", "masks"])
def test_no_message_can_be_left_out(sealed: Commitment, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof made without one of the messages is another proof: the verifier hears all of them."""
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "Transcript", deaf_to(label))
        proof = proofs.prove_fingerprint(proofs.a(), sealed)
        accepted(sealed, proof)
    refuse(sealed, proof, "does not hold")


def foresight(layout: Layout, by: int) -> Callable[..., Any]:
    """Products for a sketch whose entry (0, 0) of the first term is off by `by`, made after s is known."""

    def lie(v: cheats.Vectors, u: cheats.Vectors, s: int) -> tuple[cheats.Vectors, cheats.Vectors]:
        spread = protocol._spread_challenges(layout, s)
        delta, sigma = spread.products[0], int(spread.left[0][0])
        v[0][0] += delta * by * pow(delta * int(u[0][0]) - sigma, -1, ORDER)
        v[0][0] %= ORDER
        return v, u

    return lie


def test_products_made_after_their_challenge_is_known(
    a: Opening, sealed: Commitment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without `products` in the transcript a false sketch is proved. With it, never."""
    lies = Lies(lie_about("1.qk", (0, 0), 1), foresight(sealed.layout, 1))
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "Transcript", deaf_to("products"))
        proof = prove(a, sealed, lies)
        accepted(sealed, proof)
    refuse(sealed, proof, "does not hold")
    for _ in range(5):  # grinding: a fresh s each time, known one step too late
        refuse(sealed, prove(a, sealed, lies), "does not hold")


def small_relation(b: int) -> tuple[int, int]:
    """(c, d), both about 2^128, with `c + d b = 0` modulo p: Euclid stopped half-way."""
    r, s = (ORDER, b), (0, 1)
    while r[1] > 1 << 128:
        quotient = r[0] // r[1]
        r, s = (r[1], r[0] - quotient * r[1]), (s[1], s[0] - quotient * s[1])
    return r[1], -s[1]


def test_sketches_made_after_their_challenge_is_known(
    a: Opening, sealed: Commitment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: who knows b can change two neighbours of a sketch so that y stays. Without `sketches`, that passes."""
    everyone = np.ones(proofs.N_A, dtype=bool)
    recipe = sealed.layout.recipe
    exact = exact_sketches(sealed.layout, a.rows, centred_signs(a.strings, everyone, 8, recipe.seed))
    width = 20
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "Transcript", deaf_to("sketches"))
        patch.setattr(cheats, "byte_length", lambda _: width)
        probe = replace(proofs.fingerprint_proof(), claim=replace(cheats.fingerprint_claim(sealed), width=width))
        b = int(protocol._begin(probe)[2][1])
        c, d = small_relation(b)
        assert (c + d * b) % ORDER == 0 and c and d

        def lie(true: cheats.Sketches) -> cheats.Sketches:
            return lie_about("1.qk", (0, 1), d)(lie_about("1.qk", (0, 0), c)(true))

        proof = prove(a, sealed, Lies(lie))
        assert proof.sketches["1.qk"][0, 0] != exact["1.qk"][0, 0]
        assert sketch_part_holds(sealed, proof)
    assert not sketch_part_holds(sealed, proof)
    with pytest.raises(HurefError):
        accepted(sealed, proof)


def test_masks_made_after_their_challenge_is_known(sealed: Commitment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: who knows e proves anything with the simulator of section 10, without any opening."""
    proof = proofs.fingerprint_proof()
    false = replace(proof, sketches=lie_about("1.qk", (0, 0), 1)(dict(proof.sketches)))
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "Transcript", deaf_to("masks"))
        forged = simulated(sealed, false)
        assert sketch_part_holds(sealed, forged)
    assert not sketch_part_holds(sealed, forged)
    refuse(sealed, forged, "does not hold")


def simulated(sealed: Commitment, proof: SketchProof) -> SketchProof:
    """Responses first, masks solved from the equations; needs e before the masks, and no secret."""
    found: list[Any] = []

    def capture(*arguments: Any) -> None:
        found.extend(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "require_quadratic", capture)
        equations = PointEquations()
        first = equations.extend(decode_points(sealed.points, ""))
        protocol.require_sketches(sealed.layout, sealed.strings, proof, first, equations)
    pairs, value, _, _, transcript, _ = found
    e = transcript.challenge("e")
    known = [*decode_points(sealed.points + proof.products, "")]
    sides = [side for pair in pairs for side in (pair.left, pair.right)]
    responses = [field.random_vector(pair.length) for pair in pairs for _ in range(2)]
    blindings = field.random_vector(len(sides)).tolist()
    masks = []
    for side, response, z in zip(sides, responses, blindings, strict=True):
        total = commit(response, z)
        for start, coefficients in side.scaled(e).pieces:
            points = known[start : start + len(coefficients)]
            total += -summed(points, coefficients)
        masks.append(total)
    E = -e * e * value
    for index, pair in enumerate(pairs):
        left, right = responses[2 * index], responses[2 * index + 1]
        E += pair.weights.product * field.dot(left, right) + e * pair.weights.linear(left, right)
    tau, t_1 = field.random_scalar(), commit(field.random_vector(1), field.random_scalar())
    t_0 = commit(field.integers([E % ORDER]), tau) + -summed([t_1], [e])
    encoded = encode_points([*masks, t_0, t_1])
    return with_quadratic(proof, masks=encoded, responses=tuple(responses), blindings=tuple(blindings), tau=tau)


def summed(points: Any, coefficients: Any) -> Any:
    return multiply_sum(points, [int(value) for value in coefficients])


def test_a_good_simulation_does_not_help_with_the_real_transcript(sealed: Commitment) -> None:
    """Even of a true statement: the masks decide e, and the simulator has used it before."""
    forged = simulated(sealed, proofs.fingerprint_proof())
    assert not sketch_part_holds(sealed, forged)
