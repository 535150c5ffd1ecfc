"""Ctrl-C and SIGTERM: never lost, told once, and handlers put back."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from enum import EnumMeta, IntEnum
from pathlib import Path

import numpy as np
import pytest

from pipelines.console import Progress, tell
from pipelines.stops import Terminated, heard_stops

ROOT = Path(__file__).resolve().parents[2]


class _Stopping(EnumMeta):
    """Sends a signal where numpy looks up what kind of operand an enumeration is, and clears every error."""

    number = signal.SIGINT

    def __getattr__(cls, name: str) -> object:
        if name == "__array_ufunc__":
            os.kill(os.getpid(), _Stopping.number)
        raise AttributeError(name)


class _Code(IntEnum, metaclass=_Stopping):
    OK = 0


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
@pytest.mark.parametrize("telling", ["line", "progress"])
def test_heard_stops_raises_again_what_a_library_cleared(
    number: signal.Signals, kind: type[KeyboardInterrupt], telling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt that numpy swallows comes back with the next word about the work."""
    monkeypatch.setattr(_Stopping, "number", number)
    progress = Progress("rows", "rows", stream=io.StringIO())
    swallowed = False
    with pytest.raises(KeyboardInterrupt) as caught, heard_stops():
        assert np.uint8(0) == _Code.OK
        swallowed = True
        if telling == "line":
            tell("unheard")
        else:
            progress.update(1, 2)
    assert swallowed, "numpy let the interrupt through: this way of losing one is gone"
    assert type(caught.value) is kind


class _Dying:
    """Sends Ctrl-C while it is taken down, where Python can raise nothing."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_heard_stops_prints_no_traceback_of_a_dropped_stop(capfd: pytest.CaptureFixture[str]) -> None:
    """A stop that lands in a destructor comes back with the next word, and nothing else is printed."""
    dropped = False
    with pytest.raises(KeyboardInterrupt), heard_stops():
        _Dying()
        dropped = True
        tell("unheard")
    assert dropped
    assert capfd.readouterr().err == ""


def test_heard_stops_lets_what_tidies_up_speak() -> None:
    """While an interrupt is on its way up, progress and lines are told as ever."""
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), heard_stops():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            tell("tidying up")
            Progress("rows", "rows", stream=stream).update(1, 2)


def _work_beside_a_lost_stop(work: Callable[[], None]) -> None:
    """Let a thread work while the main one has lost a stop, which then comes back to it."""
    has_run = False
    with pytest.raises(KeyboardInterrupt), heard_stops():
        assert np.uint8(0) == _Code.OK
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
        has_run = True
        tell("from the main thread")
    assert has_run


def test_heard_stops_disturbs_no_other_thread() -> None:
    """A worker that tells of its work while the main thread stops is not stopped by it."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            tell("from a worker")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test names it
            errors.append(error)

    _work_beside_a_lost_stop(work)
    assert errors == []


def test_heard_stops_in_another_thread_leaves_the_request_alone() -> None:
    """A command that a worker runs does not make the main thread's forget that it shall stop."""

    def work() -> None:
        with heard_stops():
            pass

    _work_beside_a_lost_stop(work)


def test_heard_stops_puts_handlers_back() -> None:
    """After a command the process has the handlers that it had before, and nothing is asked for."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), heard_stops():
        os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    tell("outside of any command, as in a notebook")
    with heard_stops():
        tell("a second command in the same process")


def test_heard_stops_keeps_an_ignored_interrupt_ignored() -> None:
    """A command in a shell's background, where Ctrl-C is not meant for it, goes on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heard_stops():
            os.kill(os.getpid(), signal.SIGINT)
            tell("still here")
    finally:
        signal.signal(signal.SIGINT, before)


_CLOSING = """
import atexit, sys, time
from pipelines.cli import main
def close():
    print("closing", flush=True)
    time.sleep(1)
atexit.register(close)
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("words", "code"), [(["ablate", "--preset", "list"], 0), (["ablate", "--preset", "lists"], 2)]
)
def test_a_stop_while_python_closes_changes_no_answer(words: list[str], code: int, tmp_path: Path) -> None:
    """A command that is done, or has failed, says so by its exit code, and nothing is printed behind it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CLOSING, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert any(line == "closing\n" for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert ("lists" in errors) == (code == 2)
