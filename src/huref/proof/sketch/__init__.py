"""The proof that a fingerprint was computed from committed weights."""
