"""Give every broken input to every command that takes such an input, in a process that others can watch.

Usage: python -m tests.hostile.broken_inputs FOLDER KINDS SEED EVERY

KINDS are words with commas (data, stores, runs, weights, arrays, spaces, options), SEED makes those that are
spoiled by chance, and of all inputs each EVERY-th is tried. Prints a JSON object: how many inputs and calls
there were, how they ended, what was wrong with an answer, and the most memory before and after.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peak import peak_bytes
from tests.cache.builders import Toy
from tests.hostile.broken_data import DATA, IDS, BrokenData, chance_data, make_good_data
from tests.hostile.broken_files import (
    BROKEN_SPACES,
    MARK,
    Broken,
    broken_arrays,
    broken_runs,
    broken_stores,
    chance_runs,
    chance_stores,
)
from tests.hostile.broken_options import OPTIONS
from tests.hostile.broken_weights import broken_weights, chance_weights
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip

#: Seconds that an answer may take: on a shared machine, and with training where a harmless edit allows it.
MOST_SECONDS = 60
_QUICK = ["--folds", "2", "--trials", "1", "--heads", "logreg"]


class Sweep:
    """Good inputs, the broken copies of them, and what every command said about those."""

    def __init__(self, root: Path) -> None:
        from pipelines.cli import main

        self.main = main
        self.root = root
        self.good = root / "good"
        self.good.mkdir(parents=True)
        make_good_data(self.good / "data")
        Toy(n=150).write(self.good / "toy.h5")
        make_tiny_clip(self.good / "tiny-clip")
        make_tiny_bert(self.good / "tiny-bert")
        (self.good / "decoy").touch()
        rows = [f"{guid},{tag}" for guid, tag in zip("abcd", ("x", "y", "x", ""), strict=True)]
        (self.good / "table.csv").write_text("\n".join(["id,label", *rows, ""]))
        words = ["train", "--features", str(self.good / "toy.h5"), "--folds", "2", "--study", "run"]
        assert self.call([*words, "--out", str(self.good)])[0] == 0
        words = ["extract", "--backbone", str(self.good / "tiny-clip"), "--data", str(self.good / "data")]
        assert self.call([*words, "--out", str(self.good / "features")])[0] == 0
        # What all libraries and good inputs take; the broken ones must not take much more.
        self.loaded_bytes = peak_bytes()
        self.n_inputs = 0
        self.codes: Counter[str] = Counter()
        self.wrong: list[dict[str, Any]] = []
        self.slowest: tuple[float, str] = (0.0, "")

    def call(self, words: list[str]) -> tuple[int, str, str]:
        """Run a command in this process; return its exit status, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = self.main(words)
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return status, out.getvalue(), err.getvalue()

    def ask(self, name: str, words: list[str]) -> tuple[int, str]:
        """Run a command on a broken input and judge its answer; return its exit status and stdout."""
        began = time.perf_counter()
        case = f"{name}: {' '.join(words)}"
        try:
            status, out, err = self.call(words)
        except BaseException as error:  # noqa: BLE001 - whatever gets out of a command is the fault sought
            self._note(case, f"{type(error).__name__} got out: {error}")
            return 1, ""
        self.codes[f"{words[0] if words else ''} {status}"] += 1
        self.slowest = max(self.slowest, (round(time.perf_counter() - began, 2), case[:200]))
        self._judge(case, status, out, err)
        return status, out

    def _judge(self, case: str, status: int, out: str, err: str) -> None:
        errors = [line for line in err.splitlines() if ": error: " in line or line.startswith("embedonce: ")]
        if status not in (0, 1, 2):
            self._note(case, f"exit {status}")
        if "Traceback" in err + out or "internal error" in err:
            self._note(case, err[-600:])
        if len(errors) != (status != 0):
            self._note(case, f"{len(errors)} errors with exit {status}: {err[-600:]}")
        if errors and not errors[0].partition(": ")[2].strip():
            self._note(case, "an error without words")
        if set(err + out) & set("\x1b\x07\x9b\0"):
            self._note(case, "steers the terminal")
        if Path(MARK).exists():
            self._note(case, "RAN CODE")
            Path(MARK).rmdir()
        for fault in left_behind(Path()):
            self._note(case, fault)

    def _note(self, case: str, what: str) -> None:
        self.wrong.append({"case": case[:400], "what": what[:1200]})

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Give an input a folder of its own, as the current one."""
        self.n_inputs += 1
        folder = self.root / "case"
        folder.mkdir()
        os.chdir(folder)
        yield folder
        os.chdir(self.root)
        shutil.rmtree(folder)

    def copy(self, name: str, to: Path) -> Path:
        """Copy something good."""
        source = self.good / name
        return Path(shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to))


def left_behind(folder: Path) -> list[str]:
    """Return what a command left half-written in a folder: stores that do not verify, runs without scores."""
    from cache import StoreError, verify_store

    faults = []
    for path in folder.glob("out*/**/*"):
        if path.suffix == ".tmp" and ".work" not in str(path):
            faults.append(f"left '{path}'")
        if path.suffix == ".h5" and ".work" not in str(path):
            try:
                verify_store(path)
            except StoreError as error:
                faults.append(f"wrote a store that does not verify: {error}")
    for path in folder.glob("out-runs/*"):
        if path.is_dir() and path.suffix != ".work" and not (path / "metrics.json").is_file():
            faults.append(f"left the run '{path}' without scores")
    return faults


# --- one function per kind of input -----------------------------------------------------------------


def sweep_data(sweep: Sweep, case: BrokenData) -> None:
    """A data set: what must be refused is, and where a pass is possible every row has its status."""
    with sweep.place() as folder:
        sweep.copy("data", folder / "set")
        named = case.make(folder / "set")
        data = str(folder / "set" if named is None else folder / "set" / named)
        sweep.ask(case.name, ["inspect", "--data", data])
        sweep.ask(case.name, ["doctor", "--data", data, "--out", "out"])
        sweep.ask(case.name, ["audit", "--data", data, "--out", "audit.csv"])
        sweep.ask(
            case.name, ["predict", "--run", str(sweep.good / "run"), "--data", data, "--out", "out.csv"]
        )
        clip = str(sweep.good / "tiny-clip")
        sweep.ask(case.name, ["extract", "--backbone", clip, "--data", data, "--out", "out", "--dry-run"])
        words = ["extract", "--backbone", clip, "--data", data, "--out", "out", "--max-bad", "100%"]
        status, _ = sweep.ask(case.name, words)
        if case.expected is None and status == 0:
            sweep._note(case.name, "was not refused")
        if case.expected and status != 0:
            sweep._note(case.name, "was refused, but its rows can have a status")
        if status == 0:
            for fault in wrong_rows(folder / "out" / "tiny-clip.h5", case):
                sweep._note(case.name, fault)


def wrong_rows(store: Path, case: BrokenData) -> list[str]:
    """Return what is wrong with the rows of a store: other statuses than stated, vectors that must not be."""
    from cache import FeatureStore, Status

    faults = []
    with FeatureStore.open(store) as opened:
        found = {}
        for row, guid in enumerate(opened.ids):
            for column, modality in enumerate(opened.modalities):
                code = Status(int(opened.status[row, column]))
                space = next(name for name in opened.spaces if name.startswith(modality))
                if bool(opened.select(space).valid[row]) != (code == Status.OK):
                    faults.append(f"row {guid} has status {code.label} and the wrong validity")
                if code != Status.OK:
                    found[guid] = code.label
        if case.expected and found != case.expected:
            faults.append(f"the statuses are {found}, expected {dict(case.expected)}")
        if case.expected and opened.ids != IDS:
            faults.append(f"the rows are {opened.ids}")
    return faults


def sweep_stores(sweep: Sweep, case: Broken) -> None:
    """A store: no command may read it, and a pass beside it must not copy from it."""
    with sweep.place() as folder:
        (folder / "features").mkdir()
        store = sweep.copy("toy.h5", folder / "features" / "x.h5")
        case.make(store)
        for words in (
            ["verify", str(store)],
            ["inspect", str(store)],
            ["tune", "--features", str(store), *_QUICK, "--out", "out-runs"],
            ["tune", "--features", str(sweep.good / "toy.h5"), "--features", str(store), *_QUICK],
            ["train", "--features", f"{store}:text.pooled", "--folds", "2", "--out", "out-runs"],
            ["ablate", "--features", str(store), "--folds", "2", "--out", "out-runs"],
            ["predict", "--run", str(sweep.good / "run"), "--features", str(store), "--out", "out.csv"],
            ["audit", "--features", str(store)],
        ):
            status, _ = sweep.ask(case.name, words)
            if status == 0 and not case.name.startswith("chance"):
                sweep._note(case.name, f"was read by {words[0]}")
        sweep.ask(case.name, ["doctor", "--out", "features"])
        words = ["extract", "--backbone", str(sweep.good / "tiny-bert"), "--data", str(sweep.good / "data")]
        if sweep.ask(case.name, [*words, "--out", "features"])[0] != 0:
            sweep._note(case.name, "stopped a pass that only lay beside it")


def sweep_runs(sweep: Sweep, case: Broken) -> None:
    """A run of a stranger."""
    with sweep.place() as folder:
        run = sweep.copy("run", folder / "run")
        case.make(run)
        good, store = str(sweep.good / "run"), str(sweep.good / "toy.h5")
        for words in (
            ["predict", "--run", str(run), "--out", "out.csv"],
            ["predict", "--run", str(run), "--features", store, "--out", "out.csv"],
            ["report", "--run", str(run), "--out", "out.html"],
            ["report", "--compare", good, str(run), "--out", "out.html"],
            ["stability", "--run", str(run), "--seeds", "2", "--splits", "1", "--out", "out-runs"],
            ["train", "--config", str(run / "config.json"), "--features", store, "--out", "out-runs"],
            ["doctor", "--runs", str(folder)],
            ["errors", "--run", str(run)],
            ["audit", "--run", str(run)],
            ["explain", "--run", str(run), "--id", "0"],
            ["robustness", "--run", str(run), "--rows", "10"],
            ["augment", "--run", str(run), "--out", "out-runs"],
        ):
            sweep.ask(case.name, words)


def sweep_weights(sweep: Sweep, case: Broken) -> None:
    """A folder of weights of a stranger."""
    with sweep.place() as folder:
        weights = sweep.copy("tiny-bert", folder / "tiny-bert")
        case.make(weights)
        data = str(sweep.good / "data")
        sweep.ask(case.name, ["doctor", "--backbone", str(weights), "--data", data, "--out", "out"])
        sweep.ask(case.name, ["inspect", "--data", data, "--backbone", str(weights)])
        sweep.ask(case.name, ["extract", "--backbone", str(weights), "--data", data, "--out", "out"])


def sweep_arrays(sweep: Sweep, name: str, file: str, content: bytes) -> None:
    """An array to import."""
    with sweep.place() as folder:
        (folder / file).write_bytes(content)
        words = ["import", "--table", str(sweep.good / "table.csv"), "--text", file, "--out", "out/x.h5"]
        if sweep.ask(name, words)[0] == 0:
            sweep._note(name, "was imported")


def sweep_spaces(sweep: Sweep, name: str, content: bytes) -> None:
    """A file that says what is searched."""
    with sweep.place() as folder:
        (folder / "x.toml").write_bytes(content)
        words = ["tune", "--features", str(sweep.good / "toy.h5"), "--space", "x.toml", *_QUICK]
        sweep.ask(name, [*words, "--out", "out-runs"])


def sweep_options(sweep: Sweep, words: tuple[str, ...]) -> None:
    """A command line."""
    places = {name: sweep.good / file for name, file in _PLACES.items()}
    with sweep.place():
        filled = [word.format_map(places) for word in words]
        status, _ = sweep.ask("options", filled)
        if status == 0:
            sweep.codes["options that were taken"] += 1


_PLACES = {"store": "toy.h5", "run": "run", "data": "data", "weights": "tiny-bert"}


def cases(root: Path, seed: int) -> Mapping[str, list[Callable[[Sweep], None]]]:
    """Return everything that is tried, by kind."""
    return {
        "data": [lambda s, c=c: sweep_data(s, c) for c in [*DATA, *chance_data(seed, 40)]],
        "stores": [
            lambda s, c=c: sweep_stores(s, c)
            for c in [*broken_stores(root / "good" / "decoy"), *chance_stores(seed, 20)]
        ],
        "runs": [lambda s, c=c: sweep_runs(s, c) for c in [*broken_runs(), *chance_runs(seed, 60)]],
        "weights": [
            lambda s, c=c: sweep_weights(s, c) for c in [*broken_weights(), *chance_weights(seed, 30)]
        ],
        "arrays": [lambda s, n=n, a=a: sweep_arrays(s, n, *a) for n, a in broken_arrays().items()],
        "spaces": [lambda s, n=n, c=c: sweep_spaces(s, n, c) for n, c in BROKEN_SPACES.items()],
        "options": [lambda s, w=w: sweep_options(s, w) for w in OPTIONS],
    }


class NoAnswerError(BaseException):
    """A command took too long; no `except` of the command's own may take this for an error of a file."""


def _ring(number: int, frame: object) -> None:
    raise NoAnswerError(f"no answer within {MOST_SECONDS} s")


def main() -> None:
    """See the top of the file."""
    root, kinds, seed, every = Path(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGALRM, _ring)
    sys.stdin = Path(os.devnull).open()  # noqa: SIM115 - whoever asks at the terminal gets no answer
    np.seterr(all="warn")
    sweep = Sweep(root)
    tried = cases(root, seed)
    for kind in kinds:
        for ask in tried[kind][seed % every :: every]:
            ask(sweep)
    found = {
        "inputs": sweep.n_inputs,
        "calls": sum(n for words, n in sweep.codes.items() if not words.startswith("options")),
        "codes": dict(sorted(sweep.codes.items())),
        "wrong": sweep.wrong,
        "slowest": sweep.slowest,
        "loaded_bytes": sweep.loaded_bytes,
        "peak_bytes": peak_bytes(),
    }
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
