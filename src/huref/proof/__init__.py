"""Commitments to private weights and zero-knowledge proofs about them: `docs/formats/proof-v1.md`.

    arithmetic   field, curve, transcript (Fiat-Shamir); Pedersen commitments: equations, the sigma protocol
    files        what is committed (layout), and commitments, openings, proofs as bytes
    sketch       from a model to a proof that a fingerprint is its own; who proves, who verifies
    inference    the same for the logits that a model answers to a prompt

Each stands on those above it. What verifies does not import torch.
"""
