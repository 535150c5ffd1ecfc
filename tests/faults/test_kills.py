"""Kill -9 at every step and at random times: what was acknowledged stays, nothing half-written is visible."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.processes import run_script


def test_pass_folder_survives_kill_at_every_step(tmp_path: Path) -> None:
    """A kill at any call that writes, and inside any write, loses nothing acknowledged."""
    kills = run_script("kill_toy_passes.py", tmp_path, "every")
    assert min(kills["kills_0_held"], kills["kills_1_held"]) > 60
    assert kills["kills_2_held"] > 40


def test_pass_folder_survives_random_kills(tmp_path: Path) -> None:
    """Ten kills at random moments lose no acknowledged shard; the final bytes are those of a calm pass."""
    result = run_script("kill_toy_passes.py", tmp_path, "random", "10")
    assert (result["kills"], result["rows"]) == (10, 120)


def test_real_passes_survive_kills(tmp_path: Path) -> None:
    """Passes of the bundled backbones, killed at calls and at random times, end in the undisturbed bytes."""
    result = run_script("kill_real_passes.py", tmp_path, "10", "1")
    assert result["kills_at_calls"] + result["kills_at_times"] == 10
    assert result["acknowledged_shards"] >= result["lives"]  # 14 each, less what was held at the end


@pytest.mark.nightly
def test_real_passes_survive_200_kills(tmp_path: Path) -> None:
    """The same 200 times."""
    result = run_script("kill_real_passes.py", tmp_path, "200", "0", timeout=7200)
    assert result["kills_at_calls"] + result["kills_at_times"] == 200
    assert min(result["kills_at_calls"], result["kills_at_times"]) >= 50


@pytest.mark.nightly
def test_pass_folder_survives_500_random_kills(tmp_path: Path) -> None:
    """The toy pass at a finer grain than a network allows."""
    assert run_script("kill_toy_passes.py", tmp_path, "random", "500")["kills"] == 500
