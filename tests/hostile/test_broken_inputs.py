"""Hundreds of broken inputs through every command: a status or one clear error, and no wrong row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("data", "stores", "runs", "weights", "arrays", "spaces", "options")


def _sweep(folder: Path, kinds: str, *, seed: int, every: int, timeout: float) -> dict[str, Any]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    words = ["-m", "tests.hostile.broken_inputs", str(folder / "sweep"), kinds, str(seed), str(every)]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_broken_inputs_get_a_status_or_one_clear_error(tmp_path: Path) -> None:
    """A sample of every kind, every 80th, through all commands that take it."""
    found = _sweep(tmp_path, ",".join(KINDS), seed=3, every=80, timeout=600)
    assert found["wrong"] == []
    assert found["inputs"] >= 10
    assert found["calls"] >= 40
    assert found["peak_bytes"] - found["loaded_bytes"] < 1 << 30


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_broken_inputs_nightly(tmp_path: Path, kind: str, seed: int) -> None:
    """All of them, with two draws of what chance makes."""
    found = _sweep(tmp_path, kind, seed=seed, every=1, timeout=3600)
    assert found["wrong"] == []
    assert found["peak_bytes"] - found["loaded_bytes"] < 1 << 30


SAMPLE = (
    ("inspect --data gone", 1, "embedonce: Data path 'gone' does not exist."),
    ("verify gone.h5", 1, "embedonce: There is no store at 'gone.h5'."),
    ("predict --run gone", 1, "embedonce: 'gone/config.json' is missing"),
    ("extract --backbone clip", 2, "embedonce: Backbone 'clip' is ambiguous"),
    ("tune --trials x", 2, "error: argument --trials"),
    ("nonsense", 2, "error: argument VERB"),
)


@pytest.mark.parametrize(("words", "status", "error"), SAMPLE, ids=[words for words, _, _ in SAMPLE])
def test_broken_inputs_end_real_processes_the_same(
    tmp_path: Path, words: str, status: int, error: str
) -> None:
    """A command in a process of its own ends with the status and the line that it has in-process."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *words.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout == ""
    assert error in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
