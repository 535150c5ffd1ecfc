"""How the learning rate goes in the course of training."""

from __future__ import annotations

import math
from typing import Protocol

from heads.adamw import AdamW

_HALVE_AFTER = 2  # epochs without gain

# The constants of torch.optim.lr_scheduler.OneCycleLR, whose course this is.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1 / 25 / 1e4
_BETA_HIGH, _BETA_LOW = 0.95, 0.85


class Schedule(Protocol):
    """Sets the learning rate of an optimiser."""

    def before_step(self, optimiser: AdamW, step: int) -> None:
        """Prepare step number `step` (from 0) of the whole training."""

    def after_epoch(self, optimiser: AdamW, *, gained: bool) -> None:
        """Take note of whether the epoch brought a gain on what early stopping looks at."""


class ConstantRate:
    """One learning rate throughout."""

    def before_step(self, optimiser: AdamW, step: int) -> None:
        """Change nothing."""

    def after_epoch(self, optimiser: AdamW, *, gained: bool) -> None:
        """Change nothing."""


class PlateauRate(ConstantRate):
    """Half the learning rate after every 2 epochs in a row without gain.

    This is ``torch.optim.lr_scheduler.ReduceLROnPlateau(factor=0.5, patience=1, threshold=0)``.
    """

    def __init__(self) -> None:
        self._without_gain = 0

    def after_epoch(self, optimiser: AdamW, *, gained: bool) -> None:
        """Count epochs without gain and halve."""
        self._without_gain = 0 if gained else self._without_gain + 1
        if self._without_gain == _HALVE_AFTER:
            self._without_gain = 0
            optimiser.learning_rate /= 2


class CosineRate(ConstantRate):
    """Half a cosine from the full rate to 0, step by step.

    Parameters
    ----------
    rate : float
    n_steps : int
        Steps until 0.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, without
    restarts.
    """

    def __init__(self, rate: float, n_steps: int) -> None:
        self._rate = rate
        self._n_steps = n_steps

    def before_step(self, optimiser: AdamW, step: int) -> None:
        """Set the rate of this step."""
        optimiser.learning_rate = _cosine(self._rate, 0.0, step / self._n_steps)


class OneCycleRate(ConstantRate):
    """Up to the peak and down again, both along a cosine, while AdamW's first beta goes the other way.

    Parameters
    ----------
    peak : float
    n_steps : int
    warmup : float in (0, 1)
        Share of the steps in which the rate rises.

    Notes
    -----
    Equal to ``torch.optim.lr_scheduler.OneCycleLR`` with its default arguments.

    References
    ----------
    L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", arXiv 1708.07120 (2017).
    """

    def __init__(self, peak: float, n_steps: int, warmup: float) -> None:
        self._peak = peak
        self._top = warmup * n_steps - 1
        self._last = n_steps - 1

    def before_step(self, optimiser: AdamW, step: int) -> None:
        """Set the rate and the momentum of this step."""
        if step <= self._top:
            share = step / self._top if self._top > 0 else 1.0
            optimiser.learning_rate = _cosine(self._peak * _ONE_CYCLE_START, self._peak, share)
            optimiser.momentum = _cosine(_BETA_HIGH, _BETA_LOW, share)
        else:
            share = (step - self._top) / (self._last - self._top)
            optimiser.learning_rate = _cosine(self._peak, self._peak * _ONE_CYCLE_END, share)
            optimiser.momentum = _cosine(_BETA_LOW, _BETA_HIGH, share)


def make_schedule(name: str, *, rate: float, n_steps: int, warmup: float) -> Schedule:
    """Make a schedule by name.

    Parameters
    ----------
    name : str
        One of ``heads.names.SCHEDULES``.
    rate : float
        The largest learning rate.
    n_steps : int
        Steps of the whole training, were it not stopped early.
    warmup : float in (0, 1)
        For ``"one-cycle"``.
    """
    if name == "cosine":
        return CosineRate(rate, n_steps)
    if name == "one-cycle":
        return OneCycleRate(rate, n_steps, warmup)
    return PlateauRate() if name == "plateau" else ConstantRate()


def _cosine(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
