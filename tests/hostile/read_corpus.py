"""Read every file of a folder through every way into a store, in a process that others can watch.

``python -m tests.hostile.read_corpus FOLDER RUN GOOD`` prints a JSON object: file -> reader -> what it said,
and the most memory this process has had. With ``naive`` instead of a run, h5py reads the labels by itself,
which is what the trick is made for.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.peak import peak_bytes

#: Most address space, so that a bomb ends here and not on the machine.
ADDRESS_SPACE = 4 << 30


def _commands(run: str, good: str) -> dict[str, list[str]]:
    """Return the commands that take a store, without the store, which comes last."""
    return {
        "verify": ["verify"],
        "inspect": ["inspect"],
        "tune": ["tune", "--trials", "1", "--heads", "logreg", "--features"],
        "tune beside a good store": ["tune", "--trials", "1", "--features", good, "--features"],
        "train": ["train", "--features"],
        "ablate": ["ablate", "--features"],
        "predict": ["predict", "--run", run, "--features"],
    }


def _readers() -> dict[str, Callable[[Path], object]]:
    from cache import FeatureStore, ReuseIndex, audit_file, verify_store

    def reuse(path: Path) -> None:
        raise ValueError(ReuseIndex.from_folder(path.parent).notes[0])

    return {
        "audit_file": audit_file,
        "verify_store": verify_store,
        "open": FeatureStore.open,
        "open without verifying": lambda path: FeatureStore.open(path, verify=False),
        "reuse": reuse,
    }


def _ask(path: Path, run: str, good: str) -> dict[str, str]:
    from pipelines.cli import main

    said = {}
    for name, read in _readers().items():
        try:
            read(path)
            said[name] = "read"
        except (ValueError, OSError) as error:
            said[name] = str(error)
    for name, words in _commands(run, good).items():
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([*words, str(path)])
        said[name] = f"{status}: {err.getvalue().strip()}"
    return said


def _naive(path: Path) -> str:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return str(file["/rows/label"][()])
    except (OSError, KeyError, RuntimeError, ValueError, MemoryError) as error:
        return str(error)


def main() -> None:
    """Read all files of the folder, each in a folder of its own."""
    folder, run, good = sys.argv[1:4]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    paths = sorted(Path(folder).glob("*/*.h5"))
    if run == "naive":
        answers: dict[str, object] = {path.stem: _naive(path) for path in paths}
    else:
        answers = {path.stem: _ask(path, run, good) for path in paths}
    sys.stdout.write(json.dumps({"answers": answers, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
