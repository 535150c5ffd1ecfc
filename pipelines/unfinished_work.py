"""Unfinished work: passes and runs that were interrupted, who holds them, and the command that goes on."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from cache import StoreError, unfinished
from pipelines.runs import CONFIG

_LOCK = "LOCK"
_SUFFIX = ".work"


@dataclass(frozen=True)
class UnfinishedWork:
    """One work folder.

    Attributes
    ----------
    folder : str
    done, total : int or None
        Inputs of a pass, trials of a run; None where the folder does not say.
    holder : str
        Who works on it right now (process and host where they are known); empty: nobody.
    command : str
        What goes on from there. ``PATH`` and ``DIR`` stand for what the folder does not record.
    fault : str
        Why it cannot be gone on with; empty: it can.
    """

    folder: str
    done: int | None
    total: int | None
    holder: str
    command: str
    fault: str = ""


def unfinished_passes(out: Path, data: Path | None = None) -> list[UnfinishedWork]:
    """Return the passes in `out` that have begun and were not published.

    Parameters
    ----------
    out : Path
        Folder of the stores; may be missing.
    data : Path or None
        The data set, for the command; None leaves ``PATH`` in it.
    """
    folders = sorted(path for path in out.glob(f"*.h5{_SUFFIX}") if path.is_dir())
    return [_unfinished_pass(folder, out, data) for folder in folders]


def _unfinished_pass(folder: Path, out: Path, data: Path | None) -> UnfinishedWork:
    holder = lock_holder(folder / _LOCK)
    try:
        progress = unfinished(folder)
        if progress is None:  # killed before its plan was written: nothing to go on with
            return UnfinishedWork(str(folder), 0, None, holder, "")
        plan = json.loads((folder / "plan.json").read_bytes())["plan"]
        return UnfinishedWork(str(folder), *progress, holder, _extract_command(plan, out, data))
    except (StoreError, OSError) as error:
        return UnfinishedWork(str(folder), None, None, holder, "", str(error))


def _extract_command(plan: Mapping[str, Any], out: Path, data: Path | None) -> str:
    """Return the command with the settings of a plan; whatever changes the fingerprint is written out."""
    from extract import backbone_names

    identity, name = plan.get("identity", {}), plan.get("backbone", "")
    is_named = name in backbone_names() or name.startswith(("hf:", "timm:"))
    words = ["embedonce", "extract", "--backbone", name if is_named else f"DIR/{name}"]
    words += ["--data", "PATH" if data is None else str(data), "--out", str(out)]
    words += ["--modality", ",".join(plan["modalities"])]
    spaces = [space["name"] for space in plan["spaces"]]
    if any(not space.endswith(".pooled") for space in spaces):
        words += ["--readout", ",".join(spaces)]
    if "precision" in identity:
        words += ["--precision", str(identity["precision"])]
    clean = identity.get("clean", {}).get("recipe", "basic")
    if clean != "basic":
        words += ["--clean", clean]
    views = identity.get("views")
    if views:
        words += ["--views", str(views["n"]), "--augment", str(views["augment"])]
    return join(words)


def unfinished_runs(out: Path) -> list[UnfinishedWork]:
    """Return the runs in `out` that have begun and were not finished."""
    return [_unfinished_run(path) for path in sorted(out.glob(f"*{_SUFFIX}")) if (path / CONFIG).is_file()]


def _unfinished_run(folder: Path) -> UnfinishedWork:
    holder = lock_holder(folder / _LOCK)
    done = sum(1 for _ in (folder / "trials").glob("*.trial"))
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        command = str(config["command"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fault = f"'{folder / CONFIG}' cannot be read ({error}). Remove the folder and start the run again."
        return UnfinishedWork(str(folder), done, None, holder, "", fault)
    trials = config.get("trials")
    words = ["embedonce", command, "--config", str(folder / CONFIG), "--out", str(folder.parent)]
    return UnfinishedWork(str(folder), done, trials if isinstance(trials, int) else None, holder, join(words))


def lock_holder(path: Path) -> str:
    """Return who holds the lock file at `path`; empty when nobody does.

    The shared lock that is tried is let go of at once. A pass that starts in that instant is told that the
    store is busy, and starts when asked again.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""  # no lock file: nobody has started
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(handle)
    finally:
        os.close(handle)
    return ""


def _signature(handle: int) -> str:
    """Return what the holder wrote into its lock file; passes sign, runs do not."""
    try:
        signed = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(signed['pid'])} on host {str(signed['host'])!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
