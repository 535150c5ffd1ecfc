"""Live bytes: count the tensors that a piece of work holds at its peak, without a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make while the mode is on, and forgets those that are freed.

    Parameters
    ----------
    network : torch.nn.Module
        Its weights are not counted.

    Attributes
    ----------
    peak : int
        Most bytes that were alive at once.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._sizes = {t.untyped_storage()._cdata: 0 for t in (*network.parameters(), *network.buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key, 0)


def peak_bytes(network: torch.nn.Module, forward: Callable[[], object]) -> int:
    """Return the most bytes of tensors, weights aside, that were alive during `forward`."""
    network.requires_grad_(False)
    with LiveBytes(network) as live:
        forward()
    return live.peak
