"""Who says whether two checkpoints compute the same: huref's own forward pass, or transformers where it has none.

The own pass computes in float64, and knows the settings of the families for which `Architecture.has_logits` holds.
transformers, where it is installed, runs every model of its own in float32; its answer is also independent of huref:
a description that cut a head or a fused matrix wrongly gives another function to what `huref attack` rearranges.
No code of a checkpoint is ever run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import ArchitectureError, HurefError, UsageError
from huref.extras import require
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.forward.settings import Settings, activation_of
from huref.model.arch import open_weights
from huref.model.arch.weights import CanonicalWeights
from huref.model.source import open_checkpoint
from huref.model.source.remote.mirror import is_elsewhere
from huref.numerics.arrays import Array

OWN, TRANSFORMERS = "huref", "transformers"

_NUMBERED = "what the family's configuration says of its layers"


@dataclass(frozen=True)
class Judge:
    """Computes logits of checkpoints.

    Attributes:
        name: `huref` or `transformers`.
        model: the weights to be attacked; without own settings no attack that depends on them is allowed.
        of_folder: logits of a written checkpoint, its path and token ids (n, t) -> (n, t, v).
        of_model: of the model itself, token ids -> (n, t, v).
        follows_tokens: whether the answer can be read where tokens have other numbers.
    """

    name: str
    model: Decoder
    of_model: Callable[[Array], Array]
    of_folder: Callable[[Path, Array], Array]
    follows_tokens: bool = False


def judge_of(weights: CanonicalWeights, arch_file: Path | None = None) -> Judge:
    """Whoever can compute this model: huref if it knows how, else transformers.

    Raises:
        ArchitectureError: the configuration asks for what neither can compute.
        UsageError: transformers is needed, and not installed.
    """
    try:
        model = load_decoder(weights)
    except ArchitectureError as error:
        return by_transformers(weights, error)

    def of_folder(folder: Path, ids: Array) -> Array:
        with open_checkpoint(folder) as checkpoint:
            read_back = open_weights(checkpoint, arch_file)
            is_double = read_back.stored_dtype("embedding") == "F64"
            written = load_decoder(read_back, np.float64 if is_double else np.float32)  # computed in float64
        found: Array = logits(written, ids, np.float64)
        return found

    return Judge(OWN, model, lambda ids: logits(model, ids), of_folder, follows_tokens=True)


def by_transformers(weights: CanonicalWeights, reason: HurefError | None = None) -> Judge:
    """transformers as the judge; the tokens keep their numbers, and layers and epsilons stay.

    Args:
        reason: why huref does not judge itself.

    Raises:
        ArchitectureError: not a checkpoint folder, which alone transformers can load: then the reason, or that.
        UsageError: transformers is not installed.
    """
    checkpoint = weights.checkpoint
    folder = checkpoint.folder
    if any(map(is_elsewhere, checkpoint.paths)):
        raise UsageError(
            "transformers loads models of this machine alone",
            where=checkpoint.reference,
            expected="all of its files here",
            got="a model elsewhere, of which huref reads what it needs",
            next_step="fetch it first, --download (download=True), or name a local folder",
        )
    if checkpoint.format == "gguf" or not (folder / "config.json").is_file():
        raise reason or ArchitectureError(
            "transformers loads checkpoint folders alone",
            where=checkpoint.reference,
            expected="a folder with config.json",
            got=checkpoint.format,
        )
    require(TRANSFORMERS, f"the check of a model of the family {weights.architecture.name}")
    settings = Settings(activation=activation_of(weights), layers_are_numbered=_NUMBERED)
    model = load_decoder(weights, settings=settings)
    return Judge(TRANSFORMERS, model, lambda ids: logits_of(folder, ids), logits_of)


def logits_of(folder: Path, ids: Array) -> Array:
    """Logits (n, t, v) that transformers computes of a checkpoint folder in float32, for token ids (n, t).

    Raises:
        ArchitectureError: transformers cannot load it, or not run it on text alone.
    """
    import torch
    import transformers

    config = _asked(folder, lambda: transformers.AutoConfig.from_pretrained(folder, local_files_only=True))
    model = _asked(
        folder,
        lambda: (
            _class_of(transformers, config)
            .from_pretrained(folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager")
            .eval()
        ),
    )
    rows = torch.from_numpy(np.ascontiguousarray(ids))
    inputs = {"input_ids": rows}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = rows.flip(1)

    def run() -> Array:
        with torch.no_grad():
            found = model(**inputs)
        scores: Array = (found.logits if hasattr(found, "logits") else found[0]).double().numpy()
        return scores

    answer: Array = _asked(folder, run)
    return answer


def _class_of(transformers: Any, config: Any) -> Any:
    """The class that config.json names, or the one that transformers has for causal models of its type."""
    named = next(iter(config.architectures or ()), "")
    return getattr(transformers, named, None) or transformers.AutoModelForCausalLM


def _asked(folder: Path, ask: Callable[[], Any]) -> Any:
    from transformers.utils import logging as untyped

    logging: Any = untyped
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask()
    except Exception as error:  # whatever a library of models can raise
        raise ArchitectureError(
            "transformers cannot compute this model",
            where=str(folder),
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}",
            next_step="check with transformers itself: AutoModelForCausalLM.from_pretrained(FOLDER)",
        ) from None
