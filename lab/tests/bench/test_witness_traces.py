"""The witnesses made differentiable: the cosines that codes estimate; what breaks a witness breaks its trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from huref.attacks import apply
from huref.demo.tensors import as_array, as_tensor, float_tensor
from huref.fingerprints.codes import CodeRecipe
from huref.fingerprints.coding import DualFrame
from huref.forward.decoder import Decoder
from huref_lab.bench import witness_traces as traces
from huref_lab.bench.training_attack import with_fresh_gates, with_noise
from huref_lab.bench.witness_traces import WITNESS_TRACES, stream, tokens
from kit.llamas import tiny_llama

BOTH = (stream, tokens)


def small(seed: int = 0) -> Decoder:
    return tiny_llama(seed).with_each(float_tensor)


def fresh(base: Decoder, *roles: str) -> Decoder:
    """With some roles of every layer drawn anew."""
    dice = torch.Generator().manual_seed(7)
    names = [f"layers.{i}.{role}" for i in base.layers for role in roles]
    return base.changed({name: torch.randn(base.tensors[name].shape, generator=dice) for name in names})


def attacked(base: Decoder, kind: str) -> Decoder:
    return apply(base.with_each(as_array), (kind,), 1).model.with_each(as_tensor)


def test_a_model_leaves_its_own_traces_whole_and_a_stranger_little() -> None:
    base, stranger = small(), small(1)
    for name, trace in WITNESS_TRACES.items():
        assert float(trace(base, base)) > 0.4 > 4 * float(trace(stranger, base)), name


def test_the_tokens_frame_is_what_codes_project_to() -> None:
    base, child = small(), with_noise(small(), 0.5)
    projected = []
    for model in (child, base):
        rows = model.tensors["embedding"].numpy()
        D = DualFrame.of(rows, CodeRecipe().ridge).seen_by(np.eye(len(rows), dtype=np.float32))
        seen = traces.unit_rows(model.layer(1), "up").numpy() @ D.T
        projected.append(seen / np.linalg.norm(seen, axis=1, keepdims=True))
    up = (traces.unit_rows(model.layer(1), "up") for model in (child, base))
    found = tokens(child, base).likeness(*up)
    assert np.allclose(found.numpy(), projected[0] @ projected[1].T, atol=1e-3)


def test_turning_the_stream_hides_rows_from_its_dimensions_and_not_from_the_tokens() -> None:
    base = small()
    turned = attacked(base, "rotate_residual")
    assert float(traces.squared_cosines(tokens)(turned, base)) == pytest.approx(1.0, abs=1e-3)
    assert float(traces.squared_cosines(stream)(turned, base)) < 0.2


def test_signs_of_neurons_are_free() -> None:
    base = small()
    child = with_noise(base, 0.5)
    for design in (traces.witnesses, traces.leads, traces.shares, traces.squared_cosines):
        trace = design(*BOTH)
        assert float(trace(attacked(child, "flip_neurons"), base)) == pytest.approx(
            float(trace(child, base)), rel=1e-3
        )


def test_one_role_hidden_leaves_a_witness_two_leave_none() -> None:
    base = small()
    trace = traces.witnesses(*BOTH)
    whole, without_gates, without_two = (
        float(trace(model, base)) for model in (base, with_fresh_gates(base, 1.0), fresh(base, "gate", "up"))
    )
    assert without_gates > 0.2 * whole  # up|down
    assert without_two < 0.05 * whole
    assert float(traces.leads(*BOTH)(fresh(base, "gate", "up"), base)) > 0.2  # the down rows


def test_heads_are_hidden_by_either_of_their_operators_and_turning_hides_none() -> None:
    base = small()
    trace = traces.heads(tokens)
    whole = float(trace(base, base))
    assert float(trace(attacked(base, "rotate_residual"), base)) == pytest.approx(whole, rel=1e-2)
    assert float(trace(fresh(base, "q", "k"), base)) < 0.2 * whole
    assert float(trace(fresh(base, "gate", "up", "down"), base)) == pytest.approx(whole, rel=1e-4)


def test_operators_are_compared_as_the_tokens_see_them() -> None:
    base, child = small(), with_noise(small(), 0.5)
    seen = []
    for model in (child, base):
        rows = model.tensors["embedding"].numpy()
        D = DualFrame.of(rows, CodeRecipe().ridge).seen_by(np.eye(len(rows), dtype=np.float32))
        terms = D @ traces.head_operators(model.layer(0), model)[1].numpy() @ D.T
        seen.append(terms.reshape(len(terms), -1))
    expected = np.corrcoef(*seen)[:6, 6:]
    operators = (traces.head_operators(model.layer(0), model)[1] for model in (child, base))
    assert np.allclose(tokens(child, base).operator_likeness(*operators).numpy(), expected, atol=1e-2)


def test_a_lead_is_0_where_another_is_liker_from_both_sides() -> None:
    S = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.0, 0.6, 0.1]])
    assert torch.allclose(traces.lead(S), torch.tensor([0.8 + traces.MARGIN, 0.0, 0.0]))


@pytest.mark.parametrize("name", WITNESS_TRACES)
def test_a_gradient_tells_how_a_trace_changes(name: str) -> None:
    base = small()
    child = with_noise(base, 0.7)
    leaves = child.with_each(lambda t: t.clone().requires_grad_())
    WITNESS_TRACES[name](leaves, base).backward()  # type: ignore[no-untyped-call]
    slopes: dict[str, Tensor] = {n: t.grad for n, t in leaves.tensors.items() if t.grad is not None}
    length = torch.stack([slope.square().sum() for slope in slopes.values()]).sum()
    step = 1e-3 / float(length)
    moved = [
        child.changed({n: child.tensors[n] + way * step * slope for n, slope in slopes.items()}) for way in (1, -1)
    ]
    above, below = (float(WITNESS_TRACES[name](model, base)) for model in moved)
    assert above - below == pytest.approx(2e-3, rel=0.1)
