"""Token pooling: one vector for a text from the states of its tokens."""

from __future__ import annotations

import torch

from extract.backbones.token_states import mean_of_tokens


def pool_tokens(pooling: str, states: torch.Tensor, mask: torch.Tensor, *, skip: int = 0) -> torch.Tensor:
    """Pool the states of a text's tokens.

    Sums are taken in float32: in half precision they overflow or lose the small texts' digits.

    Parameters
    ----------
    pooling : {"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}
        First token; largest value; mean; sum over the square root of their number; mean weighted by position,
        1 for the first; last token.
    states : Tensor of shape (b, length, d)
    mask : Tensor of shape (b, length), int64
        1 for a token, 0 for padding, which is on the right.
    skip : int
        How many tokens at the beginning are left out; positions go on counting from the text's beginning.

    Returns
    -------
    Tensor of shape (b, d), float32

    References
    ----------
    sentence_transformers 6.2, ``sentence_transformer/modules/pooling.py``
    """
    states, mask = states[:, skip:].float(), mask[:, skip:]
    if pooling == "cls":
        return states[:, 0]
    if pooling == "lasttoken":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    if pooling == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(1)
    if pooling == "mean":
        return mean_of_tokens(states, mask)
    weights = mask.float()  # (b, length)
    if pooling == "mean_sqrt_len_tokens":
        return (states * weights.unsqueeze(-1)).sum(1) / weights.sum(1, keepdim=True).sqrt()
    positions = torch.arange(skip + 1, skip + 1 + mask.shape[1], device=states.device, dtype=torch.float32)
    return mean_of_tokens(states, weights * positions)
