"""Training a trace away: the traces are what huref measures, their gradients lower them, the base stays as it was."""

from __future__ import annotations

import pytest
import torch

from huref.attacks import apply
from huref.demo.tensors import as_array, as_tensor, float_tensor
from huref.errors import NotFiniteError, UsageError
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.residual import Frame, ResidualTerm
from huref.fingerprints.terms import bilinear
from huref.forward.decoder import Decoder
from huref_lab.bench import training_attack as attacks
from huref_lab.bench.training_attack import TRACES, TrainingOptions, train_away
from kit.llamas import as_weights, tiny_llama

pytestmark = pytest.mark.training

TOKENS = torch.arange(400).repeat(8)
QUICK = TrainingOptions(steps=12, batch=4, length=32, learning_rate=5e-3)


def small(seed: int = 0) -> Decoder:
    return tiny_llama(seed).with_each(float_tensor)


def test_a_model_leaves_its_own_traces_whole_and_a_stranger_none() -> None:
    base, stranger = small(), small(1)
    assert float(attacks.direction(base, base)) == pytest.approx(1.0, abs=1e-4)
    assert float(attacks.invariants(base, base)) == pytest.approx(1.0, abs=1e-4)
    assert float(attacks.invariants(stranger, base)) < 0.05
    for trace in (attacks.pairing_by_gates, attacks.pairing_by_up_and_down):
        assert float(trace(base, base)) > 0.3 > 0.05 > float(trace(stranger, base))


def test_the_invariants_driven_away_are_those_that_huref_measures() -> None:
    base, child = small(), attacks.with_noise(small(), 0.8)
    squares = []
    for layer in range(2):
        for term in ("qk", "vo", "gate_down"):
            frames, terms = [], []
            for model in (base, child):
                arrays = model.with_each(as_array)
                frames.append(Frame.of(arrays.tensors["embedding"], is_centred=True))
                found = bilinear(as_weights(arrays), layer, term, Recipe("canonical"))
                terms.append(ResidualTerm.of(found, frames[-1]))
            squares.append(terms[0].correlation(terms[1], frames[0].cosines(frames[1])) ** 2)
    assert float(attacks.invariants(child, base)) == pytest.approx(
        sum(squares) / len(squares), rel=1e-2
    )  # huref multiplies in bfloat16 where that is faster


def test_rearranging_does_for_a_trace_what_it_does_for_the_score() -> None:
    base = small()
    permuted = apply(base.with_each(as_array), ("permute_neurons",), 1).model.with_each(as_tensor)
    assert float(attacks.invariants(permuted, base)) == pytest.approx(1.0, abs=1e-4)
    assert float(attacks.pairing_by_gates(permuted, base)) < 0.05  # what is paired is not the place but the partner
    assert float(attacks.direction(permuted, base)) < 0.9


@pytest.mark.parametrize("target", TRACES)
def test_a_trace_falls_that_is_trained_away(target: str) -> None:
    base = small()
    before = {name: tensor.clone() for name, tensor in base.tensors.items()}
    alone = train_away(base, base, TOKENS, QUICK)
    options = TrainingOptions(target, 100.0, QUICK.steps, QUICK.batch, QUICK.length, QUICK.learning_rate)
    driven = train_away(base, base, TOKENS, options)
    traces = [float(TRACES[target](found.model, base)) for found in (alone, driven)]
    assert 1 - traces[1] > 1.2 * (1 - traces[0])  # how far each has come from its whole trace
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.tensors.items())


def test_training_lowers_the_loss_and_one_seed_is_one_model() -> None:
    base = small()
    start = attacks.held_out_loss(base, attacks.held_out_text(TOKENS, QUICK))
    steps: list[int] = []
    first = train_away(base, base, TOKENS, QUICK, lambda step: steps.append(step.done))
    again = train_away(base, base, TOKENS, QUICK)
    assert first.loss == again.loss < start - 0.5
    assert steps == list(range(1, QUICK.steps + 1))


def test_noise_and_fresh_weights_are_as_large_as_said() -> None:
    base = small()
    noisy, gates, fresh = (f(base) for f in (_noisy, _half_gates, attacks.with_fresh_weights))
    added = noisy.tensors["layers.0.up"] - base.tensors["layers.0.up"]
    assert float(added.std() / base.tensors["layers.0.up"].std()) == pytest.approx(0.5, rel=0.1)
    assert torch.equal(noisy.tensors["final_norm"], base.tensors["final_norm"])
    kept = (gates.tensors["layers.1.gate"] == base.tensors["layers.1.gate"]).all(dim=1)
    assert 0.2 < float(kept.float().mean()) < 0.8
    lengths = [model.tensors["layers.1.gate"].norm(dim=1) for model in (gates, base)]
    assert torch.allclose(lengths[0], lengths[1], rtol=1e-5)
    assert all(torch.equal(gates.tensors[n], t) for n, t in base.tensors.items() if not n.endswith(".gate"))
    assert float(attacks.direction(fresh, base)) < 0.2
    assert float(fresh.tensors["embedding"].std()) == pytest.approx(float(base.tensors["embedding"].std()), rel=0.1)


def _noisy(base: Decoder) -> Decoder:
    return attacks.with_noise(base, 0.5)


def _half_gates(base: Decoder) -> Decoder:
    return attacks.with_fresh_gates(base, 0.5)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown trace"):
        TrainingOptions("everything")
    with pytest.raises(UsageError, match="too little text"):
        train_away(small(), small(), TOKENS[:500], QUICK)
    spoiled = small().changed({"final_norm": torch.full((36,), torch.nan)})
    with pytest.raises(NotFiniteError, match="diverged"):
        train_away(spoiled, small(), TOKENS, QUICK)
