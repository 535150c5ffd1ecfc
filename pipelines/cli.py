"""The command line: parse, run one verb, turn errors into exit codes.

Errors are one clear line; the exit status is 0 for done, 1 for failed and 2 for wrong usage.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.options import build_parser, build_single_parser
from pipelines.stops import Terminated, heard_stops, ignore_stops
from pipelines.verbs import find_verb
from pipelines.verbs.shared import Parser

_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_RESUME = "Stopped. Nothing is lost; the same command goes on from here."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``embedonce VERB``."""
    return _run(build_parser, arguments)


def extract_features(arguments: Sequence[str] | None = None) -> int:
    """Run ``extract-features``."""
    return _run(lambda: build_single_parser("extract-features", "extract"), arguments)


def tune(arguments: Sequence[str] | None = None) -> int:
    """Run ``tune``."""
    return _run(lambda: build_single_parser("tune", "tune"), arguments)


def _run(build: Callable[[], Parser], arguments: Sequence[str] | None) -> int:
    if arguments is not None:
        return _answered(build, list(arguments))
    code = _answered(build, sys.argv[1:])
    if threading.active_count() == 1:  # else what still works may take its time, and can be stopped
        ignore_stops()
    return code


def _answered(build: Callable[[], Parser], words: list[str]) -> int:
    # Before torch or LightGBM load: OpenMP threads that spin while they wait make fits beside another busy
    # process up to 15 times slower, and are no faster on a quiet machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Pillow warns about odd EXIF data and big pictures; here every picture gets a status instead.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with heard_stops():
            options = build().parse_args(words)
            find_verb(options.verb).run(options, words)
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return _leave(143 if isinstance(stop, Terminated) else 130, _RESUME)
    except BrokenPipeError:
        # The reader of our output has gone (e.g. `| head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the one place where errors become exit codes
        return _report(error)
    return 0


def _leave(code: int, text: str) -> int:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
    # Worker threads may sit in a long forward; an ordinary exit would wait for them.
    if threading.active_count() > 1:
        os._exit(code)
    return code


def _report(error: Exception) -> int:
    """Print one clear line for errors that a user can cause; anything else is a bug and says so."""
    from pipelines.console import plain
    from pipelines.errors import UsageError

    if os.environ.get("EMBEDONCE_DEBUG"):
        raise error
    # Every error class of the floors is also one of these builtins (DESIGN section 10).
    expected = (ValueError, TypeError, OSError, KeyError, ImportError, MemoryError)
    if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch's word for it
        error = MemoryError()
    text = plain(_one_line(error))
    if isinstance(error, UsageError):
        sys.stderr.write(f"embedonce: {text}\n")
        return 2
    if isinstance(error, expected):
        sys.stderr.write(f"embedonce: {text}\n")
        return 1
    sys.stderr.write(
        f"embedonce: internal error: {type(error).__name__}: {text}\n"
        "This is a bug. Run again with EMBEDONCE_DEBUG=1 for the traceback and report it.\n"
    )
    return 1


def _one_line(error: Exception) -> str:
    """Return the error's text; builtin OSErrors read better without their number."""
    if (
        isinstance(error, OSError)
        and error.strerror
        and error.filename
        and type(error).__module__ == "builtins"
    ):
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            return f"'{error.filename}' is a file, but a folder is needed there. Choose another path."
        path = Path(os.fsdecode(error.filename))
        # A user knows nothing of temporary files and work folders, but of the folder that they would lie in.
        if error.errno in _REFUSED and path.suffix in (".tmp", ".work"):
            return (
                f"{error.strerror}: nothing can be written in the folder '{path.parent}'. Make it writable, "
                "or choose another."
            )
        return f"{error.strerror}: '{error.filename}'"
    if isinstance(error, MemoryError):
        return "out of memory; pass a smaller --batch-size, or fewer --heads"
    return str(error) or type(error).__name__
