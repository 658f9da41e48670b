"""Makes the golden files beside it: matrices packed by the layouts' own libraries, and what these unpack them to.

    python -m venv oracle && oracle/bin/pip install torch==2.13.0
    oracle/bin/pip install bitsandbytes compressed-tensors optimum-quanto hqq torchao gptqmodel 'mlx[cpu]'
    oracle/bin/python tests/model/golden_packed/make.py

A file has the stored tensors of one layer called `layer`, `expected` (out, in), and in its metadata the entries of
config.json under `config`, with the versions of the libraries under `made_by`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
ROWS, COLUMNS, GROUP = 32, 64, 32
Made = tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, Any]]


def matrix(rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * columns**-0.5


def affine(w: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and whole zero points (out, groups)."""
    parts = w.reshape(len(w), -1, GROUP)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    return scale, torch.round(-low / scale)


def gptq(bits: int, *, is_ordered: bool = True, version: int = 2) -> Made:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    linear.weight.data = matrix()
    index = torch.arange(COLUMNS) // GROUP
    if not is_ordered:
        index = index[torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(1))]
    scale, zero = (torch.empty(ROWS, COLUMNS // GROUP) for _ in range(2))
    for group in range(COLUMNS // GROUP):
        chosen = linear.weight.data[:, index == group]
        scale[:, group : group + 1], zero[:, group : group + 1] = affine(chosen, bits)
    scale = scale.half().float()
    layer = TorchLinear(
        bits=bits, group_size=GROUP, sym=False, desc_act=not is_ordered, in_features=COLUMNS, out_features=ROWS
    )
    layer.pack_original(linear, scale.clone(), zero.clone(), index.clone().int())
    layer.post_init()
    expected = layer.dequantize_weight().T.float()
    names = ("qweight", "qzeros", "scales", "g_idx")
    tensors = {f"layer.{name}": getattr(layer, name).clone() for name in names}
    said = {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "desc_act": not is_ordered}
    if version == 2:
        said["checkpoint_format"] = "gptq_v2"
    else:  # the library's own way from the second version to the first
        from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

        convert_gptq_v2_to_v1_format_module(layer, SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        tensors["layer.qzeros"] = layer.qzeros.clone()
    return tensors, expected, {"quantization_config": said}


def awq() -> Made:
    from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm, pack_awq

    w = matrix()
    scale, zero = affine(w, 4)
    scale = scale.half()
    wide = [t.float().repeat_interleave(GROUP, 1) for t in (scale, zero)]
    codes = (torch.round(w / wide[0]) + wide[1]).clamp(0, 15).int()
    qweight, qzeros = pack_awq(codes.T.contiguous(), zero.T.contiguous().int(), 4)
    scales = scale.T.contiguous()
    expected = dequantize_gemm(qweight, qzeros, scales, 4, GROUP).T.float()
    said = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}
    tensors = {"layer.qweight": qweight, "layer.qzeros": qzeros, "layer.scales": scales}
    return tensors, expected, {"quantization_config": said}


def bitsandbytes4(kind: str, *, is_nested: bool) -> Made:
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    w = matrix(64, 130)  # rows that are no whole blocks
    packed, state = quantize_4bit(w, quant_type=kind, compress_statistics=is_nested, blocksize=64)
    tensors = {"layer.weight": packed}
    tensors |= {f"layer.weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    return tensors, dequantize_4bit(packed, state).float(), config


def bitsandbytes8() -> Made:
    from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant

    codes, scale, _ = int8_vectorwise_quant(matrix().half())
    tensors = {"layer.weight": codes, "layer.SCB": scale, "layer.weight_format": torch.zeros((), dtype=torch.uint8)}
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    return tensors, int8_vectorwise_dequant(codes, scale).float(), config


def compressed(file_format: str, weights: dict[str, Any]) -> Made:
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    arguments = QuantizationArgs(**weights)
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    w = matrix()
    size = arguments.group_size or COLUMNS
    parts = w.reshape(ROWS, -1, size)
    state = {"weight": w}
    more = {}
    if arguments.strategy == "tensor_group":
        state["weight_global_scale"] = generate_gparam(w.amin(), w.amax())
        more = {"global_scale": state["weight_global_scale"]}
    state["weight_scale"], state["weight_zero_point"] = calculate_qparams(
        parts.amin(-1), parts.amax(-1), arguments, **more
    )
    compressor = BaseCompressor.get_value_from_registry(file_format)
    packed = compressor.compress(state, scheme)
    expected = compressor.decompress(dict(packed), scheme)["weight"].float()
    said = {
        "quant_method": "compressed-tensors",
        "format": file_format,
        "config_groups": {"group_0": {"weights": weights}},
    }
    return {f"layer.{name}": t for name, t in packed.items()}, expected, {"quantization_config": said}


def mlx(bits: int, group: int = GROUP) -> Made:
    import mlx.core as mx
    import numpy as np

    w = mx.array(matrix().numpy()).astype(mx.float16)
    parts = mx.quantize(w, group_size=group, bits=bits)
    wide = (parts[0], *(part.astype(mx.float32) for part in parts[1:]))  # else it adds the bias in half precision
    expected = torch.from_numpy(np.array(mx.dequantize(*wide, group_size=group, bits=bits)))
    stored = [torch.from_numpy(np.array(part)) for part in parts]
    tensors = dict(zip(("layer.weight", "layer.scales", "layer.biases"), stored, strict=True))
    return tensors, expected, {"quantization": {"group_size": group, "bits": bits}}


def mlx_mode(mode: str, bits: int, group: int) -> Made:
    import mlx.core as mx
    import numpy as np

    w = mx.array(matrix().numpy()).astype(mx.float16)
    words, scales = mx.quantize(w, group_size=group, bits=bits, mode=mode)
    expected = mx.dequantize(words, scales, group_size=group, bits=bits, mode=mode).astype(mx.float32)
    tensors = {"layer.weight": torch.from_numpy(np.array(words)), "layer.scales": torch.from_numpy(np.array(scales))}
    return (
        tensors,
        torch.from_numpy(np.array(expected)),
        {"quantization": {"group_size": group, "bits": bits, "mode": mode}},
    )


def hqq(bits: int, axis: int) -> Made:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear, Quantizer

    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    linear.weight.data = matrix()
    config = BaseQuantizeConfig(nbits=bits, group_size=GROUP, axis=axis)
    layer = HQQLinear(linear, config, compute_dtype=torch.float16, device="cpu")
    tensors = {f"layer.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    expected = Quantizer.dequantize(layer.W_q, layer.meta).float()
    return tensors, expected, {"quantization_config": {"quant_method": "hqq"}}


def quanto(kind: str) -> Made:
    from optimum import quanto as library

    model = torch.nn.Sequential()
    model.add_module("layer", torch.nn.Linear(COLUMNS * 2, ROWS, bias=False))
    model.layer.weight.data = matrix(ROWS, COLUMNS * 2)
    library.quantize(model, weights=getattr(library, kind))
    library.freeze(model)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return tensors, model.layer.weight.dequantize().float(), {"quantization_config": {"quant_method": "quanto"}}


def torchao(kind: str) -> Made:
    from torchao import quantization as library
    from torchao.quantization.granularity import PerGroup

    configs = {
        "int8": library.Int8WeightOnlyConfig,
        "fp8": library.Float8WeightOnlyConfig,
        "intx": lambda: library.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP)),
    }
    model = torch.nn.Sequential()
    model.add_module("layer", torch.nn.Linear(COLUMNS, ROWS, bias=False))
    model.layer.weight.data = matrix()
    library.quantize_(model, configs[kind]())
    state = model.state_dict()
    torch.save({**state, "expected": model.layer.weight.dequantize().float()}, HERE / f"torchao-{kind}.bin")
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    tensors, _ = flatten_tensor_state_dict(state)
    return tensors, model.layer.weight.dequantize().float(), {"quantization_config": {"quant_method": "torchao"}}


LAYOUTS: dict[str, Callable[[], Made]] = {
    **{f"gptq-{bits}bit": lambda bits=bits: gptq(bits) for bits in (2, 3, 4, 8)},
    "gptq-4bit-act-order": lambda: gptq(4, is_ordered=False),
    "gptq-v1-4bit": lambda: gptq(4, version=1),
    "awq-gemm": awq,
    **{f"bnb-{kind}": lambda kind=kind: bitsandbytes4(kind, is_nested=False) for kind in ("nf4", "fp4")},
    "bnb-nf4-nested": lambda: bitsandbytes4("nf4", is_nested=True),
    "bnb-int8": bitsandbytes8,
    **{
        f"ct-int{bits}": lambda bits=bits: compressed(
            "pack-quantized", {"num_bits": bits, "type": "int", "strategy": "group", "group_size": GROUP}
        )
        for bits in (3, 4, 8)
    },
    "ct-int4-zero-points": lambda: compressed(
        "pack-quantized",
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": GROUP, "symmetric": False},
    ),
    "ct-int8-channel": lambda: compressed("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "ct-fp8-channel": lambda: compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "ct-nvfp4": lambda: compressed(
        "nvfp4-pack-quantized",
        {
            "num_bits": 4,
            "type": "float",
            "strategy": "tensor_group",
            "group_size": 16,
            "scale_dtype": torch.float8_e4m3fn,
        },
    ),
    "ct-mxfp4": lambda: compressed(
        "mxfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8},
    ),
    **{f"mlx-{bits}bit": lambda bits=bits: mlx(bits) for bits in (2, 3, 4, 5, 6, 8)},
    "mlx-mxfp4": lambda: mlx_mode("mxfp4", 4, 32),
    "mlx-nvfp4": lambda: mlx_mode("nvfp4", 4, 16),
    "mlx-mxfp8": lambda: mlx_mode("mxfp8", 8, 32),
    **{
        f"hqq-{bits}bit-axis{axis}": lambda bits=bits, axis=axis: hqq(bits, axis)
        for bits in (1, 2, 3, 4, 8)
        for axis in (0, 1)
    },
    **{f"torchao-{kind}": lambda kind=kind: torchao(kind) for kind in ("int8", "fp8", "intx")},
    **{f"quanto-{kind}": lambda kind=kind: quanto(kind) for kind in ("qint2", "qint4", "qint8", "qfloat8")},
}
LIBRARIES = ("torch", "bitsandbytes", "compressed-tensors", "optimum-quanto", "hqq", "torchao", "gptqmodel", "mlx")


def main() -> None:
    made_by = json.dumps({name: importlib.metadata.version(name) for name in LIBRARIES})
    wanted = sys.argv[1:] or LAYOUTS
    for name in wanted:
        try:
            tensors, expected, config = LAYOUTS[name]()
        except Exception as error:  # one library that fails is no reason to leave out the others
            print(f"{name}: {type(error).__name__}: {error}")
            continue
        whole = {key: tensor.detach().contiguous() for key, tensor in (tensors | {"expected": expected}).items()}
        said = {"config": json.dumps(config, default=str), "made_by": made_by}
        save_file(whole, HERE / f"{name}.safetensors", metadata=said)
        print(name, sum(tensor.nbytes for tensor in whole.values()))


if __name__ == "__main__":
    main()
