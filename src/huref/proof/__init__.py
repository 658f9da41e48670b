"""Commitments to private weights and zero-knowledge proofs about them: `docs/formats/proof-v1.md`.

    field, curve, transcript        arithmetic, the group, Fiat-Shamir
    equations, quadratic, no_wrap   Pedersen commitments: equations, the sigma protocol, bounds
    layout, signs, sketches         what is committed, and the statement
    commitment_file, opening_file, proof_file, container     bytes
    sketch_proof, verification, pair                          the protocol, both sides
    quantising, committing, proving                           from a model to files (torch)

What verifies does not import torch.
"""
