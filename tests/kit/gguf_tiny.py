"""Tiny GGUF files of any of llama.cpp's architectures: names and lists from the `gguf` package, numbers random.

What a layer holds is said in the package's own words (`ATTN_Q`, `FFN_UP_EXP`), a few of them under one letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Array = np.ndarray

NO_KV_HEADS = {"attention.head_count_kv": None}
SHORT = {
    "A": "ATTN_NORM ATTN_Q ATTN_K ATTN_V ATTN_OUT",
    "QKV": "ATTN_NORM ATTN_QKV ATTN_OUT",
    "QK": "ATTN_Q_NORM ATTN_K_NORM",
    "N": "FFN_NORM",
    "F": "FFN_GATE FFN_UP FFN_DOWN",
    "U": "FFN_UP FFN_DOWN",
    "E": "FFN_GATE_INP FFN_GATE_EXP FFN_UP_EXP FFN_DOWN_EXP",
    "S": "FFN_GATE_SHEXP FFN_UP_SHEXP FFN_DOWN_SHEXP",
    "SSM": "SSM_IN SSM_CONV1D SSM_DT SSM_A SSM_D SSM_NORM SSM_OUT",
    "MLA": "ATTN_NORM ATTN_Q_A ATTN_Q_A_NORM ATTN_Q_B ATTN_KV_A_MQA ATTN_KV_A_NORM ATTN_K_B ATTN_V_B ATTN_OUT",
}
BARE = {"SSM_A", "SSM_D"}  # stored without .weight


@dataclass(frozen=True)
class Widths:
    """The sizes of a tiny model, all different where they can be."""

    vocab: int = 40
    d: int = 24
    h: int = 4
    g: int = 2
    e: int = 6
    u: int = 6
    f: int = 20
    experts: int = 3
    width: int = 8
    shared: int = 8
    r: int = 10  # latents
    nope: int = 4

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stored shape, slowest axis first, by the package's name; a stand-in where nothing reads it."""
        d, hu, keys = self.d, self.h * self.u, self.g * self.e
        n, w = self.experts, self.width
        return {
            **dict.fromkeys(("TOKEN_EMBD", "OUTPUT"), (self.vocab, d)),
            **dict.fromkeys(("POS_EMBD",), (16, d)),
            **dict.fromkeys(("TOKEN_TYPES",), (2, d)),
            **dict.fromkeys(("ATTN_Q", "DEC_ATTN_Q", "ENC_ATTN_Q"), (self.h * self.e, d)),
            **dict.fromkeys(("ATTN_K", "DEC_ATTN_K", "ENC_ATTN_K"), (keys, d)),
            **dict.fromkeys(("ATTN_V", "DEC_ATTN_V", "ENC_ATTN_V"), (self.g * self.u, d)),
            "ATTN_QKV": (self.h * self.e + keys + self.g * self.u, d),
            **dict.fromkeys(("ATTN_OUT", "DEC_ATTN_OUT", "ENC_ATTN_OUT"), (d, hu)),
            **dict.fromkeys(("ATTN_Q_NORM", "ATTN_K_NORM"), (self.e,)),
            "ATTN_GATE": (hu, d),
            "ATTN_SINKS": (self.h,),
            "ATTN_Q_A": (self.r + 1, d),
            "ATTN_Q_A_NORM": (self.r + 1,),
            "ATTN_Q_B": (self.h * self.e, self.r + 1),
            "ATTN_KV_A_MQA": (self.r + self.e - self.nope, d),
            "ATTN_KV_A_NORM": (self.r,),
            "ATTN_KV_B": (self.h * (self.nope + self.u), self.r),
            "ATTN_K_B": (self.h, self.r, self.nope),
            "ATTN_V_B": (self.h, self.u, self.r),
            **{f"{side}FFN_{part}": (self.f, d) for side in ("", "DEC_", "ENC_") for part in ("GATE", "UP")},
            **{f"{side}FFN_DOWN": (d, self.f) for side in ("", "DEC_", "ENC_")},
            "FFN_GATE_INP": (n, d),
            "FFN_GATE_INP_SHEXP": (d,),
            **{f"FFN_{part}_EXP": (n, w, d) for part in ("GATE", "UP")},
            "FFN_GATE_UP_EXP": (n, 2 * w, d),
            "FFN_DOWN_EXP": (n, d, w),
            "FFN_EXP_PROBS_B": (n,),
            **{f"FFN_{part}_SHEXP": (self.shared, d) for part in ("GATE", "UP")},
            "FFN_DOWN_SHEXP": (d, self.shared),
        }


@dataclass(frozen=True)
class TinyGGUF:
    """One file.

    Attributes:
        arch: llama.cpp's name of it.
        layers: what each holds; `+b` asks for a bias, which stands at the package's name.
        whole: what stands outside of the layers, beside the embedding and the last norm.
        changes: sizes that differ from the usual.
        of_layer: and by layer.
        shapes: of single tensors.
        keys: metadata, without the architecture; None takes a usual key away.
    """

    arch: str
    layers: Sequence[str]
    whole: str = "OUTPUT_NORM OUTPUT"
    changes: Mapping[str, int] = field(default_factory=dict)
    of_layer: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> Widths:
        return Widths(**self.changes)

    def tensors(self) -> dict[str, Array]:
        """Random float32 by stored name; only what the package lists for the architecture, but for biases."""
        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == self.arch)
        listed = {kind.name for kind in gguf.MODEL_TENSORS[arch]}
        rng = np.random.default_rng(len(self.arch))
        found: dict[str, Array] = {}

        def add(word: str, layer: int | None) -> None:
            kind, _, bias = word.partition("+")
            if kind == "FFN_NORM" and kind not in listed:
                kind = "FFN_PRE_NORM"  # another word for the same name
            assert kind in listed, f"{self.arch} has no {kind}"
            module = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR[kind]].format(bid=layer)
            usual = Widths(**{**self.changes, **self.of_layer.get(-1 if layer is None else layer, {})}).shapes()
            shape = self.shapes.get(kind, usual.get(kind, (self.widths.d,) if "NORM" in kind else (2, 3)))
            suffix = "" if kind in BARE else ".bias" if kind == "FFN_EXP_PROBS_B" else ".weight"
            found[module + suffix] = rng.normal(size=shape).astype(np.float32)
            if bias:
                found[f"{module}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)

        for word in ["TOKEN_EMBD", *self.whole.split()]:
            add(word, None)
        for layer, words in enumerate(self.layers):
            for word in " ".join(SHORT.get(word, word) for word in words.split()).split():
                add(word, layer)
        return found

    def metadata(self) -> dict[str, Any]:
        """Keys without the architecture, as converters write them."""
        w = self.widths
        usual = {
            "block_count": len(self.layers),
            "embedding_length": w.d,
            "feed_forward_length": w.f,
            "attention.head_count": w.h,
            "attention.head_count_kv": w.g,
        }
        if any("EXP" in SHORT.get(word, word) for words in self.layers for word in words.split()):
            usual |= {"expert_count": w.experts, "expert_feed_forward_length": w.width}
        return {key: value for key, value in {**usual, **self.keys}.items() if value is not None}

    def write(self, path: Path) -> Path:
        """The file, with a small tokenizer."""
        writer = gguf.GGUFWriter(path, self.arch)
        for key, value in self.metadata().items():
            name = f"{self.arch}.{key}"
            if isinstance(value, list):
                writer.add_array(name, value)
            elif isinstance(value, bool):
                writer.add_bool(name, value)
            else:
                writer.add_uint32(name, value)
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([f"t{i}" for i in range(self.widths.vocab)])
        writer.add_token_merges(["t 1"])
        for name, tensor in self.tensors().items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


@dataclass(frozen=True)
class Case:
    """A file and what it is to be read as.

    Attributes:
        neurons: of each layer; 0 where it has none to read.
        silent: layers without attention to read.
        permuted: whether the converter interleaves the halves of query and key heads.
    """

    file: TinyGGUF
    family: str
    neurons: tuple[int, ...]
    silent: tuple[int, ...] = ()
    permuted: bool = False
    gated: bool = True
    facts: dict[str, Any] = field(default_factory=dict)


def case(arch: str, family: str, layers: list[str], neurons: tuple[int, ...], **more: Any) -> Case:
    of_file = {key: more.pop(key) for key in ("whole", "changes", "of_layer", "shapes", "keys") if key in more}
    return Case(TinyGGUF(arch, layers, **of_file), family, neurons, **more)


def encoder(arch: str, family: str, layers: list[str], neurons: tuple[int, ...], **more: Any) -> Case:
    more = {"whole": "TOKEN_EMBD_NORM+b TOKEN_TYPES", "changes": {"g": 4}, "keys": NO_KV_HEADS, **more}
    return case(arch, family, layers, neurons, **more)
