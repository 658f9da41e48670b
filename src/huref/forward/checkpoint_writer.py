"""Writing a Llama as a Hugging Face checkpoint folder: model.safetensors, config.json, tokenizer files.

A folder appears whole or not at all: everything is written beside it first, and renamed last.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from huref.errors import ArchitectureError, OutputError, TokenizerError
from huref.files.safetensors_writer import write_safetensors
from huref.forward.decoder import Decoder
from huref.forward.plain_llama import EXPECTED, HUGGING_FACE_NAMES, unlike_llama
from huref.forward.settings import Settings
from huref.model.source.checkpoint import Checkpoint
from huref.model.tokens import Vocabulary, load_encoder, load_vocabulary

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)

_UNSAID = (
    "rotates",
    "activation",
    "attention_scale",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "attention_cap",
    "final_cap",
)
"""Settings that would change a Llama, and that its config.json does not say."""


def write_checkpoint(
    model: Decoder, folder: Path, tokenizer: Mapping[str, bytes], dtype: DTypeLike = np.float32
) -> Path:
    """Write a model; a checkpoint in a folder of that name is replaced.

    Args:
        folder: the checkpoint directory to make.
        tokenizer: file name -> content, as `tokenizer_files` gives it.
        dtype: the stored type of every tensor.

    Raises:
        ArchitectureError: see `config_json`.
        OutputError: the place cannot be written; nothing was left behind.
    """
    config = config_json(model, dtype)

    def fill(partial: Path) -> None:
        tensors = {stored_name(name): tensor for name, tensor in model.tensors.items()}
        write_safetensors(partial / "model.safetensors", tensors, dtype)
        (partial / "config.json").write_text(json.dumps(config, indent=2))
        for name, content in tokenizer.items():
            (partial / name).write_bytes(content)

    return write_folder(folder, fill)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a new directory and put it in place in one step, replacing a checkpoint that was there.

    Raises:
        OutputError: see `write_checkpoint`.
    """
    if folder.exists() and not (folder / "model.safetensors").is_file():
        raise OutputError(
            "a folder that is no checkpoint is in the way",
            where=str(folder),
            expected="a free name, or a checkpoint to replace",
            next_step="choose another --out",
        )
    partial = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        partial.chmod(0o755)
        fill(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise OutputError(
            "a checkpoint cannot be written",
            where=str(folder),
            got=error.strerror or str(error),
            next_step="choose another --out, or make room on the disk",
        ) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def stored_name(canonical: str) -> str:
    """`layers.3.q` -> `model.layers.3.self_attn.q_proj.weight`."""
    if not canonical.startswith("layers."):
        return HUGGING_FACE_NAMES[canonical]
    _, layer, role = canonical.split(".")
    return f"model.layers.{layer}.{HUGGING_FACE_NAMES[role]}"


def config_json(model: Decoder, dtype: DTypeLike) -> dict[str, Any]:
    """config.json of a Llama in the spelling that every version of transformers reads.

    Raises:
        ArchitectureError: the model is not a plain Llama: biases, query norms, scaled or partial rotations.
    """
    _check_plain(model)
    sizes, settings = model.geometry, model.settings
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": sizes.d_model,
        "intermediate_size": sizes.d_ff,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_kv_heads,
        "head_dim": sizes.head_dim,
        "vocab_size": sizes.vocab_size,
        "rope_theta": settings.rope_theta,
        "rms_norm_eps": settings.eps,
        "tie_word_embeddings": model.is_tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": np.dtype(dtype).name,
    }


def _check_plain(model: Decoder) -> None:
    """Refuse what a Llama's config.json would not say."""
    unsaid = [name for name in _UNSAID if getattr(model.settings, name) != getattr(Settings, name)]
    unsaid += ["rotations that are not the plain ones"] if model.settings.rope_theta is None else []
    unlike = unlike_llama(model.architecture, model.geometry, model.tensors)
    if unlike or unsaid:
        raise ArchitectureError(
            "a new checkpoint can be made only of models built like Llama",
            where=f"a model of the family {model.architecture.name}",
            expected=EXPECTED,
            got=unlike or f"{model.architecture.name} with {', '.join(unsaid)}",
            next_step="choose a Llama, Mistral or SmolLM checkpoint; huref attack writes every family",
        )


def tokenizer_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The tokenizer of a checkpoint as files: copied from its folder, or built from GGUF metadata.

    Raises:
        TokenizerError: there is none, or GGUF metadata that no tokenizer.json can be built from.
    """
    if checkpoint.format != "gguf":
        paths = [checkpoint.folder / name for name in TOKENIZER_FILES]
        files = {path.name: path.read_bytes() for path in paths if path.is_file()}
        if files:
            return files
    spec = load_encoder(checkpoint)
    if spec.library != "tokenizers":
        raise TokenizerError(
            "a tokenizer.json can be built only from byte-level BPE vocabularies",
            where=checkpoint.reference,
            expected="tokenizer.ggml.model gpt2",
            got=f"a {spec.library} vocabulary",
            next_step="use the model's safetensors checkpoint with its tokenizer files",
        )
    document = complete_tokenizer(json.loads(spec.content), load_vocabulary(checkpoint))
    return {"tokenizer.json": json.dumps(document, ensure_ascii=False).encode()}


def complete_tokenizer(document: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """Add to a byte-level tokenizer what encoding alone does not need: special tokens and a decoder.

    An added token must stand in the model's vocabulary too: the `tokenizers` library takes its id from there.
    """
    ids: dict[str, int] = document["model"]["vocab"]
    taken = set(ids.values())
    texts = {i: t.decode() for i, t in enumerate(vocabulary.tokens) if t is not None and i not in taken}
    added = [
        {"id": i, "content": text, "special": i in vocabulary.special, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, text in texts.items()
    ]
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {**document["model"], "vocab": {**{text: i for i, text in texts.items()}, **ids}}
    return {**document, "added_tokens": added, "decoder": decoder, "model": model}
