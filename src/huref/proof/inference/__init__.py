"""Proofs that committed weights answer a public prompt: docs/formats/proof-inference-v1.md.

A checkpoint becomes an integer model in the canonical gauge (`weights`), which runs without rounding errors (`model`,
`tables`, `precision`). `commitment` commits to its matrices. `witness` lays a run out in the rows of `inventory`;
`claims` says what makes them a run, as one sum of products (`combination`, `ledger`, `challenges`); `sumcheck` and
`closing` prove that sum. `prover` and `verifier` are the two sides, `proof_file` is what passes between them.
"""
