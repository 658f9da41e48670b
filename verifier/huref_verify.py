"""A second, minimal verifier of huref's commitments and proofs, in one file.

    python huref_verify.py COMMITMENT [PROOF [OTHER_COMMITMENT OTHER_PROOF]]

Exit code 0: every check passed, and what follows from it is printed. Exit code 1: refused, with the reason.

Written from two pages, docs/formats/proof-v1.md and docs/formats/fingerprint-v1.md; it shares no line with huref.
"[5.1]" names a section of proof-v1, "[F4]" one of fingerprint-v1. It prefers being short to being fast, and needs the
standard library, numpy, and py_arkworks_bls12381 for the curve. Reading order: from the top.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from py_arkworks_bls12381 import G1Point, Scalar

P = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001  # order of the group [2]
DST = b"HUREF-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"  # [2]
PROJECTIONS = 192  # [7]
FEWEST_TOKENS = 256  # [9]
LENGTH = 512  # of a fingerprint [F1]
Pieces = list[tuple[int, int]]  # a linear combination of points: (index of the point, coefficient)


class Refused(Exception):  # noqa: N818 (not an error of the program)
    """The files do not pass."""


def require(is_right: bool, otherwise: str) -> None:
    """Refuse unless."""
    if not is_right:
        raise Refused(otherwise)


class Reader:
    """Bytes taken from the front, never more than there are."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        require(0 <= count <= len(self.data) - self.at, "the file ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self, width: int, *, signed: bool = False) -> int:
        """A little-endian integer."""
        return int.from_bytes(self.take(width), "little", signed=signed)

    def integers(self, count: int, width: int, *, signed: bool = False) -> list[int]:
        """Several of one width."""
        data = self.take(count * width)
        return [int.from_bytes(data[i : i + width], "little", signed=signed) for i in range(0, len(data), width)]

    def scalars(self, count: int) -> list[int]:
        """Field elements, each below p [2]."""
        values = self.integers(count, 32)
        require(all(value < P for value in values), "a scalar that is not below p")
        return values

    def header(self, magic: bytes, keys: str) -> tuple[bytes, dict[str, Any]]:
        """Magic and canonical JSON with exactly these keys [5]."""
        require(self.take(8) == magic, f"not a {magic.decode()} file")
        data = self.take(min(self.integer(4), (1 << 20) + 1))
        require(len(data) <= 1 << 20, "a header over 1 MiB")
        try:
            header = json.loads(data.decode())
            again = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise Refused("a header that is not JSON") from None
        require(again == data, "a header that is not canonical JSON")
        require(has_keys(header, keys), "a header with other keys than the format's")
        return data, header

    def end(self) -> None:
        """Nothing may follow."""
        require(self.at == len(self.data), "bytes after the end")


def has_keys(value: object, keys: str) -> bool:
    """Whether it is a JSON object with exactly these keys."""
    return isinstance(value, dict) and sorted(value) == sorted(keys.split())


def is_number(value: object, low: int, high: int) -> bool:
    """Whether it is an integer, low <= value <= high; true and false are not."""
    return type(value) is int and low <= value <= high


def is_text(value: object) -> bool:
    """Whether it is a string of at most 4,096 characters."""
    return isinstance(value, str) and len(value) <= 4096


def decode_points(data: bytes) -> list[G1Point]:
    """Points: on the curve, in the subgroup, not the identity, and with one encoding only [2]."""
    points, identity = [], G1Point.identity()
    for start in range(0, len(data), 48):
        encoded = data[start : start + 48]
        try:
            point = G1Point.from_compressed_bytes(encoded)
        except ValueError:
            raise Refused("a point that is not on the curve") from None
        require(point.is_in_subgroup() and point != identity, "a point outside the group, or the identity")
        require(point.to_compressed_bytes() == encoded, "a point in another encoding")
        points.append(point)
    return points


def generators(count: int) -> list[G1Point]:
    """G_0, G_1, ... and then H [2]."""
    made = [G1Point.hash_to_curve(b"huref/generator/1/" + j.to_bytes(4, "little"), DST) for j in range(count)]
    return [*made, G1Point.hash_to_curve(b"huref/blinding-generator/1", DST)]


class Equations:
    """Equations `Com(vector; blinding) = sum of coefficient * point`, checked as one random combination [8, end]."""

    def __init__(self, width: int, points: Sequence[G1Point]) -> None:
        self.points = list(points)
        self.coefficients = [0] * len(self.points)
        self.on_generators, self.on_blinding = [0] * width, 0

    def extend(self, points: Sequence[G1Point]) -> int:
        """Further points; the index of the first."""
        self.points += points
        self.coefficients += [0] * len(points)
        return len(self.points) - len(points)

    def add(self, vector: Sequence[int], blinding: int, pieces: Pieces) -> None:
        """One more equation, times a fresh random number of 128 bits."""
        factor = secrets.randbits(128)
        for j, value in enumerate(vector):
            self.on_generators[j] += factor * value
        self.on_blinding += factor * blinding
        for index, coefficient in pieces:
            self.coefficients[index] -= factor * coefficient

    def require(self, what: str) -> None:
        """Refuse unless the combination is zero."""
        points = [*generators(len(self.on_generators)), *self.points]
        numbers = [*self.on_generators, self.on_blinding, *self.coefficients]
        total = G1Point.multiexp_unchecked(points, [Scalar(number % P) for number in numbers])
        require(total == G1Point.identity(), what)


class Transcript:
    """Fiat and Shamir's challenges [3]."""

    def __init__(self, protocol: bytes) -> None:
        self.state = hashlib.shake_256()
        self.absorb(b"protocol", protocol)

    def absorb(self, label: bytes, data: bytes) -> None:
        """A message of the prover, or something public."""
        self.state.update(len(label).to_bytes(4, "little") + label + len(data).to_bytes(8, "little"))
        self.state.update(data)

    def draw(self, label: bytes, count: int) -> bytes:
        """Random bytes that depend on everything before."""
        self.absorb(label, b"")
        return self.state.copy().digest(count)

    def challenge(self, label: bytes) -> int:
        """A random field element."""
        return int.from_bytes(self.draw(label, 64), "little") % P


@dataclass
class Term:
    """One invariant term: key, rank r; per side (left, right) where its matrix' rows begin, and its groups [5.1]."""

    key: str
    rank: int
    start: tuple[int, int]
    groups: tuple[int, int]
    head_dim: int

    def rows(self, side: int, values: Sequence[int]) -> Pieces:
        """`sum_i values_i (row i of the factor)`, in committed rows: row i may be a sum over heads [5.1]."""
        start, g, e = self.start[side], self.groups[side], self.head_dim
        if g == 1:
            return [(start + i, value) for i, value in enumerate(values)]
        return [(start + i // e * g * e + q * e + i % e, v) for i, v in enumerate(values) for q in range(g)]


@dataclass
class Commitment:
    """A parsed commitment [5.1]."""

    header: dict[str, Any]
    root: bytes
    strings: list[bytes]
    terms: list[Term]
    points: list[G1Point]
    no_wrap: tuple[bytes, list[int], list[int]]  # D_k, t_kj row after row, blindings [7]

    @property
    def width(self) -> int:
        """d."""
        return int(self.header["width"])


def read_commitment(data: bytes) -> Commitment:
    """Parse strictly, recompute the root, decode the points [5.1]."""
    reader = Reader(data)
    keys = "schema model architecture recipe n_layers width bits norm matrices terms"
    raw, header = reader.header(b"HUREFCM1", keys)
    starts = check_matrices(header)
    terms = read_terms(header, starts)
    begin = reader.at
    strings = [reader.take(min(reader.integer(4), 4097)) for _ in range(header["matrices"][0]["rows"])]
    require(all(len(string) <= 4096 for string in strings), "a token string over 4,096 bytes")
    require(len(set(strings)) == len(strings), "a token string twice")
    listed = data[begin : reader.at]
    n_rows = sum(matrix["rows"] for matrix in header["matrices"])
    points = reader.take(48 * n_rows)
    root = hashlib.sha256(b"huref/root/1" + len(raw).to_bytes(4, "little") + raw + listed + points).digest()
    M = PROJECTIONS * header["width"] * 8 * header["norm"]
    masks = reader.take(48 * PROJECTIONS)
    sums = reader.integers(PROJECTIONS * header["width"], ((2 * M).bit_length() + 7) // 8)
    no_wrap = (masks, [value - M for value in sums], reader.scalars(PROJECTIONS))
    reader.end()
    return Commitment(header, root, strings, terms, decode_points(points), no_wrap)


def check_matrices(header: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Check everything in a header but the terms; returns each matrix' first row and number of rows [5.1]."""
    recipe, matrices = header["recipe"], header["matrices"]
    require(header["schema"] == "huref.commitment/1", "another schema")
    require(is_text(header["model"]) and is_text(header["architecture"]), "no names of model and architecture")
    sizes = (("n_layers", 1, (1 << 62) - 1), ("width", 1, 1 << 15), ("bits", 12, 16), ("norm", 1, (1 << 62) - 1))
    require(all(is_number(header[key], low, high) for key, low, high in sizes), "a size out of range")
    require(has_keys(recipe, "name encoder layers n_tokens ranking seed sketch_rows"), "no recipe")
    names = ("canonical-2", "canonical", "paper")
    require(recipe["name"] in names and recipe["encoder"] == "sketch", "a recipe without proofs")
    require(all(is_text(recipe[key]) for key in ("layers", "seed", "ranking")), "a recipe that is not one")
    require(is_number(recipe["n_tokens"], 256, (1 << 62) - 1), "n_tokens out of range")
    require(is_number(recipe["sketch_rows"], 8, 512) and recipe["sketch_rows"] % 4 == 0, "sketch_rows out of range")
    require(isinstance(matrices, list) and bool(matrices), "no matrices")
    starts: dict[str, tuple[int, int]] = {}
    n_rows = 0
    for matrix in matrices:
        require(has_keys(matrix, "name rows exponent") and is_text(matrix["name"]), "a matrix without a name")
        require(is_number(matrix["rows"], 1, 1 << 22) and is_number(matrix["exponent"], -255, 255), "matrix sizes")
        require(matrix["name"] not in starts, "a matrix twice")
        starts[matrix["name"]] = (n_rows, matrix["rows"])
        n_rows += matrix["rows"]
    require(matrices[0]["name"] == "embedding" and n_rows <= 1 << 22, "no embedding in front, or too many rows")
    require(matrices[0]["rows"] <= 1 << 17, "too many tokens")
    return starts


def read_terms(header: dict[str, Any], starts: dict[str, tuple[int, int]]) -> list[Term]:
    """Check the terms, and inequality (4) for each [5.1] [7]."""
    terms: list[Term] = []
    require(isinstance(header["terms"], list) and bool(header["terms"]), "no terms")
    n_tokens, width = starts["embedding"][1], header["width"]
    M = PROJECTIONS * width * 8 * header["norm"]
    for term in header["terms"]:
        require(has_keys(term, "key left right groups head_dim") and is_text(term["key"]), "a term without a key")
        match = re.fullmatch("(0|[1-9][0-9]*)[.][A-Za-z_][A-Za-z0-9_]*", term["key"])
        require(match is not None and int(match[1]) < header["n_layers"], "a term's key")
        require(is_text(term["left"]) and is_text(term["right"]), "a factor without a name")
        require({term["left"], term["right"]} <= set(starts) - {"embedding"}, "a factor that is not committed")
        groups, head = term["groups"], term["head_dim"]
        require(isinstance(groups, list) and len(groups) == 2, "a term's groups")
        require(all(is_number(g, 1, 1 << 22) for g in groups) and is_number(head, 0, 1 << 22), "a term's groups")
        require((head == 0) == (groups == [1, 1]), "a term's head_dim")
        (left, rows_l), (right, rows_r) = starts[term["left"]], starts[term["right"]]
        rank = rows_l // groups[0]
        require(rank * groups[0] == rows_l and rank * groups[1] == rows_r, "factors of different ranks")
        require(head == 0 or rank % head == 0, "a term's heads")
        largest = 2 * n_tokens**3 * width**2 * groups[0] * groups[1] * (9 * M) ** 4
        require(largest < P, "bounds that do not exclude a wrap-around (4)")
        terms.append(Term(term["key"], rank, (left, right), (groups[0], groups[1]), head))
    require(len({term.key for term in terms}) == len(terms), "a term twice")
    used = sum(starts[term[side]][1] for term in header["terms"] for side in ("left", "right"))
    require(used <= 4 * sum(rows for _, rows in starts.values()), "matrices in too many terms")
    return terms


def verify_commitment(commitment: Commitment) -> Equations:
    """The no-wrap proof: ranges here, its equations in those returned [7]."""
    masks, sums, blindings = commitment.no_wrap
    width, n_rows, T = commitment.width, len(commitment.points), 8 * int(commitment.header["norm"])
    require(all(abs(value) <= PROJECTIONS * width * T - T for value in sums), "a masked sum out of range")
    transcript = Transcript(b"huref/commitment/1")
    transcript.absorb(b"root", commitment.root)
    transcript.absorb(b"masks", masks)
    equations = Equations(width, commitment.points)
    first = equations.extend(decode_points(masks))
    stream = transcript.draw(b"projections", (2 * PROJECTIONS * n_rows + 7) // 8)
    for k in range(PROJECTIONS):
        skip, begin = 2 * k * n_rows % 8, 2 * k * n_rows // 8
        part = np.frombuffer(stream[begin : begin + n_rows // 4 + 2], np.uint8)
        bits = np.unpackbits(part, bitorder="little")[skip : skip + 2 * n_rows].astype(int).reshape(n_rows, 2)
        E_k = [(i, sign) for i, sign in enumerate((bits[:, 0] - bits[:, 1]).tolist()) if sign]
        equations.add(sums[k * width : (k + 1) * width], blindings[k], [(first + k, 1), *E_k])
    return equations


@dataclass
class Proof:
    """A parsed proof [5.3]."""

    header: dict[str, Any]
    raw: bytes  # the header's bytes
    chosen: bytes  # the bits c
    sketches: bytes
    Y: dict[str, list[int]]  # m * m integers, row after row
    products: bytes  # V_t,j, then U_t,j
    masks: bytes  # P^_0, Q^_0, P^_1, ..., T_0, T_1
    responses: list[list[int]]  # f_0, g_0, f_1, ...
    blindings: list[int]  # z(f_0), z(g_0), z(f_1), ...
    tau: int

    def takes_part(self) -> list[bool]:
        """c, and the padding behind it."""
        return [bool(byte >> i & 1) for byte in self.chosen for i in range(8)]


def read_proof(data: bytes, commitment: Commitment) -> Proof:
    """Parse strictly; what the header says must fit the commitment and section 1 [5.3]."""
    reader = Reader(data)
    raw, header = reader.header(b"HUREFPF1", "schema kind root peer seed rows bytes version")
    check_claim(header, commitment)
    m, width, n_tokens = header["rows"], header["bytes"], len(commitment.strings)
    chosen = reader.take((n_tokens + 7) // 8)
    size = m * m * width
    sketches = reader.take(size * len(commitment.terms))
    slices = [sketches[i : i + size] for i in range(0, len(sketches), size)]
    Y = {t.key: Reader(s).integers(m * m, width, signed=True) for t, s in zip(commitment.terms, slices, strict=True)}
    lengths = [len(piece) for _, piece in cut(commitment)]
    products = reader.take(48 * 2 * len(lengths))
    masks = reader.take(48 * (2 * (2 + len(lengths)) + 2))
    vectors = [n for n in (commitment.width, commitment.width, *lengths) for _ in range(2)]
    responses = [reader.scalars(n) for n in vectors]
    blindings = reader.scalars(len(vectors))
    (tau,) = reader.scalars(1)
    reader.end()
    proof = Proof(header, raw, chosen, sketches, Y, products, masks, responses, blindings, tau)
    check_encodings(proof, n_tokens)
    return proof


def check_claim(header: dict[str, Any], commitment: Commitment) -> None:
    """A proof's header against the commitment and section 1 [5.3] [9.3]."""
    root, recipe = commitment.root, commitment.header["recipe"]
    require(header["schema"] == "huref.proof/1" and isinstance(header["version"], str), "another schema")
    require(header["root"] == root.hex(), "a proof about another commitment")
    require(is_number(header["rows"], 8, 512) and header["rows"] % 4 == 0, "rows out of range")
    require(is_number(header["bytes"], 1, 31), "bytes out of range")
    if header["kind"] == "fingerprint":
        require(header["peer"] is None, "a fingerprint with a peer")
        require(header["seed"] == recipe["seed"] and header["rows"] == recipe["sketch_rows"], "other signs")
        require(has_recipes_layers(commitment), "not the recipe's layers")
        return
    require(header["kind"] == "compare" and is_text(header["peer"]), "neither a fingerprint nor a comparison")
    require(re.fullmatch("[0-9a-f]{64}", header["peer"]) is not None, "a peer that is not a root")
    peer = bytes.fromhex(header["peer"])
    require(peer != root, "one commitment twice")
    digest = hashlib.sha256(b"huref/pair/1" + min(root, peer) + max(root, peer)).hexdigest()
    require(header["seed"] == "huref/pair/1/" + digest, "not the pair's seed")


def has_recipes_layers(commitment: Commitment) -> bool:
    """Whether the terms are of the layers that the recipe names, or of some of them [9.3]."""
    recipe = commitment.header["recipe"]
    layers = layers_of(recipe["layers"], commitment.header["n_layers"])
    keys = [term.key.split(".") for term in commitment.terms]
    if recipe["name"] != "canonical-2":
        return {int(layer) for layer, _ in keys} == layers
    if recipe["layers"] == "all" and commitment.header["n_layers"] > 1 << 16:
        return False
    used = {kind: {int(layer) for layer, other in keys if other == kind} for kind in ("qk", "vo", "up_down")}
    if used["qk"] != used["vo"] or any(kind not in used for _, kind in keys):
        return False
    if recipe["layers"] == "last2":  # wherever they stand
        return all(len(found) <= len(layers) for found in used.values())
    return all(found <= layers for found in used.values())


def slots(commitment: Commitment) -> dict[str, str]:
    """By term `KIND/PLACE`, its place counted from the end, -1 the last [F4.4]."""
    found, n_layers = {}, commitment.header["n_layers"]
    seen: dict[str, int] = {}
    for layer, kind in sorted(
        ((int(t.key.split(".")[0]), t.key.split(".")[1]) for t in commitment.terms), reverse=True
    ):
        seen[kind] = seen.get(kind, 0) - 1
        is_counted = commitment.header["recipe"]["name"] == "canonical-2"  # among the terms of its kind
        found[f"{layer}.{kind}"] = f"{kind}/{seen[kind] if is_counted else layer - n_layers}"
    return found


def layers_of(text: str, n: int) -> set[int]:
    """The layers that a recipe names, of n [9.3]."""
    usual = {"all": range(n), "last2": range(max(0, n - 2), n)}
    is_list = re.fullmatch("-?[0-9]{1,9}(,-?[0-9]{1,9})*", text) is not None
    require(text in usual or is_list, "no list of layers")
    listed = usual[text][: 1 << 16] if text in usual else [int(part) for part in text.split(",")]
    require(all(-n <= i < n for i in listed), "no such layer")
    return {i % n for i in listed}


def check_encodings(proof: Proof, n_tokens: int) -> None:
    """Padding of c, who takes part, and that sketch numbers are as short as can be [5.3]."""
    chosen = proof.takes_part()
    require(not any(chosen[n_tokens:]), "padding that is not zero")
    n_chosen = sum(chosen)
    if proof.header["kind"] == "fingerprint":
        require(n_chosen == n_tokens, "a fingerprint without some of the tokens")
    else:
        require(n_chosen >= FEWEST_TOKENS, "a comparison of too few tokens")
    limit = 1 << (8 * proof.header["bytes"] - 9)  # what one byte less can hold
    values = [value for Y in proof.Y.values() for value in Y]
    require(proof.header["bytes"] == 1 or not all(-limit <= v < limit for v in values), "sketch numbers too wide")


def cut(commitment: Commitment) -> list[tuple[int, range]]:
    """The pieces of at most d of `v_t`, `u_t`: t, and a range over the entries of v_0, v_1, ... in a row [6.3]."""
    pieces, begin = [], 0
    for t, term in enumerate(commitment.terms):
        end = begin + term.rank
        pieces += [(t, range(i, min(i + commitment.width, end))) for i in range(begin, end, commitment.width)]
        begin = end
    return pieces


def sign_bits(strings: Sequence[bytes], rows: int, seed: str) -> Iterable[np.ndarray]:
    """For every token the 2 m bits behind its column of S1 and of S2: 0 is +1, 1 is -1 [F4.1]."""
    prefix = b"huref/sketch/1" + len(seed.encode()).to_bytes(4, "little") + seed.encode()
    for string in strings:
        data = hashlib.shake_256(prefix + string).digest((2 * rows + 7) // 8)
        yield np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=2 * rows)


def on_tokens(commitment: Commitment, proof: Proof, powers: Sequence[Sequence[int]]) -> list[list[int]]:
    """`S1'^T alpha` and `S2'^T beta`, K scalars each, by (2) [1] [6.2]."""
    m, chosen = proof.header["rows"], proof.takes_part()[: len(commitment.strings)]
    weights = [np.array(list(side), dtype=object) for side in powers]
    totals = np.zeros((2, m), dtype=np.int64)  # sum_l c_l S_il
    sums: list[list[int]] = [[], []]  # sum_i alpha_i S_ij
    for bits, is_in in zip(sign_bits(commitment.strings, m, proof.header["seed"]), chosen, strict=True):
        signs = 1 - 2 * bits.astype(np.int64).reshape(2, m)
        totals += is_in * signs
        for side in (0, 1):
            sums[side].append(int(weights[side] @ signs[side].astype(object)) if is_in else 0)
    k = sum(chosen)
    mean = [int(weights[side] @ totals[side].astype(object)) for side in (0, 1)]
    return [
        [is_in * (k * s - mean[side]) % P for s, is_in in zip(sums[side], chosen, strict=True)] for side in (0, 1)
    ]


def verify_proof(commitment: Commitment, proof: Proof, equations: Equations) -> None:
    """Sections 6 and 8: adds the equations that remain to be checked."""
    terms, m = commitment.terms, proof.header["rows"]
    transcript = Transcript(b"huref/proof/1")
    transcript.absorb(b"header", proof.raw)
    transcript.absorb(b"tokens", proof.chosen)
    transcript.absorb(b"sketches", proof.sketches)
    a, b = transcript.challenge(b"a"), transcript.challenge(b"b")
    alpha, beta = powers(a, 0, m), powers(b, 0, m)
    transcript.absorb(b"products", proof.products)
    n = sum(t.rank for t in terms)
    s = powers(transcript.challenge(b"s"), 1, 2 * n + len(terms))
    sigma, delta = (s[:n], s[n : 2 * n]), s[2 * n :]
    y = sum(delta[i] * bilinear(proof.Y[t.key], alpha, beta) for i, t in enumerate(terms)) % P

    x = [list(enumerate(coefficients)) for coefficients in on_tokens(commitment, proof, (alpha, beta))]
    Z: list[Pieces] = [[], []]
    begin = 0
    for term in terms:
        for side in (0, 1):
            Z[side] += term.rows(side, sigma[side][begin : begin + term.rank])
        begin += term.rank
    pieces = cut(commitment)
    first = equations.extend(decode_points(proof.products))
    committed: list[Pieces] = [Z[0], x[0], Z[1], x[1]]  # P_0, Q_0, P_1, ...
    for j in range(len(pieces)):
        committed += [[(first + j, 1)], [(first + len(pieces) + j, 1)]]

    first = equations.extend(decode_points(proof.masks))
    transcript.absorb(b"masks", proof.masks)
    e = transcript.challenge(b"e")
    for j, (response, blinding) in enumerate(zip(proof.responses, proof.blindings, strict=True)):
        equations.add(response, blinding, [(first + j, 1), *((i, e * value) for i, value in committed[j])])
    f, g = proof.responses[0::2], proof.responses[1::2]
    E = dot(f[0], g[0]) + dot(f[1], g[1])
    for (t, piece), f_k, g_k in zip(pieces, f[2:], g[2:], strict=True):
        on_f, on_g = ([-sigma[side][i] for i in piece] for side in (0, 1))
        E += delta[t] * dot(f_k, g_k) + e * (dot(on_f, f_k) + dot(on_g, g_k))
    T_0 = first + len(proof.responses)
    equations.add([(E - e * e * y) % P], proof.tau, [(T_0, 1), (T_0 + 1, e)])  # (5)


def powers(base: int, start: int, count: int) -> list[int]:
    """base^start, base^(start + 1), ..."""
    made = [pow(base, start, P)]
    for _ in range(count - 1):
        made.append(made[-1] * base % P)
    return made


def dot(left: Sequence[int], right: Sequence[int]) -> int:
    """The inner product."""
    return sum(a * b for a, b in zip(left, right, strict=True)) % P


def bilinear(Y: Sequence[int], alpha: Sequence[int], beta: Sequence[int]) -> int:
    """`alpha^T Y beta` [6.1]."""
    m = len(alpha)
    return dot(alpha, [dot(Y[i * m : (i + 1) * m], beta) for i in range(m)])


def token_digest(strings: Sequence[bytes]) -> str:
    """To be compared with that of a known vocabulary: the strings are claims [F3]."""
    listed = b"".join(len(string).to_bytes(8, "little") + string for string in strings)
    return hashlib.sha256(b"huref/token-selection/1" + listed).hexdigest()


def unit_rms(values: np.ndarray) -> np.ndarray:
    """Over the root mean square, float32 [F1] [9.5]."""
    scale = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return (values / scale if scale else values).astype(np.float32)


def sketch(proof: Proof, key: str) -> np.ndarray:
    """A term's sketch as numbers, m * m of them."""
    return unit_rms(np.array([float(value) for value in proof.Y[key]]))


def vector(commitment: Commitment, proof: Proof) -> np.ndarray:
    """The fingerprint: 512 numbers [F4.4] [F4.5]."""
    seed, total = proof.header["seed"].encode(), np.zeros(LENGTH)
    places = slots(commitment)
    for key in sorted(proof.Y):
        slot = places[key].encode()
        flat = sketch(proof, key).astype(np.float64)
        prefix = b"huref/project/1" + len(seed).to_bytes(4, "little") + seed
        data = np.frombuffer(hashlib.shake_256(prefix + slot).digest(LENGTH * flat.size // 8), np.uint8)
        for i, line in enumerate(data.reshape(LENGTH, flat.size // 8)):
            total[i] += flat @ (1.0 - 2.0 * np.unpackbits(line, bitorder="little"))
    return unit_rms(total)


def compare(a: Commitment, proof_a: Proof, b: Commitment, proof_b: Proof) -> float:
    """The ICS of two owners' sketches: the mean of the cosines of matching terms [9]."""
    for own, other, proof in ((a, b, proof_a), (b, a, proof_b)):
        require(proof.header["kind"] == "compare" and proof.header["peer"] == other.root.hex(), "not of this pair")
        shared = set(other.strings)
        chosen = proof.takes_part()[: len(own.strings)]
        require(chosen == [string in shared for string in own.strings], "not the tokens that both list")
    m = proof_a.header["rows"]
    require(m == proof_b.header["rows"], "different numbers of rows")
    require(a.header["recipe"]["name"] == b.header["recipe"]["name"], "different recipes")
    cosines, others = [], {slot: key for key, slot in slots(b).items()}
    for key, slot in slots(a).items():
        if slot in others:
            u, v = sketch(proof_a, key).astype(np.float64), sketch(proof_b, others[slot]).astype(np.float64)
            for side in (u.reshape(m, m) != 0, v.reshape(m, m) != 0):
                require(min(side.any(0).sum(), side.any(1).sum()) > 1, "a sketch of zeros")
            cosines.append(float(u @ v / np.sqrt((u @ u) * (v @ v))))
    require(bool(cosines), "no term in common")
    return sum(cosines) / len(cosines)


def verify(commitment: bytes, proof: bytes | None = None) -> tuple[Commitment, Proof | None]:
    """Everything about one commitment, and one proof about it [9.1] to [9.4].

    Raises:
        Refused: it does not pass.
    """
    parsed = read_commitment(commitment)
    claim = None if proof is None else read_proof(proof, parsed)
    equations = verify_commitment(parsed)
    if claim is not None:
        verify_proof(parsed, claim, equations)
    equations.require("the equations do not hold")
    return parsed, claim


def main(paths: Sequence[str]) -> int:
    """Run on files; returns the exit code."""
    if len(paths) not in (1, 2, 4):
        print(__doc__, file=sys.stderr)
        return 1
    sides: list[tuple[Commitment, Proof | None]] = []
    try:
        files = [Path(path).read_bytes() for path in paths]
        sides = [verify(*files[i : i + 2]) for i in range(0, len(files), 2)]
        for commitment, proof in sides:
            print(f"commitment {commitment.root.hex()}: holds; says it is of {commitment.header['model']!r}")
            print(f"digest of its {len(commitment.strings)} tokens: {token_digest(commitment.strings)}")
            if proof is not None:
                print(f"proof of kind {proof.header['kind']}: holds")
            if proof is not None and proof.header["kind"] == "fingerprint":
                numbers = vector(commitment, proof)
                digest = hashlib.sha256(numbers.tobytes()).hexdigest()
                print(f"sha256 of the vector as little-endian float32: {digest}")
                print("vector", " ".join(f"{number:.6g}" for number in numbers.tolist()))
        if len(sides) == 2:
            (a, proof_a), (b, proof_b) = sides
            assert proof_a is not None and proof_b is not None
            print(f"ICS {compare(a, proof_a, b, proof_b):.6f}")
    except (Refused, OSError) as reason:
        print(f"refused: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
