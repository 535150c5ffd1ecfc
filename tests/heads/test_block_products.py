"""Products of blocks, against the formulas as they are written in the papers."""

import pytest
import torch
from torch.nn import functional

from heads.block_products import attention_shares, mean_attended, unit_mean_square


def parts(n_blocks: int, *front: int) -> list[torch.Tensor]:
    """Return queries, keys and values of 5 rows, 2 heads of 4 units, in float64."""
    random = torch.Generator().manual_seed(n_blocks)
    shape = (*front, n_blocks, 5, 2, 4)
    return [torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("front", [(), (3,)])
@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_mean_attended_equals_scaled_dot_product_attention(n_blocks: int, front: tuple[int, ...]) -> None:
    """Values and gradients are those of torch's attention, averaged over the blocks that ask."""
    own = parts(n_blocks, *front)
    found = mean_attended(*own)
    tokens = [part.movedim(-4, -2) for part in own]  # (..., n, n_heads, n_blocks, d)
    expected = functional.scaled_dot_product_attention(*tokens).mean(dim=-2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours = torch.autograd.grad((found * weights).sum(), own)
    theirs = torch.autograd.grad((expected * weights).sum(), own)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_attention_shares_of_every_asking_block_add_up() -> None:
    """What a block takes from all others, itself included, is 1."""
    queries, keys, _ = parts(3, 2)
    shares = attention_shares(queries, keys)
    assert shares.shape == (2, 3, 3, 5, 2)
    torch.testing.assert_close(shares.sum(dim=2), torch.ones(2, 3, 5, 2, dtype=torch.float64))


def test_unit_mean_square_equals_normalize() -> None:
    """Rows have the direction that ``normalize`` gives and a mean square of 1; the gradient is exact."""
    rows = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows.requires_grad_()
    torch.testing.assert_close(unit_mean_square(rows), functional.normalize(rows, dim=-1) * 8**0.5)
    assert torch.autograd.gradcheck(unit_mean_square, (rows,))


def test_unit_mean_square_leaves_zeros_alone() -> None:
    """A row of zeros stays one, and its gradient is finite."""
    rows = torch.zeros(2, 4, requires_grad=True)
    scaled = unit_mean_square(rows)
    (gradient,) = torch.autograd.grad(scaled.sum(), [rows])
    assert torch.equal(scaled, torch.zeros(2, 4))
    assert torch.isfinite(gradient).all()
