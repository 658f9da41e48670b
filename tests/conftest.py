"""Fixtures of the tests of the product: `kit.fixtures`."""

from kit.fixtures import cache_home, cli, dogs, models, tiny_llama

__all__ = ["cache_home", "cli", "dogs", "models", "tiny_llama"]
