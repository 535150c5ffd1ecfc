"""Which MLP heads can be trained in a stack, and what the stack needs to know of each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heads.mlp import MLPHead
from heads.names import RESAMPLERS
from heads.parameter_rules import check_parameters

if TYPE_CHECKING:
    from heads.layers import NetworkShape
    from heads.network_stack import StackMember

# What a stack cannot do, or what makes its members differ in more than numbers.
_NEEDED: dict[str, Any] = {
    "validation_fraction": 0,
    "schedule": "constant",
    "clip_norm": None,
    "view_per_epoch": False,
    "mixup": 0,
    "modality_dropout": 0,
    "n_members": 1,
}


def can_be_stacked(head: MLPHead) -> bool:
    """Tell whether a head can be a member of a ``heads.network_stack.NetworkStack``.

    Parameters
    ----------
    head : MLPHead
        Not fitted.

    Notes
    -----
    It must learn from all rows for a fixed number of epochs, at a constant learning rate, without mixup,
    modality dropout, gradient clipping, BatchNorm and ensembles of seeds.
    """
    fits = all(getattr(head, name) == value for name, value in _NEEDED.items())
    return fits and head.norm != "batch" and head.resampler in RESAMPLERS


def check_stackable(head: MLPHead) -> None:
    """Refuse a head with parameters out of range, as its ``fit`` would.

    Raises
    ------
    ValueError
        All faults in one message.
    """
    check_parameters("MLPHead", head.get_params(deep=False), head._rules)
    head._check_combinations(has_sample_weight=False)


def stack_shape(head: MLPHead, block_widths: tuple[int, ...], n_classes: int) -> NetworkShape:
    """Return the shape of the head's network on reduced blocks (a width of 0 is one that it does not see).

    Dropout, which may differ, is left at 0.
    """
    head.classes_, head.n_features_in_ = np.arange(n_classes), sum(block_widths)
    return replace(head._shape(), block_widths=tuple(filter(None, block_widths)), dropout=0.0)


def stack_key(head: MLPHead) -> Hashable:
    """Return what the members of one stack have in common, the rows left aside."""
    hidden = tuple(head.hidden) if isinstance(head.hidden, (list, tuple)) else head.hidden
    shared = ("n_hidden", "fusion", "projection_width", "n_attention_heads", "rank", "norm", "activation")
    flags = ("taper", "residual", "input_norm", "batch_size")
    return (hidden, *(getattr(head, name) for name in (*shared, *flags)))


def stack_member(head: MLPHead, codes: NDArray[np.int64], n_classes: int) -> StackMember:
    """Return what is the head's own in a stack that learns from rows of these classes.

    Parameters
    ----------
    head : MLPHead
    codes : ndarray of shape (n_rows,), int64
        After resampling. Every class must have a row.
    n_classes : int

    Returns
    -------
    StackMember
    """
    from heads.network_stack import StackMember

    head.classes_ = np.arange(n_classes)
    weights = head._weigh(codes, np.ones(len(codes)))
    priors = np.bincount(codes, minlength=n_classes) / len(codes)
    offsets = (head.logit_adjustment * np.log(priors)).astype(np.float32) if head.logit_adjustment else None
    return StackMember(
        learning_rate=head.learning_rate,
        weight_decay=head.weight_decay,
        dropout=head.dropout,
        label_smoothing=head.label_smoothing,
        focal_gamma=head.focal_gamma if head.loss == "focal" else 0.0,
        logit_offsets=offsets,
        weights=(weights / weights.mean()).astype(np.float32),
    )


def stack_seed(head: MLPHead) -> int:
    """Return the seed with which the head would train its network."""
    return head._seed()
