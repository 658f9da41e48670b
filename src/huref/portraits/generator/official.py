"""Official StyleGAN2 weights as ours: the shape of the network and its tensors, taken from a pickle's records.

The shape follows from the arrays alone. The attributes of the layers are read to see that each computes what our
network computes; what differs is refused by name and never approximated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from huref.errors import WeightsError
from huref.model.source.byte_source import ByteSource
from huref.model.source.pickle_modules import ModuleRecord
from huref.numerics.arrays import Floats
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.official_pickle import StoredArray, read_array, read_structure
from huref.portraits.generator.stylegan2 import BLUR, GAIN

GENERATOR = "G_ema"
"""The averaged generator; beside it the file holds the training one, the discriminator and the augmentation."""

MAX_BYTES = 512 * 2**20
"""At most so many bytes of weights in fp32; the largest official generator has 121 MB."""

_MODULES = 1024
"""At most so many layers; a network of 1024 pixels has 90."""

_KINDS = {
    *("Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock"),
    *("SynthesisLayer", "ToRGBLayer", "FullyConnectedLayer"),
}


@dataclass(frozen=True)
class _Network:
    """Modules and arrays of the generator by their dotted names, and the file's name for messages."""

    where: str
    modules: Mapping[str, ModuleRecord]
    arrays: Mapping[str, StoredArray]

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """The shape of an array that has to be there, with `rank` axes."""
        found = self.arrays.get(name)
        if found is None or len(found.shape) != rank or not all(found.shape):
            got = "nothing" if found is None else f"shape {found.shape}"
            raise self.unsupported(name, f"an array with {rank} axes", got)
        return found.shape

    def unsupported(self, name: str, expected: str, got: str) -> WeightsError:
        return WeightsError(
            "not a generator that huref can run",
            where=f"{self.where}, {GENERATOR}.{name}".rstrip("."),
            expected=expected,
            got=got,
            next_step="docs/how-to/generators.md lists what is supported",
        )


def read_official(source: ByteSource) -> tuple[StyleGAN2Config, dict[str, Floats]]:
    """Shape and fp32 tensors of the generator in a pickle of stylegan2-ada-pytorch, by our names.

    Of the arrays only those of `G_ema` are read. The half-precision layers of the release (`num_fp16_res`) are a
    matter of how fast it runs: their weights are fp32, and so is the arithmetic here.

    Raises:
        WeightsError: no generator in it, or one of a kind that our network does not compute.
        UnsafeFileError: the pickle holds anything but networks and arrays.
        CorruptFileError: truncated or contradictory.
        InputError: a pickle of the TensorFlow releases.
    """
    root = read_structure(source)
    network = _network(root.get(GENERATOR) if type(root) is dict else None, source.name)
    config = _config(network)
    for name, module in network.modules.items():
        _require_attributes(network, name, module.state, _attributes(network, name, module.kind, config))
    claimed = 4 * sum(math.prod(array.shape) for array in network.arrays.values())
    limit = min(MAX_BYTES, 2 * source.size)  # half precision doubles when read; storage that is shared could do more
    if claimed > limit:
        raise network.unsupported("", f"at most {limit} bytes of arrays", str(claimed))
    tensors = {name: read_array(source, array, name) for name, array in network.arrays.items()}
    filters = {name: tensors.pop(name) for name in list(tensors) if name.endswith("resample_filter")}
    for name, taps in filters.items():
        if taps.shape != (4, 4) or not np.allclose(taps, np.outer(BLUR, BLUR), atol=1e-6):
            raise network.unsupported(name, "the filter [1, 3, 3, 1]", f"another of shape {tuple(taps.shape)}")
    return config, tensors | _silent_layers(network, config)


def _network(root: Any, where: str) -> _Network:
    nothing = _Network(where, {}, {})
    if not isinstance(root, ModuleRecord) or root.kind != "Generator":
        got = f"a {root.kind[:80]}" if isinstance(root, ModuleRecord) else "nothing of the kind"
        raise nothing.unsupported("", "a StyleGAN2 Generator under this name", got)
    modules: dict[str, ModuleRecord] = {}
    waiting = [("", root)]
    while waiting:
        name, module = waiting.pop()
        if len(modules) == _MODULES:  # one that contains itself never ends
            raise nothing.unsupported(name[:80], f"at most {_MODULES} layers", "more")
        if module.kind not in _KINDS:
            raise nothing.unsupported(
                name, "the layers of a StyleGAN2 with skip connections", f"a {module.kind[:80]}"
            )
        modules[name] = module
        waiting += [(f"{name}.{key}".lstrip("."), child) for key, child in _members(module, "_modules", ModuleRecord)]
    arrays = {
        f"{name}.{key}".lstrip("."): value
        for name, module in modules.items()
        for table in ("_parameters", "_buffers")
        for key, value in _members(module, table, StoredArray)
    }
    return _Network(where, modules, arrays)


def _members(module: ModuleRecord, table: str, kind: type[Any]) -> list[tuple[str, Any]]:
    """What is of one kind in a table of the module; None stands there for what a layer does without."""
    found = module.state.get(table)
    pairs = found.items() if type(found) is dict else ()
    return [(key, value) for key, value in pairs if isinstance(key, str) and isinstance(value, kind)]


def _config(network: _Network) -> StyleGAN2Config:
    """The shape of the network: from the shapes of its arrays, and two numbers."""
    (w_dim,) = network.shape("mapping.w_avg", 1)
    inputs = network.shape("mapping.fc0.weight", 2)[1]
    label_dim = network.shape("mapping.embed.weight", 2)[1] if "mapping.embed" in network.modules else 0
    sides = _numbers(network, r"synthesis\.b(\d{1,5})")
    channels = {side: network.shape(f"synthesis.b{side}.conv1.bias", 1)[0] for side in sides}
    try:
        return StyleGAN2Config(
            resolution=max(sides, default=0),
            z_dim=inputs - (w_dim if label_dim else 0),
            w_dim=w_dim,
            mapping_layers=len(_numbers(network, r"mapping\.fc(\d{1,3})")),
            channel_base=max(side * count for side, count in channels.items()),
            channel_max=max(channels.values()),
            label_dim=label_dim,
            mapping_rate=_number(network, "mapping.fc0", "bias_gain"),
            conv_clamp=_clamp(network, "synthesis.b4.conv1"),
        )
    except ValueError as error:
        raise network.unsupported("", "a StyleGAN2 of 8 to 1024 pixels", str(error)) from error


def _numbers(network: _Network, pattern: str) -> list[int]:
    return [int(found[1]) for name in network.modules if (found := re.fullmatch(pattern, name))]


def _number(network: _Network, name: str, key: str) -> float:
    value = network.modules[name].state.get(key) if name in network.modules else None
    if not _is_number(value) or not 0 < value < math.inf:
        raise network.unsupported(f"{name}.{key}", "a positive number", _told(value))
    return float(value)


def _clamp(network: _Network, name: str) -> float | None:
    """The bound of one layer; `_attributes` asks it of all."""
    has_none = name in network.modules and network.modules[name].state.get("conv_clamp") is None
    return None if has_none else _number(network, name, "conv_clamp")


def _attributes(network: _Network, name: str, kind: str, config: StyleGAN2Config) -> dict[str, Any]:
    """What a layer has to say of itself to compute what ours of that name does."""
    last = name.rpartition(".")[2]
    if kind == "Generator":
        return {"img_channels": 3}
    if kind == "SynthesisBlock":
        return {"architecture": "skip"}
    if kind == "SynthesisLayer":
        up = 2 if last == "conv0" else 1
        return {"activation": "lrelu", "act_gain": GAIN, "up": up, "padding": 1, "conv_clamp": config.conv_clamp}
    if kind == "ToRGBLayer":
        inputs = network.shape(f"{name}.weight", 4)[1]
        return {"weight_gain": 1 / math.sqrt(inputs), "conv_clamp": config.conv_clamp}
    if kind == "FullyConnectedLayer":
        inputs = network.shape(f"{name}.weight", 2)[1]
        is_mapping = last.startswith("fc")
        rate = config.mapping_rate if is_mapping else 1.0
        activation = "lrelu" if is_mapping else "linear"
        return {"activation": activation, "weight_gain": rate / math.sqrt(inputs), "bias_gain": rate}
    return {}


def _require_attributes(network: _Network, name: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        given = found.get(key)
        if _is_number(value):
            is_same = _is_number(given) and math.isclose(given, value, rel_tol=1e-6)
        else:
            is_same = type(given) is type(value) and given == value
        if not is_same:
            raise network.unsupported(f"{name}.{key}", _told(value), _told(given))


def _silent_layers(network: _Network, config: StyleGAN2Config) -> dict[str, Floats]:
    """Noise of strength 0, for the layers of networks that were trained without noise (`use_noise`)."""
    silence: dict[str, Floats] = {}
    for side in config.sides:
        for name in (f"synthesis.b{side}.conv0", f"synthesis.b{side}.conv1"):
            if name in network.modules and network.modules[name].state.get("use_noise") is False:
                silence[f"{name}.noise_const"] = np.zeros((side, side), np.float32)
                silence[f"{name}.noise_strength"] = np.zeros((), np.float32)
    return silence


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _told(value: Any) -> str:
    """A value for a message; never a container, whose text can be endless."""
    return repr(value)[:80] if value is None or isinstance(value, str) or _is_number(value) else type(value).__name__
