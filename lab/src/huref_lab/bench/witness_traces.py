"""What the witnesses of kinship read, made differentiable: for an attacker who knows them all.

`huref.kinship.witnesses` asks of every feed-forward neuron whether two criteria of its gate, up and down rows name
one partner; it reads signs of random directions, which estimate the cosine in a frame. Here is that cosine itself, in
the two frames that need no map: the stream's own dimensions, and the least-squares weights by the embedding rows.

Three designs, from blunt to informed:

    squared cosines    every row is turned square to the base's: more than the attacker needs
    hidden             a row need only be less like its own than like another: a lead, or a share of a softmax
    witnesses          of the two criteria of every pairing one is enough, whichever is cheaper for the neuron
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from huref.fingerprints.codes import CodeRecipe
from huref.forward.decoder import Decoder
from huref.kinship.witnesses import GATED

Trace = Callable[[Decoder, Decoder], Tensor]
"""A child and its base -> a number to be driven to 0, differentiable in the child."""

ROLES = ("gate", "up", "down")

MARGIN = 0.05
"""How much less like its own than like another a row is made: codes of 256 signs blur a cosine by 0.06."""

TEMPERATURE = 0.05
"""Of the softmax over candidates, in units of cosine."""


@dataclass(frozen=True)
class Frame:
    """Inner products of two models' rows, (d, d) each: the child's with its own, with the base's, the base's own."""

    child: Tensor
    both: Tensor
    base: Tensor

    def likeness(self, rows: Tensor, others: Tensor) -> Tensor:
        """(n, m) cosines of the child's rows and the base's."""
        left, right = _length(rows, self.child), _length(others, self.base)
        cosines: Tensor = (rows @ self.both @ others.T) / (left[:, None] * right)
        return cosines

    def operator_likeness(self, operators: Tensor, others: Tensor) -> Tensor:
        """(h, g) cosines of the child's operators (h, d, d) and the base's (g, d, d)."""
        seen = (self.both.T @ operators @ self.both).flatten(1) @ others.flatten(1).T
        left = _operator_length(operators, self.child)
        cosines: Tensor = seen / (left[:, None] * _operator_length(others, self.base))
        return cosines


FrameOf = Callable[[Decoder, Decoder], Frame]


def stream(_: Decoder, base: Decoder) -> Frame:
    """The dimensions of the residual stream, for a copy that has kept them."""
    eye = torch.eye(base.geometry.d_model)
    return Frame(eye, eye, eye)


def tokens(child: Decoder, base: Decoder) -> Frame:
    """The dual frame of each model's own embeddings, `X (X^T X + lambda I)^-1`; it moves as the child's do."""
    with torch.no_grad():
        there = _dual(base)
    here = _dual(child)
    return Frame(here.T @ here, here.T @ there, there.T @ there)


def unit_rows(layer: Mapping[str, Tensor], role: str) -> Tensor:
    """A neuron's unit vectors, (f, d), gains folded."""
    matrix = layer["down"].T if role == "down" else layer[role] * layer["feed_forward_norm"]
    return normalize(matrix, dim=1)


def head_operators(layer: Mapping[str, Tensor], model: Decoder) -> tuple[Tensor, Tensor]:
    """Each query head's `q^T k` and `v^T o`, (h, d, d), gains folded."""
    g = model.geometry
    q, k, v = ((layer[role] * layer["attention_norm"]).view(-1, g.head_dim, g.d_model) for role in "qkv")
    o = layer["o"].T.reshape(-1, g.head_dim, g.d_model)
    k, v = (side.repeat_interleave(g.n_heads // g.n_kv_heads, dim=0) for side in (k, v))
    return q.transpose(1, 2) @ k, v.transpose(1, 2) @ o


def squared_cosines(*frames: FrameOf, roles: tuple[str, ...] = ROLES) -> Trace:
    """Mean squared cosine of every row of some roles with the base's."""

    def trace(child: Decoder, base: Decoder) -> Tensor:
        return _mean(
            S.diagonal().square().mean()
            for likeness in _likenesses(child, base, frames)
            for S in (likeness[role] for role in roles)
        )

    return trace


def leads(*frames: FrameOf) -> Trace:
    """How much every row of all roles is still more like its own than like any other, 0 when none is."""

    def trace(child: Decoder, base: Decoder) -> Tensor:
        return _mean(lead(likeness[role]).mean() for likeness in _likenesses(child, base, frames) for role in ROLES)

    return trace


def shares(*frames: FrameOf) -> Trace:
    """How little the others have of a softmax over all candidates, both ways: `-log(1 - own share)`, scaled."""

    def trace(child: Decoder, base: Decoder) -> Tensor:
        return TEMPERATURE * _mean(
            softplus(S.diagonal() - _others(S).logsumexp(dim=way)).mean()
            for likeness in _likenesses(child, base, frames)
            for S in (likeness[role] / TEMPERATURE for role in ROLES)
            for way in (0, 1)
        )

    return trace


def witnesses(*frames: FrameOf) -> Trace:
    """What is left of every pairing: of its two criteria the one that is nearer to naming another partner."""

    def trace(child: Decoder, base: Decoder) -> Tensor:
        parts = []
        for likeness in _likenesses(child, base, frames):
            left = {name: lead(S) for name, S in likeness.items()}
            parts += [torch.minimum(*(left[name] for name in pairing.split("|"))).mean() for pairing in GATED]
        return _mean(iter(parts))

    return trace


def heads(*frames: FrameOf) -> Trace:
    """The same of every query head, by what it attends to and what it then writes (`head_agreement`)."""

    def trace(child: Decoder, base: Decoder) -> Tensor:
        parts = []
        for frame_of in frames:
            frame = frame_of(child, base)
            for i in base.layers:
                sides = (head_operators(model.layer(i), model) for model in (child, base))
                left = [lead(frame.operator_likeness(mine, theirs)) for mine, theirs in zip(*sides, strict=True)]
                parts.append(torch.minimum(*left).mean())
        return _mean(iter(parts))

    return trace


def embeddings(child: Decoder, base: Decoder) -> Tensor:
    """Mean squared cosine of the embedding rows, centred: what the tokens' frame rests on."""
    x, y = (model.tensors["embedding"] - model.tensors["embedding"].mean(dim=0) for model in (child, base))
    return (normalize(x, dim=1) * normalize(y, dim=1)).sum(dim=1).square().mean()


def together(*traces: Trace) -> Trace:
    """The mean of several."""
    return lambda child, base: _mean(trace(child, base) for trace in traces)


def lead(S: Tensor) -> Tensor:
    """(f,) how far each row's own is above the best other, whichever way round that is easier to see."""
    others = _others(S)
    best = torch.minimum(others.amax(dim=0), others.amax(dim=1))
    return (S.diagonal() - best + MARGIN).relu()


def _others(S: Tensor) -> Tensor:
    """Without every row's own."""
    return S.masked_fill(torch.eye(len(S), dtype=torch.bool), -torch.inf)


def _likenesses(child: Decoder, base: Decoder, frames: tuple[FrameOf, ...]) -> Iterator[dict[str, Tensor]]:
    """By frame and layer, the criteria of `huref.kinship.witnesses`: signs of `up` and `down` are free together."""
    for frame_of in frames:
        frame = frame_of(child, base)
        for i in base.layers:
            mine, theirs = child.layer(i), base.layer(i)
            gate, up, down = (frame.likeness(unit_rows(mine, role), unit_rows(theirs, role)) for role in ROLES)
            yield {"gate": gate, "up*down": up * down, "up": up.abs(), "down": down.abs()}


def _dual(model: Decoder) -> Tensor:
    """(K, d)."""
    X = model.tensors["embedding"] - model.tensors["embedding"].mean(dim=0)
    G = X.T @ X
    ridge = CodeRecipe().ridge * G.diagonal().mean()
    D: Tensor = torch.linalg.solve(G + ridge * torch.eye(len(G)), X.T).T
    return D / D.square().mean().sqrt()


def _length(rows: Tensor, products: Tensor) -> Tensor:
    return ((rows @ products) * rows).sum(dim=1).clamp_min(1e-12).sqrt()


def _operator_length(operators: Tensor, products: Tensor) -> Tensor:
    return ((products @ operators @ products) * operators).sum(dim=(1, 2)).clamp_min(1e-12).sqrt()


def _mean(parts: Iterator[Tensor]) -> Tensor:
    return torch.stack(list(parts)).mean()


WITNESS_TRACES: Mapping[str, Trace] = {
    "gate_rows": squared_cosines(stream, roles=("gate",)),
    "up_rows": squared_cosines(stream, roles=("up",)),
    "down_rows": squared_cosines(stream, roles=("down",)),
    "gate_up_rows": squared_cosines(stream, tokens, roles=("gate", "up")),
    "rows": squared_cosines(stream),
    "rows_tokens": squared_cosines(tokens),
    "rows_both": squared_cosines(stream, tokens),
    "rows_embedding": together(squared_cosines(stream, tokens), embeddings),
    "hidden_leads": leads(stream, tokens),
    "hidden_shares": shares(stream, tokens),
    "witnesses": witnesses(stream, tokens),
    "heads": heads(stream, tokens),
    "witnesses_heads": together(witnesses(stream, tokens), heads(stream, tokens)),
}
"""`both` frames: the stream's and the tokens'."""
