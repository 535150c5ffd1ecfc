"""Trials of a shared study whose process has died: marked as failed, and asked again.

A process that is killed leaves its trials RUNNING for ever. Nothing waits for them, but the sampler takes
them for bad ones and a dashboard shows them at work. So every trial says which process asked for it, and
whoever asks next looks whether that process still lives.

Only processes that this one can see are judged: those of the same boot of the same machine and the same
container. What runs elsewhere is left alone, because a slow process cannot be told from a dead one from afar,
and failing a living one's trial would throw away its work.
"""

import os
import platform
from pathlib import Path
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.trial import Trial as Question

_OWNER = "embedonce:process"


def sign(question: Question) -> None:
    """Write into a trial which process evaluates it.

    Parameters
    ----------
    question : optuna.Trial
    """
    question.set_user_attr(_OWNER, _owner(os.getpid()))


def fail_dead_trials(study: Study, *, kept: tuple[str, ...] = ()) -> int:
    """Mark the trials of dead processes as failed, and enqueue what they were asked again.

    Parameters
    ----------
    study : optuna.Study
    kept : tuple of str
        User attributes that the enqueued trial keeps.

    Returns
    -------
    int
        How many there were.

    Notes
    -----
    Two processes that look at the same moment may both enqueue a trial: it is then asked twice, which a
    search answers without computing it twice.
    """
    dead = [trial for trial in _running(study) if _is_dead(trial.user_attrs.get(_OWNER))]
    for trial in dead:
        try:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        except UpdateFinishedTrialError:  # another process was first, between the look and the answer
            continue
        attributes = {name: trial.user_attrs[name] for name in kept if name in trial.user_attrs}
        study.enqueue_trial(trial.params, user_attrs=attributes)
    return len(dead)


def is_mine(trial: FrozenTrial) -> bool:
    """Tell whether this process asked for a trial.

    Parameters
    ----------
    trial : optuna.trial.FrozenTrial
    """
    return bool(trial.user_attrs.get(_OWNER) == _owner(os.getpid()))


def living_process(trial: FrozenTrial) -> int | None:
    """Return the process that evaluates a trial, if it can be seen from here and lives.

    Parameters
    ----------
    trial : optuna.trial.FrozenTrial

    Returns
    -------
    int or None
        Its number. None also of a process that cannot be seen from here, which may live or not.
    """
    owner = trial.user_attrs.get(_OWNER)
    if not isinstance(owner, dict) or owner.get("where") != _here() or _is_dead(owner):
        return None
    return owner["pid"] if isinstance(owner.get("pid"), int) else None


def _running(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _owner(pid: int) -> dict[str, Any]:
    """Name a process so that no other has the same name: numbers of processes are used again."""
    return {"where": _here(), "pid": pid, "started": _start_of(pid)}


def _is_dead(owner: Any) -> bool:
    """Tell whether a process that was seen from here is gone; one without a name is not judged."""
    if not isinstance(owner, dict) or owner.get("where") != _here():
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid < 1:
        return False
    try:
        os.kill(pid, 0)  # signal 0 asks only whether the process is there
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _start_of(pid) != owner.get("started")


def _here() -> str:
    """Name what can see each other's processes: this boot of this machine, and this container."""
    boot, names = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if not boot.is_file():
        return platform.node()  # no Linux
    return f"{boot.read_text().strip()} {os.readlink(names)}"  # noqa: PTH115


def _start_of(pid: int) -> str | None:
    """Return when a process started, in clock ticks of the system; "ended" for one that waits to be reaped.

    None where the system does not say (no Linux).
    """
    if not Path("/proc/self/stat").is_file():
        return None
    try:
        # The second field is the program's name in brackets, which may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return "ended" if fields[0] in "ZX" else fields[19]
