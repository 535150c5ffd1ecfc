"""The device a network is trained on."""

from __future__ import annotations

import torch


def training_device(name: str) -> torch.device:
    """Turn a name into a device that is there.

    Parameters
    ----------
    name : str
        Such as ``"cpu"`` or ``"cuda:0"``.

    Raises
    ------
    ValueError
        If torch does not know the name, or sees no such device here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={name!r} is not a device torch knows; use 'cpu', 'cuda' or 'cuda:N'."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={name!r} was asked for, but torch sees no CUDA device here; use device='cpu'."
        )
    return device
