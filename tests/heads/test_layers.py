"""Dropout: which units go, and by how much the others are scaled."""

import numpy as np
import pytest
import torch

from heads.layers import KeptUnits, uniform_draws

EVERY_DRAW = torch.arange(2**16, dtype=torch.float32) / 2**16
SHARES = [1.0, 0.5, 0.7, 0.4, 1 / 3, 2.0**-16, 1e-5, 1 - 2.0**-17, 0.3 + 2.0**-20]


@pytest.mark.parametrize("share", SHARES)
def test_kept_units_are_those_of_a_smaller_draw(share: float) -> None:
    """Every draw there is gives 1 / kept below the share that is kept, and exactly 0 from there on."""
    factors = KeptUnits(torch.tensor(share, dtype=torch.float64)).factors(EVERY_DRAW)
    expected = np.where(EVERY_DRAW.numpy().astype(np.float64) < share, np.float32(1 / share), 0)
    np.testing.assert_array_equal(factors.numpy(), expected)


def test_kept_units_of_many_shares_are_those_of_each() -> None:
    """Shares side by side give for each what it gives alone."""
    draws = EVERY_DRAW.view(256, 256)
    together = KeptUnits(torch.tensor(SHARES, dtype=torch.float64)[:, None, None]).factors(draws)
    for share, found in zip(SHARES, together, strict=True):
        alone = KeptUnits(torch.tensor(share, dtype=torch.float64)).factors(draws)
        assert torch.equal(found, alone)


def test_uniform_draws_are_multiples_that_a_share_can_be_told_from() -> None:
    """Draws are multiples of 2^-16 in [0, 1) with the mean and the spread of a uniform distribution."""
    draws = uniform_draws(torch.empty(333, 301), torch.Generator().manual_seed(0))
    steps = draws.double() * 2**16
    assert torch.equal(steps, steps.round())
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean().item() - 0.5) < 0.003
    assert abs(draws.std().item() - 12**-0.5) < 0.003
