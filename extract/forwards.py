"""Forwards: send batches through a tower; out of memory halves the batch, remembers, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Vectors = dict[str, np.ndarray]


class BackoffForward:
    """A forward pass that survives running out of memory.

    Parameters
    ----------
    forward : callable
        Takes a sequence of inputs, returns readout -> array of shape (n, d). Several threads may call it.

    Attributes
    ----------
    largest : int or None
        Rows that fit, once memory has run out; later batches are cut to it at once.
    """

    def __init__(self, forward: Callable[[Sequence[Any]], Vectors]) -> None:
        self._forward = forward
        self._lock = threading.Lock()
        self.largest: int | None = None

    def __call__(self, batch: Sequence[Any]) -> tuple[Vectors, np.ndarray]:
        """Return the vectors of the rows that fit, and which rows those are.

        Returns
        -------
        vectors : dict of str to ndarray of shape (n_fitting, d), float32
        fits : ndarray of shape (n,), bool
            False for a row that does not fit even alone.
        """
        parts: list[Vectors] = []
        fits = np.ones(len(batch), dtype=bool)
        start = 0
        while start < len(batch):
            size = min(self.largest or len(batch), len(batch) - start)
            vectors: Vectors | None = None
            try:
                vectors = self._forward(batch[start : start + size])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if vectors is not None:
                parts.append(vectors)
                start += size
                continue
            give_memory_back()  # only now: the error held the tensors of its frames
            if size == 1:
                fits[start] = False
                start += 1
            else:
                self._shrink(size)
        return _join(parts), fits

    def _shrink(self, size: int) -> None:
        """Halve a size that did not fit, unless another thread's batch has shown already that less fits."""
        with self._lock:
            self.largest = min(self.largest or size, size // 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is the device or the host running out of memory."""
    import torch

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    # The last are cuBLAS and cuDNN, which take memory of their own.
    return any(words in text for words in ("out of memory", "can't allocate memory", "status_alloc_failed"))


def give_memory_back() -> None:
    """Free what nothing refers to any more, and the blocks that torch keeps in reserve on every GPU."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _join(parts: Sequence[Vectors]) -> Vectors:
    if not parts:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
