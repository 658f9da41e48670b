"""Tokens under other numbers: the tokenizer's files and the configuration follow the embedding rows.

Text gives the same tokens under other numbers, and the logits are the same in another order. `tokenizer.json`
is the one description that is rewritten; `vocab.json`, `added_tokens.json`, `tokenizer_config.json`,
`config.json` and `generation_config.json` follow. Binary vocabularies beside it would contradict it: left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from huref.errors import TokenizerError
from huref.forward.decoder import Decoder
from huref.numerics.arrays import Array

BINARY = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "tokenizer.model.v3")


def new_ids(model: Decoder) -> Array:
    """Old token id -> new."""
    if model.token_order is None:
        return np.arange(model.geometry.vocab_size)
    return np.argsort(model.token_order)


def renumberable_ids(files: Mapping[str, bytes], vocab_size: int) -> Array:
    """Ids of a tokenizer.json's own vocabulary, sorted; added tokens behind it keep theirs, as their library demands.

    Raises:
        TokenizerError: the file is no tokenizer.json.
    """
    if "tokenizer.json" not in files:
        return np.empty(0, np.int64)
    vocabulary = _model(_parse(files, "tokenizer.json")).get("vocab", {})
    ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    return np.array(sorted(i for i in ids if i < vocab_size), np.int64)


def renumber_files(files: Mapping[str, bytes], new: Array) -> dict[str, bytes]:
    """The tokenizer's files under the new numbers.

    Args:
        files: file name -> content.
        new: old id -> new.
    """
    number = new.tolist()
    out = {name: content for name, content in files.items() if name not in BINARY}
    changes: dict[str, Callable[[dict[str, Any], list[int]], dict[str, Any]]] = {
        "tokenizer.json": _tokenizer,
        "vocab.json": lambda document, n: {token: n[i] for token, i in document.items()},
        "added_tokens.json": lambda document, n: {token: _at(i, n) for token, i in document.items()},
        "tokenizer_config.json": _tokenizer_config,
        "generation_config.json": renumber_config,
    }
    for name, change in changes.items():
        if name in out:
            document = change(_parse(files, name), number)
            out[name] = json.dumps(document, ensure_ascii=False, indent=2).encode()
    return out


def renumber_config(config: Mapping[str, Any], new: list[int]) -> dict[str, Any]:
    """Every `*_token_id`, `*_token_ids`, and `forced`, `bad` or `suppress` list under the new numbers."""

    def moved(value: Any) -> Any:
        if isinstance(value, list):
            return [moved(entry) for entry in value]
        return _at(value, new) if isinstance(value, int) and not isinstance(value, bool) else value

    def is_about_ids(key: str) -> bool:
        return key.endswith(("_token_id", "_token_ids", "_words_ids")) or key == "suppress_tokens"

    return {key: moved(value) if is_about_ids(key) else value for key, value in config.items()}


def _tokenizer(document: dict[str, Any], new: list[int]) -> dict[str, Any]:
    model = dict(_model(document))
    if isinstance(model["vocab"], list):  # Unigram: the place in the list is the number
        entries: list[Any] = [None] * len(model["vocab"])
        for old, entry in enumerate(model["vocab"]):
            entries[new[old]] = entry
        model["vocab"] = entries
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = new[model["unk_id"]]
    else:
        numbered = {token: _at(i, new) for token, i in model["vocab"].items()}
        model["vocab"] = dict(sorted(numbered.items(), key=lambda entry: entry[1]))
    added = [{**token, "id": _at(token["id"], new)} for token in document.get("added_tokens") or []]
    return {
        **document,
        "model": model,
        "added_tokens": sorted(added, key=lambda token: int(token["id"])),
        "post_processor": _processor(document.get("post_processor"), new),
    }


def _processor(part: Any, new: list[int]) -> Any:
    """Post-processors name special tokens by number: `ids` of templates, `[token, id]` of Bert's and Roberta's."""
    if not isinstance(part, dict):
        return part
    out = dict(part)
    if "processors" in out:
        out["processors"] = [_processor(inner, new) for inner in out["processors"]]
    if isinstance(out.get("special_tokens"), dict):
        out["special_tokens"] = {
            token: {**entry, "ids": [_at(i, new) for i in entry["ids"]]}
            for token, entry in out["special_tokens"].items()
        }
    for key in ("sep", "cls"):
        if isinstance(out.get(key), list):
            out[key] = [out[key][0], _at(out[key][1], new)]
    return out


def _tokenizer_config(document: dict[str, Any], new: list[int]) -> dict[str, Any]:
    decoder = document.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        return document
    return {**document, "added_tokens_decoder": {str(_at(int(i), new)): entry for i, entry in decoder.items()}}


def _at(i: int, new: list[int]) -> int:
    return new[i] if 0 <= i < len(new) else i


def _model(document: Mapping[str, Any]) -> Mapping[str, Any]:
    model = document.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise TokenizerError("tokenizer.json has no vocabulary", where="tokenizer.json", expected="model.vocab")
    return model


def _parse(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        document = json.loads(files[name])
    except ValueError as error:
        raise TokenizerError("a tokenizer file is not valid JSON", where=name, got=str(error)) from error
    if not isinstance(document, dict):
        raise TokenizerError("a tokenizer file is no JSON object", where=name, got=type(document).__name__)
    return document
