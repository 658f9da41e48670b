"""A model reference in, canonical weights and a vocabulary out.

open_model(reference)              -> Model         opened without reading its matrices
rank_tokens(model, corpus)         -> ids           by how often they occur
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.model.model import Model, open_model
    from huref.model.name import model_name
    from huref.model.token_ranking import rank_tokens

__all__ = [
    "Model",
    "model_name",
    "open_model",
    "rank_tokens",
]

_HOMES = {
    "Model": "huref.model.model",
    "model_name": "huref.model.name",
    "open_model": "huref.model.model",
    "rank_tokens": "huref.model.token_ranking",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
