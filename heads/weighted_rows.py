"""Rows that a network learns from or stops on, with their classes and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Standardised rows on the training device.

    Attributes
    ----------
    X : Tensor of shape (n, n_features), float32
    codes : Tensor of shape (n,), int64
    weights : Tensor of shape (n,), float32
        Their mean is 1 over all rows, not over the batch.
    """

    X: Tensor
    codes: Tensor
    weights: Tensor


class Rows(Protocol):
    """Rows that a network learns from or stops on."""

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def batches(self, order: torch.Generator, n_batches: int) -> Iterator[Batch]:
        """Go through all rows once in random order, in batches of equal size (to one row)."""

    def parts(self) -> Iterator[Batch]:
        """Go through all rows in order, in parts that fit in memory."""

    def first(self, n: int) -> Tensor:
        """Return the first rows (n of them, or fewer)."""


@dataclass(frozen=True)
class WeightedRows:
    """Rows in memory, on the training device.

    Attributes
    ----------
    X : Tensor of shape (n, n_features), float32
    codes : Tensor of shape (n,), int64
    weights : Tensor of shape (n,), float32, mean 1
    samples : Tensor of shape (n,), int64, or None
        Number, from 0, of the sample that each row is a view of: an epoch then shows each sample once, in a
        view that is drawn anew. None shows every row.
    """

    X: Tensor
    codes: Tensor
    weights: Tensor
    samples: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.X.device

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self.X) if self.samples is None else int(self.samples.max()) + 1

    def batches(self, order: torch.Generator, n_batches: int) -> Iterator[Batch]:
        """Go through all rows once in random order, in batches of equal size (to one row)."""
        shuffled = torch.randperm(len(self.X), generator=order).to(self.X.device)
        if self.samples is not None:
            shuffled = _first_of_each(shuffled, self.samples)
        # Of equal size: a last batch of two rows would take a step as large as the others.
        for batch in shuffled.tensor_split(n_batches):
            yield Batch(
                self.X.index_select(0, batch),
                self.codes.index_select(0, batch),
                self.weights.index_select(0, batch),
            )

    def parts(self) -> Iterator[Batch]:
        """Return all rows at once."""
        yield Batch(self.X, self.codes, self.weights)

    def first(self, n: int) -> Tensor:
        """Return the first rows (n of them, or fewer)."""
        return self.X[:n]

    @classmethod
    def on(
        cls,
        device: torch.device,
        X: NDArray[Any],
        codes: NDArray[np.intp],
        weights: NDArray[np.float64],
        samples: NDArray[np.intp] | None = None,
    ) -> WeightedRows:
        """Copy arrays to a device and scale the weights to a mean of 1."""
        return cls(
            torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32), device=device),
            torch.as_tensor(codes.astype(np.int64), device=device),
            torch.as_tensor((weights / weights.mean()).astype(np.float32), device=device),
            None if samples is None else torch.as_tensor(samples.astype(np.int64), device=device),
        )


def _first_of_each(shuffled: Tensor, samples: Tensor) -> Tensor:
    """Keep the first row of each sample in a random order of rows, in that order."""
    place = torch.empty_like(shuffled).scatter_(
        0, shuffled, torch.arange(len(shuffled), device=shuffled.device)
    )
    n_samples = int(samples.max()) + 1
    first = torch.full((n_samples,), len(shuffled), device=shuffled.device)
    first.scatter_reduce_(0, samples, place, reduce="amin")
    return shuffled[first.sort().values]
