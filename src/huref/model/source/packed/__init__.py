"""Packed weights: quantised layouts of several stored tensors, presented as the one plain tensor they stand for.

`unpacked` is the way in, called by `open_checkpoint`. A scheme is one module here, named `*_scheme`; see
docs/how-to/add-a-format.md.
"""
