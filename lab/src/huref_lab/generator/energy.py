"""Energy distance between made pictures and photographs, in coarse pixels and in the critic's frozen features.

Székely & Rizzo, "Energy statistics", 2013: `2 E|f - r| - E|f - f'| - E|r - r'|` is zero only for equal distributions.
Its second term drives the made pictures of one batch apart as far as photographs are, which a critic alone, judging
one by one, does not: without it every vector gave the same dog, another one every few thousand images. The coarse
pixels settle colours. Photographs come from a queue of the last batches; the network that made their features never
changes, so that they do not age.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref_lab.generator.readability import distances, line_up_loss

PIXELS = 16


def energy(made: Tensor, real: Tensor) -> Tensor:
    """Energy distance of two samples (n, d) and (m, d), less its constant, in units of their mean distance."""
    n = made.shape[0]
    between = distances(made, real).mean()
    apart = ~torch.eye(n, dtype=torch.bool)
    within = distances(made, made)[apart].mean()
    return (2 * between - within) / between.detach()


class EnergyDistance(nn.Module):
    """The loss and its queue of photographs' features.

    Args:
        widths: channels of the features, fine to coarse; the two coarsest are used, on a grid of 4 x 4.
        length: photographs remembered.
    """

    queue: Tensor
    seen: Tensor

    def __init__(self, widths: tuple[int, ...], length: int = 1024) -> None:
        super().__init__()
        self.parts = [3 * PIXELS**2, *(16 * width for width in widths[-2:])]
        self.register_buffer("queue", torch.zeros(length, sum(self.parts), dtype=torch.bfloat16))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @staticmethod
    def rows(picture: Tensor, features: list[Tensor]) -> Tensor:
        """The picture on a grid of 16 x 16, the two coarsest maps on 4 x 4, side by side: (n, d), fp32."""
        grids = [functional.adaptive_avg_pool2d(f.float(), 4) for f in features[-2:]]
        return torch.cat(
            [part.flatten(1) for part in (functional.adaptive_avg_pool2d(picture, PIXELS), *grids)], dim=1
        )

    @torch.no_grad()
    def remember(self, picture: Tensor, features: list[Tensor]) -> None:
        """Puts a batch of photographs in place of the oldest."""
        rows = self.rows(picture, features).to(self.queue.dtype)
        places = (int(self.seen) + torch.arange(rows.shape[0])) % self.queue.shape[0]
        self.queue[places] = rows
        self.seen += rows.shape[0]

    def forward(self, picture: Tensor, features: list[Tensor]) -> Tensor:
        """Energy distance of made pictures to the photographs remembered so far; 0 before there are any."""
        known = min(int(self.seen), self.queue.shape[0])
        if known == 0:
            return torch.zeros(())
        made, real = self.rows(picture, features), self.queue[:known].float()
        pairs = zip(made.split_with_sizes(self.parts, dim=1), real.split_with_sizes(self.parts, dim=1), strict=True)
        return torch.stack([energy(a, b) for a, b in pairs]).sum()

    def line_up(self, picture: Tensor, features: list[Tensor]) -> Tensor:
        """How hard it is to find each picture's kin among the others (`readability`), in each part."""
        parts = self.rows(picture, features).split_with_sizes(self.parts, dim=1)
        return torch.stack([line_up_loss(part) for part in parts]).sum()
