"""What a killed process was evaluating is failed and asked again; what lives is left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from optuna.trial import TrialState

from tuning import open_study
from tuning.dead_trials import fail_dead_trials, is_mine, living_process, sign

ASK_AND_WAIT = """
import sys
from tuning import open_study
from tuning.dead_trials import sign
trial = open_study("s", sys.argv[1]).ask()
trial.suggest_float("x", 0, 1)
trial.set_user_attr("what", "kept")
sign(trial)
print("asked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def journal(tmp_path):
    """A journal file of a study in which this process has asked one trial, and answered another."""
    path = str(tmp_path / "s.journal")
    study = open_study("s", path)
    sign(study.ask())
    study.tell(study.ask(), 0.5)
    return path


@pytest.fixture
def other(journal):
    """A process that asks a trial of the same study, and waits."""
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", ASK_AND_WAIT, journal],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout.readline() == "asked\n"
    yield process
    process.kill()
    process.communicate()


def states(study):
    """Names of the states, in the order asked."""
    return [trial.state.name for trial in study.get_trials(deepcopy=False)]


def test_a_trial_of_a_killed_process_is_failed_and_asked_again(journal, other):
    """Only the dead process's trial fails; the next question has its parameters and attributes."""
    study = open_study("s", journal)
    assert fail_dead_trials(study) == 0  # both processes live
    assert states(study) == ["RUNNING", "COMPLETE", "RUNNING"]
    asked = study.trials[2].params
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert fail_dead_trials(study, kept=("what",)) == 1
    assert states(study) == ["RUNNING", "COMPLETE", "FAIL", "WAITING"]
    again = study.ask()
    assert again.suggest_float("x", 0, 1) == asked["x"]
    assert again.user_attrs == {"what": "kept"}
    assert fail_dead_trials(study) == 0


def test_a_killed_process_that_nobody_has_reaped_is_dead_too(journal, other):
    """Its number is still taken while its parent has not asked how it ended."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("only Linux says that a process waits to be reaped")
    other.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 120
    while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert fail_dead_trials(open_study("s", journal)) == 1


@pytest.mark.parametrize(
    ("change", "n_failed"),
    [
        ({"started": "1"}, 1),  # another process has the number now
        ({"where": "another machine", "started": "1"}, 0),
        ({"pid": "1; rm -rf"}, 0),
        ({"pid": -1}, 0),
    ],
)
def test_the_name_of_a_process_is_more_than_its_number(change, n_failed):
    """A number used again is another process; one of another machine, or none at all, is not judged."""
    study = open_study()
    question = study.ask()
    sign(question)
    question.set_user_attr("embedonce:process", {**question.user_attrs["embedonce:process"], **change})
    study.ask()  # says nothing about its process
    assert fail_dead_trials(study) == n_failed
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [trial.number for trial in failed] == [0] * n_failed


def test_living_process_is_one_that_is_seen():
    """One of this machine that lives; not one that ended, is on another machine, or gave no name."""
    study, ended = open_study(), subprocess.Popen(["true"])
    ended.wait()
    for change in ({}, {"pid": ended.pid}, {"where": "another machine"}):
        question = study.ask()
        sign(question)
        question.set_user_attr("embedonce:process", {**question.user_attrs["embedonce:process"], **change})
    study.ask()
    running = study.get_trials(states=(TrialState.RUNNING,))
    assert [living_process(trial) for trial in running] == [os.getpid(), None, None, None]
    assert [is_mine(trial) for trial in running] == [True, False, False, False]
