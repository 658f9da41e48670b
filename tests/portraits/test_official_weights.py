"""Official StyleGAN2 weights: our network draws what the description says, and a conversion keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import huref
from huref.errors import UsageError, WeightsError
from huref.fingerprints.file import save_fingerprint
from huref.model.source.byte_source import LocalFile
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.conversion import convert_generator
from huref.portraits.generator.file import load_generator, open_generator, read_metadata, save_generator
from huref.portraits.generator.official import read_official
from huref.portraits.image import render
from huref_lab.generator.network import TrainableGenerator
from kit import official_pickles as official
from kit.command_line import Outcome
from kit.official_pickles import Shape, arrays, contents, generator, pickled, reference
from kit.tiny_generator import random_generator

Cli = Callable[..., Outcome]

CASES = {
    "plain": Shape(),
    "smallest": Shape(resolution=8, layers=8, clamp=None),
    "larger": Shape(resolution=64, channel_base=128),
    "conditional": Shape(resolution=32, classes=5),
    "clamped": Shape(clamp=0.8, rate=0.1),
    "without noise": Shape(has_noise=False, layers=1),
    "channels last": Shape(channels_last=True, z_dim=24, w_dim=12, channel_max=6),
}


def written(path: Path, shape: Shape, protocol: int = 3) -> tuple[Path, official.Layer]:
    network = generator(shape)
    path.write_bytes(pickled(contents(network), protocol))
    return path, network


def vectors(shape: Shape, n: int = 2) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((n, shape.z_dim)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_those_of_the_description(name: str, tmp_path: Path) -> None:
    shape = CASES[name]
    path, network = written(tmp_path / "official.pkl", shape)
    ours, tensors, z = open_generator(path), arrays(network), vectors(shape)
    for label in {0, shape.classes // 2, max(shape.classes - 1, 0)}:
        labels = np.full(len(z), label) if label else None
        for psi, cutoff in ((1.0, 0), (0.5, 3)):
            found = ours(z, psi=psi, cutoff=cutoff, labels=labels).transpose(0, 3, 1, 2)
            for picture, row in zip(found, z, strict=True):
                expected = reference(tensors, shape, row.astype(np.float64), label, psi, cutoff)
                np.testing.assert_allclose(picture, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


def test_the_cases_differ_in_what_they_are_for() -> None:
    """The clamp binds and the class counts; else the comparison above would show nothing of them."""
    clamped, conditional = CASES["clamped"], CASES["conditional"]
    free = Shape(**{**vars(clamped), "clamp": None})
    tensors, z = arrays(generator(clamped)), vectors(clamped)[0]
    assert np.abs(reference(tensors, clamped, z) - reference(tensors, free, z)).max() > 0.1
    tensors, z = arrays(generator(conditional)), vectors(conditional)[0]
    assert np.abs(reference(tensors, conditional, z, 0) - reference(tensors, conditional, z, 2)).max() > 0.1


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_of_pickle_gives_the_same_network(protocol: int, tmp_path: Path) -> None:
    path, network = written(tmp_path / "no ending that would tell", Shape(), protocol)
    state = open_generator(path).tensors
    stored = {name: value for name, value in network.state_dict().items() if not name.endswith("resample_filter")}
    assert set(state) == set(stored)
    assert all(np.array_equal(state[name], value.numpy()) for name, value in stored.items())


def test_the_shape_is_read_from_the_arrays(tmp_path: Path) -> None:
    for number, shape in enumerate(CASES.values()):
        config = open_generator(written(tmp_path / f"{number}.pkl", shape)[0]).config
        assert (config.resolution, config.z_dim, config.w_dim) == (shape.resolution, shape.z_dim, shape.w_dim)
        assert (config.mapping_layers, config.label_dim) == (shape.layers, shape.classes)
        assert (config.mapping_rate, config.conv_clamp) == (shape.rate, shape.clamp)
        assert [config.channels(side) for side in config.sides] == [shape.channels(side) for side in shape.sides]


def test_only_the_averaged_generator_is_read(tmp_path: Path) -> None:
    path, network = written(tmp_path / "official.pkl", Shape())
    with path.open("ab") as file:
        file.write(b"\0" * 10_000_000)
    source = LocalFile(path)
    read_official(source)
    source.close()
    assert source.bytes_read < 400_000 < path.stat().st_size / 20
    smaller = contents(network, G=None, D=None, augment_pipe=None)
    path.write_bytes(pickled(smaller))
    assert open_generator(path).config.resolution == 16


@pytest.mark.parametrize("resolution", [8, 64, 1024])
@pytest.mark.parametrize("label_dim", [0, 3])
def test_the_size_of_a_network_is_known_before_it_is_built(resolution: int, label_dim: int) -> None:
    config = StyleGAN2Config(resolution=resolution, channel_base=512, channel_max=20, label_dim=label_dim)
    published = TrainableGenerator(config).state_dict()
    assert config.shapes == {name: tuple(value.shape) for name, value in published.items()}
    assert config.weight_count == sum(value.numel() for value in published.values())


def test_a_conversion_in_full_precision_keeps_every_bit(tmp_path: Path) -> None:
    path, _ = written(tmp_path / "official.pkl", CASES["conditional"])
    done = convert_generator(path, tmp_path / "out.safetensors", "float32")
    before, after = open_generator(path), open_generator(done.target)
    assert before.config == after.config == done.config
    assert all(np.array_equal(after.tensors[name], value) for name, value in before.tensors.items())


def test_a_conversion_rounds_to_half_precision_and_says_where_it_comes_from(tmp_path: Path) -> None:
    path, _ = written(tmp_path / "official.pkl", Shape())
    done = convert_generator(path, tmp_path / "out.safetensors")
    state = load_generator(done.target, done.sha256).tensors
    for name, value in open_generator(path).tensors.items():
        assert np.array_equal(state[name], value.astype(np.float16).astype(np.float32))
        assert (np.abs(state[name] - value) <= np.maximum(np.abs(value) / 2048, 3e-8)).all()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    notes = json.loads(read_metadata(done.target.read_bytes())["notes"])
    assert (notes["source"], notes["source_sha256"]) == ("official.pkl", digest)
    assert "CC BY-NC" in notes["licence"]
    note = done.note.read_text(encoding="utf-8")
    assert all(part in note for part in (digest, done.sha256, "CC BY-NC", "half precision", "16 x 16"))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["official.pkl", "out.md", "out.safetensors"]
    z = vectors(Shape(), 4)
    levels = np.abs(render(z, open_generator(path)).astype(int) - render(z, open_generator(done.target)))
    assert levels.mean() < 1


def test_classes_reach_the_picture_and_others_are_refused(tmp_path: Path) -> None:
    network = open_generator(written(tmp_path / "official.pkl", CASES["conditional"])[0])
    z = vectors(CASES["conditional"])
    assert np.array_equal(render(z, network), render(z, network, label=0))
    assert (render(z, network) != render(z, network, label=4)).any()
    with pytest.raises(UsageError, match="0 to 4"):
        render(z, network, label=5)


def test_another_length_of_vector_is_refused(tmp_path: Path) -> None:
    network = open_generator(written(tmp_path / "official.pkl", CASES["channels last"])[0])
    with pytest.raises(UsageError, match="24"):
        render(np.ones((1, 512)), network)


def test_files_of_before_the_new_settings_still_open(tmp_path: Path) -> None:
    """The configuration in version 0.1: no classes, no clamp, no rate, no digest of the data."""
    from safetensors.numpy import save_file

    config = {
        "resolution": 16,
        "z_dim": 8,
        "w_dim": 8,
        "mapping_layers": 2,
        "channel_base": 64,
        "channel_max": 8,
        "noise_seed": 0,
    }
    network = random_generator(StyleGAN2Config(**config))
    metadata = {"format": "huref-stylegan2-1", "config": json.dumps(config), "notes": "{}"}
    save_file(dict(network.tensors), tmp_path / "old.safetensors", metadata)
    assert load_generator(tmp_path / "old.safetensors").config == network.config


def test_weights_that_changed_on_disk_are_noticed_without_a_pin(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    save_generator(random_generator(StyleGAN2Config(resolution=8, channel_base=64, w_dim=8)), path, {})
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="digest"):
        load_generator(path)


def test_the_command_converts_and_render_draws(tmp_path: Path, cli: Cli, models: dict[str, Path]) -> None:
    path, _ = written(tmp_path / "official.pkl", Shape())
    target = tmp_path / "out.safetensors"
    done = cli("generator", "convert", path, target, "--json")
    assert done.code == 0
    document = json.loads(done.out)
    assert document["schema_version"] == "huref.generator/1.0"
    assert document["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert document["config"]["resolution"] == 16
    drawn = [tmp_path / "a.png", tmp_path / "b.png"]
    save_fingerprint(huref.fingerprint(models["base"]), tmp_path / "a.huref.safetensors")
    for weights, picture in zip((path, target), drawn, strict=True):
        assert cli("render", tmp_path / "a.huref.safetensors", "--generator", weights, "--out", picture).code == 0
        assert picture.stat().st_size > 0
    assert "out.safetensors" in cli("generator", "convert", path, target).out
