"""The engine for GPUs: two batches in flight, results in order, nothing left behind whatever goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from cache import Status
from extract.backbones import device_forwards
from extract.device_clock import DeviceClock
from extract.engine import Batch, DeviceEngine
from extract.inputs import Inputs, Prepared

PATIENCE = 60  # seconds, for threads that must meet; none of the tests waits for it


class Numbers(Inputs):
    """Units that stand for themselves: unit u has the vector (u, lane); every seventh cannot be read."""

    def __init__(self, *, n_lanes: int = 1, reentrant: bool = True) -> None:
        self.n_lanes, self.reentrant = n_lanes, reentrant
        self.prepared: list[int] = []
        self.on_forward: Callable[[Sequence[int]], None] = lambda _: None
        self.on_prepare: Callable[[Sequence[int]], None] = lambda _: None

    def buckets(self, units: Sequence[int]) -> list[int]:
        return [0] * len(units)

    def capacity(self, bucket: int) -> int:  # noqa: ARG002
        return 40

    def prepare(self, units: Sequence[int], wanted: Sequence[np.ndarray]) -> Prepared:
        self.on_prepare(units)
        self.prepared += units
        status = np.array(
            [Status.IMAGE_CORRUPT if unit % 7 == 6 else Status.OK for unit in units], dtype=np.uint8
        )
        kept = [np.flatnonzero(mask & (status == Status.OK)) for mask in wanted]
        items: list[list[Any]] = [[units[i] for i in positions] for positions in kept]
        return Prepared(list(units), status, items, kept, np.zeros((len(units), 2), dtype=np.int32))

    def forward(self, lane: int, items: Sequence[int]) -> dict[str, np.ndarray]:
        self.on_forward(items)
        return {"pooled": np.array([(item, lane) for item in items], dtype=np.float32)}


def batches_of(sizes: Sequence[int], n_lanes: int = 1) -> Iterator[Batch]:
    """Yield batches of so many units, counted through; the second lane wants every second unit."""
    start = 0
    for size in sizes:
        units = list(range(start, start + size))
        yield units, [np.array([unit % (lane + 1) == 0 for unit in units]) for lane in range(n_lanes)]
        start += size


def open_engine(inputs: Numbers) -> DeviceEngine:
    """Return the engine, of which only the memory of the device needs one."""
    return DeviceEngine(inputs, "cpu", n_readers=3)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("sizes", [(1,), (40, 1, 17, 33, 40, 2, 16), (40,) * 12])
def test_results_come_in_order_with_every_unit_in_its_place(sizes: Sequence[int], reentrant: bool) -> None:
    """Whichever batch is done first; pieces are joined, units that a lane does not want are left out."""
    inputs = Numbers(n_lanes=2, reentrant=reentrant)
    second_done = threading.Event()

    def let_the_second_pass(items: Sequence[int]) -> None:
        if reentrant and len(sizes) > 1:
            if items[0] == 0:  # both lanes of the first batch
                assert second_done.wait(PATIENCE)
            elif items[0] >= sizes[0]:
                second_done.set()

    inputs.on_forward = let_the_second_pass
    with open_engine(inputs) as engine:
        results = list(engine.run(batches_of(sizes, n_lanes=2)))
    assert len(results) == len(sizes)
    for embedded, (units, wanted) in zip(results, batches_of(sizes, n_lanes=2), strict=True):
        for lane, (result, mask) in enumerate(zip(embedded.lanes, wanted, strict=True)):
            assert result.units == [unit for unit, keep in zip(units, mask, strict=True) if keep]
            assert [unit % 7 == 6 for unit in result.units] == (result.status != Status.OK).tolist()
            good = [(unit, lane) for unit in result.units if unit % 7 != 6]
            vectors = result.vectors["pooled"].tolist() if good else []
            assert vectors == [[float(unit), float(lane)] for unit, lane in good]


def test_the_next_forward_runs_while_the_caller_holds_a_batch() -> None:
    """The device has the next batches in hand before the caller asks for them."""
    inputs = Numbers()
    begun = {start: threading.Event() for start in range(0, 200, 40)}
    inputs.on_forward = lambda items: begun[items[0] // 40 * 40].set()
    with open_engine(inputs) as engine:
        results = engine.run(batches_of([40] * 5))
        for held in range(2):
            next(results)
            for start in (40 * held, 40 * (held + 1), 40 * (held + 2)):
                assert begun[start].wait(PATIENCE), f"batch {start // 40} waits for the caller"
        assert len(list(results)) == 3


def test_two_batches_are_in_the_device_at_once_and_no_more() -> None:
    """Both feeders meet in the forward, and leave time for a third batch, which must not come."""
    inputs = Numbers()
    together, lock, most = threading.Barrier(2, timeout=PATIENCE), threading.Lock(), [0, 0]
    third = threading.Event()

    def meet(_: Sequence[int]) -> None:
        with lock:
            most[0] += 1
            most[1] = max(most)
            if most[0] > 2:
                third.set()
        together.wait()
        assert not third.wait(0.1), "three batches at once"
        with lock:
            most[0] -= 1

    inputs.on_forward = meet
    with open_engine(inputs) as engine:
        assert len(list(engine.run(batches_of([40] * 6)))) == 6
    assert most[1] == 2


def test_inputs_that_are_not_reentrant_go_one_batch_at_a_time() -> None:
    """Also against rows that are embedded for the drift guard meanwhile."""
    inputs = Numbers(reentrant=False)
    inside, another = threading.Lock(), threading.Event()

    def alone(_: Sequence[int]) -> None:
        if not inside.acquire(blocking=False):
            another.set()
        assert not another.wait(0.05), "two forwards at once"
        inside.release()

    inputs.on_forward = alone
    with open_engine(inputs) as engine:
        for _ in engine.run(batches_of([40] * 4)):
            assert engine.embed([1, 2])[0].vectors["pooled"].tolist() == [[1.0, 0.0], [2.0, 0.0]]


def test_reading_ahead_is_bounded() -> None:
    """However slow the caller, a few batches are drawn ahead of it, not the whole data set."""
    inputs = Numbers()
    drawn: list[int] = []

    def noted() -> Iterator[Batch]:
        for units, wanted in batches_of([40] * 100):
            drawn.extend(units)
            yield units, wanted

    with open_engine(inputs) as engine:
        for n_taken, _ in enumerate(engine.run(noted()), start=1):
            n_ahead = len(drawn) // 40 - n_taken
            assert n_ahead <= 4, "two in the device, one beyond, and pieces for every reader"
    assert sorted(inputs.prepared) == list(range(4000))


@pytest.mark.parametrize("where", ["on_forward", "on_prepare"])
def test_an_error_arrives_in_its_place_and_ends_the_pass(where: str) -> None:
    """A feeder's or a reader's: what came before is delivered; the engine closes with batches waiting."""
    inputs = Numbers()

    def fail_in_the_third(items: Sequence[int]) -> None:
        if 80 in items:
            raise OSError("the picture has changed")

    setattr(inputs, where, fail_in_the_third)
    found = []
    with pytest.raises(OSError, match="has changed"), open_engine(inputs) as engine:
        for embedded in engine.run(batches_of([40] * 50)):
            found.append(embedded.lanes[0].units[0])
    assert found == [0, 40]
    assert _threads_of_engines() == []


def test_ctrl_c_ends_what_is_in_flight_and_leaves_no_thread() -> None:
    """Batches that wait are given up, pieces that nobody has begun to read are never read."""
    inputs = Numbers()
    with pytest.raises(KeyboardInterrupt), open_engine(inputs) as engine:
        for _ in engine.run(batches_of([40] * 50)):
            raise KeyboardInterrupt
    assert _threads_of_engines() == []
    assert len(inputs.prepared) < 50 * 40 // 2


def test_the_thread_that_queues_work_ends_with_the_engine() -> None:
    """Forwards start it (see ``device_forwards``), and whoever closes the engine ends it."""
    inputs = Numbers()
    inputs.on_forward = lambda _: device_forwards._launcher("cpu").submit(int).result()
    with open_engine(inputs) as engine:
        assert len(list(engine.run(batches_of([40] * 3)))) == 3
        assert "launch cpu_0" in _threads_of_engines()
    assert _threads_of_engines() == []


def _threads_of_engines() -> list[str]:
    """Return the engine's threads that are still alive."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("feed_", "read_", "launch "))]


def test_the_clock_counts_every_second_once() -> None:
    """Forwards that overlap share their time; waiting is only what the device stood still for inputs."""
    time = [0.0]
    clock = DeviceClock(lambda: time[0])
    time[0] = 3.0
    with clock.forward(asked=1.0) as first:  # inputs were waited for from 1 to 3
        time[0] = 5.0
        with clock.forward(asked=1.5) as second:  # behind the first: nobody waited
            time[0] = 8.0
        assert (second.waiting, second.forward) == (0.0, 5.0)  # from 3, when the device began
        time[0] = 10.0
    assert (first.waiting, first.forward) == (2.0, 2.0)
    time[0] = 14.0
    with clock.forward(asked=13.0) as third:  # from 10 to 13 there was no batch to wait for
        time[0] = 15.0
    assert (third.waiting, third.forward) == (1.0, 1.0)
