"""Quantisers written from the definition of each packed layout: what is stored, and what it stands for.

Nothing here is shared with huref's unpackers: words are packed bit by bit, and the expected values come from the
codes before they are packed. Names are endings of a module's name; `weight` matrices are (out, in) float32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

F8 = ml_dtypes.float8_e4m3fn
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
FP4 = np.array([0, 0.0052083333, 2 / 3, 1, 1 / 3, 0.5, 1 / 6, 0.25], np.float32)


@dataclass(frozen=True)
class Packed:
    """One matrix in its layout.

    Attributes:
        tensors: by the ending of their names, `.qweight` or `.weight`.
        expected: (out, in) what they stand for.
        config: entries of config.json that the layout needs.
    """

    tensors: dict[str, np.ndarray]
    expected: np.ndarray
    config: dict[str, Any] = field(default_factory=dict)


def words(codes: np.ndarray, bits: int) -> np.ndarray:
    """(..., n) codes as one stream of bits a row, the lowest first: (..., n x bits / 32) int32."""
    every = (codes.astype(np.uint8)[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    octets = np.packbits(every.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(octets).view(np.int32)


def affine(w: np.ndarray, bits: int, group: int, dtype: Any = np.float16) -> tuple[np.ndarray, ...]:
    """Codes (out, in), scales and whole zero points (out, groups), and the values."""
    parts = w.reshape(len(w), -1, group)
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    scale = np.maximum((high - low) / (2**bits - 1), 1e-6).astype(dtype).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, 2**bits - 1)
    codes = np.clip(np.round(parts / scale[..., None]) + zero[..., None], 0, 2**bits - 1)
    values = (codes - zero[..., None]) * scale[..., None]
    return codes.reshape(w.shape), scale, zero, values.reshape(w.shape).astype(np.float32)


def symmetric(w: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, ...]:
    """Signed codes (out, in), scales (out, groups) and the values."""
    parts = w.reshape(len(w), -1, group)
    top = 2 ** (bits - 1)
    scale = np.maximum(np.abs(parts).max(-1) / (top - 0.5), 1e-6).astype(np.float16).astype(np.float32)
    codes = np.clip(np.round(parts / scale[..., None]), -top, top - 1)
    return codes.reshape(w.shape), scale, (codes * scale[..., None]).reshape(w.shape).astype(np.float32)


def with_feedback(w: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, ...]:
    """As `affine`, by the rule of GPTQ (arXiv 2210.17323): each column's error is made up for in those behind it.

    Inputs are correlated as activations are: a spectrum that falls as one over the rank, in a random basis.
    """
    upper = _feedback(w.shape[1])
    left = w.astype(np.float64)
    codes = np.empty(w.shape)
    scales, zeros = [], []
    for start in range(0, w.shape[1], group):
        here = slice(start, start + group)
        _, scale, zero, _ = affine(left[:, here], bits, group)
        errors = np.empty((len(w), group))
        for at in range(group):
            column = start + at
            codes[:, column] = np.clip(np.round(left[:, column] / scale[:, 0]) + zero[:, 0], 0, 2**bits - 1)
            off = left[:, column] - (codes[:, column] - zero[:, 0]) * scale[:, 0]
            errors[:, at] = off / upper[column, column]
            left[:, column : start + group] -= np.outer(errors[:, at], upper[column, column : start + group])
        left[:, start + group :] -= errors @ upper[here, start + group :]
        scales.append(scale)
        zeros.append(zero)
    scale, zero = np.hstack(scales), np.hstack(zeros)
    values = (codes.reshape(len(w), -1, group) - zero[..., None]) * scale[..., None]
    return codes, scale, zero, values.reshape(w.shape).astype(np.float32)


@functools.cache
def _feedback(width: int) -> np.ndarray:
    """The upper factor of the inverse of the inputs' second moments."""
    basis = np.linalg.qr(np.random.default_rng(width).standard_normal((width, width)))[0]
    moments = (basis / np.arange(1, width + 1)) @ basis.T
    moments += 0.01 * np.diag(moments).mean() * np.eye(width)
    factor: np.ndarray = np.linalg.cholesky(np.linalg.inv(moments)).T
    return factor


def gptq(
    w: np.ndarray,
    bits: int = 4,
    group: int = 32,
    *,
    version: int = 1,
    order: np.ndarray | None = None,
    rounded: Callable[[np.ndarray, int, int], tuple[np.ndarray, ...]] = affine,
) -> Packed:
    """GPTQ; with an order of the inputs, groups are of inputs that follow one another in it (act-order)."""
    order = np.arange(w.shape[1]) if order is None else order
    codes, scale, zero, values = rounded(w[:, order], bits, group)
    back, g_idx = np.argsort(order), np.empty(w.shape[1], np.int32)
    g_idx[order] = np.arange(w.shape[1]) // group
    stored = zero.T if version == 2 else (zero.T - 1) % 2**bits
    tensors = {
        ".qweight": np.ascontiguousarray(words(codes[:, back], bits).T),
        ".qzeros": words(stored, bits),
        ".scales": scale.T.astype(np.float16),
        ".g_idx": g_idx,
    }
    said = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": bool((np.diff(order) != 1).any())}
    said |= {"checkpoint_format": "gptq_v2"} if version == 2 else {}
    return Packed(tensors, values[:, back], {"quantization_config": said})


def awq(w: np.ndarray, group: int = 32, *, version: str = "gemm") -> Packed:
    """AWQ, four bits."""
    codes, scale, zero, values = affine(w, 4, group)
    said = {"quant_method": "awq", "bits": 4, "group_size": group, "version": version, "zero_point": True}
    if version == "gemv":
        room = -(-scale.shape[1] // 8) * 8 - scale.shape[1]
        zero, scale = (np.pad(table, ((0, 0), (0, room))) for table in (zero, scale))
        tensors = {".qweight": words(codes, 4), ".qzeros": words(zero, 4), ".scales": scale.astype(np.float16)}
        return Packed(tensors, values, {"quantization_config": said})
    shuffled = [table.T.reshape(table.shape[1], -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]] for table in (codes, zero)]
    qweight, qzeros = (words(table.reshape(len(table), -1), 4) for table in shuffled)
    tensors = {".qweight": qweight, ".qzeros": qzeros, ".scales": scale.T.astype(np.float16)}
    return Packed(tensors, values, {"quantization_config": said})


def bitsandbytes4(w: np.ndarray, kind: str = "nf4", *, is_nested: bool = True) -> Packed:
    """nf4 or fp4 in blocks of 64, their scales in eight bits where nested."""
    table = NF4 if kind == "nf4" else np.concatenate([FP4, -FP4])
    flat = np.pad(w.reshape(-1), (0, -w.size % 64)).reshape(-1, 64)
    absmax = np.maximum(np.abs(flat).max(1), 1e-9)
    tensors, said = {}, {"quant_type": kind, "blocksize": 64, "shape": list(w.shape), "dtype": "float16"}
    if is_nested:
        offset = float(absmax.mean())
        rest = np.pad(absmax - offset, (0, -len(absmax) % 256)).reshape(-1, 256)
        scale = np.maximum(np.abs(rest).max(1), 1e-9).astype(np.float32)
        map8 = np.linspace(-1, 1, 256).astype(np.float32)
        code = np.abs((rest / scale[:, None])[..., None] - map8).argmin(-1).astype(np.uint8)
        kept = code.reshape(-1)[: len(absmax)]
        absmax = (map8[code] * scale[:, None]).reshape(-1)[: len(absmax)] + np.float32(offset)
        tensors |= {".weight.absmax": kept, ".weight.nested_absmax": scale, ".weight.nested_quant_map": map8}
        said |= {"nested_blocksize": 256, "nested_offset": offset, "nested_dtype": "float32"}
    else:
        tensors |= {".weight.absmax": absmax.astype(np.float32)}
    order = np.argsort(table)
    near = np.searchsorted((table[order][1:] + table[order][:-1]) / 2, flat / absmax[:, None])
    codes = order[near].astype(np.uint8)
    values = (table[codes] * absmax[:, None]).reshape(-1)[: w.size].reshape(w.shape)
    pairs = codes.reshape(-1)[: w.size + w.size % 2].reshape(-1, 2)
    state = np.frombuffer(json.dumps(said).encode(), np.uint8)
    tensors |= {
        ".weight": (pairs[:, 0] << 4 | pairs[:, 1])[:, None],
        ".weight.quant_map": table,
        f".weight.quant_state.bitsandbytes__{kind}": state,
    }
    return Packed(tensors, values, {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}})


def bitsandbytes8(w: np.ndarray) -> Packed:
    """int8 with a scale a row."""
    scale = np.abs(w).max(1).astype(np.float32)
    codes = np.round(w / scale[:, None] * 127)
    tensors = {".weight": codes.astype(np.int8), ".SCB": scale, ".weight_format": np.zeros((), np.uint8)}
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    return Packed(tensors, (codes * (scale[:, None] / np.float32(127))).astype(np.float32), config)


def fp8(w: np.ndarray, kind: str = "row") -> Packed:
    """FP8 with one scale, a scale a row, or a scale for each 128 by 128 block."""
    if kind == "block":
        rows, columns = -(-w.shape[0] // 128), -(-w.shape[1] // 128)
        blocks = np.zeros((rows * 128, columns * 128), np.float32)
        blocks[: w.shape[0], : w.shape[1]] = np.abs(w)
        scale = blocks.reshape(rows, 128, columns, 128).max((1, 3)) / 448
        wide = np.kron(scale, np.ones((128, 128), np.float32))[: w.shape[0], : w.shape[1]]
        ending, said = "_scale_inv", {"quant_method": "fp8", "weight_block_size": [128, 128]}
    else:
        scale = np.abs(w).max(1, keepdims=True) / 448 if kind == "row" else np.abs(w).max().reshape(1) / 448
        wide, ending, said = scale, "_scale", {"quant_method": "compressed-tensors", "format": "float-quantized"}
    codes = (w / wide).astype(F8)
    tensors = {".weight": codes, f".weight{ending}": scale.astype(np.float32), ".input_scale": np.ones(1, np.float32)}
    return Packed(tensors, codes.astype(np.float32) * wide.astype(np.float32), {"quantization_config": said})


def int8(w: np.ndarray) -> Packed:
    """compressed-tensors' int-quantized: int8 with a scale a row."""
    codes, scale, values = symmetric(w, 8, w.shape[1])
    tensors = {".weight": codes.astype(np.int8), ".weight_scale": scale.astype(np.float16)}
    said = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    return Packed(tensors, values, {"quantization_config": said})


def pack_quantized(w: np.ndarray, bits: int = 4, group: int = 32, *, is_symmetric: bool = True) -> Packed:
    """compressed-tensors' pack-quantized."""
    extra = {}
    if is_symmetric:
        codes, scale, values = symmetric(w, bits, group)
        codes = codes + 2 ** (bits - 1)
    else:
        codes, scale, zero, values = affine(w, bits, group)
        extra = {".weight_zero_point": np.ascontiguousarray(words(zero.T, bits).T)}
    tensors = {
        ".weight_packed": words(codes, bits),
        ".weight_scale": scale.astype(np.float16),
        ".weight_shape": np.array(w.shape, np.int64),
    } | extra
    said = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    return Packed(tensors, values, {"quantization_config": said})


def pairs_of(codes: np.ndarray) -> np.ndarray:
    """Four-bit codes as bytes, the first in the low half."""
    return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)


def e2m1(x: np.ndarray) -> np.ndarray:
    """Codes of the nearest four-bit float."""
    size = np.searchsorted((E2M1[1:] + E2M1[:-1]) / 2, np.abs(x))
    return (size + 8 * (x < 0)).astype(np.uint8)


def e2m1_values(codes: np.ndarray) -> np.ndarray:
    """The numbers of codes."""
    return np.where(codes & 8, -1, 1).astype(np.float32) * E2M1[codes & 7]


def nvfp4(w: np.ndarray, kind: str = "modelopt") -> Packed:
    """NVFP4, with the whole tensor's scale as a factor (ModelOpt) or as a divisor (compressed-tensors)."""
    parts = w.reshape(len(w), -1, 16)
    whole = np.float32(np.abs(w).max() / (448 * 6))
    scale = np.maximum(np.abs(parts).max(-1) / 6 / whole, 2.0**-6).astype(F8)
    times = scale.astype(np.float32) * whole
    codes = e2m1(parts / times[..., None])
    values = (e2m1_values(codes) * times[..., None]).reshape(w.shape)
    octets = pairs_of(codes.reshape(w.shape))
    if kind == "modelopt":
        tensors = {".weight": octets, ".weight_scale": scale, ".weight_scale_2": np.array(whole)}
        said: dict[str, Any] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    else:
        tensors = {".weight_packed": octets, ".weight_scale": scale, ".weight_global_scale": np.array([1 / whole])}
        said = {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}
    return Packed(tensors, values, {"quantization_config": said})


def mxfp4(w: np.ndarray) -> Packed:
    """MXFP4 of gpt-oss, on a plain matrix."""
    parts = w.reshape(len(w), -1, 32)
    exponent = np.floor(np.log2(np.maximum(np.abs(parts).max(-1), 2.0**-100))) - 2
    codes = e2m1(np.clip(parts / np.exp2(exponent)[..., None], -6, 6))
    values = (e2m1_values(codes) * np.exp2(exponent)[..., None]).reshape(w.shape).astype(np.float32)
    tensors = {".weight_blocks": pairs_of(codes), ".weight_scales": (exponent + 127).astype(np.uint8)}
    return Packed(tensors, values, {"quantization_config": {"quant_method": "mxfp4"}})


def mlx(w: np.ndarray, bits: int = 4, group: int = 32) -> Packed:
    """MLX affine."""
    parts = w.reshape(len(w), -1, group)
    scale = np.maximum((parts.max(-1) - parts.min(-1)) / (2**bits - 1), 1e-7).astype(np.float16).astype(np.float32)
    bias = parts.min(-1).astype(np.float16).astype(np.float32)
    codes = np.clip(np.round((parts - bias[..., None]) / scale[..., None]), 0, 2**bits - 1)
    values = (codes * scale[..., None] + bias[..., None]).reshape(w.shape).astype(np.float32)
    tensors = {
        ".weight": words(codes.reshape(w.shape), bits).view(np.uint32),
        ".scales": scale.astype(np.float16),
        ".biases": bias.astype(np.float16),
    }
    return Packed(tensors, values, {"quantization": {"bits": bits, "group_size": group}})


def hqq(w: np.ndarray, group: int = 32, *, axis: int = 1, bits: int = 4) -> Packed:
    """HQQ without its optimisation: zero points are no whole numbers."""
    parts = w.reshape(-1, group) if axis else w.reshape(group, -1).T
    low, high = parts.min(1), parts.max(1)
    scale = np.maximum((high - low) / (2**bits - 1), 1e-6).astype(np.float16).astype(np.float32)
    zero = (-low / scale).astype(np.float16).astype(np.float32)
    codes = np.clip(np.round(parts / scale[:, None] + zero[:, None]), 0, 2**bits - 1)
    values = ((codes - zero[:, None]) * scale[:, None]).astype(np.float32)
    values, codes = (table if axis else table.T for table in (values, codes.astype(np.uint8)))
    per_byte = 8 // bits
    split = np.split(codes, per_byte)
    packed = sum((part.astype(np.int64) << bits * (per_byte - 1 - at)) for at, part in enumerate(split))
    shape = (-1, 1) if axis else (1, -1)
    tensors = {
        ".W_q": np.asarray(packed).astype(np.uint8),
        ".scale": scale.astype(np.float16).reshape(shape),
        ".zero": zero.astype(np.float16).reshape(shape),
        ".shape": np.array(w.shape, np.int64),
        ".packing": np.frombuffer(f"{bits}bit_u8".encode(), np.uint8),
        **{
            f".{name}": np.array(value, np.int32)
            for name, value in (("group_size", group), ("axis", axis), ("nbits", bits))
        },
    }
    return Packed(tensors, values.reshape(w.shape), {"quantization_config": {"quant_method": "hqq"}})


def quanto(w: np.ndarray, group: int = 32) -> Packed:
    """Quanto's qint4."""
    parts = w.reshape(-1, group)
    scale = np.maximum((parts.max(1) - parts.min(1)) / 15, 1e-6).astype(np.float32)
    shift = (-parts.min(1)).astype(np.float32)
    codes = np.clip(np.round((parts + shift[:, None]) / scale[:, None]), 0, 15).astype(np.uint8)
    values = (codes * scale[:, None] - shift[:, None]).astype(np.float32)
    low, high = np.split(codes, 2)
    tensors = {
        ".weight._data._data": low | high << 4,
        ".weight._scale": scale[:, None],
        ".weight._shift": shift[:, None],
    }
    return Packed(tensors, values.reshape(w.shape), {"quantization_config": {"quant_method": "quanto"}})


def quanto8(w: np.ndarray) -> Packed:
    """Quanto's qint8."""
    scale = (np.abs(w).max(1, keepdims=True) / 127).astype(np.float32)
    codes = np.clip(np.round(w / scale), -128, 127)
    tensors = {".weight._data": codes.astype(np.int8), ".weight._scale": scale}
    config = {"quantization_config": {"quant_method": "quanto"}}
    return Packed(tensors, (codes * scale).astype(np.float32), config)


def torchao4(w: np.ndarray, group: int = 32) -> Packed:
    """torchao's Int4Tensor: signed halves of bytes, an additive zero point."""
    parts = w.reshape(len(w), -1, group)
    scale = np.maximum((parts.max(-1) - parts.min(-1)) / 15, 1e-6).astype(np.float32)
    zero = parts.min(-1) + 8 * scale
    codes = np.clip(np.round((parts - parts.min(-1)[..., None]) / scale[..., None]), 0, 15) - 8
    values = codes * scale[..., None] + zero[..., None]
    tensors = {
        "._weight_qdata": pairs_of(codes.astype(np.int64).reshape(w.shape) & 15).view(np.int8),
        "._weight_scale": scale.T,
        "._weight_zero_point": zero.T,
    }
    config = {"quantization_config": {"quant_method": "torchao"}}
    return Packed(tensors, values.reshape(w.shape).astype(np.float32), config)


def exl2(w: np.ndarray, group: int = 32) -> Packed:
    """EXL2: inputs in another order, groups of falling bits, scales as squares of four-bit codes."""
    n_groups = w.shape[1] // group
    order = shuffled(w)
    bits = sorted(((6, 5, 4, 4, 3, 8)[at % 6] for at in range(n_groups)), reverse=True)
    parts = w[:, order].reshape(len(w), n_groups, group)
    tops = np.array([2 ** (n - 1) - 0.5 for n in bits], np.float32)
    wanted = np.abs(parts).max(-1) / tops
    largest = (wanted.max(0) * 1.001).astype(np.float16)
    codes4 = np.clip(np.ceil(np.sqrt(wanted / largest.astype(np.float32) * 256)) - 1, 0, 15)
    scale = np.square(codes4 + 1) * largest.astype(np.float32) / 256
    half = np.array([2 ** (n - 1) for n in bits])[:, None]
    codes = np.clip(np.round(parts / scale[..., None]), -half, half - 1) + half
    values = ((codes - half) * scale[..., None]).reshape(w.shape).astype(np.float32)
    columns = [words(codes[:, at], n).T for at, n in enumerate(bits)]
    starts = np.cumsum([0, *(len(column) for column in columns[:-1])])
    back = np.argsort(order)
    tensors = {
        ".q_weight": np.concatenate(columns),
        ".q_groups": np.stack([np.array(bits), starts], 1).reshape(-1).astype(np.int16),
        ".q_scale": words(codes4.T, 4),
        ".q_scale_max": largest,
        ".q_invperm": back.astype(np.int32),
    }
    return Packed(tensors, values[:, back], {"quantization_config": {"quant_method": "exl2", "bits": 4.65}})


def shuffled(w: np.ndarray) -> np.ndarray:
    """An order of the inputs."""
    return np.random.default_rng(len(w)).permutation(w.shape[1])


LAYOUTS: dict[str, Callable[[np.ndarray], Packed]] = {
    **{f"gptq v1, {bits} bits": lambda w, bits=bits: gptq(w, bits) for bits in (2, 3, 4, 8)},
    "gptq v2, 4 bits": lambda w: gptq(w, version=2),
    "gptq v1, 4 bits, act-order": lambda w: gptq(w, order=shuffled(w)),
    "gptq v2, 3 bits, act-order": lambda w: gptq(w, 3, version=2, order=shuffled(w)),
    "awq, gemm": awq,
    "awq, gemv": lambda w: awq(w, version="gemv"),
    "bitsandbytes nf4": bitsandbytes4,
    "bitsandbytes nf4, plain scales": lambda w: bitsandbytes4(w, is_nested=False),
    "bitsandbytes fp4": lambda w: bitsandbytes4(w, "fp4"),
    "bitsandbytes int8": bitsandbytes8,
    "fp8, one scale": lambda w: fp8(w, "tensor"),
    "fp8, a scale a row": fp8,
    "fp8, blocks": lambda w: fp8(w, "block"),
    "compressed-tensors int8": int8,
    "compressed-tensors packed, 4 bits": pack_quantized,
    "compressed-tensors packed, 4 bits, zero points": lambda w: pack_quantized(w, is_symmetric=False),
    "compressed-tensors packed, 8 bits": lambda w: pack_quantized(w, 8),
    "compressed-tensors nvfp4": lambda w: nvfp4(w, "compressed-tensors"),
    "modelopt nvfp4": nvfp4,
    "mxfp4": mxfp4,
    "hqq, axis 1": hqq,
    "hqq, axis 0": lambda w: hqq(w, axis=0),
    "hqq, 2 bits": lambda w: hqq(w, bits=2),
    "quanto int4": quanto,
    "quanto int8": quanto8,
    "torchao int4": torchao4,
    "exl2": exl2,
    **{f"mlx, {bits} bits": lambda w, bits=bits: mlx(w, bits) for bits in (2, 3, 4, 5, 6, 8)},
}
"""Every layout, by a name that says its bits where it has several."""
