"""Token states: which hidden states a forward must keep, and means over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

#: Whether a forward can be asked for some layers by number. Earlier versions take a list as well, but put
#: other states, or none, at those numbers (seen in 5.17).
LISTS_LAYERS = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (5, 23)


@dataclass(frozen=True)
class AskedStates:
    """The hidden states that readouts ``layer:k`` ask for.

    Attributes
    ----------
    layers : tuple of int
        The numbers k.
    """

    layers: tuple[int, ...]

    @property
    def request(self) -> dict[str, Any]:
        """Arguments for a transformers forward; empty if no hidden state is asked for.

        Naming the layers keeps only those in memory: all states of a ViT-L/14 batch of 64 are 0.9 GB in
        half precision.
        """
        if not self.layers:
            return {}
        return {"output_hidden_states": list(self.layers) if LISTS_LAYERS else True}

    def read(self, output: Any, pool: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return ``layer:k`` -> (b, width), pooled from the states of shape (b, tokens, width)."""
        return {f"layer:{k}": pool(output.hidden_states[k]) for k in self.layers}


def asked_states(readouts: Sequence[str]) -> AskedStates:
    """Return the hidden states that `readouts` (names from a card, or ``layer:k``) need."""
    return AskedStates(
        tuple(int(name.removeprefix("layer:")) for name in readouts if name.startswith("layer:"))
    )


def mean_of_tokens(states: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean of states (b, tokens, width) over the tokens whose mask (b, tokens) is 1.

    Sums are taken in float32: in half precision they overflow, or lose the last digits.
    """
    states = states.float()
    if mask is None:
        return states.mean(1)
    weights = mask.unsqueeze(-1).float()  # (b, tokens, 1)
    return (states * weights).sum(1) / weights.sum(1)
