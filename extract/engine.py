"""Engines: run planned batches through the towers, reading ahead, with threads that do not fight.

On a CPU every core runs its own single-threaded forward and prepares its own inputs. That beats forwards
spread over all cores (measured on two cores: MiniLM 1.45, BERT-base 1.2, CLIP B/32 1.14, ResNet50 1.03
times), because no core waits for another; and a vector no longer depends on how many cores there are. On a
GPU the cores prepare batches ahead and two threads feed the device.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from cache import Status
from extract.device_clock import DeviceClock
from extract.forwards import BackoffForward, Vectors
from extract.inputs import Inputs, Prepared

Batch = tuple[list[int], list[np.ndarray]]
"""Units, and for each lane which of them it wants."""

#: Units that one thread prepares at a time for a GPU: small, so that all cores work on the next batch.
_PIECE = 16
#: Batches that are fed to a GPU at once: one computes, one lies ready behind it.
_IN_FLIGHT = 2


@dataclass(frozen=True)
class LaneResult:
    """What one lane got from a batch.

    Attributes
    ----------
    units : list of int
        The units that the lane wanted.
    status : ndarray of shape (n_units,), uint8
    vectors : dict of str to ndarray of shape (n_ok, d), float32
    lengths : ndarray of shape (n_units, 2), int32
        As in `Prepared`.
    """

    units: list[int]
    status: np.ndarray
    vectors: Vectors
    lengths: np.ndarray


@dataclass(frozen=True)
class Embedded:
    """A batch that went through: one result per lane, and the seconds it took.

    Attributes
    ----------
    lanes : list of LaneResult
    reading, forward, waiting : float
        Seconds; see `StageClock`.
    smallest_batch : int or None
        Rows that fit, if memory has run out.
    peak_bytes : int or None
        Most device memory in use so far; None on a CPU.
    """

    lanes: list[LaneResult]
    reading: float
    forward: float
    waiting: float
    smallest_batch: int | None
    peak_bytes: int | None = None


class Engine(ABC):
    """Runs batches; use it as a context manager."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self._forwards = [BackoffForward(_lane_forward(inputs, lane)) for lane in range(inputs.n_lanes)]
        self._stack = ExitStack()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @abstractmethod
    def run(self, batches: Iterable[Batch]) -> Iterator[Embedded]:
        """Yield one result per batch, in order. Batches are drawn late, in the caller's thread."""

    def embed(self, units: list[int]) -> list[LaneResult]:
        """Embed a few units at once, for the drift guard and for estimates."""
        self.inputs.buckets(units)
        return self._embed(
            self.inputs.prepare(units, [np.ones(len(units), dtype=bool)] * self.inputs.n_lanes)
        )

    def _embed(self, prepared: Prepared) -> list[LaneResult]:
        return [self._embed_lane(prepared, lane) for lane in range(self.inputs.n_lanes)]

    def _embed_lane(self, prepared: Prepared, lane: int) -> LaneResult:
        items, positions = prepared.items[lane], prepared.positions[lane]
        status = prepared.status.copy()
        vectors, fits = self._forwards[lane](items) if items else ({}, np.zeros(0, dtype=bool))
        status[positions[~fits]] = Status.OOM
        return LaneResult(prepared.units, status, vectors, prepared.lengths)

    @property
    def _smallest(self) -> int | None:
        known = [forward.largest for forward in self._forwards if forward.largest is not None]
        return min(known) if known else None


class CoreEngine(Engine):
    """One single-threaded forward per core; for CPUs.

    Parameters
    ----------
    inputs : Inputs
        If it is not reentrant, one batch runs at a time, with all threads.
    """

    def __init__(self, inputs: Inputs) -> None:
        import torch

        super().__init__(inputs)
        threads = torch.get_num_threads()
        self._n_workers = threads if inputs.reentrant else 1
        self._own_threads = 1 if inputs.reentrant else threads
        # torch's thread count is the calling thread's own, but that of its matrix library is the process's.
        self._stack.callback(torch.set_num_threads, threads)
        self._pool = ThreadPoolExecutor(
            self._n_workers, "embed", initializer=torch.set_num_threads, initargs=(self._own_threads,)
        )
        self._stack.callback(self._pool.shutdown, wait=True, cancel_futures=True)

    def run(self, batches: Iterable[Batch]) -> Iterator[Embedded]:
        """Embed batches on all cores. See `Engine.run`."""
        ahead: deque[Future[Embedded]] = deque()
        for batch in batches:
            ahead.append(self._pool.submit(self._work, *batch))
            if len(ahead) > 2 * self._n_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def embed(self, units: list[int]) -> list[LaneResult]:
        """Embed a few units in a worker, whose thread count is that of the pass. See `Engine.embed`."""
        return self._pool.submit(super().embed, units).result()

    def _work(self, units: list[int], wanted: list[np.ndarray]) -> Embedded:
        began = time.perf_counter()
        prepared = self.inputs.prepare(units, wanted)
        ready = time.perf_counter()
        lanes = _wanted_only(self._embed(prepared), wanted)
        return Embedded(lanes, ready - began, time.perf_counter() - ready, 0.0, self._smallest)


class DeviceEngine(Engine):
    """The cores prepare batches ahead, two threads feed one device; for GPUs.

    While one batch is in the network, the other's inputs are stacked and sent behind it, and the caller takes
    care of the vectors of those before. Both take the device memory of one: see ``device_forwards``.

    Parameters
    ----------
    inputs : Inputs
        If it is not reentrant, one thread feeds the device.
    device : str
        "cuda" or "cuda:N".
    n_readers : int
        Threads that read and decode.
    """

    def __init__(self, inputs: Inputs, device: str, *, n_readers: int) -> None:
        from extract.backbones.device_forwards import end_launching  # torch is loaded where a device is used

        super().__init__(inputs)
        self._device = device
        self._n_readers = n_readers
        self._clock = DeviceClock()
        self._stack.callback(end_launching, device)
        self._feeders = ThreadPoolExecutor(_IN_FLIGHT if inputs.reentrant else 1, "feed")
        self._stack.callback(self._feeders.shutdown, wait=True, cancel_futures=True)
        # Closed first: a feeder that waits for a piece which nobody will read is told so.
        self._readers = ThreadPoolExecutor(n_readers, "read")
        self._stack.callback(self._readers.shutdown, wait=True, cancel_futures=True)

    def run(self, batches: Iterable[Batch]) -> Iterator[Embedded]:
        """Embed batches on the device. See `Engine.run`."""
        ahead: deque[tuple[int, Future[Embedded]]] = deque()
        n_pieces = 0
        for units, wanted in batches:
            pieces = [self._submit(units, wanted, i) for i in range(0, len(units), _PIECE)]
            ahead.append((len(pieces), self._feeders.submit(self._feed, wanted, pieces)))
            n_pieces += len(pieces)
            # At least one whole batch beyond those in the device, and work for every reader.
            while len(ahead) > _IN_FLIGHT + 1 and n_pieces - ahead[0][0] > 2 * self._n_readers:
                n_pieces -= ahead[0][0]
                yield ahead.popleft()[1].result()
        while ahead:
            yield ahead.popleft()[1].result()

    def embed(self, units: list[int]) -> list[LaneResult]:
        """Embed a few units behind the batches in flight. See `Engine.embed`."""
        return self._feeders.submit(super().embed, units).result()

    def _submit(self, units: list[int], wanted: list[np.ndarray], start: int) -> Future[Prepared]:
        part = slice(start, start + _PIECE)
        return self._readers.submit(self.inputs.prepare, units[part], [mask[part] for mask in wanted])

    def _feed(self, wanted: list[np.ndarray], pieces: list[Future[Prepared]]) -> Embedded:
        asked = time.perf_counter()
        prepared = [piece.result() for piece in pieces]
        # Readers work beside the device: only the time that it stood still counts against them.
        with self._clock.forward(asked) as spent:
            lanes = _wanted_only(self._embed(_joined(prepared)), wanted)
        return Embedded(lanes, 0.0, spent.forward, spent.waiting, self._smallest, _peak_bytes(self._device))


def open_engine(inputs: Inputs, device: str) -> Engine:
    """Return the engine for a resolved device ("cpu", "cuda", "cuda:N")."""
    if device == "cpu":
        return CoreEngine(inputs)
    import torch

    return DeviceEngine(inputs, device, n_readers=max(1, torch.get_num_threads()))


def _peak_bytes(device: str) -> int | None:
    if device == "cpu":
        return None
    import torch

    # Reserved, not allocated: what other processes on the device cannot have.
    return torch.cuda.max_memory_reserved(device)


def _lane_forward(inputs: Inputs, lane: int) -> Callable[..., Vectors]:
    return lambda items: inputs.forward(lane, items)


def _joined(parts: list[Prepared]) -> Prepared:
    """Return the pieces of one batch as one."""
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.units) for part in parts[:-1])])
    n_lanes = len(parts[0].items)
    return Prepared(
        units=[unit for part in parts for unit in part.units],
        status=np.concatenate([part.status for part in parts]),
        items=[[item for part in parts for item in part.items[lane]] for lane in range(n_lanes)],
        positions=[
            np.concatenate([part.positions[lane] + start for part, start in zip(parts, starts, strict=True)])
            for lane in range(n_lanes)
        ],
        lengths=np.concatenate([part.lengths for part in parts]),
    )


def _wanted_only(lanes: list[LaneResult], wanted: list[np.ndarray]) -> list[LaneResult]:
    """Leave out, lane by lane, the units that only other lanes wanted."""
    return [
        LaneResult(
            [unit for unit, keep in zip(lane.units, mask, strict=True) if keep],
            lane.status[mask],
            lane.vectors,
            lane.lengths[mask],
        )
        for lane, mask in zip(lanes, wanted, strict=True)
    ]
