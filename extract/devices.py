"""Devices: one engine here, or one process per device when a pass is shared between several.

Each process loads its own towers and computes what it is sent; this process plans, assembles and writes. A
process that dies (out of memory, a crashed driver) ends the pass with a clear error, never with a hang; what
was finished is on disk.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np

from extract.batches import BatchPlanner
from extract.engine import Batch, Embedded, Engine, LaneResult
from extract.engine import open_engine as open_local_engine
from extract.inputs import Inputs, Prepared
from extract.weights import resolve_device
from extract.work import PassWork, open_inputs

#: Units that one process computes at a time: enough to sort by length and to keep its device busy meanwhile.
_UNITS_PER_TASK = 512
_TASKS_PER_DEVICE = 2


def resolve_devices(devices: str) -> str:
    """Return the devices that a pass runs on, as ``PassOptions.device`` takes them.

    Parameters
    ----------
    devices : str
        "auto", "cpu", "cuda", "cuda:N", "all" (every GPU, or the CPU if there is none), or several with
        commas.

    Raises
    ------
    ValueError
        If a device is not known, or this machine lacks it.
    """
    if devices == "all":
        first = resolve_device("auto")
        if first == "cpu":
            return first
        import torch

        return ",".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
    return ",".join(resolve_device(device.strip()) for device in devices.split(","))


class WorkerDiedError(OSError):
    """A process that embeds for one device has died."""


def open_engine(works: Sequence[PassWork], modality: str) -> Engine:
    """Load the towers of one modality on the devices that the options name.

    Parameters
    ----------
    works : sequence of PassWork
        Several only for images.
    modality : str
    """
    devices = works[0].options.devices
    if len(devices) == 1:
        return open_local_engine(open_inputs(works, modality, devices[0]), devices[0])
    return ProcessEngine(works, modality, devices)


class ProcessEngine(Engine):
    """Sends batches to one process per device.

    Parameters
    ----------
    works : sequence of PassWork
    modality : str
    devices : sequence of str
        A device may be named twice: "cpu,cpu" runs two processes with half of the threads each.
    """

    def __init__(self, works: Sequence[PassWork], modality: str, devices: Sequence[str]) -> None:
        import torch

        super().__init__(_TaskInputs(len(works)))
        context = multiprocessing.get_context("spawn")
        self._devices = tuple(devices)
        self._pools = []
        for device in devices:
            threads = max(1, torch.get_num_threads() // list(devices).count(device))
            pool = ProcessPoolExecutor(
                1, context, initializer=_start_worker, initargs=(tuple(works), modality, device, threads)
            )
            self._stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            self._pools.append(pool)
        self._pending = [0] * len(devices)

    def run(self, batches: Iterable[Batch]) -> Iterator[Embedded]:
        """Embed batches on all devices. See `Engine.run`."""
        ahead: deque[tuple[int, Future[Embedded]]] = deque()
        for batch in batches:
            ahead.append(self._submit(batch))
            if len(ahead) >= _TASKS_PER_DEVICE * len(self._pools):
                yield self._result(*ahead.popleft())
        while ahead:
            yield self._result(*ahead.popleft())

    def embed(self, units: list[int]) -> list[LaneResult]:
        """Embed a few units on the first device. See `Engine.embed`."""
        with self._named_death(0):
            future = self._pools[0].submit(_embed_probe, units)
        self._pending[0] += 1
        lanes: list[LaneResult] = self._result(0, future)
        return lanes

    def _submit(self, batch: Batch) -> tuple[int, Future[Embedded]]:
        place = self._pending.index(min(self._pending))
        with self._named_death(place):
            future = self._pools[place].submit(_embed_task, *batch)
        self._pending[place] += 1
        return place, future

    def _result(self, place: int, future: Future[Any]) -> Any:
        with self._named_death(place):
            result = future.result()
        self._pending[place] -= 1
        return result

    @contextmanager
    def _named_death(self, place: int) -> Iterator[None]:
        """Name the device of a process that has died: while it embedded, or between two tasks."""
        try:
            yield
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                f"The process that embeds on '{self._devices[place]}' has died (out of memory, or a crash of "
                "its driver). What was finished is kept: run the same command again, with fewer devices or a "
                "smaller --batch-size."
            ) from error


class _TaskInputs(Inputs):
    """What the planning process knows of the inputs: how many make a task; workers do the rest."""

    def __init__(self, n_lanes: int) -> None:
        self.n_lanes = n_lanes

    def buckets(self, units: Sequence[int]) -> list[int]:
        return [0] * len(units)

    def capacity(self, bucket: int) -> int:  # noqa: ARG002
        return _UNITS_PER_TASK

    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:  # noqa: ARG002
        raise AssertionError("inputs are prepared where they are embedded")

    def forward(self, lane: int, items: Sequence[Any]) -> dict[str, np.ndarray]:  # noqa: ARG002
        raise AssertionError("inputs are embedded in their own process")


_engine: Engine | None = None


def _start_worker(works: tuple[PassWork, ...], modality: str, device: str, threads: int) -> None:
    """Load the towers once; runs in the worker process."""
    global _engine
    import torch

    # Ctrl-C reaches the whole group; the planning process decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    torch.set_num_threads(threads)
    _engine = open_local_engine(open_inputs(works, modality, device), device)


def _end_with_parent() -> None:
    """End this process with the planning one: a killed one cannot say so, and the device stays taken."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers are started by the planning process"
    parent.join()
    os._exit(1)


def _embed_probe(units: list[int]) -> list[LaneResult]:
    assert _engine is not None, "the initializer has run"
    return _engine.embed(units)


def _embed_task(units: list[int], wanted: list[np.ndarray]) -> Embedded:
    """Embed the units of one task, in batches of this device's own."""
    assert _engine is not None, "the initializer has run"
    masks = {unit: [bool(mask[i]) for mask in wanted] for i, unit in enumerate(units)}
    planner = BatchPlanner([units], _engine.inputs.buckets, _engine.inputs.capacity)
    batches = (
        (batch, [np.array([masks[unit][lane] for unit in batch]) for lane in range(len(wanted))])
        for batch in planner
    )
    parts = list(_engine.run(batches))
    return Embedded(
        lanes=[_merged([part.lanes[lane] for part in parts]) for lane in range(len(wanted))],
        reading=sum(part.reading for part in parts),
        forward=sum(part.forward for part in parts),
        waiting=sum(part.waiting for part in parts),
        smallest_batch=parts[-1].smallest_batch,
        peak_bytes=parts[-1].peak_bytes,
    )


def _merged(parts: Sequence[LaneResult]) -> LaneResult:
    names = next((part.vectors for part in parts if part.vectors), {})
    return LaneResult(
        units=[unit for part in parts for unit in part.units],
        status=np.concatenate([part.status for part in parts]),
        vectors={
            name: np.concatenate([part.vectors[name] for part in parts if part.vectors]) for name in names
        },
        lengths=np.concatenate([part.lengths for part in parts]),
    )
