"""Ctrl-C, SIGTERM and kill -9 of commands: the same command goes on, and ends in the same result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.processes import run_script


def test_tune_goes_on_after_kills(tmp_path: Path) -> None:
    """Kill -9 of `tune` at random times: no finished trial is computed again, the result is the same."""
    result = run_script("stop_commands.py", tmp_path, "tune", "KILL", "5", "0")
    assert result["stops"] == 5
    # Of eight trials of each life; one may have been stored and not noted when a kill came.
    assert 8 * result["lives"] - result["stops"] <= result["acknowledged"] <= 8 * result["lives"]


@pytest.mark.parametrize(("verb", "name"), [("tune", "TERM"), ("extract", "INT")])
def test_stopped_commands_say_how_to_go_on(tmp_path: Path, verb: str, name: str) -> None:
    """Exit 130 after Ctrl-C and 143 after SIGTERM, with the way on; then the same result."""
    assert run_script("stop_commands.py", tmp_path, verb, name, "3", "0")["stops"] == 3


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
@pytest.mark.parametrize("verb", ["tune", "extract"])
def test_commands_go_on_after_stops_nightly(tmp_path: Path, verb: str, name: str) -> None:
    """Both commands, stopped 50 times by each signal."""
    assert run_script("stop_commands.py", tmp_path, verb, name, "50", "1")["stops"] == 50
