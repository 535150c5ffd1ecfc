"""Heads as functions of tensors, so that gradients flow from a probability back to the features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from heads.columns import ColumnScale, LinearMap
from heads.estimator import Head
from heads.linear import LogisticHead
from heads.members import Member
from heads.mlp import MLPHead

Differentiable = Callable[[Tensor], Tensor]


def differentiable(head: Head) -> Differentiable:
    """Return the probabilities of a fitted head as a function of tensors.

    Parameters
    ----------
    head : LogisticHead or MLPHead
        Fitted.

    Returns
    -------
    callable
        Rows of shape (n, n_features), float64, without NaN, to probabilities of shape (n, n_classes),
        float64: those of ``head.predict_proba``, to rounding.

    Raises
    ------
    ValueError
        If the head has no gradient, or none that is known here.
    """
    if isinstance(head, LogisticHead):
        scores = _linear(LinearMap(np.asarray(head.coef_).T, head.intercept_))
        return lambda rows: scores(rows).softmax(dim=1)
    if isinstance(head, MLPHead):
        members = [_member(member, head) for member in head.members_]
        return lambda rows: torch.stack([member(rows) for member in members]).mean(dim=0)
    raise ValueError(
        f"{type(head).__name__} has no gradient that could be followed; LogisticHead and MLPHead have."
    )


def _member(member: Member, head: MLPHead) -> Differentiable:
    network = member._network(head.fusion, head._shape()).requires_grad_(False)
    scaled = _linear(member.scale) if isinstance(member.scale, LinearMap) else _standardised(member.scale)
    return lambda rows: network(scaled(rows)).softmax(dim=1)


def _linear(linear: LinearMap) -> Differentiable:
    matrix = torch.from_numpy(np.ascontiguousarray(linear.matrix, dtype=np.float64))
    bias = torch.from_numpy(np.asarray(linear.bias, dtype=np.float64))
    return lambda rows: rows @ matrix + bias


def _standardised(scale: ColumnScale) -> Differentiable:
    mean, inverse = torch.from_numpy(scale.mean), torch.from_numpy(scale.inverse)
    if scale.columns is None:
        return lambda rows: (rows - mean) * inverse
    columns = torch.from_numpy(scale.columns)
    return lambda rows: (rows.index_select(1, columns) - mean) * inverse
