"""Runs in a process of its own: a command that is stopped by signals at random times until it gets through.

Usage: stop_commands.py FOLDER extract|tune SEED KILL|TERM|INT=STOPS...

Each stop must leave nothing half-written and lose no finished work; the last call must end in what an
undisturbed call makes. Prints one JSON object: what happened, by signal.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cache import verify_store
from pipelines.cli import main as embedonce
from pipelines.runs import TrialFolder
from tests.faults.processes import appender, exit_code, fork
from tests.kit.data_sets import write_guid_data_set

#: Trials of one round of `tune --trials 8`: the default and four, then four at a time.
ROUND = 5
CODES = {"KILL": -signal.SIGKILL, "TERM": 143, "INT": 130}


def command(root: Path, verb: str, out: Path) -> list[str]:
    """Return the words of the command that writes into `out`."""
    if verb == "extract":
        return ["extract", "--backbone", "minilm-l6", "--data", str(root / "set"), "--out", str(out)]
    words = ["tune", "--features", str(root / "x.h5"), "--heads", "logreg,mlp", "--trials", "8"]
    return [*words, "--folds", "3", "--study", "run", "--out", str(out)]


def prepare(root: Path, verb: str) -> None:
    """Make what the command reads."""
    if verb == "extract":
        write_guid_data_set(root / "set", 60, 6)
        return
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(["a", "b", "c"], [60, 10, 30]))
    x = rng.normal(size=(100, 32)) + (labels == "b")[:, None] - (labels == "c")[:, None]
    np.save(root / "x.npy", x.astype(np.float32))
    rows = [f"{i},{label}" for i, label in enumerate(labels)]
    (root / "x.csv").write_text("\n".join(["id,label", *rows]), encoding="utf-8")
    words = [
        "import",
        "--table",
        str(root / "x.csv"),
        "--text",
        str(root / "x.npy"),
        "--out",
        str(root / "x.h5"),
    ]
    assert embedonce(words) == 0


def result(out: Path, verb: str) -> dict[str, Any]:
    """Return what the command made, without the seconds that it took."""
    if verb == "extract":
        return {"store": (out / "minilm-l6.h5").read_bytes()}
    run = out / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    with (run / "trials.csv").open(newline="") as file:
        trials = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    plain = {name: (run / name).read_bytes() for name in ("oof.csv", "predictions.csv", "config.json")}
    model = {path.name: path.read_bytes() for path in sorted((run / "model").rglob("*")) if path.is_file()}
    return {**_timeless(metrics), **plain, "trials": trials, "model": model}


def _timeless(values: Any) -> Any:
    """Leave out every entry whose name speaks of seconds."""
    if isinstance(values, dict):
        return {k: _timeless(v) for k, v in values.items() if "seconds" not in k}
    return [_timeless(value) for value in values] if isinstance(values, list) else values


def check(out: Path, verb: str, acks: Path, before: list[str]) -> list[str]:
    """Check what a stop has left; return the trials acknowledged so far, `before` those of earlier calls.

    Trials of one round compete: one that was cut off while it was stored is evaluated as a whole again.
    """
    keys = acks.read_text().split() if acks.exists() else []
    for path in out.glob("*.h5"):
        verify_store(path)
    if verb == "tune" and not (out / "run").exists():
        for key in keys:
            digest, _, body = (out / "run.work" / "trials" / f"{key}.trial").read_bytes().partition(b"\n")
            assert hashlib.sha256(body).hexdigest().encode() == digest, f"trial {key} is lost"
    new = keys[len(before) :]
    last_round = list(dict.fromkeys(reversed(before)))[:ROUND]
    assert len(new) == len(set(new)), "a trial was computed twice by one call"
    assert set(new) & set(before) <= set(last_round), "a trial of a finished round was computed again"
    return keys


def note_trials(acks: Path) -> None:
    """Note each trial that the search has been told is safe."""
    put, note = TrialFolder.put, appender(acks)

    def noted(folder: TrialFolder, trial: Any) -> None:
        put(folder, trial)
        note(trial.key)

    TrialFolder.put = noted


def _listens(pid: int) -> bool:
    """Whether a child has set its handlers; before that it has done nothing that could be stopped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    caught = re.search(r"SigCgt:\s*(\w+)|State:\s*Z", status)
    return caught is None or caught[1] is None or bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


class Stopper:
    """Calls of one command, each stopped at a random time."""

    def __init__(self, root: Path, verb: str, seed: int) -> None:
        self.root, self.verb = root, verb
        self.random = random.Random(seed)
        prepare(root, verb)
        assert embedonce(command(root, verb, root / "calm")) == 0  # also loads every library
        self.expected = result(root / "calm", verb)
        began = time.perf_counter()
        assert self.call(root / "timed", root / "timed.acks") == 0
        self.seconds = time.perf_counter() - began
        assert result(root / "timed", verb) == self.expected

    def stop(self, name: str, stops: int) -> dict[str, int]:
        """Make results until a signal has stopped the command so often; return what happened."""
        self.name, self.stops, self.lives, self.acknowledged = name, 0, 0, 0
        while self.stops < stops:
            self.live(stops)
            assert self.lives < 20 or self.stops > self.lives // 20, "signals do not stop the command"
        return {"stops": self.stops, "lives": self.lives, "acknowledged": self.acknowledged}

    def call(self, out: Path, acks: Path, delay: float | None = None) -> int:
        """Call the command in a child and stop it after `delay` seconds; return its exit code."""
        errors = out.with_suffix(".stderr")

        def work() -> None:
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            note_trials(acks)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until the command sets its own
            ready.touch()
            os._exit(embedonce(command(self.root, self.verb, out)))

        ready = out.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        pid = fork(work)
        while not (ready.exists() and _listens(pid)):
            time.sleep(0.001)
        if delay is not None:
            time.sleep(delay)
            os.kill(pid, getattr(signal, f"SIG{self.name}"))
        code = exit_code(pid)
        text = errors.read_text()
        assert "Traceback" not in text, text
        if code in (130, 143):
            assert "Nothing is lost; the same command goes on from here." in text, text
        return code

    def live(self, stops: int) -> None:
        """Make one result with at most `stops` stops in all."""
        self.lives += 1
        life = f"life-{self.name}-{self.lives}"
        out, acks = self.root / life, self.root / f"{life}.acks"
        code, acknowledged = None, list[str]()
        while code != 0:
            delay = self.random.uniform(0, self.seconds) if self.stops < stops else None
            code = self.call(out, acks, delay)
            assert code in (0, CODES[self.name]), f"exit {code}: {out.with_suffix('.stderr').read_text()}"
            self.stops += code != 0
            acknowledged = check(out, self.verb, acks, acknowledged)
        self.acknowledged += len(set(acknowledged))
        assert result(out, self.verb) == self.expected, f"{life} ended in another result"
        assert not list(out.glob("*.work"))


def main() -> None:
    """See the top of the file."""
    root, verb, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    # A shell that starts this in the background has it ignore Ctrl-C, and its children with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stopper = Stopper(root, verb, seed)
    asked = (words.split("=") for words in sys.argv[4:])
    found = {name: stopper.stop(name, int(stops)) for name, stops in asked}
    sys.stdout.write(f"\n{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
