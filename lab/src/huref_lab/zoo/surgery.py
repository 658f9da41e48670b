"""Zoo models that come from surgery on stored tensors, most of them trained a little afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from huref_lab.training.language_models import TrainJob, encode, load_model, mean_loss, split, train_and_save
from huref_lab.training.texts import read_text
from huref_lab.zoo import cuts, merges
from huref_lab.zoo.quantisation import through_int8, through_nf4, write_gguf
from huref_lab.zoo.stored import Stored, read_stored, take_layers, with_rows, write_stored
from huref_lab.zoo.task import Made, Task
from huref_lab.zoo.token_ids import token_ids, tokenizer_of
from huref_lab.zoo.training import ATTENTION, options_of, summary

Surgery = Callable[[Stored, Mapping[str, Any], int], Stored]

CUTS: Mapping[str, Surgery] = {
    "layers-dropped": lambda s, settings, _: cuts.drop_layers(s, settings["dropped"]),
    "depth-upscaled": lambda s, settings, _: cuts.scale_up(s, settings["overlap"]),
    "width-pruned": lambda s, settings, _: cuts.prune_neurons(s, settings["kept"]),
    "heads-pruned": lambda s, settings, _: cuts.prune_groups(s, settings["kept"]),
    "sparsified": lambda s, settings, _: cuts.sparsify(s, settings["share"]),
    "moe-upcycled": lambda s, settings, seed: cuts.upcycle(s, settings["experts"], settings["noise"], seed),
    "int8": lambda s, _, __: s.changed(lambda ___, tensor: through_int8(tensor)),
    "nf4": lambda s, _, __: s.changed(lambda ___, tensor: through_nf4(tensor)),
}
"""What is done to a parent's tensors -> how; `settings` says how much."""


def make_cut(task: Task) -> Made:
    """One of `CUTS`, then a few steps on the parent's own text where the plan says so."""
    settings = task.plan.settings
    stored = CUTS[settings["cut"]](read_stored(task.sources[0]), settings, task.plan.seed)
    changes = {"architecture": "mixtral-upcycled"} if settings["cut"] == "moe-upcycled" else {}
    words = ", ".join(f"{key} {value}" for key, value in settings.items() if key not in ("steps", "rate"))
    return _finish(task, stored, words, changes)


def make_merge(task: Task) -> Made:
    """A merge of two offspring of one base: parents are the base, where a formula needs it, then the two."""
    settings = task.plan.settings
    parents = [read_stored(path) for path in task.sources]
    *base, a, b = parents
    method = settings["method"]

    def mix(name: str, _: Tensor) -> Tensor:
        pair = [a.tensors[name], b.tensors[name]]
        if method == "linear":
            return merges.linear(pair, settings["weights"])
        if method == "slerp":
            return merges.slerp(pair[0], pair[1], settings["t"])
        if method == "task-arithmetic":
            return merges.task_arithmetic(base[0].tensors[name], pair, settings["scale"])
        return merges.ties(base[0].tensors[name], pair, settings["density"], settings["scale"])

    words = ", ".join(f"{key} {value}" for key, value in settings.items())
    return _finish(task, a.changed(mix), words, {})


def make_stack(task: Task) -> Made:
    """Layers of several models of one shape in one stack; what is outside the layers is the first's."""
    settings = task.plan.settings
    order = [(int(source), int(layer)) for source, layer in settings["order"]]
    stored = take_layers([read_stored(path) for path in task.sources], order)
    return _finish(task, stored, f"layers {settings['order']}", {})


def make_extended(task: Task) -> Made:
    """New tokens for frequent words of another text; each starts as the mean of its pieces, then all is trained."""
    text, n = task.plan.settings["text"], task.plan.settings["tokens"]
    parent = read_stored(task.sources[0])
    new = frequent_words(parent.tokenizer.decode(), read_text(text, task.scale.characters, task.zoo / "debs"), n)
    tokenizer, pieces = extend_tokenizer(parent.tokenizer.decode(), new)

    def rows(tensor: Tensor) -> Tensor:
        means = torch.stack([tensor[torch.tensor(ids)].mean(0) for ids in pieces])
        return torch.cat([tensor, means])

    stored = with_rows(parent, rows, tokenizer.encode())
    changes = {"tokenizer": f"{task.parents[0].tokenizer}+{len(new)}"}
    ids = encode(tokenizer, read_text(text, task.scale.characters, task.zoo / "debs"))
    return _trained(task, stored, ids, f"{len(new)} words of {text} as tokens", changes)


def make_swapped(task: Task) -> Made:
    """Another vocabulary with fresh rows of the old ones' standard deviation, then all is trained."""
    parent, settings = task.parents[0], task.plan.settings
    tokenizer = tokenizer_of(task.zoo, settings["tokenizer"], task.scale)
    dice = torch.Generator().manual_seed(task.plan.seed)
    n = len(json.loads(tokenizer)["model"]["vocab"])

    def rows(tensor: Tensor) -> Tensor:
        return tensor.std() * torch.randn(n, tensor.shape[1], generator=dice)

    stored = with_rows(read_stored(task.sources[0]), rows, tokenizer.encode())
    ids = token_ids(task.zoo, parent.text, settings["tokenizer"], task.scale)
    words = f"vocabulary of {settings['tokenizer']}, fresh rows"
    return _trained(task, stored, ids, words, {"tokenizer": settings["tokenizer"]})


def make_gguf(task: Task) -> Made:
    """A Llama as a GGUF file."""
    kind = task.plan.settings["type"]
    write_gguf(task.target, read_stored(task.sources[0]), kind)
    return Made(f"GGUF {kind}")


def frequent_words(tokenizer: str, text: str, n: int) -> list[str]:
    """The words of a text that make up most of what one token each would save."""
    from tokenizers import Tokenizer

    words = [word for word, _ in Counter(text.split()).most_common(40 * n) if word.isalpha()]
    counts = Counter(text.split())
    lengths = {w: len(e.ids) for w, e in zip(words, Tokenizer.from_str(tokenizer).encode_batch(words), strict=True)}
    gain = {word: (length - 1) * counts[word] for word, length in lengths.items() if length > 1}
    return sorted(gain, key=lambda word: (-gain[word], word))[:n]


def extend_tokenizer(tokenizer: str, words: list[str]) -> tuple[str, list[list[int]]]:
    """`tokenizer.json` with words as added tokens, and the pieces that each word was before."""
    from tokenizers import Tokenizer

    codec = Tokenizer.from_str(tokenizer)
    pieces = [codec.encode(word, add_special_tokens=False).ids for word in words]
    added = codec.add_tokens(words)
    assert added == len(words), "no word is a token already"
    return str(codec.to_str()), pieces


def _finish(task: Task, stored: Stored, words: str, changes: Mapping[str, str]) -> Made:
    """Write a model; train it on its base's text if the plan has steps, else only measure it there."""
    parent = task.parents[0]
    ids = token_ids(task.zoo, parent.text, parent.tokenizer, task.scale)
    if task.plan.settings.get("steps"):
        return _trained(task, stored, ids, words, changes)
    write_stored(task.target, stored)
    _, held_out = split(ids, options_of(task))
    before, after = (mean_loss(load_model(path, ATTENTION), held_out) for path in (task.sources[0], task.target))
    return Made(words, {"before": before, "after": after}, changes)


def _trained(task: Task, stored: Stored, ids: Tensor, words: str, changes: Mapping[str, str]) -> Made:
    """Write a model, load it as transformers does, and train every weight."""
    write_stored(task.target, stored)
    job = TrainJob(task.target, options_of(task), task.plan.settings.get("text", task.parents[0].text))
    trained = train_and_save(load_model(task.target, ATTENTION), job, stored.tokenizer, ids)
    done = summary(trained, job)
    return Made(f"{words}; then {done.made}", done.losses, changes)
