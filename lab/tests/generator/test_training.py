"""Laws of training: it repeats, it resumes as if never stopped, it leaves whole files; its parts do what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from huref.errors import CorruptFileError, MissingFileError, UsageError
from huref.portraits.generator.file import load_generator
from huref_lab.generator import training
from huref_lab.generator.augmentation import augment, cut_out, jitter_colour, shift
from huref_lab.generator.critics import (
    Head,
    PixelCritic,
    ProjectedCritic,
    SpectralConv,
    batch_deviation,
    gradient_penalty,
)
from huref_lab.generator.energy import EnergyDistance, energy
from huref_lab.generator.readability import distances
from huref_lab.generator.training import GeneratorTraining, Trainer, train_generator
from huref_lab.pictures import efficientnet_lite
from huref_lab.pictures.efficientnet_lite import (
    EfficientNetLite0,
    FrozenDepthwise,
    load_efficientnet,
    pad_same,
)
from huref_lab.pictures.folder import load_images
from lab_kit.pictures import random_state

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small blobs on a ground, some in a subfolder, one not square, one grey."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (folder / "more").mkdir()
    for k in range(20):
        array = np.full((20, 20 + k % 3, 3), rng.integers(0, 256, 3), np.uint8)
        array[5:15, 5:15] = rng.integers(0, 256, 3)
        picture = Image.fromarray(array)
        (picture.convert("L") if k == 7 else picture).save(folder / ("more" if k % 2 else "") / f"{k}.png")
    return folder


def settings(data: Path, out: Path, **changes: object) -> GeneratorTraining:
    base = GeneratorTraining(
        data,
        out,
        resolution=16,
        channel_base=64,
        channel_max=8,
        mapping_layers=2,
        critic="pixel",
        images=32,
        batch=4,
    )
    return dataclasses.replace(base, save_every=16, cooldown=8, r1_every=2, **changes)  # type: ignore[arg-type]


def weights_of(path: Path) -> Mapping[str, np.ndarray]:
    return load_generator(path).tensors


def test_an_interrupted_run_ends_as_an_uninterrupted_one(photographs: Path, tmp_path: Path) -> None:
    whole = train_generator(settings(photographs, tmp_path / "whole"))
    halves = settings(photographs, tmp_path / "halves")
    trainer = Trainer(halves, load_images(photographs, 16))
    halves.out.mkdir()
    for _ in range(3):
        trainer.step()
    trainer.save()
    resumed = train_generator(halves)
    first, second = weights_of(whole), weights_of(resumed)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    names = {p.name for p in halves.out.iterdir()}
    assert names == {
        "checkpoint.pt",
        "log.jsonl",
        "generator.safetensors",
        "generator.md",
        "sheet-00000k.png",
    }
    lines = [json.loads(line) for line in (halves.out / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [12, 16, 32, 32]
    phases = trainer.phases
    assert phases == []
    state = torch.load(halves.out / "checkpoint.pt", weights_only=True)
    assert [phase["until_images"] for phase in state["phases"]] == [32]


def test_other_settings_open_a_new_phase(photographs: Path, tmp_path: Path) -> None:
    train_generator(settings(photographs, tmp_path))
    train_generator(settings(photographs, tmp_path, images=40, learning_rate=0.001))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert [(p["until_images"], p["learning_rate"]) for p in state["phases"]] == [(32, 0.0015), (40, 0.001)]


def test_the_seed_decides(photographs: Path, tmp_path: Path) -> None:
    runs = [Trainer(settings(photographs, tmp_path, seed=seed), load_images(photographs, 16)) for seed in (1, 1, 2)]
    for run in runs:
        run.step()
    a, b, c = (run.generator.synthesis.b4.const for run in runs)  # type: ignore[union-attr]
    assert torch.equal(a, b)  # type: ignore[arg-type]
    assert not torch.equal(a, c)  # type: ignore[arg-type]


def test_an_interrupt_saves_first(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def interrupted(self: Trainer) -> None:
        step(self)
        if self.images == 8:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_generator(settings(photographs, tmp_path))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["images"] == 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_time_limit_stops_the_run(photographs: Path, tmp_path: Path) -> None:
    train_generator(settings(photographs, tmp_path, minutes=1e-6))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["images"] == 4


def test_a_checkpoint_of_another_network_or_none_is_refused(photographs: Path, tmp_path: Path) -> None:
    train_generator(settings(photographs, tmp_path, images=4))
    with pytest.raises(UsageError, match="another generator"):
        train_generator(settings(photographs, tmp_path, channel_max=4))
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(CorruptFileError):
        train_generator(settings(photographs, tmp_path))


@pytest.mark.parametrize(
    "change", [{"critic": "x"}, {"batch": 0}, {"resolution": 20}, {"images": -1}, {"minutes": 0.0}]
)
def test_senseless_settings_are_refused(photographs: Path, tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings(photographs, tmp_path, **change)


def test_bad_picture_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_images(tmp_path / "missing", 8)
    with pytest.raises(UsageError, match="0 pictures"):
        load_images(tmp_path, 8)
    for k in range(16):
        (tmp_path / f"{k}.jpg").write_bytes(b"no picture")
    with pytest.raises(CorruptFileError, match=r"0\.jpg"):
        load_images(tmp_path, 8)


def test_pictures_are_cut_square_and_resized(photographs: Path) -> None:
    pictures = load_images(photographs, 8)
    assert pictures.shape == (20, 3, 8, 8)
    assert pictures.dtype == torch.uint8


def test_augmentation_is_differentiable_repeatable_and_optional() -> None:
    x = torch.rand(6, 3, 16, 16, requires_grad=True)
    one = augment(x, torch.Generator().manual_seed(0))
    two = augment(x, torch.Generator().manual_seed(0))
    assert torch.equal(one, two)
    assert not torch.equal(one, x)
    (gradient,) = torch.autograd.grad(one.sum(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    assert augment(x, torch.Generator(), 0.0) is x


def test_each_disturbance_does_what_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(8, 3, 16, 16) + 1
    moved = shift(x, generator)
    assert moved.shape == x.shape
    assert all(
        any(torch.equal(moved[n, :, 8, 8], x[n, :, i, j]) for i in range(16) for j in range(16)) for n in range(8)
    )
    blanked = (cut_out(x, generator) == 0).float().mean(dim=(1, 2, 3))
    assert ((blanked > 0.05) & (blanked < 0.35)).all()
    grey = torch.full((4, 3, 4, 4), 0.3)
    coloured = jitter_colour(grey, generator)
    torch.testing.assert_close(coloured[:, :1].expand_as(coloured), coloured)


def test_spectral_conv_has_norm_one() -> None:
    torch.manual_seed(0)
    conv = SpectralConv(6, 5, 3)
    for _ in range(50):
        conv(torch.randn(1, 6, 5, 5))
    rows = conv.weight.flatten(1)
    norm = torch.dot(conv.u, rows @ functional.normalize(rows.t() @ conv.u, dim=0))
    assert norm.item() == pytest.approx(torch.linalg.matrix_norm(rows, 2).item(), rel=1e-3)


def test_gradient_penalty_equals_the_slope_of_a_linear_critic() -> None:
    class Linear(PixelCritic):
        def judge(self, features: list[Tensor]) -> list[Tensor]:
            return [3.0 * features[0].flatten(1).sum(dim=1)]

    penalty = gradient_penalty(Linear(8), torch.randn(2, 3, 8, 8))
    assert penalty.item() == pytest.approx(9.0 * 3 * 64, rel=1e-5)


def test_batch_deviation_sees_sameness() -> None:
    same = torch.randn(1, 4, 4, 4).expand(8, -1, -1, -1)
    assert batch_deviation(same)[:, -1].max() < 1e-3
    assert batch_deviation(torch.randn(8, 4, 4, 4))[:, -1].min() > 0.3


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_frozen_depthwise_has_the_true_gradient(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x = pad_same(torch.randn(2, 4, 8, 8, dtype=torch.float64), kernel, stride).requires_grad_()
    weight, bias = torch.randn(4, 1, kernel, kernel, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    plain = functional.conv2d(x, weight, bias, stride, groups=4)
    fast: Tensor = FrozenDepthwise.apply(x, weight, bias, stride)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(fast, plain)
    push = torch.randn_like(plain)
    expected, got = torch.autograd.grad(plain, x, push), torch.autograd.grad(fast, x, push)
    torch.testing.assert_close(got, expected)


def test_projected_critic_trains_its_heads_only(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0(random_state())
    monkeypatch.setattr(training, "load_efficientnet", lambda: network)
    run = settings(photographs, tmp_path, critic="both", energy_from=4)
    trainer = Trainer(run, load_images(photographs, 16))
    critic = trainer.critics["projected"]
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    trainer.step()
    assert "energy" not in trainer.losses
    for _ in range(2):
        trainer.step()
    moved = {
        name.split(".")[0] for name, value in critic.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"heads", "energy"}
    adversarial = {f"{side}_{name}" for side in ("generator", "critic") for name in ("projected", "pixel")}
    assert set(trainer.losses) == adversarial | {"energy", "r1"}
    state = trainer.state([])
    assert not any(name.startswith("network") for name in state["critics"]["projected"])


def test_energy_distance_is_least_for_equal_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 8, generator=generator), torch.randn(256, 8, generator=generator)
    torch.testing.assert_close(distances(a, b), torch.cdist(a, b), rtol=1e-3, atol=1e-3)
    equal = energy(a, b)
    assert equal.item() == pytest.approx(1.0, abs=0.04)
    for other in (a * 0.3, a * 3, a + 1, a[:1].expand(256, -1) + 1e-3 * a):
        scale = distances(other, b).mean() / distances(a, b).mean()
        assert energy(other, b) * scale > equal + 0.02


def test_energy_queue_forgets_the_oldest() -> None:
    loss = EnergyDistance((3, 2, 2), length=4)
    picture = torch.zeros(2, 3, 32, 32)
    assert loss(picture, [torch.ones(2, 2, 4, 4)] * 3).item() == 0
    for value in range(3):
        loss.remember(picture + value, [torch.full((2, 2, 8, 8), float(value))] * 3)
    assert sorted(loss.queue[:, 0].tolist()) == [1, 1, 2, 2]
    assert int(loss.seen) == 6


def test_heads_end_in_a_small_grid() -> None:
    for side in (32, 16, 8, 4):
        assert Head(6, side, 8)(torch.randn(2, 6, side, side)).shape[1] == 1
    critic = ProjectedCritic(EfficientNetLite0(random_state()), side=64, width=8, mixed=(4, 4, 8, 8))
    features = critic.features(torch.randn(2, 3, 16, 16))
    assert [tuple(f.shape[1:]) for f in features] == [(4, 16, 16), (4, 8, 8), (8, 4, 4), (8, 2, 2)]
    assert len(critic.judge(features)) == 4


def test_a_missing_pretrained_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_at_all")
    with pytest.raises(MissingFileError, match="pixel critic"):
        load_efficientnet()
