"""Commitments, openings and proofs as bytes."""
