"""Pickles and weights that mean harm, or are merely broken: an error that says so, nothing run, nothing huge made."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from huref.errors import CorruptFileError, HurefError, InputError, NotFiniteError, UnsafeFileError, UsageError
from huref.errors import WeightsError as Weights
from huref.model.source.byte_source import LocalFile
from huref.model.source.pickle_modules import ModuleRecord
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.conversion import convert_generator
from huref.portraits.generator.file import open_generator, save_generator
from huref.portraits.generator.official_pickle import DESCRIPTION_LIMIT, read_structure
from huref.portraits.generator.stylegan2 import Generator
from kit import official_pickles as official
from kit.command_line import Outcome
from kit.hostile_files import assert_complete
from kit.official_pickles import Layer, Shape, contents, generator, pickled
from kit.tiny_generator import random_generator

Cli = Callable[..., Outcome]
SMALL = Shape(resolution=8, z_dim=16, layers=1, channel_max=4)
HEAD = b"\x80\x04"


def refused(path: Path, data: bytes, kind: type[HurefError], *parts: str) -> HurefError:
    """Opening the file fails with this error, which says all that an error has to say."""
    path.write_bytes(data)
    with pytest.raises(kind) as caught:
        open_generator(path)
    assert_complete(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    return caught.value


class Call:
    """Unpickled carelessly, this calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("place", ["beside", "in the state", "in the arguments", "instead"])
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("function", [os.system, eval, open, getattr, torch.load])
def test_a_pickle_that_asks_for_a_call_is_refused(
    function: Callable[..., Any], protocol: int, place: str, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    call = Call(function, f"open({str(trap)!r}, 'w')")
    network: Any = generator(SMALL)
    if place == "in the state":
        network.trap = call
    elif place == "in the arguments":
        network._init_args = (call,)
    elif place == "instead":
        network = call
    root = contents(network, augment_pipe=call) if place == "beside" else contents(network)
    refused(tmp_path / "g.pkl", pickled(root, protocol), UnsafeFileError, "nothing of it was run", function.__name__)
    assert not trap.exists()


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_code_in_a_pickle_is_neither_run_nor_read(protocol: int, tmp_path: Path) -> None:
    trap, mark = tmp_path / "trap", "MARK OF THEIR CODE "
    code = f"open({str(trap)!r}, 'w').close()\n# {mark * 200}"
    network = generator(SMALL)
    for layer in network.modules():
        object.__setattr__(layer, "source", code)
    path = tmp_path / "g.pkl"
    path.write_bytes(pickled(contents(network), protocol))
    assert mark.encode() in path.read_bytes()
    assert open_generator(path).config.resolution == 8
    assert not trap.exists()
    source = LocalFile(path)
    root = read_structure(source)
    source.close()
    assert isinstance(root["G_ema"], ModuleRecord)
    assert mark not in repr(root)


def test_code_in_a_storage_is_refused(tmp_path: Path) -> None:
    """Every array is a torch stream of its own, read by the project's own reader."""
    trap = tmp_path / "trap"
    data = bytearray(pickled(contents(generator(SMALL))))
    stream = pickle.dumps(Call(os.system, f"touch {trap}"), protocol=2)
    found = data.find(b"G_ema")
    start = data.find(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", found) - 2  # torch's magic number
    data[start : start + len(stream)] = stream
    refused(tmp_path / "g.pkl", bytes(data), UnsafeFileError, "system")
    assert not trap.exists()


OPCODES = {
    "INST": b"(ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\no.",
    "PERSID": b"Pid\n.",
    "BINPERSID": b"NQ.",
    "EXT4": b"\x84\x01\0\0\0.",
    "INT": b"I1\n.",
    "STRING": b"S'x'\n.",
    "PUT": b"Np99999999999999\n.",
    "LONG4": b"\x8b\xff\xff\xff\x7f.",
    "DUP": b"N2.",
    "NEWOBJ_EX": b"))}\x92.",
}


@pytest.mark.parametrize("name", OPCODES)
def test_opcodes_that_data_do_not_need_are_refused(name: str, tmp_path: Path) -> None:
    refused(tmp_path / "g.pkl", HEAD + OPCODES[name], UnsafeFileError)


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


BROKEN = {
    "a long byte array": b"\x96" + struct.pack("<Q", 1 << 40) + b".",
    "long bytes": b"\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "long text": b"\x8d" + struct.pack("<Q", 1 << 60) + b".",
    "bytes beyond the end": b"B" + struct.pack("<I", 1 << 31) + b".",
    "nothing": b"",
    "stack underflow": b"s.",
    "an item of a name": text("collections") + text("OrderedDict") + b"\x93NNs.",
    "a call of a number": b"K\x01)R.",
    "a call with a list": text("collections") + text("OrderedDict") + b"\x93]R.",
    "a name that is no text": b"K\x01K\x02\x93.",
    "memo out of nothing": b"h\x07.",
    "nested tuples as a key": b"}"
    + b")"
    + b"\x94h\0\x86"
    + b"".join(b"\x94h" + bytes([k]) + b"\x86" for k in range(1, 100))
    + b"K\x01s.",
    "a module without state": text("torch_utils.persistence") + text("_reconstruct_persistent_obj") + b"\x93}\x85R.",
    "a storage of text": text("torch.storage") + text("_load_from_bytes") + b"\x93" + text("x") + b"\x85R.",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_refused(name: str, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        refused(tmp_path / "g.pkl", HEAD + BROKEN[name], CorruptFileError)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filler", [b"}", b"]", b"(", b"N", b"\x8f"])
def test_a_description_that_never_ends_is_cut_off(
    filler: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DESCRIPTION_LIMIT < 1 << 20  # a byte can ask for a hundred
    monkeypatch.setattr("huref.portraits.generator.official_pickle.DESCRIPTION_LIMIT", 1 << 14)
    refused(tmp_path / "g.pkl", HEAD + filler * (1 << 15), UnsafeFileError, str(1 << 14))


def test_a_network_that_contains_itself(tmp_path: Path) -> None:
    """Python writes no such cycle for these classes; the opcodes allow it."""
    call = text("torch_utils.persistence") + text("_reconstruct_persistent_obj") + b"\x93"
    state = b"}\x94" + text("_modules") + b"}\x94" + b"s"
    body = b"}(" + text("G_ema") + call + b"}(" + text("class_name") + text("Generator") + text("state") + state
    body += b"u\x85R\x94" + text("other") + b"h\x01" + text("again") + b"h\x02su."
    refused(tmp_path / "g.pkl", HEAD + body, Weights, "layers")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_bytes_give_an_error_or_a_network(data: st.DataObject) -> None:
    import tempfile

    original = _small_pickle()
    changed = bytearray(
        original[: data.draw(st.sampled_from([len(original), data.draw(st.integers(0, len(original)))]))]
    )
    for _ in range(data.draw(st.integers(0, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "g.pkl")
        path.write_bytes(changed)
        try:
            assert isinstance(open_generator(path), Generator)
        except HurefError as error:
            assert error.exit_code == 4


_CACHE: list[bytes] = []


def _small_pickle() -> bytes:
    if not _CACHE:
        network = generator(SMALL)
        for layer in network.modules():
            object.__setattr__(layer, "source", "pass")
        _CACHE.append(pickled({"G_ema": network}, 4))
    return _CACHE[0]


# Networks that are sound but not what huref draws with


def changed(change: Callable[[Layer], Any], protocol: int = 3) -> bytes:
    network = generator(SMALL)
    change(network)
    return pickled(contents(network), protocol)


def _filter(network: Layer) -> None:
    network.synthesis.b8.conv0.resample_filter = official.low_pass((1, 2, 1))


def _flat_filter(network: Layer) -> None:
    network.synthesis.b8.resample_filter = official.low_pass((1, 1, 1, 1))


def _orig(network: Layer) -> None:
    network.synthesis.b4.architecture = "orig"
    del network.synthesis.b4.torgb


def _resnet(network: Layer) -> None:
    network.synthesis.b8.skip = Layer("Conv2dLayer")


def _stylegan3(network: Layer) -> None:
    network.synthesis.input = Layer("SynthesisInput")


def _gray(network: Layer) -> None:
    network.img_channels = 1


def _relu(network: Layer) -> None:
    network.synthesis.b8.conv1.activation = "relu"


def _rates(network: Layer) -> None:
    network.mapping.fc0.weight_gain = 1.0


def _clamps(network: Layer) -> None:
    network.synthesis.b8.torgb.conv_clamp = None


def _no_mean(network: Layer) -> None:
    del network.mapping.w_avg


def _missing(network: Layer) -> None:
    del network.synthesis.b8.torgb.bias


def _extra(network: Layer) -> None:
    network.synthesis.register_buffer("spare", torch.ones(3))


def _other_shape(network: Layer) -> None:
    network.synthesis.b8.conv1.weight = official.random(4, 4, 5, 5)


def _other_rank(network: Layer) -> None:
    network.mapping.w_avg = torch.ones(2, 4)


def _missing_block(network: Layer) -> None:
    del network.synthesis.b4


def _four_pixels(network: Layer) -> None:
    del network.synthesis.b8


def _nan(network: Layer) -> None:
    network.synthesis.b4.const[0, 0, 0] = float("nan")


def _repeated(network: Layer) -> None:
    network.synthesis.b8.conv1.weight = torch.nn.Parameter(torch.ones(1).expand(4, 4, 3, 3), requires_grad=False)


def _whole_numbers(network: Layer) -> None:
    network.synthesis.b4.conv1.noise_const = torch.ones(4, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "kind", "part"),
    [
        (_filter, Weights, "b8.conv0.resample_filter"),
        (_flat_filter, Weights, "[1, 3, 3, 1]"),
        (_orig, Weights, "'orig'"),
        (_resnet, Weights, "Conv2dLayer"),
        (_stylegan3, Weights, "SynthesisInput"),
        (_gray, Weights, "img_channels"),
        (_relu, Weights, "'relu'"),
        (_rates, Weights, "mapping.fc0.weight_gain"),
        (_clamps, Weights, "b8.torgb.conv_clamp"),
        (_no_mean, Weights, "mapping.w_avg"),
        (_missing, Weights, "weights instead of"),
        (_extra, Weights, "weights instead of"),
        (_other_shape, Weights, "weights instead of"),
        (_other_rank, Weights, "mapping.w_avg"),
        (_missing_block, Weights, "b4"),
        (_four_pixels, Weights, "8 to 1024"),
        (_nan, Weights, "NaN"),
        (_repeated, CorruptFileError, "gaps or repeats"),
        (_whole_numbers, CorruptFileError, "I64"),
    ],
)
def test_networks_that_differ_are_refused_by_name(
    change: Callable[[Layer], Any], kind: type[HurefError], part: str, tmp_path: Path
) -> None:
    refused(tmp_path / "g.pkl", changed(change), kind, part)


def test_arrays_of_equal_size_in_each_others_place_are_noticed(tmp_path: Path) -> None:
    def transpose(network: Layer) -> None:
        network.mapping.fc0.weight = torch.nn.Parameter(network.mapping.fc0.weight.t(), requires_grad=False)

    refused(tmp_path / "g.pkl", changed(transpose), Weights)


@pytest.mark.parametrize(
    "root",
    [
        {"G": 1, "D": 2},
        {"G_ema": {"weight": [1.0]}},
        [1, 2, 3],
        None,
        {"G_ema": Layer("Discriminator")},
        {"G_ema": Layer("Generator")},
    ],
)
def test_pickles_without_a_generator(root: Any, tmp_path: Path) -> None:
    refused(tmp_path / "g.pkl", pickled(root), Weights)


def test_a_pickle_of_the_tensorflow_releases_says_what_to_do(tmp_path: Path) -> None:
    with official.stand_ins():
        data = pickle.dumps(tuple(official.TensorFlowNetwork() for _ in range(3)), protocol=3)
    refused(tmp_path / "g.pkl", data, InputError, "TensorFlow", "legacy.py")


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_pickles_of_protocols_that_nobody_writes(protocol: int, tmp_path: Path) -> None:
    refused(tmp_path / "g.pkl", pickled(contents(generator(SMALL)), protocol), InputError)
    refused(tmp_path / "g.pkl", b"\x80\x06N.", InputError, "protocol 6")


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    torch.save({"G_ema": torch.ones(2)}, path)
    for data in (path.read_bytes(), b"", b"\x80", b"<html>", b"GGUF" + b"\0" * 100):
        refused(path, data, InputError)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError):
            open_generator(missing)


# Safetensors of our own


def test_a_configuration_that_claims_more_than_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_generator(random_generator(StyleGAN2Config(resolution=8, channel_base=64, w_dim=8)), path, {})
    tensors = load_file(path)
    claims: list[dict[str, Any]] = [
        {"resolution": 1024, "channel_base": 2**20, "channel_max": 2**14},
        {"mapping_layers": 10**9},
        {"z_dim": 10**30},
        {"w_dim": -1},
        {"z_dim": "many"},
        {"label_dim": 2.5},
        {"conv_clamp": "tight"},
        {"conv_clamp": float("nan")},
        {"mapping_rate": 0},
        {"noise_seed": 10**30},
    ]
    for claim in claims:
        config = {"resolution": 8, "channel_base": 64, "w_dim": 8} | claim
        save_file(tensors, path, {"format": "huref-stylegan2-1", "config": json.dumps(config), "notes": "{}"})
        refused(path, path.read_bytes(), Weights)


def test_weights_too_large_for_half_precision_are_not_written(tmp_path: Path) -> None:
    def enlarge(network: Layer) -> None:
        network.synthesis.b4.const[0, 0, 0] = 1e6

    path = tmp_path / "g.pkl"
    path.write_bytes(changed(enlarge))
    with pytest.raises(NotFiniteError, match="float32"):
        convert_generator(path, tmp_path / "out.safetensors")
    assert [item.name for item in tmp_path.iterdir()] == ["g.pkl"]
    convert_generator(path, tmp_path / "out.safetensors", "float32")


def test_a_conversion_names_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_generator(random_generator(StyleGAN2Config(resolution=8, channel_base=64, w_dim=8)), path, {})
    before = path.read_bytes()
    for target, dtype in ((path, "float16"), (tmp_path / "out.pkl", "float16"), (tmp_path / "o.safetensors", "int8")):
        with pytest.raises(UsageError):
            convert_generator(path, target, dtype)
    assert path.read_bytes() == before


@pytest.mark.parametrize("is_json", [False, True])
def test_the_command_line_says_what_is_wrong(tmp_path: Path, cli: Cli, is_json: bool) -> None:
    trap, path, extra = tmp_path / "trap", tmp_path / "g.pkl", ["--json"] if is_json else []
    hostile = pickled(contents(Call(os.system, f"touch {trap}")))
    for data in (hostile, hostile[:300], pickled({}), b"", changed(_orig)):
        path.write_bytes(data)
        done = cli("generator", "convert", path, tmp_path / "out.safetensors", *extra)
        assert done.code == 4
        assert "g.pkl" in done.err
        assert not is_json or json.loads(done.out)["error"]["exit_code"] == 4
    assert [item.name for item in tmp_path.iterdir()] == ["g.pkl"]
    assert cli("generator", "convert", tmp_path / "none.pkl", tmp_path / "out.safetensors").code == 4
    assert cli("generator", "convert", path, path).code == 2
