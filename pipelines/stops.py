"""Ctrl-C and SIGTERM: the request to stop, which no library between here and there can lose."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, which schedulers send before they kill: the same as Ctrl-C, under its own exit code."""


#: What the last signal asked for; None until one came.
_asked: type[KeyboardInterrupt] | None = None


@contextmanager
def heard_stops() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C and `Terminated` on SIGTERM while the block runs.

    Ctrl-C stays as it is where a shell has it ignored, as for commands in its background. Threads other than
    the main one leave signals alone. Of a stop that Python drops, in a destructor say, nothing is printed:
    `raise_lost_stop` raises it again.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked = None
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _stop)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _stop)
    hook = sys.unraisablehook
    sys.unraisablehook = _without_stops(hook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked = None


def ignore_stops() -> None:
    """Ignore Ctrl-C from here on: the command has answered, and Python only closes.

    Else an interrupt in that moment would give a traceback, or another exit code than the answer's.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def raise_lost_stop() -> None:
    """Raise once more what a signal asked for, unless it is on its way up; called wherever progress is told.

    A handler raises wherever the main thread happens to be, and C code there may clear the error: numpy's
    operators do while they look at their other operand (https://github.com/numpy/numpy/issues/14801), which
    for an enumeration runs Python code.
    """
    if (
        _asked is not None
        and sys.exc_info()[0] is None
        and threading.current_thread() is threading.main_thread()
    ):
        raise _asked


def _without_stops(
    hook: Callable[[sys.UnraisableHookArgs], object],
) -> Callable[[sys.UnraisableHookArgs], object]:
    def told(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    return told


def _stop(number: int, _frame: FrameType | None) -> None:
    global _asked
    _asked = Terminated if number == signal.SIGTERM else KeyboardInterrupt
    raise _asked
