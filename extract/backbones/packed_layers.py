"""Packed layers: matrices and convolutions whose weights lie in memory as the processor's kernels read them.

torch's own layers keep weights as they were trained and, in every forward on a CPU, copy them into the order
in which a kernel reads them, or take a kernel that does without. A pass runs thousands of forwards with the
same weights in small, fixed shapes, where that counts: 1.1 to 1.25 times as many inputs per second in fp32
and 1.03 to 1.09 in bf16 (``benchmarks/packed_layers.py``; docs/performance.md has each network's figures).
In bf16 the numbers are torch's to the last bit, but for matrices of a single row, which torch multiplies in
another way; in fp32 they differ by about 1e-6 of the largest.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from extract.precision import cpu_has_bf16

# None of these is public; what torch's compiler makes of a frozen network calls them.
_mkldnn: Any = torch.ops.mkldnn
_native: Any = torch._C._nn
_backend: Any = torch.backends.mkldnn
_OPERATIONS = (
    (_mkldnn, "_reorder_linear_weight"),
    (_mkldnn, "_linear_pointwise"),
    (_native, "mkldnn_reorder_conv2d_weight"),
    (_mkldnn, "_convolution_pointwise"),
    (_mkldnn, "_is_mkldnn_bf16_supported"),
)


def pack_layers(network: nn.Module) -> None:
    """Let the matrices and convolutions of a network on the CPU compute with packed weights, in place.

    A layer is packed in its first forward, one at a time, and lets go of the weights that it had. Layers that
    never run themselves (some networks multiply with a layer's weight instead) stay as they are; one that
    does both cannot be packed, and neither can a packed network be copied, saved or cast. Vectors keep the
    accuracy of their precision, not every last bit of float32.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in eval mode and without gradients of weights. Gradients of inputs (``backward``) go
        through torch's own layers.
    """
    if not _has_operations():
        return
    _leave_the_file(network)
    for layer in network.modules():
        owner: Any = layer
        kind = _KINDS.get(type(layer))  # a subclass may compute something else
        if kind is not None and _is_plain(owner) and kind.computes(owner) and _is_packable(owner.weight):
            owner.forward = kind(owner)


def _leave_the_file(network: nn.Module) -> None:
    """Copy weights that lie in memory which is not torch's own: in the file, as safetensors maps it.

    One of them, such as the bias of a norm, would keep the whole file in memory beside the packed weights.
    Those of matrices leave it when they are packed; a matrix that never runs keeps the file mapped, whose
    pages the system takes back when it needs them.
    """
    later = {id(layer.weight) for layer in network.modules() if type(layer) is nn.Linear}
    for weight in (*network.parameters(), *network.buffers()):
        if id(weight) not in later and not weight.untyped_storage().resizable():
            weight.data = weight.data.clone()


def _has_operations() -> bool:
    """Whether packed weights were found to be as fast as torch's own layers or faster on such a processor.

    Measured with AVX-512 and, on the same processor, with AVX2 alone (1.05 to 1.09 times as fast). Below AVX2
    packed weights take twice as long, and ARM processors were not measured.
    """
    if not (_backend.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")):
        return False
    return all(hasattr(owner, name) for owner, name in _OPERATIONS)


def _is_plain(layer: nn.Module) -> bool:
    """Whether its weight is a parameter (weight norm makes it anew) and its forward that of its class."""
    return layer._parameters.get("weight") is not None and "forward" not in vars(layer)


def _is_packable(weight: torch.Tensor) -> bool:
    if weight.layout is not torch.strided:
        return False
    if weight.dtype == torch.bfloat16:
        # The library's own answer, too: the variable ONEDNN_MAX_CPU_ISA can forbid what the processor has.
        return cpu_has_bf16() and bool(_mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class _PackedForward(ABC):
    """The forward of a layer, which packs its weight when it first runs; several threads may call it."""

    def __init__(self, layer: Any) -> None:
        # The layer holds this object; if that held the layer, its weights would outlive the network until
        # Python's next look for cycles.
        self._layer: Any = weakref.proxy(layer)
        self._packed: torch.Tensor | None = None
        self._lock = threading.Lock()

    @staticmethod
    def computes(layer: Any) -> bool:  # noqa: ARG004
        """Whether a layer of this kind can be computed with a packed weight."""
        return True

    def __call__(self, values: torch.Tensor) -> Any:
        if torch.is_grad_enabled() and values.requires_grad:
            return self._unpacked(values)
        if torch.is_autocast_enabled("cpu"):
            values = values.to(self._layer.weight.dtype)
        if not self._takes(values):
            return self._unpacked(values)
        return self._multiply(values, self._packed if self._packed is not None else self._pack(values))

    def _takes(self, values: torch.Tensor) -> bool:
        return values.dtype == self._layer.weight.dtype and values.numel() > 0

    @abstractmethod
    def _reordered(self, weight: torch.Tensor, values: torch.Tensor) -> Any:
        """Return `weight` in the order for inputs like `values`."""

    @abstractmethod
    def _multiply(self, values: torch.Tensor, packed: torch.Tensor) -> Any:
        """Compute the layer with its packed weight."""

    @abstractmethod
    def _multiply_plainly(self, values: torch.Tensor, weight: torch.Tensor) -> Any:
        """Compute the layer as torch does, with gradients."""

    def _pack(self, values: torch.Tensor) -> torch.Tensor:
        with self._lock:
            if self._packed is None:
                packed = self._reordered(self._layer.weight.detach(), values)
                # The weight as it was is freed; what asks the layer for its dtype or shape still gets them.
                self._layer.weight = nn.Parameter(packed, requires_grad=False)
                self._packed = packed
            return self._packed

    def _unpacked(self, values: torch.Tensor) -> Any:
        with self._lock:
            weight = self._layer.weight if self._packed is None else self._packed.to_dense()
        return self._multiply_plainly(values, weight)


class _PackedLinear(_PackedForward):
    def _reordered(self, weight: torch.Tensor, values: torch.Tensor) -> Any:  # noqa: ARG002
        return _mkldnn._reorder_linear_weight(weight)

    def _multiply(self, values: torch.Tensor, packed: torch.Tensor) -> Any:
        return _mkldnn._linear_pointwise(values, packed, self._layer.bias, "none", [], "")

    def _multiply_plainly(self, values: torch.Tensor, weight: torch.Tensor) -> Any:
        return nn.functional.linear(values, weight, self._layer.bias)


class _PackedConvolution(_PackedForward):
    """Packs for the shape of its first inputs; of the orders that fit, the best differs between shapes."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._geometry = (layer.padding, layer.stride, layer.dilation, layer.groups)

    @staticmethod
    def computes(layer: Any) -> bool:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)

    def _takes(self, values: torch.Tensor) -> bool:
        # In torch's own memory format packing was slower as often as faster.
        return (
            super()._takes(values)
            and values.ndim == 4
            and values.is_contiguous(memory_format=torch.channels_last)
        )

    def _reordered(self, weight: torch.Tensor, values: torch.Tensor) -> Any:
        return _native.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), *self._geometry, list(values.shape))

    def _multiply(self, values: torch.Tensor, packed: torch.Tensor) -> Any:
        return _mkldnn._convolution_pointwise(
            values, packed, self._layer.bias, *self._geometry, "none", [], ""
        )

    def _multiply_plainly(self, values: torch.Tensor, weight: torch.Tensor) -> Any:
        return self._layer._conv_forward(values, weight, self._layer.bias)


_KINDS: dict[type, type[_PackedForward]] = {nn.Linear: _PackedLinear, nn.Conv2d: _PackedConvolution}
