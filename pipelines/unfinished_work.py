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
from cache.locking import MAX_SIGNATURE_BYTES
from cache.workfolder import WORK_SUFFIX
from pipelines.errors import RunError
from pipelines.runs import CONFIG, read_json
from pipelines.work_lock import LOCK

#: Command without --config -> the options that it records.
_WRITTEN_OUT = {
    "augment": ("slices", "draws", "views", "augment", "folds", "seed", "metric"),
    "robustness": ("rows", "severities", "faults", "seed"),
}


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
        What goes on from there: the words of the pass that stopped, or what its plan says of them, where
        ``PATH`` and ``DIR`` stand for what that does not record.
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
    folders = sorted(path for path in out.glob(f"*.h5{WORK_SUFFIX}") if path.is_dir())
    return [_unfinished_pass(folder, out, data) for folder in folders]


def _unfinished_pass(folder: Path, out: Path, data: Path | None) -> UnfinishedWork:
    holder = lock_holder(folder / LOCK)
    try:
        progress = unfinished(folder)
        if progress is None:  # killed before its plan was written: nothing to go on with
            return UnfinishedWork(str(folder), 0, None, holder, "")
        command = _noted_command(folder)
        if not command:
            plan = json.loads((folder / "plan.json").read_bytes())["plan"]
            command = _extract_command(plan, out, data)
        return UnfinishedWork(str(folder), *progress, holder, command)
    except (StoreError, OSError) as error:
        fault = str(error)
    except (KeyError, TypeError, AttributeError) as error:  # its hash is right, so somebody wrote it so
        fault = (
            f"'{folder / 'plan.json'}' is not what a pass writes ({type(error).__name__}: {error}). Delete "
            f"the folder '{folder}' and start the pass again."
        )
    return UnfinishedWork(str(folder), None, None, holder, "", fault)


def _noted_command(work: Path) -> str:
    """Return the command that the last writer noted, to be run from where it ran.

    Empty if it noted none, or the work folder was moved since: the command would then begin anew elsewhere.
    """
    signed = _signature(work / LOCK)
    words, start = signed.get("command"), signed.get("folder")
    if signed.get("work") != str(work.absolute()) or not isinstance(start, str):
        return ""
    if not isinstance(words, list) or words[:1] != ["extract"] or not all(isinstance(w, str) for w in words):
        return ""
    command = join(["embedonce", *words])
    return command if Path(start) == Path.cwd() else f"{join(['cd', start])} && {command}"


def _extract_command(plan: Mapping[str, Any], out: Path, data: Path | None) -> str:
    """Return the command with the settings of a plan; whatever changes the fingerprint is written out."""
    from extract import opens_by_name

    identity, name = plan.get("identity", {}), plan.get("backbone", "")
    words = ["embedonce", "extract", "--backbone", name if opens_by_name(name) else f"DIR/{name}"]
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
    """Return the runs in `out` that have begun and were not finished, and measurements of finished ones."""
    folders = [*sorted(out.glob(f"*{WORK_SUFFIX}")), *sorted(out.glob(f"*/*{WORK_SUFFIX}"))]
    return [_unfinished_run(folder) for folder in folders if (folder / CONFIG).is_file()]


def asked_inputs(run: Path, *, data: Path | None, device: str, weights: Mapping[str, Path]) -> dict[str, Any]:
    """Return what a command that embeds again notes of where its inputs lie, to be gone on with.

    Parameters
    ----------
    run : Path
    data : Path or None
    device : str
    weights : mapping of str to Path
        Backbone -> folder.

    Returns
    -------
    dict
        JSON-able.
    """
    return {
        "run": str(run.absolute()),
        "data": None if data is None else str(data.absolute()),
        "device": device,
        "weights": {name: str(folder.absolute()) for name, folder in weights.items()},
    }


def _unfinished_run(folder: Path) -> UnfinishedWork:
    holder = lock_holder(folder / LOCK)
    parts = [*folder.glob("*"), *(folder / "trials").rglob("*")]
    done = sum(path.suffix in (".trial", ".row", ".npz") for path in parts)
    try:
        config = read_json(folder / CONFIG)
        command = join(_run_words(config, folder))
    except RunError as error:
        return UnfinishedWork(str(folder), done, None, holder, "", f"{error} Remove '{folder}' first.")
    except (KeyError, TypeError, AttributeError) as error:
        fault = (
            f"'{folder / CONFIG}' is not what a run records ({type(error).__name__}: {error}). Remove "
            f"'{folder}' and start the run again."
        )
        return UnfinishedWork(str(folder), done, None, holder, "", fault)
    trials = config.get("trials")
    return UnfinishedWork(str(folder), done, trials if isinstance(trials, int) else None, holder, command)


def _run_words(config: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the words that go on with a run; where there is no --config, its settings are written out."""
    command, out = str(config["command"]), ["--out", str(folder.parent)]
    if command not in _WRITTEN_OUT:
        return ["embedonce", command, "--config", str(folder / CONFIG), *out]
    inputs = config["inputs"]
    words = ["embedonce", command, "--run", inputs["run"], *(out if command == "augment" else [])]
    for name in _WRITTEN_OUT[command]:
        if config.get(name) is not None:
            value = config[name]
            words += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    for name in ("data", "device"):
        if inputs[name] is not None:
            words += [f"--{name}", inputs[name]]
    for backbone, weights in inputs["weights"].items():
        words += ["--weights", f"{backbone}={weights}"]
    return words


def lock_holder(path: Path) -> str:
    """Return who holds the lock file at `path`; empty when nobody does.

    The shared lock that is tried is let go of at once. A pass that starts in that instant is told that the
    store is busy, and starts when asked again.
    """
    handle = _open_lock(path)
    if handle is None:
        return ""  # nobody has started
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        signed = _signature(path)
        pid, host = signed.get("pid"), signed.get("host")
        # Passes sign, runs do not.
        return f"process {pid} on host {host!r}" if isinstance(pid, int) else "another process"
    finally:
        os.close(handle)
    return ""


def _signature(path: Path) -> dict[str, Any]:
    """Return what the last holder wrote into its lock file; empty if nothing, or a kill cut it short."""
    handle = _open_lock(path)
    if handle is None:
        return {}
    try:
        signed = json.loads(os.pread(handle, MAX_SIGNATURE_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(handle)
    return signed if isinstance(signed, dict) else {}


def _open_lock(path: Path) -> int | None:
    """Open a lock file without following a link or waiting for a pipe; None if there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
