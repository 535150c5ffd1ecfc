"""Arithmetic: weights in the stated precision, and the context that a forward runs in.

On a GPU every weight has the stated precision. On a CPU bf16 is mixed: matrices and convolutions are bf16,
everything else (embeddings, norms, and the sums between layers) stays float32. Measured against bf16
throughout it is as fast within 2 %, and closer to the float32 vectors (BERT-base: worst cosine 0.99998
against 0.99991). Weights are cast once, here: autocast alone would cast float32 weights again in every
forward, because it keeps casts only of weights that want gradients.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from extract.backbones.packed_layers import pack_layers
from extract.weights import torch_dtype

_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CURVES = (nn.SiLU, nn.Sigmoid)
_WHOLE = 64  # a multiple of the numbers that torch takes at a time, on any processor


def loading_dtype(precision: str, device: str) -> torch.dtype:
    """Return the dtype to read weights in before :func:`place` gives them their precision.

    float32 where norms and embeddings stay in it: read as bf16, their digits would be gone already.
    """
    return torch.float32 if _is_mixed(precision, device) else torch_dtype(precision)


def place(network: Any, precision: str, device: str, *, packed: bool = True) -> Any:
    """Put a network into eval mode, without gradients, in a precision on a device; returns the network.

    Parameters
    ----------
    network : torch.nn.Module
        Its weights in :func:`loading_dtype`.
    precision : {"fp32", "fp16", "bf16"}
    device : str
    packed : bool
        Whether layers keep packed weights on a CPU. Not where inputs come in ever new shapes: the kernels of
        each shape stay in memory (measured in fp32: 0.7 MiB for each number of rows of a 256 x 256 matrix;
        see also ``fixed_batches.PACKED_LIMIT``).
    """
    network = network.eval().requires_grad_(False)
    if _is_mixed(precision, device):
        attention = [layer for layer in network.modules() if isinstance(layer, nn.MultiheadAttention)]
        exact = {part for layer in attention for part in layer.modules()}
        for layer in attention:
            # Of a proxy: else the layer, which holds its forward, would outlive the network with its weights.
            itself: Any = weakref.proxy(layer)
            layer.forward = _in_float32(partial(type(layer).forward, itself))  # type: ignore[method-assign]
        for layer in network.modules():
            if layer not in exact:
                _cast_matrices(layer)
    if device == "cpu":
        for layer in network.modules():
            if isinstance(layer, _CURVES):
                layer.forward = _alike(layer.forward)  # type: ignore[method-assign]
        if packed:
            pack_layers(network)
    return network.to(device)


def forward_context(network: Any) -> AbstractContextManager[Any]:
    """Return the context for one forward of `network`: ``with forward_context(self.network):``.

    bf16 on a CPU runs under autocast, which casts what flows into the matrices; everything else needs
    nothing. The context belongs to its thread and caches nothing, so threads may share a network.
    """
    weights = list(network.parameters())
    if weights and weights[0].device.type == "cpu" and any(w.dtype == torch.bfloat16 for w in weights):
        return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    return nullcontext()


def _is_mixed(precision: str, device: str) -> bool:
    return precision == "bf16" and device == "cpu"


def _cast_matrices(layer: nn.Module) -> None:
    """Cast what one layer owns: its matrix and bias, or biases that it adds to what its matrices give."""
    if isinstance(layer, _MATRIX_LAYERS):
        layer.to(torch.bfloat16)  # layer by layer, so that the float32 copy of each is freed
    elif next(layer.children(), None) is not None:
        # DeBERTa's attention: with float32 biases its queries would be float32 and its scores bf16, and it
        # masks these with the smallest number of those.
        for name, bias in layer.named_parameters(recurse=False):
            if name.endswith("_bias"):
                bias.data = bias.data.bfloat16()


def _alike(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return an elementwise `forward` that computes every number alike, wherever it stands, on one thread.

    torch takes what is left at the end of an array one by one, with another exponential, so that the last
    rows of a batch get other last bits. Measured with a small EfficientNet, which squeezes eight pictures to
    8 x 6 numbers: a picture's vector depended on its place among the eight.
    """

    def run(values: torch.Tensor) -> Any:
        n_missing = -values.numel() % _WHOLE
        if not n_missing:
            return forward(values)
        found = forward(nn.functional.pad(values.reshape(-1), (0, n_missing)))
        return torch.empty_like(values).copy_(found[: values.numel()].view(values.shape))

    return run


def _in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return `forward` outside of autocast, with float32 inputs.

    torch's own attention layer (SigLIP pools with one) multiplies transposed inputs, for which bf16 copies
    the weights once per token: it took a third of SigLIP B/16's time, in float32 it takes a few percent.
    """

    def run(*inputs: Any, **options: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return forward(*map(_as_float32, inputs), **{k: _as_float32(v) for k, v in options.items()})

    return run


def _as_float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
