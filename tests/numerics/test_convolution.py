"""Convolutions are torch's, whatever the sizes and however many numbers are laid out at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.numerics import convolution
from huref.numerics.convolution import convolved

sizes = st.tuples(*[st.integers(1, top) for top in (2, 9, 9, 4, 5, 5, 4)])


@given(sizes, st.integers(0, 3), st.sampled_from([1, 60, 1 << 18]), st.sampled_from([np.float32, np.float16]))
@settings(max_examples=60, deadline=None)
def test_convolutions_are_torchs(size: tuple[int, ...], padding: int, numbers: int, dtype: type) -> None:
    n, h, w, i, a, b, o = size
    random = np.random.default_rng(sum(size))
    x = random.standard_normal((n, h, w, i), dtype=np.float32)
    kernel = random.standard_normal((o, i, a, b)).astype(dtype)
    if a > h + 2 * padding or b > w + 2 * padding:
        return
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x).double().permute(0, 3, 1, 2), torch.from_numpy(kernel).double(), padding=padding
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_NUMBERS", numbers)
        patch.setattr(convolution, "_PIXELS", 1)
        found = convolved(x, kernel.transpose(2, 3, 1, 0), padding)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=0, atol=2e-5)
