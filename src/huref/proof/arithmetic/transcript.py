"""The Fiat-Shamir transcript: proof-v1, section 3."""

from __future__ import annotations

import hashlib

from huref.proof.arithmetic.field import ORDER


class Transcript:
    """One SHAKE-256 state; every message has a label and a length, every challenge depends on all before it.

    Args:
        protocol: what is proved, absorbed first under the label `protocol`.
    """

    def __init__(self, protocol: str) -> None:
        self._state = hashlib.shake_256()
        self.absorb("protocol", protocol.encode())

    def absorb(self, label: str, data: bytes) -> None:
        """Bind a message."""
        name = label.encode()
        self._state.update(len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little"))
        self._state.update(data)

    def challenge(self, label: str) -> int:
        """A field element that the messages so far decide."""
        return int.from_bytes(self.bytes(label, 64), "little") % ORDER

    def fork(self, domain: bytes) -> bytes:
        """64 bytes that the messages so far decide, for the prover's own use: nothing is absorbed."""
        return hashlib.shake_256(domain + self._state.copy().digest(64)).digest(64)

    def bytes(self, label: str, count: int) -> bytes:
        """`count` bytes that the messages so far decide."""
        self.absorb(label, b"")
        return self._state.copy().digest(count)
