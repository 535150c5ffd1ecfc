"""Runs in a process of its own: passes of the bundled backbones that die by SIGKILL again and again.

One life is one pair of stores (MiniLM's texts, EfficientNet-Lite0's pictures) made by as many processes as it
takes. Each process dies at a random call that writes, or at a random time. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import extract.assembly
from cache import PassFolder, file_sha256, verify_store
from cache.workfolder import Shard
from extract import PassOptions, open_backbone, read_data_set, run_passes
from tests.faults.calls import count_calls, die_at
from tests.faults.processes import appender, exit_code, fork
from tests.kit.data_sets import write_guid_data_set

BACKBONES = ("minilm-l6", "efficientnet-lite0")
N_LABELLED, N_UNLABELLED, SHARD_ROWS = 19, 2, 3


def note_shards(acks: Path) -> None:
    """Note each shard in `acks` once the pass has been told that it is safe; not through wrapped calls."""
    enter, hold, write, note = PassFolder.__enter__, PassFolder.hold, PassFolder.write, appender(acks)
    held: dict[str, list[tuple[int, int]]] = {}

    def noted_enter(folder: PassFolder) -> PassFolder:
        enter(folder)
        for modality in folder.plan.modalities:  # also what a killed process had made and not noted
            for start, stop in folder.done(modality):
                note(f"{folder.folder.target.name} {start} {stop}")
        return folder

    def noted_hold(folder: PassFolder, modality: str, start: int, stop: int, data: object) -> None:
        held.setdefault(folder.folder.target.name, []).append((start, stop))
        hold(folder, modality, start, stop, data)

    def noted_write(folder: PassFolder, modality: str, start: int, stop: int, data: object) -> None:
        write(folder, modality, start, stop, data)
        name = folder.folder.target.name
        for rows in (*held.pop(name, []), (start, stop)):
            note(f"{name} {rows[0]} {rows[1]}")

    PassFolder.__enter__, PassFolder.hold, PassFolder.write = noted_enter, noted_hold, noted_write


def check(out: Path, acks: Path, expected: dict[str, bytes]) -> int:
    """Check what a kill has left; return how many shards had been acknowledged."""
    acknowledged = {tuple(line.split()) for line in acks.read_text().splitlines()} if acks.exists() else set()
    for name, content in expected.items():
        target, work = out / name, out / f"{name}.work"
        if target.exists():
            assert target.read_bytes() == content, f"{name} is visible and not whole"
            verify_store(target)
            continue
        there = set()
        for path in work.glob("shards/*.h5"):
            shard = Shard.parse(path.name)
            assert shard is not None, f"{path.name} is no name of a shard"
            assert file_sha256(path).startswith(shard.digest), f"{path.name} is visible and not whole"
            there.add((shard.start, shard.stop))
        lost = {(int(a), int(b)) for store, a, b in acknowledged if store == name} - there
        assert not lost, f"{name} lost the acknowledged rows {sorted(lost)}"
    return len(acknowledged)


class Lives:
    """Passes that are killed until they are through."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        write_guid_data_set(root / "set", N_LABELLED, N_UNLABELLED)
        self.backbones = [
            open_backbone(name) for name in BACKBONES
        ]  # weights are hashed once, loaded by each
        self.run(root / "calm")  # also loads every library, so that a fork costs milliseconds
        self.expected = {path.name: path.read_bytes() for path in sorted((root / "calm").glob("*.h5"))}
        assert len(self.expected) == len(BACKBONES)
        self.seconds, self.n_calls = self._measure()
        self.kills = {"call": 0, "time": 0}
        self.lives = self.survivors = self.acknowledged = 0

    def run(self, out: Path) -> None:
        """Make both stores, as ``extract-features --backbone minilm-l6,efficientnet-lite0`` does."""
        options = PassOptions(out=out, shard_rows=SHARD_ROWS)
        run_passes(read_data_set(self.root / "set"), [(backbone, options) for backbone in self.backbones])

    def _measure(self) -> tuple[float, int]:
        """Return the seconds and the writing calls of an undisturbed pass, which must give the same bytes."""

        def work() -> None:
            note, calls = appender(self.root / "calls"), count_calls()
            extract.assembly.HOLD_SECONDS = 0.0
            self.run(self.root / "measured")
            note(str(calls()))

        began = time.perf_counter()
        assert exit_code(fork(work)) == 0
        seconds = time.perf_counter() - began
        check(self.root / "measured", self.root / "none", self.expected)
        return seconds, int((self.root / "calls").read_text())

    def live(self, kills: int) -> None:
        """Make the stores once, with at most `kills` kills on the way."""
        self.lives += 1
        out, acks = self.root / f"life-{self.lives}", self.root / f"acks-{self.lives}"
        while not all((out / name).exists() for name in self.expected) or any(out.glob("*.work")):
            mode = "none" if sum(self.kills.values()) >= kills else self.random.choice(["call", "time"])
            code = self._process(mode, out, acks)
            assert code in (0, -signal.SIGKILL), f"a process of life {self.lives} ended with {code}"
            self.kills[mode] = self.kills.get(mode, 0) + (code != 0)
            self.survivors += code == 0
            acknowledged = check(out, acks, self.expected)
        self.acknowledged += acknowledged
        leftovers = {path.name for path in out.iterdir()} - set(self.expected)
        assert {Path(name).suffix for name in leftovers} <= {".json", ".tmp"}, leftovers

    def _process(self, mode: str, out: Path, acks: Path) -> int:
        # As in a pass of minutes, in which many shards are made safe one by one or a few together; with the
        # seconds of a real pass these short ones would have none.
        hold_seconds = self.random.choice([0.0, 0.0, self.seconds / 10])
        step = self.random.randint(1, self.n_calls)
        moment = self.random.uniform(0, 1.1 * self.seconds)

        def work() -> None:
            note_shards(acks)
            extract.assembly.HOLD_SECONDS = hold_seconds
            if mode == "call":
                die_at(step)
            self.run(out)

        pid = fork(work)
        if mode == "time":
            time.sleep(moment)
            os.kill(pid, signal.SIGKILL)
        return exit_code(pid)


def main() -> None:
    """Usage: kill_real_passes.py FOLDER KILLS SEED."""
    root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    lives = Lives(root, seed)
    while sum(lives.kills.values()) < kills:
        lives.live(kills)
    result = {
        "kills_at_calls": lives.kills["call"],
        "kills_at_times": lives.kills["time"],
        "lives": lives.lives,
        "survivors": lives.survivors,
        "acknowledged_shards": lives.acknowledged,
        "calls_of_a_pass": lives.n_calls,
        "seconds_of_a_pass": round(lives.seconds, 2),
    }
    sys.stdout.write(f"{json.dumps(result)}\n")


if __name__ == "__main__":
    main()
