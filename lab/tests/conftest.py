"""Fixtures of the tests of the laboratory: `kit.fixtures`."""

from kit.fixtures import cli, dogs, models, tiny_llama

__all__ = ["cli", "dogs", "models", "tiny_llama"]
