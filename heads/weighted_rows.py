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
    """

    X: Tensor
    codes: Tensor
    weights: Tensor

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.X.device

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.X)

    def batches(self, order: torch.Generator, n_batches: int) -> Iterator[Batch]:
        """Go through all rows once in random order, in batches of equal size (to one row)."""
        shuffled = torch.randperm(len(self.X), generator=order).to(self.X.device)
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
        cls, device: torch.device, X: NDArray[Any], codes: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> WeightedRows:
        """Copy arrays to a device and scale the weights to a mean of 1."""
        return cls(
            torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32), device=device),
            torch.as_tensor(codes.astype(np.int64), device=device),
            torch.as_tensor((weights / weights.mean()).astype(np.float32), device=device),
        )
