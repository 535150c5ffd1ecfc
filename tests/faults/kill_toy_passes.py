"""Runs in a process of its own: passes that die by SIGKILL at a chosen or random moment.

Forking here, and not in pytest, keeps a step at a few milliseconds. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cache import FeatureStore, PassFolder, verify_store
from tests.cache.builders import Toy, finish, part
from tests.faults.calls import die_at
from tests.faults.processes import appender, exit_code, fork


def run_pass(target: Path, toy: Toy, note: Callable[[str], None], held: int = 0) -> None:
    """Run the pass to its end, first hold `held` ranges, and note every range that was acknowledged."""
    with PassFolder(target, toy.plan) as folder:
        for modality in toy.plan.modalities:
            ranges = folder.missing(modality)
            for number, rows in enumerate(ranges, start=1):
                put = folder.hold if number <= held else folder.write
                put(modality, *rows, part(toy.data[modality], *rows))
                for start, stop in ranges[:number] if number > held else []:
                    note(f"{modality} {start} {stop}")
        finish(folder, toy.data, toy.table)


def check_after_kill(target: Path, toy: Toy, acks: Path, expected: bytes) -> None:
    """A killed pass left the old state or the new one, lost nothing acknowledged, and can be finished."""
    if target.exists():
        assert target.read_bytes() == expected, "a partial store is visible"
    lines = acks.read_text().split("\n")[:-1] if acks.exists() else []
    with PassFolder(target, toy.plan) as folder:
        assert folder.notes == [], folder.notes
        if not target.exists():
            for modality, start, stop in (line.split() for line in lines):
                assert (int(start), int(stop)) in folder.done(modality), "an acknowledged shard is lost"
        finish(folder, toy.data, toy.table)
    assert target.read_bytes() == expected, "a resumed pass gives other bytes"
    assert sorted(item.name for item in target.parent.iterdir()) in (["acks", "s.h5"], ["s.h5"])


def every_step(root: Path) -> dict[str, int]:
    """Kill at call 1, 2, 3, ... until the pass gets through, with 0, 1 and 2 of its two shards held."""
    os.fsync = lambda _: None  # still a step to die at; what a kill leaves does not depend on the disk
    toy = Toy(n=5, shard_rows=3, modalities=("text",))
    expected = toy.write(root / "expected.h5").read_bytes()
    return {f"kills_{held}_held": _every_step(root, toy, expected, held) for held in (0, 1, 2)}


def _every_step(root: Path, toy: Toy, expected: bytes, held: int) -> int:
    step = 0
    while True:
        step += 1
        folder = root / f"{held}-{step}"
        folder.mkdir()
        target, acks = folder / "s.h5", folder / "acks"

        def work(step: int = step, target: Path = target, acks: Path = acks) -> None:
            note = appender(acks)
            die_at(step)
            run_pass(target, toy, note, held)

        code = exit_code(fork(work))
        if code == 0:
            return step - 1
        assert code == -signal.SIGKILL, f"step {step} ended with {code}"
        check_after_kill(target, toy, acks, expected)


def random_kills(root: Path, kills: int) -> dict[str, int]:
    """Kill a pass of many shards at random moments until it was killed often enough, then let it finish."""
    toy = Toy(n=120, shard_rows=2, modalities=("text",))
    expected = toy.write(root / "expected.h5").read_bytes()
    target, acks = root / "run" / "s.h5", root / "run" / "acks"
    target.parent.mkdir()
    rng = random.Random(0)
    done = restarts = 0
    while done < kills:
        pid = fork(lambda: run_pass(target, toy, appender(acks)))
        time.sleep(rng.uniform(0.002, 0.06))
        os.kill(pid, signal.SIGKILL)
        done += exit_code(pid) == -signal.SIGKILL
        if target.exists() and done < kills:
            restarts += 1
            verify_store(target)
            target.unlink()
            acks.unlink(missing_ok=True)
    check_after_kill(target, toy, acks, expected)
    with FeatureStore.open(target) as store:
        return {"kills": done, "rows": store.n_rows, "restarts": restarts}


def main() -> None:
    """Usage: kill_toy_passes.py FOLDER every | kill_toy_passes.py FOLDER random KILLS."""
    root, mode = Path(sys.argv[1]), sys.argv[2]
    result = random_kills(root, int(sys.argv[3])) if mode == "random" else every_step(root)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
