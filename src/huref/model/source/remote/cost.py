"""What reading from elsewhere has cost this process: bytes and requests, for progress and for the last line."""

from __future__ import annotations

import threading


class Cost:
    """Counts, added to by every thread.

    Attributes:
        received: bytes of bodies.
        requests: how many were sent, redirects and repeats among them.
        kept: bytes that were taken from the blocks of earlier runs.
        whole: bytes of the files that were opened, however little was read of them.
        said: what is going on where that is not plain reading, such as a wait.
    """

    def __init__(self) -> None:
        self.received = self.requests = self.kept = self.whole = 0
        self.said = ""
        self._lock = threading.Lock()

    def add(self, received: int = 0, requests: int = 0, kept: int = 0, whole: int = 0) -> None:
        """Count what happened."""
        with self._lock:
            self.received += received
            self.requests += requests
            self.kept += kept
            self.whole += whole
            self.said = ""

    def tell(self, said: str) -> None:
        """Say what is waited for, until the next byte."""
        with self._lock:
            self.said = said


COST = Cost()
