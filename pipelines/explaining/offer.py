"""The command that explains a row of a run, where there is one."""

from __future__ import annotations

from pathlib import Path
from shlex import join

from cache import StoreError
from extract import opens_by_name
from pipelines.errors import RunError, UsageError
from pipelines.run_inputs import read_tower_rows
from pipelines.runs import CONFIG, read_json


def explain_command(run: Path, guid: str, *, data: Path | None = None) -> str | None:
    """Return the command that explains a row of a run.

    Parameters
    ----------
    run : Path
    guid : str
    data : Path or None
        The data set, where the pictures lie; None looks around the stores and the run.

    Returns
    -------
    str or None
        With ``--weights NAME=DIR`` for each backbone that came from a folder. None where ``explain`` has
        nothing to embed: a space was imported or counted, or a store or picture is gone or has changed.
    """
    spaces = read_json(run / CONFIG)["spaces"]
    try:
        read_tower_rows(spaces, [guid], run=run, data=data)
    except (RunError, StoreError, UsageError):  # the very faults that explain would tell
        return None
    words = ["embedonce", "explain", "--run", str(run), "--id", guid]
    if data is not None:
        words += ["--data", str(data)]
    for name in dict.fromkeys(space["backbone"] for space in spaces):
        if not opens_by_name(name):
            words += ["--weights", f"{name}=DIR"]
    return join(words)
