"""Jobs of several engines share the cores, and end together."""

import threading
import time

import pytest

from tuning.cores import Cores, StoppedError

PATIENCE = 120  # seconds for what comes at once on a machine that is not stalled


def until_told(cores):
    """Work on until told to end."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        cores.check()
        time.sleep(0.005)
    raise AssertionError(f"nobody told this job to end within {PATIENCE} s")


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
    two = threading.Barrier(2)

    def engine(name):
        def job(number):
            with lock:
                at_work.add((name, number))
                most.append(len(at_work))
                begun.append(name)
            two.wait(PATIENCE)  # for another one at work
            time.sleep(0.02)  # in which a third one would be seen
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


def test_jobs_that_wait_for_a_core_do_not_begin_after_a_failure():
    """Beside another engine a worker has a job but no core: it gets one only once the other has failed."""
    cores, begun, held, free = Cores(2), [], threading.Event(), threading.Event()

    def hold(_):
        held.set()
        assert free.wait(PATIENCE)

    def job(number):
        begun.append(number)
        time.sleep(0.1)
        raise ValueError(f"job {number}")

    def failing():
        assert held.wait(PATIENCE)
        try:
            with pytest.raises(ValueError, match="job 0"):
                cores.run(job, range(9))
        finally:
            free.set()

    cores.side_by_side([lambda: cores.run(hold, [0]), failing])
    assert begun == [0]


def test_long_jobs_are_told_when_another_of_theirs_fails():
    """They end early, what failed is raised, and another engine is not told."""
    cores, at_work, ended, both_ended = Cores(3), threading.Barrier(3), [], threading.Event()

    def job(number):
        at_work.wait(PATIENCE)
        try:
            if number == 0:
                raise ValueError("job 0")
            until_told(cores)
        finally:
            ended.append(number)
            if number == 1:
                both_ended.set()

    def other():
        at_work.wait(PATIENCE)
        assert both_ended.wait(PATIENCE)
        cores.check()
        return "done"

    def failing():
        with pytest.raises(ValueError, match="job 0"):
            cores.run(job, range(2))

    found = cores.side_by_side([failing, lambda: cores.run(lambda _: other(), [0])])
    assert found == [None, ["done"]]
    assert ended == [0, 1]


def test_what_failed_is_raised_though_what_it_stopped_ends_before():
    """A job that is told to end may be gone before the one that failed."""
    cores, told = Cores(2), threading.Event()

    def job(number):
        if number == 0:
            told.set()
            time.sleep(0.2)
            raise ValueError("the fault")
        assert told.wait(PATIENCE)
        raise StoppedError

    with pytest.raises(ValueError, match="the fault"):
        cores.run(job, range(2))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_engine_that_fails_stops_the_others(error):
    """Long jobs that look whether they shall go on end early, and no job begins after that."""
    cores, begun, patient = Cores(2), [], threading.Event()

    def long_job(number):
        begun.append(number)
        patient.set()
        until_told(cores)

    def failing():
        assert patient.wait(PATIENCE)
        raise error("the end")

    with pytest.raises(error, match="the end"):
        cores.side_by_side([lambda: cores.run(long_job, range(5)), failing])
    assert len(begun) <= 2
    with pytest.raises(StoppedError):
        cores.run(abs, [-1])


def test_cores_prepare_every_thread_once():
    """What each thread needs is done on it before its first job."""
    prepared = threading.local()

    def prepare():
        prepared.times = getattr(prepared, "times", 0) + 1

    assert set(Cores(2).run(lambda _: prepared.times, range(20), prepare=prepare)) == {1}
