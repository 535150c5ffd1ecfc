"""A pretended GPU: tensors that say they are on "cuda:0" and compute on the CPU, on a machine without one.

Every line that a tower runs on a GPU runs here, with real numbers, and where tensors of two devices meet
there is an error, as on a GPU. What stays unseen: kernels, their rounding, their speed and their memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from extract.backbones import device_forwards

#: Bytes of memory that the GPU says it has.
MEMORY = 8 * 10**9
_PROPERTIES = SimpleNamespace(name="Pretended GPU", total_memory=MEMORY)
_GPU = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_aten = torch.ops.aten
#: Operations that may take tensors of both devices; the result is where the first one is.
_COPIES = {_aten._to_copy.default, _aten.copy_.default}
#: Operations whose indices may also be on the CPU; the result is where the first tensor is.
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}
#: Operations that torch has in half precision on a GPU, and not on a CPU.
_NOT_HALVED = {_aten._upsample_bilinear2d_aa.default}


class GpuTensor(torch.Tensor):
    """A tensor on the pretended GPU; `held` has its numbers, on the CPU."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        with torch.inference_mode(False):  # else no views of weights can be made in inference mode
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=_GPU,
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on the pretended GPU outside of it")

    @property
    def data(self) -> torch.Tensor:
        """The tensor without its history; assigning it changes the weight in place."""
        return self.detach()

    @data.setter
    def data(self, other: GpuTensor) -> None:
        torch.Tensor.data.__set__(self, other)
        self.held = other.held

    def tolist(self) -> Any:
        """Return the numbers."""
        return self.held.tolist()

    def __repr__(self) -> str:
        return f"GpuTensor({self.held!r})"


class GpuThread(TorchDispatchMode):
    """For threads besides the one that entered `pretended_gpu`: sees every operation of its thread."""

    def __enter__(self) -> GpuThread:
        # torch.tensor(..., device="cuda") makes its tensor on the CPU, then moves it where this sees it.
        self._lifted = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._lifted)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """While it is entered, "cuda" is a device in this thread."""
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    # As in torch's own FakeTensorMode: guards that switch devices do nothing where there are none.
    torch._C._ensureCUDADeviceGuardSet()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            mock.patch("torch.cuda._lazy_init"),
            mock.patch("torch.cuda.memory._lazy_init"),
            mock.patch("torch.cuda.is_available", return_value=True),
            mock.patch("torch.cuda.device_count", return_value=1),
            mock.patch("torch.cuda.current_device", return_value=0),
            mock.patch("torch.cuda.get_device_properties", return_value=_PROPERTIES),
            mock.patch("torch.cuda.max_memory_reserved", return_value=MEMORY // 2),
            mock.patch("torch._C._cuda_setMemoryFraction", create=True),
            mock.patch("torch.Tensor.pin_memory", lambda tensor: tensor),
            mock.patch("torch.cuda.Event"),
            mock.patch("torch.cuda.current_stream"),  # nothing is queued: all is done at once
            mock.patch("extract.backbones.device_forwards._queue", _in_gpu_thread(device_forwards._queue)),
            torch.backends.cudnn.flags(enabled=False),
            GpuThread(),
        ):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


def _in_gpu_thread(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return `run` for a thread that knows of no GPU yet."""

    def entered(*given: Any) -> Any:
        with GpuThread():
            return run(*given)

    return entered


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operation on the CPU, and put what comes out on the device where it would be."""
    if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        with GpuThread():  # in inference mode such operations arrive whole
            return func.decompose(*args, **kwargs)
    is_on_gpu = _device_of_result(func, args, kwargs).type == "cuda"
    if func is _aten._fused_sdp_choice.default and is_on_gpu:
        return torch.nn.attention.SDPBackend.MATH.value  # each fused kernel is of one device
    known = {id(value.held): value for value in tree_leaves((args, kwargs)) if isinstance(value, GpuTensor)}
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    if is_on_gpu and held_kwargs.get("device") is not None:
        held_kwargs["device"] = _CPU
    if func in _NOT_HALVED and is_on_gpu:
        out = func(held_args[0].float(), *held_args[1:], **held_kwargs).to(held_args[0].dtype)
    else:
        out = func(*held_args, **held_kwargs)
    return tree_map(lambda value: _on_gpu(value, known), out) if is_on_gpu else out


def _device_of_result(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.device:
    """Return the device of what `func` gives; raises where torch would, if tensors of two devices meet."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    asked = kwargs.get("device")
    if asked is not None:
        return torch.device(asked)
    if func in _COPIES or (func in _INDEXING and args[0].device == _GPU):
        return tensors[0].device
    # A single number on the CPU may join any tensor.
    devices = {tensor.device for tensor in tensors if tensor.device != _CPU or tensor.dim()}
    if len(devices) > 1:
        found = [(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} is given {found}")
    return devices.pop() if devices else _CPU


def _held(value: Any) -> Any:
    return value.held if isinstance(value, GpuTensor) else value


def _on_gpu(value: Any, known: dict[int, GpuTensor]) -> Any:
    """Put a result on the GPU; an input that was changed in place comes back as itself."""
    if not isinstance(value, torch.Tensor):
        return value
    return known[id(value)] if id(value) in known else GpuTensor(value)
