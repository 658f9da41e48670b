"""Every choice that decides a fingerprint, recorded in it so that it can be computed again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from huref.choices import option
from huref.errors import UsageError

RECIPES = ("canonical-2", "canonical", "paper")
ENCODERS = ("sketch", "mean", "cnn")
RIDGE = 0.3
"""Of canonical-2's dual frame, in units of the mean squared singular value of X."""

_LAST = 2
"""Layers of `last2`."""


@dataclass(frozen=True)
class Recipe:
    """Every choice that decides a fingerprint. Two fingerprints compare only under equal recipes.

    Attributes:
        name: `canonical-2` (gains folded, terms in the dual frame, no free rearrangement changes them), `canonical`
            (gains folded, terms centred over tokens, gate-down feed-forward term) or `paper` (HuRef, NeurIPS 2024,
            section 4: raw weights, gate * up).
        encoder: `sketch`, `mean` (the official mean pooling; paper recipe, last two layers only) or `cnn` (a trained
            network; not of canonical-2, last two layers only).
        layers: `last2`, `all`, or a comma-separated list of indices, negative ones from the end. Under `canonical-2`
            blocks that add next to nothing are passed over, and `last2` are the last two that do of attention and of
            feed-forward, wherever they stand.
        n_tokens: how many vocabulary rows are asked for (K).
        ranking: sha256 of the token ranking file, or empty: the recipe's own choice of tokens.
        seed: public seed of the sketch's signs.
        sketch_rows: rows m of each side of a term's sketch, which has m * m numbers.
        encoder_weights: sha256 of the weights file of `cnn`, or empty: not chosen yet, or another encoder.
    """

    name: str = "canonical-2"
    encoder: str = "sketch"
    layers: str = "last2"
    n_tokens: int = 4096
    ranking: str = ""
    seed: str = "huref/1"
    sketch_rows: int = 64
    encoder_weights: str = ""

    def __post_init__(self) -> None:
        require(self.name in RECIPES, "unknown recipe", option("recipe"), " or ".join(RECIPES), self.name)
        require(self.encoder in ENCODERS, "unknown encoder", option("encoder"), " or ".join(ENCODERS), self.encoder)
        require(
            self.n_tokens >= 256, "too few tokens asked for", option("n_tokens"), "at least 256", str(self.n_tokens)
        )
        require(
            self.sketch_rows in range(8, 513, 4),
            "sketch size",
            "sketch_rows",
            "8 to 512, in steps of 4",
            str(self.sketch_rows),
        )
        if self.encoder == "mean":
            require(
                self.name == "paper" and self.layers == "last2",
                "mean pooling is defined for the paper recipe on the last two layers",
                option("encoder"),
                "--recipe paper --layers last2 (centred terms have zero row means)",
                f"--recipe {self.name} --layers {self.layers}",
            )
        self._require_encoder()

    def _require_encoder(self) -> None:
        weights = self.encoder_weights
        if self.encoder != "cnn":
            require(
                not weights, "weights for another encoder", option("encoder_weights"), "--encoder cnn", self.encoder
            )
            return
        is_digest = not weights or bool(re.fullmatch("[0-9a-f]{64}", weights))
        require(is_digest, "no sha256", "encoder_weights", "64 hexadecimal digits", weights[:80])
        is_possible = self.layers == "last2" and self.n_tokens % 256 == 0 and not self.is_dual
        require(
            is_possible,
            "the CNN encoder takes whole terms of the last two layers over a multiple of 256 tokens",
            option("encoder"),
            "--recipe canonical --layers last2 --n-tokens 1024",
            f"--recipe {self.name} --layers {self.layers} --n-tokens {self.n_tokens}",
        )

    @property
    def is_canonical(self) -> bool:
        """Whether norm gains are folded and terms centred over the tokens."""
        return self.name != "paper"

    @property
    def is_dual(self) -> bool:
        """Whether terms are seen from the dual frame, and blocks that add nothing passed over."""
        return self.name == "canonical-2"

    def layer_indices(self, n_layers: int) -> tuple[int, ...]:
        """The layers used in a model of `n_layers`, ascending, without repeats.

        Raises:
            UsageError: the list is not a list of integers, or names a layer the model lacks.
        """
        if self.layers == "all":
            return tuple(range(n_layers))
        if self.layers == "last2":
            return tuple(range(max(0, n_layers - _LAST), n_layers))
        try:
            asked = [int(part) for part in self.layers.split(",")]
        except ValueError:
            asked = []
        require(bool(asked), "unreadable layer list", option("layers"), "last2, all, or 0,5,-1", self.layers)
        inside = all(-n_layers <= index < n_layers for index in asked)
        require(inside, "no such layer", option("layers"), f"-{n_layers} to {n_layers - 1}", self.layers)
        return tuple(sorted({index % n_layers for index in asked}))

    def searched(self, n_layers: int) -> tuple[tuple[int, ...], int]:
        """Under canonical-2, layers to look through from the last on for blocks that do something, and for how many.

        Raises:
            UsageError: as `layer_indices`.
        """
        is_last = self.layers == "last2"
        layers = tuple(range(n_layers)) if is_last else self.layer_indices(n_layers)
        return layers[::-1], _LAST if is_last else n_layers

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, for JSON; the digest of encoder weights only where there is one."""
        values = asdict(self)
        return values if self.encoder_weights else {k: v for k, v in values.items() if k != "encoder_weights"}

    def unlike(self, other: Recipe) -> str:
        """What this one says otherwise than another: `layers all, n_tokens 1024`."""
        known, theirs = self.to_dict(), other.to_dict()
        return ", ".join(f"{key} {value}" for key, value in known.items() if theirs.get(key) != value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_dict`; unknown keys are refused."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(values) - known)
        require(not unknown, "unknown key in a recipe", "recipe", ", ".join(sorted(known)), ", ".join(unknown))
        return cls(**values)


def require(is_right: bool, what: str, where: str, expected: str, got: str) -> None:
    """Refuse an option or a value that cannot be honoured.

    Raises:
        UsageError: always, unless `is_right`.
    """
    if not is_right:
        raise UsageError(
            what, where=where, expected=expected, got=got, next_step="see help(huref), or --help of the command"
        )
