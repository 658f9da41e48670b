"""Checkpoints in the layout of Meta's and Mistral's own code: `params.json` is their configuration."""

from __future__ import annotations

from huref.model.source.checkpoint import Checkpoint
from huref.model.source.json_file import CONFIG_LIMIT, read_object

FILE = "params.json"
MODEL_TYPE = "consolidated"
"""What the layout is called in the data files of `arch`."""


def read_params(checkpoint: Checkpoint) -> None:
    """Take the configuration from `params.json` where the tensors have the names that belong to it.

    A folder may hold both layouts, so that a config.json says nothing of these names.
    """
    if "tok_embeddings.weight" not in checkpoint.tensors or not any(
        name.startswith("layers.0.attention.w") for name in checkpoint.tensors
    ):
        return
    path = checkpoint.folder / FILE
    if path.is_file():
        checkpoint.config = {**read_object(path, CONFIG_LIMIT), "model_type": MODEL_TYPE}
