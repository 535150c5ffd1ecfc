"""What a command gives back that makes a run, or finds it made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.console import say_json, tell


@dataclass(frozen=True)
class RunResult:
    """A finished run, new or found.

    Attributes
    ----------
    path : Path
    metrics : dict
        As in ``metrics.json``.
    nothing_to_do : bool
        The run was there already.
    """

    path: Path
    metrics: dict[str, Any]
    nothing_to_do: bool


def begin_answer(result: RunResult, *, as_json: bool) -> bool:
    """Print a run as one JSON object if that is asked for; else say so if it was there already.

    Returns
    -------
    bool
        Whether tables are to follow.
    """
    if as_json:
        say_json({"run": str(result.path), **result.metrics})
    elif result.nothing_to_do:
        tell(f"Nothing to do: run '{result.path}' was made with these settings and stores.")
    return not as_json
