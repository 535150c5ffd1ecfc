"""The system calls that write: count them, die at one of them, or let one fail.

Everything of ours that changes a disk goes through these functions of `os` (`pathlib` calls them too), so a
test that walks through them call by call has tried every moment at which a process can be cut off.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection

#: What changes a disk or makes a change durable.
STEPS = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "ftruncate")


def wrap_calls(
    before: Callable[[str, tuple[object, ...]], None],
    names: Collection[str] = STEPS,
    *,
    setter: Callable[[object, str, object], None] = setattr,
) -> None:
    """Let `before(name, arguments)` run before each of these calls; it may raise.

    Undone only if `setter` (such as ``monkeypatch.setattr``) does so.
    """

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            before(name, args)
            return real(*args, **options)

        return call

    for name in names:
        setter(os, name, wrap(name, getattr(os, name)))


def is_write(name: str, args: tuple[object, ...]) -> bool:
    """Whether a call changes the disk or makes a change durable: opening to read does not."""
    return name != "open" or bool(int(args[1]) & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))


def count_calls(names: Collection[str] = STEPS) -> Callable[[], int]:
    """Count the calls from now on; return a function that says how many there were."""
    count = 0

    def before(name: str, args: tuple[object, ...]) -> None:
        nonlocal count
        count += is_write(name, args)

    wrap_calls(before, names)
    return lambda: count


def die_at(step: int) -> None:
    """Kill this process at call number `step`.

    A write dies half-way, the others just before they happen; just after is just before the next one.
    """
    count, write = 0, os.write

    def before(name: str, args: tuple[object, ...]) -> None:
        nonlocal count
        count += is_write(name, args)
        if count == step:
            if name == "write":
                fd, data = args
                write(fd, memoryview(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    wrap_calls(before)


def fail_at(
    step: int,
    name: str,
    code: int,
    *,
    for_ever: bool = False,
    setter: Callable[[object, str, object], None] = setattr,
) -> Callable[[], int]:
    """Let call number `step` of ``os.<name>`` fail, and with `for_ever` all that follow. See `wrap_calls`.

    Returns
    -------
    callable
        Says how many calls there were.
    """
    count = 0

    def before(called: str, args: tuple[object, ...]) -> None:
        nonlocal count
        count += 1
        if count == step or (for_ever and count > step):
            path = [] if isinstance(args[0], int) else [os.fspath(args[0])]
            raise OSError(code, os.strerror(code), *path)

    wrap_calls(before, [name], setter=setter)
    return lambda: count
