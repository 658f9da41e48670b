"""Recovery: the transform between two related models, part by part, and undoing it on the weights.

    recover(a, b)             -> Recovered   which stream, layers, neurons, heads and maps of A became B's
    undo(tensors, a, b, found) -> Undone      B's weights as A has them, with B's function
    refine(tensors, a, ...)    -> tensors     the same, brought nearer to another model of A's order

A map is fitted to one part of the weights and tried on another; see `docs/explanation/explain.md`.
"""
