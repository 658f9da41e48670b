"""Fixtures of the tests of the product: `kit.fixtures`."""

from kit.fixtures import cli, dogs, models, tiny_llama

__all__ = ["cli", "dogs", "models", "tiny_llama"]
