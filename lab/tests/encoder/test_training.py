"""Training of the CNN encoder: resumes bit by bit, learns, saves; what measures it; the commands."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from huref.errors import CorruptFileError, OutputError, UsageError
from huref.fingerprints.encoder.file import load_encoder
from huref.fingerprints.encoder.network import EncoderConfig
from huref_lab.encoder import training as encoder_training
from huref_lab.encoder.evaluation import evaluate_encoder, measure_statistics
from huref_lab.encoder.network import EncoderCNN
from huref_lab.encoder.samples import SampleShape, draw_triplets, stream
from huref_lab.encoder.training import Critic, EncoderTraining, Trainer, similarities, train_encoder
from kit.command_line import Outcome
from kit.hostile_files import assert_complete
from kit.tiny_encoders import SMALL

pytestmark = pytest.mark.training

TINY = EncoderConfig(inputs=2, channels=(4, 16), kernel=12, stride=4)


def settings(out: Path, **changes: object) -> EncoderTraining:
    base = EncoderTraining(out, config=TINY, side=16, width=24, rank=20, steps=6, batch=3)
    usual = {"save_every": 2, "evaluate_every": 2, "held_out": 2}
    return dataclasses.replace(base, **(usual | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("negatives", ["fresh", "others"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path, negatives: str) -> None:
    whole = train_encoder(settings(tmp_path / "whole", negatives=negatives))
    halves = settings(tmp_path / "halves", negatives=negatives)
    halves.out.mkdir()
    trainer = Trainer(halves)
    for _ in range(3):
        trainer.step()
    trainer.save()
    resumed = train_encoder(halves)
    assert whole.read_bytes() == resumed.read_bytes()

    assert {path.name for path in halves.out.iterdir()} == {"checkpoint.pt", "log.jsonl", "encoder.safetensors"}
    lines = [json.loads(line) for line in (halves.out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 5, 6]
    assert ["held_out_near" in line for line in lines] == [True, False, True]


def test_training_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = settings(tmp_path, batch=8, learning_rate=1e-2)
    batch = draw_triplets(run.shape, 8, stream(5))
    monkeypatch.setattr(encoder_training, "draw_triplets", lambda *_args, **_options: batch)
    trainer = Trainer(run)
    seen = []
    for _ in range(50):
        trainer.step()
        trainer.step_count = 0
        seen.append(trainer.losses)
    assert seen[-1]["near"] > seen[0]["near"] + 0.05
    assert seen[-1]["far"] < seen[0]["far"] - 0.05
    losses = [1.3 * (1 - found["near"]) + 0.7 * found["far"] for found in (seen[0], seen[-1])]
    assert losses[1] < 0.8 * losses[0]


def test_the_loss_is_the_published_one(tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path))
    vectors = torch.randn(9, 16, requires_grad=True)
    a, p, n = vectors.detach().double().numpy().reshape(3, 3, 16)
    judged = trainer.critic(vectors.detach()).double()
    trainer._move_encoder(vectors)

    def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)

    deceit = np.log1p(np.exp(-judged.detach().numpy())).mean()
    wanted = 1.3 * (1 - cosine(a, p).mean()) + 0.7 * np.abs(cosine(a, n)).mean() + 0.5 * deceit
    assert trainer.losses["loss"] == pytest.approx(wanted, rel=1e-5)
    shapes = [tuple(p.shape) for p in Critic(512, 0).parameters() if p.ndim == 2]
    assert shapes == [(256, 512), (128, 256), (1, 128)]


def test_negatives_of_others_are_never_ones_own() -> None:
    vectors = torch.eye(6)
    near, far = similarities(vectors, 3)
    assert near.tolist() == [0, 0, 0] and far.tolist() == [0, 0, 0]
    near, far = similarities(torch.cat([torch.eye(3), torch.eye(3)]), 3)
    assert near.tolist() == [1, 1, 1] and far.tolist() == [0, 0, 0]


def test_the_critic_learns_to_tell(tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path, learning_rate=1e-3))
    seen = []
    for trainer.step_count in range(60):
        trainer._move_critic(torch.full((8, 16), 0.5))
        seen.append(trainer.losses["critic"])
    assert seen[-1] < 0.5 * seen[0]


def test_the_rate_falls_along_a_cosine(tmp_path: Path) -> None:
    trainer = Trainer(settings(tmp_path, steps=100))
    rates = []
    for trainer.step_count in (0, 25, 50, 100, 200):
        rates.append(trainer.rate())
    middle = (1e-4 + 5e-6) / 2
    assert rates == pytest.approx([1e-4, middle + (1e-4 - 5e-6) / 2 * 0.5**0.5, middle, 5e-6, 5e-6])


def test_unreached_weights_are_saved_as_they_began(tmp_path: Path) -> None:
    config = EncoderConfig(inputs=2, channels=(4, 8, 16), kernel=24, stride=4)
    trainer = Trainer(settings(tmp_path, config=config, side=64, width=64, rank=64))
    assert trainer.encoder.convs[2].cut == 2
    trainer.step()
    tmp_path.mkdir(exist_ok=True)
    found = load_encoder(trainer.export(tmp_path / "w.safetensors")).encoder
    began = EncoderCNN(config, 0).state_dict()["convs.2.weight"].half().float()
    after = torch.from_numpy(found.tensors["convs.2.weight"]).float()
    moved = after != began
    assert moved[:, :, 2:-2, 2:-2].any() and not moved[:, :, :2].any() and not moved[:, :, :, -2:].any()
    x = torch.randn(2, 2, 64, 64)
    torch.testing.assert_close(EncoderCNN.of(found)(x), trainer.encoder.eval()(x), atol=0.02, rtol=0.02)


def test_an_interrupt_saves_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def interrupted(self: Trainer) -> None:
        step(self)
        if self.step_count == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(settings(tmp_path))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_encoder(tmp_path / "encoder.safetensors").notes["training"]["done"] == 3


def test_a_time_limit_stops_the_run(tmp_path: Path) -> None:
    train_encoder(settings(tmp_path, minutes=1e-9))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_a_checkpoint_of_another_run_or_none_is_refused(tmp_path: Path) -> None:
    train_encoder(settings(tmp_path, steps=1))
    for change in ({"seed": 1}, {"width": 32}, {"config": dataclasses.replace(TINY, channels=(4, 8))}):
        with pytest.raises(UsageError, match="another run") as caught:
            train_encoder(settings(tmp_path, **change))
        assert_complete(caught.value)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(CorruptFileError, match="checkpoint"):
        train_encoder(settings(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"batch": 1}, {"side": 24}, {"width": 8}, {"steps": 0}, {"negatives": "none"}, {"minutes": 0.0}, {"side": -16}],
)
def test_senseless_settings_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, **change)
    assert_complete(caught.value)


def test_an_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        train_encoder(settings(tmp_path / "file" / "out"))


def test_measured_statistics_take_the_common_part_away() -> None:
    config = EncoderConfig(inputs=2, channels=(4, 64), kernel=12, stride=4)
    shape = SampleShape(side=32, width=80, rank=80, inputs=2)
    encoder = EncoderCNN(config, 0).eval()
    before = evaluate_encoder(encoder, shape, 8)
    measure_statistics(encoder, shape, 32)
    after = evaluate_encoder(encoder, shape, 8)
    assert before.far_signed > 0.4  # initial statistics: every vector shares the rectifiers' mean
    assert abs(after.far_signed) < 0.15
    assert after.graded[1.0] == pytest.approx(1.0)
    assert after.graded[1.0] > after.graded[0.9] > after.graded[0.5] > after.graded[0.1]
    assert all(norm.momentum == 0.1 for norm in encoder.norms) and not encoder.training
    measure_statistics(other := EncoderCNN(config, 0), shape, 32)
    assert torch.equal(other.norms[1].running_mean, encoder.norms[1].running_mean)  # type: ignore[arg-type]


def test_the_commands(tmp_path: Path, cli: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = EncoderTraining.__init__

    def small(self: EncoderTraining, out: Path, **options: object) -> None:
        plain(self, out, config=SMALL, held_out=1, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(EncoderTraining, "__init__", small)
    arguments = ("--side", 256, "--width", 256, "--batch", 2, "--steps", 1, "--evaluate-every", 1)
    run = cli("train", "encoder", "--out", tmp_path, *arguments, "--json")
    assert run.code == 0 and run.err == ""
    weights = Path(run.document["weights_file"])
    assert load_encoder(weights).notes["training"]["width"] == 256
    calibrated = cli(
        "encoder", "calibrate", weights, tmp_path / "c.safetensors", "--side", 16, "--samples", 4, "--json"
    )
    assert calibrated.document["side"] == 16 == load_encoder(tmp_path / "c.safetensors").side
    measured = cli("encoder", "evaluate", tmp_path / "c.safetensors", "--triplets", 2, "--json").document
    assert measured["side"] == 16 and measured["graded"][0] == [1.0, pytest.approx(1.0)]
    said = cli("encoder", "evaluate", tmp_path / "c.safetensors", "--triplets", 1)
    assert said.code == 0 and "cos(anchor, positive)" in said.out
    refused = cli("encoder", "calibrate", weights, tmp_path / "d.safetensors", "--side", 24)
    assert refused.code == 2 and "multiple of 16" in refused.err
    assert cli("train", "encoder", "--out", tmp_path, "--side", 100).code == 2
