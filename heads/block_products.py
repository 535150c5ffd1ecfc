"""How the vectors of several blocks act on each other, element by element.

Everything works on one network's rows and on those of many, stacked in one more dimension in front.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

_LEAST = 1e-24  # mean square of a row below which it is not scaled up any further


def attention_shares(queries: Tensor, keys: Tensor) -> Tensor:
    """Return what each block (query) takes from each (key): softmax(Q K' / sqrt(d)).

    Parameters
    ----------
    queries, keys : Tensor of shape (..., n_blocks, n, n_heads, d), float

    Returns
    -------
    Tensor of shape (..., n_blocks that ask, n_blocks that are asked, n, n_heads)
        Sums over the asked are 1.

    Notes
    -----
    With two or three tokens the products are elementwise work: thousands of 2 x 2 matrix products, and a
    softmax over a last axis of 2, take twice the time.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 1.
    """
    products = (queries[..., :, None, :, :, :] * keys[..., None, :, :, :, :]).sum(dim=-1)
    return (products / math.sqrt(queries.shape[-1])).softmax(dim=-3)


def mean_attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return the mean over the asking blocks of what attention makes of the values.

    Parameters
    ----------
    queries, keys, values : Tensor of shape (..., n_blocks, n, n_heads, d), float

    Returns
    -------
    Tensor of shape (..., n, n_heads, d)

    Notes
    -----
    The mean is taken of the shares, before the values are mixed. Of two blocks the softmax is the sigmoid of
    a difference, which halves the products.
    """
    if queries.shape[-4] != 2:
        shares = attention_shares(queries, keys).mean(dim=-4)
        return (shares[..., None] * values).sum(dim=-4)
    key, other_key = keys.unbind(dim=-4)
    value, other_value = values.unbind(dim=-4)
    difference = (key - other_key)[..., None, :, :, :] / math.sqrt(queries.shape[-1])
    share = torch.sigmoid(torch.linalg.vecdot(queries, difference)).mean(dim=-3)
    return torch.lerp(other_value, value, share[..., None])


def unit_mean_square(rows: Tensor) -> Tensor:
    """Scale each row to a mean square of 1.

    Parameters
    ----------
    rows : Tensor of shape (..., width), float

    Returns
    -------
    Tensor of shape (..., width)
        A row of zeros stays one.

    Notes
    -----
    Its gradient is written out: half the passes of ``torch.nn.functional.normalize`` and of its gradient.
    """
    return cast("Tensor", _UnitMeanSquare.apply(rows))


class _UnitMeanSquare(Function):
    """The function and its gradient; the factor of a row depends on the row."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        squares = torch.linalg.vecdot(rows, rows) / rows.shape[-1]
        inverse = squares.clamp_min(_LEAST).rsqrt()[..., None]
        scaled: Tensor = rows * inverse
        ctx.save_for_backward(scaled, inverse)
        return scaled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        scaled, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(gradient, scaled)[..., None] / scaled.shape[-1]
        found: Tensor = torch.addcmul(gradient, scaled, along, value=-1).mul_(inverse)
        return found
