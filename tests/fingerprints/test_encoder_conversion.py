"""A user's own encoder.pth: state dictionary or whole module, whatever its names; nothing in it runs."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from huref.errors import CorruptFileError, HurefError, MissingFileError, UnsafeFileError, UsageError, WeightsError
from huref.fingerprints.encoder.conversion import convert_encoder
from huref.fingerprints.encoder.file import load_encoder
from huref.fingerprints.encoder.network import Encoder, EncoderConfig
from huref.model.source.pickle_modules import open_network
from kit.command_line import Outcome
from kit.hostile_files import Touch, assert_complete, write_zip_pickle
from kit.tiny_encoders import OfficialLike, official_like

TINY = EncoderConfig(inputs=2, channels=(3, 5), kernel=12, stride=4)


def saved(path: Path, root: Any, *, is_old: bool = False) -> Path:
    torch.save(root, path, _use_new_zipfile_serialization=not is_old)
    return path


def assert_same_vectors(encoder: Encoder, module: nn.Module, side: int) -> None:
    x = torch.randn(2, 2, side, side)
    with torch.no_grad():
        expected = module(x).numpy()
    for sample, vector in zip(x.numpy(), expected, strict=True):
        np.testing.assert_allclose(encoder(sample), vector, rtol=0, atol=0.02)


def in_order(module: nn.Module) -> dict[str, torch.Tensor]:
    return module.state_dict()


def reversed_names(module: nn.Module) -> dict[str, torch.Tensor]:
    """Layers in another order, under other names."""
    state = reversed(list(module.state_dict().items()))
    return {name.replace("cnn", "stage.conv_").replace("bn", "norms.z"): value for name, value in state}


WRAPPINGS: dict[str, Callable[[OfficialLike], Any]] = {
    "state dictionary": in_order,
    "other names and order": reversed_names,
    "whole module": lambda module: module,
    "module in DataParallel": nn.DataParallel,
    "state dictionary in a training checkpoint": lambda m: {"epoch": 3, "encoder": m.state_dict(), "rest": {"x": 1}},
    "module in a dictionary": lambda module: {"model": module, "epoch": 3},
    "half precision": lambda module: {name: value.half() for name, value in module.state_dict().items()},
}


@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "stream"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_way_of_saving_gives_the_same_network(tmp_path: Path, wrapping: str, is_old: bool) -> None:
    module = official_like(TINY)
    source = saved(tmp_path / "encoder.pth", WRAPPINGS[wrapping](module), is_old=is_old)
    done = convert_encoder(source, tmp_path / "encoder.safetensors", 4096, TINY)
    found = load_encoder(done.target)
    assert found.sha256 == done.sha256 and found.side == 4096 and len(done.layers) == 4
    assert found.notes["source_sha256"] == done.source_sha256
    assert_same_vectors(found.encoder, module, 32)


def test_layers_without_bias_or_gain_are_those_of_zero_and_one(tmp_path: Path) -> None:
    module = OfficialLike(TINY, has_bias=False).eval()
    for layer in (module.bn0, module.bn1):
        layer.weight = layer.bias = None  # type: ignore[assignment]
    source = saved(tmp_path / "encoder.pth", module)
    encoder = load_encoder(convert_encoder(source, tmp_path / "e.safetensors", 0, TINY).target).encoder
    assert_same_vectors(encoder, module, 16)


def altered(**changes: Any) -> Any:
    module = official_like(TINY)
    for name, value in changes.items():
        layer, _, attribute = name.rpartition("__")
        setattr(getattr(module, layer) if layer else module, attribute, value)
    return module


def without(name: str) -> Any:
    return {key: value for key, value in official_like(TINY).state_dict().items() if not key.startswith(name)}


def spoilt(name: str, value: float) -> Any:
    state = official_like(TINY).state_dict()
    state[name][0] = value
    return state


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "other stride": (lambda: official_like(TINY, stride=2), "stride"),
    "other padding": (lambda: official_like(TINY, padding=0), "padding"),
    "other kernel": (lambda: official_like(replace(TINY, kernel=4)), r"\[3, 2, 4, 4\]"),
    "other channels": (lambda: official_like(replace(TINY, channels=(3, 6))), r"\[5, 3, 12, 12\]"),
    "one more convolution": (lambda: official_like(replace(TINY, channels=(3, 5, 5))), "also cnn2, bn2"),
    "other eps": (lambda: altered(bn0__eps=0.1), "eps 0.1"),
    "a fully connected layer": (lambda: altered(head=nn.Linear(5, 5)), "layer head"),
    "no batch normalisation": (lambda: without("bn1"), "no batch normalisation of 5"),
    "no convolution": (lambda: without("cnn"), "convolutions none"),
    "not a number": (lambda: spoilt("cnn0.weight", float("nan")), "NaN or infinity in cnn0.weight"),
    "negative variance": (lambda: spoilt("bn0.running_var", -1.0), "negative running variance"),
    "another model": (lambda: {"wte.weight": torch.ones(3, 4)}, "layer wte"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_architecture_is_refused(tmp_path: Path, kind: str) -> None:
    make, said = WRONG[kind]
    source = saved(tmp_path / "encoder.pth", make())
    with pytest.raises(WeightsError, match=said) as caught:
        convert_encoder(source, tmp_path / "e.safetensors", 0, TINY)
    assert_complete(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder.pth"]


class Called:
    """Unpickled carelessly, this calls something with arguments."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


class WithNew:
    """Made by NEWOBJ with arguments, as an attacker's class might be."""

    def __getnewargs__(self) -> tuple[str]:
        return ("payload",)


class Keyworded:
    """Made by NEWOBJ_EX."""

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, int]]:
        return (), {"x": 1}


def hostile(victim: Path) -> dict[str, Any]:
    module = official_like(TINY)
    module.register_buffer("extra", torch.ones(1))
    in_module = official_like(TINY)
    in_module.payload = Touch(victim)  # type: ignore[assignment]
    return {
        "call": {"w": torch.ones(2), "payload": Touch(victim)},
        "call in a module": in_module,
        "eval": {"x": Called(eval, (f"open({str(victim)!r}, 'w')",))},
        "getattr": {"x": Called(getattr, ("text", "upper"))},
        "class with arguments": {"x": WithNew()},
        "class with keywords": {"x": Keyworded()},
        "partial": {"x": Called(__import__("functools").partial, (open, str(victim), "w"))},
    }


@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "stream"])
@pytest.mark.parametrize("kind", hostile(Path("x")))
def test_nothing_in_a_pickle_runs(tmp_path: Path, kind: str, is_old: bool) -> None:
    victim = tmp_path / "victim"
    source = tmp_path / "encoder.pth"
    root = hostile(victim)[kind]
    torch.save(root, source, _use_new_zipfile_serialization=not is_old, pickle_protocol=4)
    with pytest.raises(UnsafeFileError) as caught:
        convert_encoder(source, tmp_path / "e.safetensors", 0, TINY)
    assert_complete(caught.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"(S'payload'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'payload'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nX\x07\x00\x00\x00payload\x85R.",  # GLOBAL, REDUCE
        b"\x80\x04\x8c\x02os\x8c\x06system\x93X\x07\x00\x00\x00payload\x85R.",  # STACK_GLOBAL, REDUCE
    ],
)
def test_old_opcodes_call_nothing_either(tmp_path: Path, code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr("os.system", called.append)
    path = tmp_path / "encoder.pth"
    write_zip_pickle(path, {})
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", code)
    with pytest.raises(UnsafeFileError, match=r"os\.system"):
        open_network(path)
    assert called == []
    pickle.loads(code)  # the payload is a working one
    assert called == ["payload"]


def test_modules_in_each_other_end(tmp_path: Path) -> None:
    cyclic = nn.Sequential()
    cyclic._modules["again"] = cyclic
    with pytest.raises(CorruptFileError, match="without end"):
        open_network(saved(tmp_path / "a.pth", cyclic))
    doubled: nn.Module = nn.ReLU()
    for _ in range(30):
        outer = nn.Sequential()
        outer._modules.update(a=doubled, b=doubled)
        doubled = outer
    with pytest.raises(CorruptFileError, match="without end"):
        open_network(saved(tmp_path / "b.pth", doubled))


def test_strange_attributes_are_no_settings(tmp_path: Path) -> None:
    module = official_like(TINY)
    module.cnn0.stride = [4, 4]  # type: ignore[union-attr, assignment]
    module.cnn0.__dict__["_parameters"] = OrderedDict(module.cnn0._parameters)  # type: ignore[union-attr, operator]
    checkpoint, found = open_network(saved(tmp_path / "encoder.pth", module))
    checkpoint.close()
    assert "stride" not in found["cnn0"] and found["cnn1"]["stride"] == (4, 4) and found["bn0"]["eps"] == 1e-5
    assert list(checkpoint.tensors) == [name for name, _ in module.state_dict().items()]


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "list", "number", "missing"])
def test_what_is_no_encoder_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "encoder.pth"
    buffer = io.BytesIO()
    torch.save(official_like(TINY).state_dict(), buffer)
    contents = {"text": b"hello" * 9, "empty": b"", "truncated": buffer.getvalue()[:-900]}
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind != "missing":
        saved(path, [torch.ones(2)] if kind == "list" else 7)
    with pytest.raises(MissingFileError if kind == "missing" else HurefError) as caught:
        convert_encoder(path, tmp_path / "e.safetensors", 0, TINY)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "e.safetensors").exists()


def test_targets_that_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "encoder.safetensors", official_like(TINY))
    for target in (source, tmp_path / "e.pth"):
        with pytest.raises(UsageError) as caught:
            convert_encoder(source, target, 0, TINY)
        assert_complete(caught.value)


def test_the_command(tmp_path: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    from huref.fingerprints.encoder import conversion

    monkeypatch.setattr(conversion, "EncoderConfig", lambda: TINY)
    source = saved(tmp_path / "encoder.pth", official_like(TINY))
    done = cli("encoder", "convert", source, tmp_path / "e.safetensors", "--json")
    assert done.code == 0 and done.document["layers"] == ["cnn0", "bn0", "cnn1", "bn1"]
    assert load_encoder(tmp_path / "e.safetensors").sha256 == done.document["sha256"]
    assert "cnn0, bn0" in cli("encoder", "convert", source, tmp_path / "e.safetensors").out
    wrong = saved(tmp_path / "wrong.pth", {"a.weight": torch.ones(1)})
    refused = cli("encoder", "convert", wrong, tmp_path / "x.safetensors")
    assert refused.code == 4 and "not the encoder that HuRef describes" in refused.err
