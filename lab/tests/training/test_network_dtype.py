"""Networks train in bfloat16 only where the processor is fast at it: elsewhere a step takes many times as long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from huref.demo import fine_tuning as tuning
from huref.fingerprints.encoder.network import EncoderConfig
from huref.numerics import products
from huref_lab.encoder.samples import SampleShape
from huref_lab.encoder.training import EncoderTraining
from huref_lab.encoder.training import Trainer as EncoderTrainer
from huref_lab.generator import training
from huref_lab.generator.critics import ProjectedCritic
from huref_lab.generator.training import GeneratorTraining, Trainer
from huref_lab.pictures.efficientnet_lite import EfficientNetLite0
from huref_lab.training.language_models import logits
from huref_lab.training.run import CHECKPOINT
from kit.llamas import tiny_llama
from lab_kit.pictures import random_state

pytestmark = pytest.mark.training


@pytest.fixture(params=[True, False], ids=["bfloat16", "float32"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """What this processor is said to be fast at."""
    monkeypatch.setattr(products, "_processor_has_it", lambda: request.param)
    return torch.bfloat16 if request.param else torch.float32


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, torch.float32),
    ],
)
@pytest.mark.parametrize("has_gpu", [True, False])
def test_the_processor_decides_not_a_gpu_beside_it(
    features: dict[str, bool], expected: torch.dtype, has_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncached = products.has_fast_bfloat16.__wrapped__
    monkeypatch.setattr(products, "_hardware_may_have_it", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert products.network_dtype() == expected
    assert uncached() == (has_gpu or expected == torch.bfloat16)


def generator_trainer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """With both critics, small ones, for bfloat16 may be slow here; the frozen network has random weights."""

    class Small(ProjectedCritic):
        def __init__(self, network: EfficientNetLite0, dtype: torch.dtype) -> None:
            super().__init__(network, side=32, width=8, mixed=(4, 4, 8, 8), dtype=dtype)

    monkeypatch.setattr(training, "ProjectedCritic", Small)
    torch.manual_seed(0)
    network = EfficientNetLite0(random_state())
    monkeypatch.setattr(training, "load_efficientnet", lambda: network)
    pictures = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    settings = GeneratorTraining(
        folder, folder, 16, channel_base=64, channel_max=8, mapping_layers=2, critic="both", batch=4, r1_every=2
    )
    return Trainer(settings, pictures)


def test_the_generator_and_its_critics(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = generator_trainer(tmp_path, monkeypatch)
    used: dict[str, set[torch.dtype]] = {"convolution": set(), "features": set()}
    plain = nn.functional.conv2d

    def conv2d(x: Tensor, *arguments: object, **options: object) -> Tensor:
        used["convolution"].add(x.dtype)
        return plain(x, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nn.functional, "conv2d", conv2d)
    batch = trainer._draw()
    made = trainer._move_generator(batch)
    for features in (*batch.features.values(), *made.values()):
        used["features"] |= {maps.dtype for maps in features}
    assert used == {"convolution": {dtype}, "features": {dtype}}
    trainer._move_critics(batch, made)  # the gradient penalty is float32 everywhere
    assert {p.dtype for p in trainer.generator.parameters()} == {torch.float32}


def test_what_is_frozen_in_a_critic_stays_frozen(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = generator_trainer(tmp_path, monkeypatch)
    critic = trainer.critics["projected"]
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    for _ in range(2):
        trainer.step()
    learns = {name.split(".")[0] for name, parameter in critic.named_parameters() if parameter.requires_grad}
    moved = {n.split(".")[0] for n, value in critic.state_dict().items() if not torch.equal(value, before[n])}
    assert learns == {"heads"} and moved == {"heads", "energy"}
    assert {value.dtype for name, value in before.items() if name.startswith(("network", "across"))} == {dtype}


def test_a_run_goes_on_on_another_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint of a processor with fast bfloat16 serves one without, and the other way round."""
    for is_fast in (True, False, True):
        monkeypatch.setattr(products, "_processor_has_it", lambda is_fast=is_fast: is_fast)
        trainer = generator_trainer(tmp_path, monkeypatch)
        before = trainer.images
        if (tmp_path / CHECKPOINT).exists():
            trainer.restore(tmp_path / CHECKPOINT)
            before = trainer.images
            assert before > 0
        trainer.step()
        trainer.save()
        assert trainer.images == before + 4 and all(np.isfinite(loss) for loss in trainer.losses.values())


def test_the_fine_tune_of_the_demo(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    used, plain = set(), tuning.next_token_loss

    def next_token_loss(model: object, batch: Tensor, kind: torch.dtype) -> Tensor:
        used.add(kind)
        return plain(model, batch, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "next_token_loss", next_token_loss)
    options = tuning.TuneOptions(steps=1, batch=2, length=16, learning_rate=1e-3)
    tuning.fine_tune(tiny_llama(), np.tile(np.arange(400), 2), options)
    assert used == {dtype}


def test_the_encoder_and_its_samples(dtype: torch.dtype, tmp_path: Path) -> None:
    tiny = EncoderConfig(inputs=2, channels=(4, 16), kernel=12, stride=4)
    trainer = EncoderTrainer(EncoderTraining(tmp_path, config=tiny, side=16, width=24, rank=20, steps=1, batch=2))
    seen = []
    trainer.encoder.register_forward_pre_hook(lambda _module, arguments: seen.append(arguments[0].dtype))
    trainer.step()
    assert set(seen) == {dtype}
    left, right = torch.randn(8, 8), torch.randn(8, 8)
    found = SampleShape(side=8, width=8, rank=4).product(left, right)
    assert torch.equal(found, (left.to(dtype) @ right.to(dtype)).float())


def test_the_models_of_studies_and_of_the_zoo(dtype: torch.dtype) -> None:
    class Model(nn.Linear):
        def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:  # type: ignore[override]
            del use_cache
            return SimpleNamespace(logits=super().forward(input_ids.float()))

    seen, model = [], Model(5, 3)
    model.register_forward_hook(lambda _module, _arguments, out: seen.append(out.logits.dtype))
    assert logits(model, torch.ones(2, 6)).dtype == torch.float32
    assert seen == [dtype]
