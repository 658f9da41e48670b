"""RFC 9380's hash_to_curve for BLS12-381 G1 (BLS12381G1_XMD:SHA-256_SSWU_RO_), from scratch, in integers.

The RFC lists the 11-isogeny of its appendix E.2 as 53 constants. Here it is computed instead, by Velu's formulas from
the one rational subgroup of order 11 of E'. That leaves six maps, which differ by an automorphism of E; the RFC's is
the one that takes its published test vector (appendix J.9.1) to the published point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache

Q = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
COFACTOR = 0x396C8C005555E1568C00AAAB0000AAAB
A = 0x144698A3B8E9433D693A02C96D4982B0EA985383EE66A8D8E8981AEFD881AC98936F8DA0E0F97F5CF428082D584C1D  # of E'
B = 0x12E2908D11688030018B12E8753EEE3B2016C1F0F24F4070A0B9C14FCEF35EF55A23215A316CEAA5D1CC48E98E172BE0  # of E'
Z, CLEAR = 11, 0xD201000000010001
RFC_TAG = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
RFC_POINT = (  # of the empty message
    0x052926ADD2207B76CA4FA57A8734416C8DC95E24501772C814278700EED6D1E4E8CF62D9C09DB0FAC349612B759E79A1,
    0x08BA738453BFED09CB546DBB0783DBB3A5F1F566ED67BB6BE0E8C67E2E81A4CC68EE29813BB7994998F3EAE0C9C6A265,
)

Point = tuple[int, int] | None
Map = Callable[[tuple[int, int]], tuple[int, int]]


def add(p: Point, q: Point, a: int) -> Point:
    """On y^2 = x^3 + a x + b; None is the identity."""
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % Q == 0:
        return None
    slope = (3 * p[0] ** 2 + a) * pow(2 * p[1], -1, Q) if p == q else (q[1] - p[1]) * pow(q[0] - p[0], -1, Q)
    x = (slope**2 - p[0] - q[0]) % Q
    return x, (slope * (p[0] - x) - p[1]) % Q


def multiple(count: int, p: Point, a: int) -> Point:
    """By doubling and adding."""
    total: Point = None
    for bit in bin(count)[2:]:
        total = add(add(total, total, a), p if bit == "1" else None, a)
    return total


def field_elements(message: bytes, tag: bytes) -> tuple[int, int]:
    """Sections 5.2 and 5.3.1: two elements of 64 bytes each from expand_message_xmd."""
    suffix = tag + bytes([len(tag)])
    first = hashlib.sha256(bytes(64) + message + (128).to_bytes(2, "big") + b"\0" + suffix).digest()
    blocks = [hashlib.sha256(first + b"\1" + suffix).digest()]
    for i in range(2, 5):
        mixed = bytes(x ^ y for x, y in zip(first, blocks[-1], strict=True))
        blocks.append(hashlib.sha256(mixed + bytes([i]) + suffix).digest())
    data = b"".join(blocks)
    return int.from_bytes(data[:64], "big") % Q, int.from_bytes(data[64:], "big") % Q


def map_to_curve(u: int) -> tuple[int, int]:
    """Section 6.6.2, simplified SWU, to E'."""
    t = (Z**2 * u**4 + Z * u**2) % Q
    x = -B * pow(A, -1, Q) * (1 + pow(t, -1, Q)) % Q if t else B * pow(Z * A, -1, Q) % Q
    square = (x**3 + A * x + B) % Q
    if pow(square, (Q - 1) // 2, Q) == Q - 1:
        x = Z * u**2 * x % Q
        square = (x**3 + A * x + B) % Q
    y = pow(square, (Q + 1) // 4, Q)
    return x, y if y % 2 == u % 2 else Q - y


@cache
def isogenies() -> list[Map]:
    """The maps of degree 11 from E' to y^2 = x^3 + 4, by Velu's formulas."""
    for u in range(1, 99):
        kernel = multiple(COFACTOR * ORDER // 121, map_to_curve(u), A)
        if kernel is not None and multiple(11, kernel, A) is not None:
            kernel = multiple(11, kernel, A)
            break
    halves = [multiple(i, kernel, A) for i in range(1, 6)]
    sums = [(x, 2 * (3 * x**2 + A), 4 * y**2) for x, y in filter(None, halves)]
    b = (B - 7 * sum(u + x * t for x, t, u in sums)) % Q
    assert (A - 5 * sum(t for _, t, _ in sums)) % Q == 0
    ratio = 4 * pow(b, -1, Q) % Q  # c^6; its cube roots are among the nine below, as 9 is the power of 3 in Q - 1
    root, ninth = pow(ratio, pow(3, -1, (Q - 1) // 9), Q), pow(2, (Q - 1) // 9, Q)
    squares = [square for i in range(9) if pow(square := root * ninth**i % Q, 3, Q) == ratio]
    roots = [c for square in squares if (c := pow(square, (Q + 1) // 4, Q)) ** 2 % Q == square]
    return [_scaled(sums, sign * c) for c in roots for sign in (1, -1)]


def _scaled(sums: list[tuple[int, int, int]], c: int) -> Map:
    def isogeny(point: tuple[int, int]) -> tuple[int, int]:
        x, y = point
        inverses = [(pow(x - k, -1, Q), t, u) for k, t, u in sums]
        X = x + sum(t * i + u * i**2 for i, t, u in inverses)
        slope = 1 - sum(t * i**2 + 2 * u * i**3 for i, t, u in inverses)
        return X * c**2 % Q, y * slope * c**3 % Q

    return isogeny


def hash_to_curve(message: bytes, tag: bytes, isogeny: Map) -> Point:
    """Section 3: both elements mapped, added, the cofactor cleared."""
    p, q = (isogeny(map_to_curve(u)) for u in field_elements(message, tag))
    return multiple(CLEAR, add(p, q, 0), 0)


@cache
def rfc_isogeny() -> Map:
    """The one of the six that the RFC's test vector singles out."""
    (chosen,) = [iso for iso in isogenies() if hash_to_curve(b"", RFC_TAG, iso) == RFC_POINT]
    return chosen
