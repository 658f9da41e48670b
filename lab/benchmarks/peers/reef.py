"""REEF: linear CKA of the hidden states that two models have on the same prompts.

REEF (ICLR 2025, arXiv 2410.14273), re-implemented from the paper: the representation of a prompt is the hidden state
of its last token after a layer; two models are compared by linear CKA over the prompts. The score is the mean over
layers matched by relative depth. Each model reads the prompts with its own tokenizer, and runs in float32 through
`transformers`. The paper takes questions of TruthfulQA; here the prompts are the openings of paragraphs of Python's
documentation, which every Python brings along (`pydoc_data.topics`), so that the bench needs no network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")

NAME = "REEF"
SOURCE = "ICLR 2025, arXiv 2410.14273; re-implemented from the paper"
N_PROMPTS = 128
LENGTH = 120
"""Characters of a prompt, at most: cut by characters, so that every tokenizer ends at the same word."""


def prompts() -> list[str]:
    """The openings of paragraphs of prose, evenly spread over Python's documentation."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    prose = [p[:LENGTH].rsplit(" ", 1)[0] for p in dict.fromkeys(paragraphs) if len(p) > LENGTH and p[:1].isalpha()]
    return [prose[i * len(prose) // N_PROMPTS] for i in range(N_PROMPTS)]


def prepare(path: Path) -> np.ndarray:
    """(L, N, N) float32: the centred Gram matrix of the prompts after each layer."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, encode = _load(path, transformers, torch)
    states = []
    with torch.inference_mode():
        for prompt in prompts():
            ids = torch.tensor([encode(prompt)])
            found = model(input_ids=ids, output_hidden_states=True, use_cache=False)
            states.append(torch.stack([layer[0, -1].float() for layer in found.hidden_states[1:]]))
    return grams(torch.stack(states, dim=1).numpy())


def _load(path: Path, transformers: Any, torch: Any) -> tuple[Any, Callable[[str], list[int]]]:
    """A model as `transformers` loads it, never with code of the checkpoint's own; and its tokenizer, by its file."""
    where, extra = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    is_wrapped = path.is_dir() and "vision_config" in json.loads((path / "config.json").read_text())
    kind = transformers.AutoModelForImageTextToText if is_wrapped else transformers.AutoModelForCausalLM
    model = kind.from_pretrained(where, dtype=torch.float32, **extra).eval()
    if (where / "tokenizer.json").is_file() and not extra:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(where / "tokenizer.json"))
        return model, lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    auto = transformers.AutoTokenizer.from_pretrained(where, **extra)
    return model, lambda text: auto.encode(text, add_special_tokens=False)


def grams(states: np.ndarray) -> np.ndarray:
    """Centred Gram matrices at unit Frobenius length of states (L, N, d)."""
    centred = (states - states.mean(axis=1, keepdims=True)).astype(np.float64)
    found = centred @ centred.transpose(0, 2, 1)
    lengths = np.linalg.norm(found, axis=(1, 2), keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ValueError("hidden states that are not finite, or equal for every prompt")
    return (found / lengths).astype(np.float32)


def compare(a: np.ndarray, b: np.ndarray) -> float:
    """Mean linear CKA over the layers of the shallower model, each with the deeper one's at its relative depth."""
    shallow, deep = sorted((a, b), key=len)
    partners = [round((i + 1) / len(shallow) * len(deep)) - 1 for i in range(len(shallow))]
    return float(np.mean([(x * deep[j]).sum(dtype=np.float64) for x, j in zip(shallow, partners, strict=True)]))
