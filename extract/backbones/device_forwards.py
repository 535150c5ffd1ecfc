"""Device forwards: one forward of a network, from arrays in host memory to arrays in host memory.

On a GPU the caller sleeps until its vectors have arrived. Meanwhile another thread may have the next batch
queued behind, so that the device never waits for Python. One thread queues everything for a device: torch's
allocator gives the memory of what has been queued to what is queued next, so that batches in flight take the
memory of one forward, and what torch keeps for each thread that multiplies (a cuBLAS handle with a workspace)
is there once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from extract.backbones.arithmetic import forward_context
from extract.forwards import give_memory_back, is_out_of_memory

Read = Callable[..., Mapping[str, torch.Tensor]]
"""Takes tensors on the network's device, returns readout -> (b, d)."""

_launchers: dict[str, ThreadPoolExecutor] = {}
_lock = threading.Lock()


@torch.inference_mode()
def run_forward(
    network: Any, device: str, readouts: Sequence[str], read: Read, *arrays: np.ndarray
) -> dict[str, np.ndarray]:
    """Send a batch through a network; several threads may call this for one device.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`.
    device : str
        "cpu", "cuda" or "cuda:N".
    readouts : sequence of str
    read : callable
        The forward. It is given `arrays` as tensors on the device.
    *arrays : ndarray
        Writable.

    Returns
    -------
    dict of str to ndarray of shape (b, d), float32
        For each of `readouts`.

    Raises
    ------
    torch.OutOfMemoryError
        If the device has not enough memory; what the forward had taken is free again.
    """
    inputs = [torch.from_numpy(array) for array in arrays]
    if device == "cpu":
        with forward_context(network):
            found = read(*inputs)
        return {readout: found[readout].float().numpy() for readout in readouts}
    # From pinned memory a copy is queued as well; from any other the caller would wait for the batch before.
    pinned = [each.pin_memory() for each in inputs]
    vectors, done = _launcher(device).submit(_queue, device, readouts, read, pinned).result()
    done.synchronize()
    # Copied out of pinned memory, which is scarce and used again.
    return {readout: vector.numpy().copy() for readout, vector in vectors.items()}


def _launcher(device: str) -> ThreadPoolExecutor:
    """Return the one thread that queues work for a device."""
    with _lock:
        if device not in _launchers:
            _launchers[device] = ThreadPoolExecutor(1, f"launch {device}")
        return _launchers[device]


def end_launching(device: str) -> None:
    """End the thread that queues work for a device; the next forward starts another."""
    with _lock:
        launcher = _launchers.pop(device, None)
    if launcher is not None:
        launcher.shutdown(wait=True)


@torch.inference_mode()
def _queue(
    device: str, readouts: Sequence[str], read: Read, inputs: Sequence[torch.Tensor]
) -> tuple[dict[str, torch.Tensor], torch.cuda.Event]:
    """Queue a forward; returns where its vectors arrive, and when. Out of memory it leaves nothing behind."""
    found: Mapping[str, torch.Tensor] = {}
    vectors: dict[str, torch.Tensor] = {}
    try:
        found = read(*(each.to(device, non_blocking=True) for each in inputs))
        vectors = {readout: found[readout].float().to("cpu", non_blocking=True) for readout in readouts}
        # A thread that waits for a blocking event sleeps; for any other it keeps a core busy.
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(device))
        return vectors, done
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error)
    # Without the error, whose frames hold tensors, and before anything else is queued.
    found = vectors = {}  # views of whole states
    give_memory_back()
    raise torch.OutOfMemoryError(reason)
