"""A trained network with the column scale it belongs to; one or several of them make an MLP head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heads.columns import ColumnScale, LinearMap, softmax

if TYPE_CHECKING:
    from heads.layers import NetworkShape
    from heads.networks import Network

_Float = TypeVar("_Float", np.float32, np.float64)

_ROWS_AT_ONCE = 1024
_NETWORK = "network."
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")  # measured by BatchNorm, not trained


@dataclass(frozen=True)
class Member:
    """One network of an MLP head.

    Attributes
    ----------
    scale : ColumnScale or LinearMap
        From rows as they come to the columns that the network sees.
    block_widths : tuple of int, or None
        How many of those columns each block has: 0 for a block that the network does not see. None in a model
        file of before 0.2, where the blocks are as they come.
    weights : dict of str to ndarray
        Network parameters and buffers by name.
    history : list of dict
        One entry per epoch, see ``MLPHead.history_``. Empty in a model that was read from disk.
    fusion_weights : ndarray of shape (n_epochs, n_blocks), float32, or None
    best_epoch : int
        0 in a model that was read from disk.
    """

    scale: ColumnScale | LinearMap
    block_widths: tuple[int, ...] | None
    weights: Mapping[str, NDArray[Any]]
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    fusion_weights: NDArray[np.float32] | None = None
    best_epoch: int = 0

    @property
    def n_parameters(self) -> int:
        """How many numbers were trained."""
        return sum(int(value.size) for name, value in self.weights.items() if not name.endswith(_BUFFERS))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that ``from_arrays`` needs."""
        network = {f"{_NETWORK}{name}": value for name, value in self.weights.items()}
        if self.block_widths is not None:
            network["block_widths"] = np.array(self.block_widths, dtype=np.int64)
        if isinstance(self.scale, LinearMap):
            return network | {"projection": self.scale.matrix, "projection_bias": self.scale.bias}
        if self.scale.columns is not None:
            network["columns"] = self.scale.columns
        return network | {"mean": self.scale.mean, "inverse": self.scale.inverse}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Member:
        """Make the member that ``arrays`` came from; only its history is lost."""
        weights = {
            name.removeprefix(_NETWORK): value for name, value in arrays.items() if name.startswith(_NETWORK)
        }
        widths = tuple(int(width) for width in arrays["block_widths"]) if "block_widths" in arrays else None
        if "projection" in arrays:
            return cls(LinearMap(arrays["projection"], arrays["projection_bias"]), widths, weights)
        return cls(ColumnScale(arrays["mean"], arrays["inverse"], arrays.get("columns")), widths, weights)

    def probabilities(self, X: NDArray[Any], fusion: str, shape: NetworkShape) -> NDArray[np.float64]:
        """Return class probabilities of raw rows, computed in float64.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
        fusion : str
        shape : NetworkShape

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
        """
        import torch

        network = self._network(fusion, shape)
        logits = np.empty((len(X), shape.n_classes))
        with torch.inference_mode():
            for start in range(0, len(X), _ROWS_AT_ONCE):
                rows = self._scaled(X[start : start + _ROWS_AT_ONCE])
                logits[start : start + len(rows)] = network(torch.from_numpy(rows)).numpy()
        return softmax(logits)

    def fusion_weights_of(
        self, X: NDArray[Any], fusion: str, shape: NetworkShape, *, detail: bool
    ) -> NDArray[np.float64] | None:
        """Return the weight of each block in each raw row, or None when the fusion weighs nothing.

        Returns
        -------
        ndarray of shape (n_samples, n_blocks), float64, or None
            With `detail` the weights as fine as they are computed, see ``MLPHead.sample_fusion_weights``.
        """
        import torch

        network = self._network(fusion, shape)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(X), _ROWS_AT_ONCE):
                rows = torch.from_numpy(self._scaled(X[start : start + _ROWS_AT_ONCE]))
                weights = network.weight_details(rows) if detail else network.block_weights(rows)
                if weights is None:
                    return None
                parts.append(weights.numpy())
        found = np.concatenate(parts)
        # Blocks are the second axis, or, in details of attention, the last two.
        for axis in (2, 3) if found.ndim == 4 else (1,):
            found = with_unseen_blocks(found, self.block_widths, axis=axis)
        return found

    def layers_of(self, X: NDArray[Any], fusion: str, shape: NetworkShape) -> dict[str, NDArray[np.float64]]:
        """Return fused vectors and the last hidden layer of raw rows, see ``MLPHead.layer_outputs``."""
        import torch

        from heads.layer_outputs import layer_outputs

        network = self._network(fusion, shape)
        parts: dict[str, list[NDArray[np.float64]]] = {}
        with torch.inference_mode():
            for start in range(0, len(X), _ROWS_AT_ONCE):
                rows = torch.from_numpy(self._scaled(X[start : start + _ROWS_AT_ONCE]))
                for name, values in layer_outputs(network, rows).items():
                    parts.setdefault(name, []).append(values.numpy())
        return {name: np.concatenate(values) for name, values in parts.items()}

    def _scaled(self, X: NDArray[Any]) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = self.scale.apply(X.astype(np.float64))
        return scaled

    def _network(self, fusion: str, shape: NetworkShape) -> Network:
        """Return the network for predictions, in float64."""
        import torch

        from heads.networks import build_network

        if self.block_widths is not None:
            shape = replace(shape, block_widths=tuple(filter(None, self.block_widths)))
        network = build_network(fusion, shape, seed=0, device=torch.device("cpu"))
        network.load_state_dict({name: torch.from_numpy(value) for name, value in self.weights.items()})
        return network.double().eval()


def with_unseen_blocks(
    weights: NDArray[_Float], block_widths: tuple[int, ...] | None, *, axis: int
) -> NDArray[_Float]:
    """Put a weight of 0 where a block is that the network does not see.

    Parameters
    ----------
    weights : ndarray with as many entries along `axis` as the network sees blocks
    block_widths : tuple of int, or None
        As of a ``Member``.
    axis : int

    Returns
    -------
    ndarray with as many entries along `axis` as there are blocks
    """
    if block_widths is None or all(block_widths):
        return weights
    spread = np.zeros((*weights.shape[:axis], len(block_widths), *weights.shape[axis + 1 :]), weights.dtype)
    spread[(slice(None),) * axis + (np.flatnonzero(block_widths),)] = weights
    return spread


def join_members(members: list[Member]) -> dict[str, NDArray[Any]]:
    """Put the arrays of several members side by side; the names of the first have no prefix."""
    return {
        _prefix(number) + name: value
        for number, member in enumerate(members)
        for name, value in member.arrays().items()
    }


def split_members(arrays: Mapping[str, NDArray[Any]], n_members: int) -> list[Member]:
    """Take apart what ``join_members`` made.

    Raises
    ------
    KeyError
        If the arrays of a member are not there.
    """
    members = []
    for number in range(n_members):
        prefix = _prefix(number)
        own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        members.append(Member.from_arrays(own))
    return members


def _prefix(number: int) -> str:
    return f"member{number}." if number else ""
