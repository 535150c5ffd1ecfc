"""Jobs of several engines share the cores, and end together."""

import threading
import time

import pytest

from tuning.cores import Cores, StoppedError


def test_cores_return_what_jobs_gave_in_their_order():
    """Jobs that end in another order than they began in."""
    cores = Cores(3)

    def job(number):
        time.sleep(0.02 * (3 - number % 3))
        return number

    assert cores.run(job, range(7)) == list(range(7))
    assert cores.run(job, []) == []


def test_cores_are_not_taken_twice_by_engines_side_by_side():
    """Two engines of four jobs each: two at work at any time, and both engines have begun before one ends."""
    cores, lock, at_work, most, begun = Cores(2), threading.Lock(), set(), [], []

    def engine(name):
        def job(number):
            with lock:
                at_work.add((name, number))
                most.append(len(at_work))
                begun.append(name)
            time.sleep(0.02)
            with lock:
                at_work.discard((name, number))
            return name, number

        return cores.run(job, range(4))

    found = cores.side_by_side([lambda: engine("trees"), lambda: engine("networks")])
    assert found == [[(name, number) for number in range(4)] for name in ("trees", "networks")]
    assert max(most) == 2
    assert set(begun[:6]) == {"trees", "networks"}


def test_a_failing_job_ends_its_engine_only():
    """Jobs that have not begun do not begin; the cores go on to serve."""
    cores, begun = Cores(1), []

    def job(number):
        begun.append(number)
        raise ValueError(f"job {number}")

    with pytest.raises(ValueError, match="job 0"):
        cores.run(job, range(100))
    assert len(begun) < 100
    assert cores.run(abs, [-1]) == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_engine_that_fails_stops_the_others(error):
    """Long jobs that look whether they shall go on end early, and no job begins after that."""
    cores, begun, patient = Cores(2), [], threading.Event()

    def long_job(number):
        begun.append(number)
        patient.set()
        for _ in range(2000):
            cores.check()
            time.sleep(0.005)

    def failing():
        patient.wait(10)
        raise error("the end")

    began = time.monotonic()
    with pytest.raises(error, match="the end"):
        cores.side_by_side([lambda: cores.run(long_job, range(5)), failing])
    assert time.monotonic() - began < 5
    assert len(begun) <= 2
    with pytest.raises(StoppedError):
        cores.run(abs, [-1])


def test_cores_prepare_every_thread_once():
    """What each thread needs is done on it before its first job."""
    prepared = threading.local()

    def prepare():
        prepared.times = getattr(prepared, "times", 0) + 1

    assert set(Cores(2).run(lambda _: prepared.times, range(20), prepare=prepare)) == {1}
