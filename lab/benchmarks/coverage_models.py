"""Tiny random models of every class of a mapping of transformers, saved by transformers: `coverage.py --make`.

A configuration is the class's default one with every size shrunk by a table of attribute names
(`coverage_sizes.py`). Weights, gains and biases are random, so that a forgotten gain or bias changes the logits.
"""

from __future__ import annotations

import functools
import inspect
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.auto import modeling_auto

from coverage_sizes import EXCEPTIONS, LAYER_COUNTS, MOST_KINDS, PART, PARTS, ROWS, SET, TEXT, TOKENS

MAPPINGS = {
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "image-text": "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "encoder-decoder": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "masked": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
}
"""What the command calls a mapping -> what transformers calls it."""

FIRST = "llama qwen2 qwen3 qwen3_5_text qwen3_moe gpt_oss gemma3_text gemma4_text mistral deepseek_v3 qwen3_next phi3"
FIRST += " gemma2 llama4_text glm4_moe qwen3_5_moe_text minimax_m2 deepseek_v2 kimi_linear smollm3 gpt2 mixtral"
FIRST += " gemma3n_text granite granitemoehybrid nemotron_h olmo2 olmo3 cohere2 falcon_h1 lfm2 ernie4_5 exaone4"
NOTE = "note.txt"
"""In a model's folder: why transformers cannot run it on text alone."""
PROMPT = 24
"""Tokens of each of the two texts that logits are compared on."""
LARGEST = 1_500_000
"""Parameters of the largest model that is made; more means that a size was not shrunk."""
SECONDS = 300
"""Of one model; longer means that something is wrong with it."""

_TEXT_STACKS = ("language_model", "text_model", "text_decoder"), ("decoder",)
"""Names of what reads and writes text in a model of several senses, in the order in which they are looked for."""
_KEPT = ("A_log", "A", "D", "dt_bias", "time_decay", "time_first", "lambda", "Lambda", "sinks", "decay")
"""Last parts of the names of matrices whose values mean more than a direction; a little noise is added."""


def types_of(mapping: str) -> dict[str, str]:
    """Model types of a mapping and their classes, the most used first."""
    classes = dict(getattr(modeling_auto, MAPPINGS[mapping]))
    first = [kind for kind in FIRST.split() if kind in classes]
    return {kind: classes[kind] for kind in [*first, *(kind for kind in classes if kind not in first)]}


@dataclass(frozen=True)
class Made:
    """What became of one type: a folder, or why there is none."""

    mapping: str
    model_type: str
    folder: Path
    reason: str = ""


def make(mapping: str, model_type: str, work: Path) -> Made:
    """Build and save one model in a process of its own; one that is there is left alone."""
    folder = work / "models" / mapping / model_type
    if (folder / "config.json").is_file():
        return Made(mapping, model_type, folder)
    reason = in_own_process(_save, (mapping, model_type, folder), SECONDS)
    return Made(mapping, model_type, folder, reason)


def note_of(folder: Path) -> str:
    """What was noted of a model when it was made."""
    path = folder / NOTE
    return path.read_text() if path.is_file() else ""


def in_own_process(function: Any, arguments: tuple[Any, ...], seconds: int) -> Any:
    """What a function returns, called in a fork: a crash, a leak or a hang stays there and is told as a text."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        signal.alarm(seconds)
        try:
            sender.send(function(*arguments))
        except BaseException as error:
            sender.send(f"{type(error).__name__}: {one_line(error)}")

    process = context.Process(target=run)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return f"the process ended with {process.exitcode} (limit {seconds} s)"
    finally:
        process.join()


def one_line(error: BaseException) -> str:
    """What an error says, short."""
    return " ".join(str(error).split())[:300]


def _save(mapping: str, model_type: str, folder: Path) -> str:
    """Save one model under its folder; the reason where it cannot be."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model = build(mapping, model_type)
    try:
        is_finite = bool(torch.isfinite(text_logits(model)).all())
        note = "" if is_finite else "the logits are not finite"
    except Exception as error:
        note = f"no logits of text alone: {type(error).__name__}: {one_line(error)}"
    model.save_pretrained(partial)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(), bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(partial)
    if note:
        (partial / NOTE).write_text(note)
    partial.rename(folder)
    return ""


def build(mapping: str, model_type: str) -> Any:
    """A tiny random model of one type, in evaluation mode.

    Raises:
        ValueError: a size was not shrunk.
    """
    cls = getattr(transformers, types_of(mapping)[model_type])
    config = tiny_config(mapping, model_type)
    if not isinstance(config, cls.config_class):
        config = next((c for c in _sections(config) if isinstance(c, cls.config_class)), config)
    with torch.device("meta"):
        shapes = {name: p.numel() for name, p in cls(config).named_parameters()}
    if sum(shapes.values()) > LARGEST:
        largest = sorted(shapes, key=lambda name: -shapes[name])[:4]
        raise ValueError(f"{sum(shapes.values()):,} parameters: " + ", ".join(f"{n} {shapes[n]:,}" for n in largest))
    torch.manual_seed(sum(model_type.encode()))
    model = cls(config)
    _randomise(model)
    return model.eval()


def text_logits(model: Any) -> torch.Tensor:
    """Logits of fixed token ids, or the last hidden states where the model gives no logits: (2, tokens, numbers).

    A model of several senses that refuses text alone is asked for those of its text stack.
    """
    n = min(TOKENS, _rows(model)) - 10
    ids = torch.arange(2 * PROMPT).reshape(2, PROMPT) * 37 % n + 5
    given = {"input_ids": ids}
    if model.config.is_encoder_decoder or "decoder_input_ids" in inspect.signature(model.forward).parameters:
        given["decoder_input_ids"] = ids.flip(1)
    with torch.no_grad():
        try:
            out = model(**given, use_cache=False) if hasattr(model.config, "use_cache") else model(**given)
        except Exception:
            if (inner := _text_stack(model)) is not None:
                out = inner(input_ids=ids)
            elif hasattr(model.config, "vision_config"):
                out = model(**given, **_black_picture(model))
            else:
                raise
    found = next(out[key] for key in ("logits", "prediction_logits", "last_hidden_state") if out.get(key) is not None)
    return found.float()


def _text_stack(model: Any) -> Any:
    """The part that reads and writes text, of a model of several senses; None where there is no such part."""
    parts = [(name.split(".")[-1], part) for name, part in model.named_modules()]
    return next(
        (
            part
            for names in _TEXT_STACKS
            for name, part in parts
            if name in names and "input_ids" in inspect.signature(part.forward).parameters
        ),
        None,
    )


def _black_picture(model: Any) -> dict[str, torch.Tensor]:
    """What stands for one that no token looks at, for a model that has no text stack apart (IDEFICS)."""
    size = model.config.vision_config.image_size
    hidden = torch.zeros(2, PROMPT, 1, dtype=torch.long)
    return {"pixel_values": torch.zeros(2, 1, 3, size, size), "image_attention_mask": hidden}


def _rows(model: Any) -> int:
    """Rows of the embeddings; of a model that does not tell, as many as there are tokens."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError):
        return TOKENS


def _randomise(model: Any) -> None:
    """Random weights of a size that makes every part count; norm gains and biases not all equal."""
    fixed = {id(p) for m in model.modules() if "Sinusoidal" in type(m).__name__ for p in m.parameters()}
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if id(tensor) in fixed or not tensor.is_floating_point():
                continue
            last = name.split(".")[-1]
            if tensor.ndim < 2 or last in _KEPT or tensor.numel() == max(tensor.shape):
                tensor += 0.2 * torch.randn_like(tensor)
            else:
                n = tensor[0].numel() if "conv" in name else tensor.shape[-1]
                tensor.copy_(torch.randn_like(tensor) / n**0.5)
        for name, tensor in model.named_buffers():
            if name.endswith("correction_bias"):
                tensor += 0.1 * torch.randn_like(tensor)


def tiny_config(mapping: str, model_type: str) -> Any:
    """The default configuration of a type, every size shrunk."""
    cls = transformers.CONFIG_MAPPING[model_type]
    exceptions = {**EXCEPTIONS.get(model_type, {}), **EXCEPTIONS.get(f"{mapping}/{model_type}", {})}
    whole = cls(**exceptions.get("", {})).to_dict()
    small = shrunk(whole, {**TEXT, **{path[1:]: value for path, value in exceptions.items() if path[:1] == "@"}})
    for path, value in exceptions.items():
        if path and path[0] != "@":
            _put(small, path.split("."), value)
    return cls(**{key: value for key, value in small.items() if key not in ("model_type", "transformers_version")})


def _sections(config: Any) -> list[Any]:
    """The configurations inside one."""
    return [value for value in vars(config).values() if isinstance(value, transformers.PreTrainedConfig)]


def _put(section: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value


def shrunk(section: Mapping[str, Any], table: Mapping[str, int]) -> dict[str, Any]:
    """One section of a configuration with the sizes of a table, its layers a few of the old ones."""
    old = next((section[key] for key in LAYER_COUNTS if isinstance(section.get(key), int)), 0)
    taken = _layers_taken(section, old, table["num_hidden_layers"])
    new: dict[str, Any] = {}
    for key, value in section.items():
        if key == "per_layer_config" and isinstance(value, Mapping):
            by_layer = {int(layer): _scaled(each, section, table) for layer, each in value.items()}
            new[key] = {str(i): by_layer[layer] for i, layer in enumerate(taken) if layer in by_layer}
        elif isinstance(value, Mapping) and all(isinstance(each, str) for each in value):
            new[key] = shrunk(value, PART if any(word in key for word in PARTS) else table)
        elif _is_per_layer(value, old):
            new[key] = _scaled({key: [value[layer] for layer in taken]}, {key: value[0]}, table)[key]
        elif key in LAYER_COUNTS and isinstance(value, int):
            new[key] = len(taken)
        else:
            new[key] = _size(key, value, table)
    _agree(section, new)
    return new


def _agree(old: Mapping[str, Any], new: dict[str, Any]) -> None:
    """Sizes that depend on others: a head's of its parts, the shares of time, height and width of the rotation."""
    if "kv_lora_rank" in new and "num_key_value_heads" in new:
        new["num_key_value_heads"] = new["num_attention_heads"]
    rope, plain = (new.get(f"qk_{part}_head_dim") for part in ("rope", "nope"))
    if rope and plain and old.get("head_dim") == old["qk_rope_head_dim"]:
        new["head_dim"] = rope
    elif rope and plain and old.get("head_dim") == old["qk_rope_head_dim"] + old["qk_nope_head_dim"]:
        new["head_dim"] = rope + plain
    if rope and plain and "qk_head_dim" in new:
        new["qk_head_dim"] = rope + plain
    cut = (new.get("rope_parameters") or {}).get("mrope_section")
    if cut and sum(cut):
        n = sum(cut) * _rotated(new) // _rotated(old)
        new["rope_parameters"]["mrope_section"] = [n - 2 * (n // 3), n // 3, n // 3]


def _rotated(section: Mapping[str, Any]) -> int:
    """The size of what is rotated, before any share of it."""
    size = section.get("qk_rope_head_dim") or section.get("head_dim")
    return int(size or section["hidden_size"] // section["num_attention_heads"])


def _is_per_layer(value: Any, n_layers: int) -> bool:
    return isinstance(value, list) and n_layers > 2 and len(value) == n_layers


def _layers_taken(section: Mapping[str, Any], n_layers: int, at_least: int) -> list[int]:
    """Numbers of the layers that stay: two of each kind, by every list with an entry per layer, in their order."""
    lists = [value for value in section.values() if _is_per_layer(value, n_layers) and len(_kinds(value)) < 5]
    other = {int(layer) for layer in section.get("per_layer_config") or {}}
    kinds = [([value[i] for value in lists], i in other) for i in range(n_layers)]
    places = [[i for i in range(n_layers) if kinds[i] == kind][:2] for kind in _kinds(kinds)][:MOST_KINDS]
    taken = sorted(i for pair in places for i in pair)
    rest = [i for i in range(n_layers) if i not in taken]
    taken = sorted(taken + rest[: max(0, at_least - len(taken))])
    return taken + list(range(n_layers, at_least))  # a default with fewer layers than wanted


def _scaled(values: Mapping[str, Any], usual: Mapping[str, Any], table: Mapping[str, int]) -> dict[str, Any]:
    """Sizes of single layers: the table's, times what they are of the usual ones."""

    def scale(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [scale(key, each) for each in value]
        if key not in table or not isinstance(value, int) or isinstance(value, bool) or not usual.get(key):
            return value
        return max(1, table[key] * value // usual[key])

    return {key: scale(key, value) for key, value in values.items()}


def _size(key: str, value: Any, table: Mapping[str, int]) -> Any:
    """One attribute: shrunk where it is a size that the table has, a token's number where it is one."""
    if key.endswith("token_id") and isinstance(value, list):
        return [_size(key, each, table) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | None):
        return value
    if key in table and (value is not None or key in SET):
        return table[key] if value is None or value > 0 else value
    is_token = key.endswith(("token_id", "token_index")) or key in ("image_token", "im_start_id")
    if is_token and value is not None and value >= TOKENS:
        return TOKENS + sum(key.encode()) % (ROWS - TOKENS)
    return value


def _kinds(values: Iterable[Any]) -> list[Any]:
    """Different entries in order of appearance."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


@functools.cache
def byte_level_bpe() -> Any:
    """A byte-level BPE of about a thousand tokens, trained on made-up words."""
    dice = random.Random(0)
    syllables = ["ka", "ro", "mi", "the", "sta", "ing", "él", "üb", "na", "tion", "при", "вет", "мо", "х"]
    words = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(800)]
    lines = [" ".join(dice.choices(words, k=12)) + f", {dice.randint(0, 9999)}.\n" for _ in range(800)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def make_all(mappings: Iterable[str], only: Iterable[str], work: Path) -> list[Made]:
    """Every model that is not there yet; what could not be built goes to `make.log`."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    byte_level_bpe()
    only, made, started = set(only), [], time.perf_counter()
    work.mkdir(parents=True, exist_ok=True)
    for mapping in mappings:
        (work / "models" / mapping).mkdir(parents=True, exist_ok=True)
        for model_type in types_of(mapping):
            if only and model_type not in only:
                continue
            made.append(make(mapping, model_type, work))
            reason = made[-1].reason or note_of(made[-1].folder)
            if reason:
                print(f"{mapping}/{model_type}: {reason}", flush=True)
        built = sum(not m.reason for m in made if m.mapping == mapping)
        print(f"{mapping}: {built} built, {time.perf_counter() - started:.0f} s", flush=True)
    reasons = [
        {"mapping": m.mapping, "model_type": m.model_type, "is_built": not m.reason, "reason": reason}
        for m in made
        if (reason := m.reason or note_of(m.folder))
    ]
    (work / "make.log").write_text("".join(json.dumps(reason, ensure_ascii=False) + "\n" for reason in reasons))
    return made
