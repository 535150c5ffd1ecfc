"""Ctrl-C, SIGTERM and kill -9 of commands: the same command goes on, and ends in the same result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import run_script


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What five kill -9 and three SIGTERM did to `tune`; one process loads everything for both."""
    return run_script("stop_commands.py", tmp_path_factory.mktemp("tune"), "tune", "0", "KILL=5", "TERM=3")


def test_tune_goes_on_after_kills(stopped: dict[str, Any]) -> None:
    """Kill -9 of `tune` at random times: no finished trial is computed again, the result is the same."""
    result = stopped["KILL"]
    assert result["stops"] == 5
    # Of eight trials of each life; one may have been stored and not noted when a kill came.
    assert 8 * result["lives"] - result["stops"] <= result["acknowledged"] <= 8 * result["lives"]


def test_stopped_tune_says_how_to_go_on(stopped: dict[str, Any]) -> None:
    """Exit 143 after SIGTERM, with the way on; then the same result."""
    assert stopped["TERM"]["stops"] == 3


def test_stopped_extract_says_how_to_go_on(tmp_path: Path) -> None:
    """Exit 130 after Ctrl-C, with the way on; then the same result."""
    assert run_script("stop_commands.py", tmp_path, "extract", "0", "INT=3")["INT"]["stops"] == 3


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["KILL", "TERM", "INT"])
@pytest.mark.parametrize("verb", ["tune", "extract"])
def test_commands_go_on_after_stops_nightly(tmp_path: Path, verb: str, name: str) -> None:
    """Both commands, stopped 50 times by each signal."""
    assert run_script("stop_commands.py", tmp_path, verb, "1", f"{name}=50")[name]["stops"] == 50
