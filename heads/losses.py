"""What training minimises, per row; weights of rows and classes are multiplied on afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class RowLoss:
    """The loss of each row of logits.

    Attributes
    ----------
    kind : str
        One of ``heads.names.LOSSES``.
    label_smoothing : float in [0, 1)
        Share of the target that is spread evenly over all classes.
    focal_gamma : float
        Not negative; for ``"focal"``: how strongly rows that are right already are played down.
    logit_offsets : Tensor of shape (n_classes,), or None
        Added to the logits in training: ``tau * log(prior)`` is logit adjustment.

    Notes
    -----
    With ``q`` the smoothed target, ``p`` the probabilities and ``y`` the class of the row, cross-entropy is
    ``-sum_k q_k log p_k`` and focal loss ``(1 - p_y)^gamma`` times that.

    References
    ----------
    C. Szegedy et al., "Rethinking the inception architecture", CVPR 2016 (label smoothing); T.-Y. Lin et al.,
    "Focal loss for dense object detection", ICCV 2017; A. K. Menon et al., "Long-tail learning via logit
    adjustment", ICLR 2021, equation 10.
    """

    kind: str = "cross-entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    logit_offsets: Tensor | None = None

    def __call__(self, logits: Tensor, codes: Tensor) -> Tensor:
        """Return losses of shape (n,) for logits of shape (n, n_classes) and codes of shape (n,).

        For logits of shape (k, n, n_classes) it is the mean of the k losses of a row.
        """
        if logits.dim() == 3:
            each = self(logits.flatten(0, 1), codes.repeat(len(logits)))
            return each.view(len(logits), -1).mean(dim=0)
        if self.logit_offsets is not None:
            logits = logits + self.logit_offsets
        losses = functional.cross_entropy(
            logits, codes, reduction="none", label_smoothing=self.label_smoothing
        )
        if self.kind == "focal":
            # 1 - p without cancellation: p near 1 would round the whole factor to 0.
            others = logits.scatter(1, codes[:, None], -torch.inf).logsumexp(dim=1)
            log_miss = others - logits.logsumexp(dim=1)
            losses = losses * torch.exp(self.focal_gamma * log_miss)
        return losses


def adjusted_logit_offsets(priors: Tensor, tau: float) -> Tensor | None:
    """Return ``tau * log(priors)``, or None when `tau` is 0.

    Parameters
    ----------
    priors : Tensor of shape (n_classes,)
        Positive shares of the classes among the rows that are learnt from.
    tau : float
        0 is no adjustment, 1 aims at the balanced error.
    """
    return None if tau == 0 else tau * torch.log(priors)
