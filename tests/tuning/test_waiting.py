"""What another process evaluates is waited for, not computed again; what a dead one left is taken over."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.tuning.searches import InMemory, run
from tuning import (
    Configuration,
    Trial,
    grid_configurations,
    open_study,
    parse_space,
    shared_attributes,
    waiting,
)
from tuning.batch_evaluation import BatchEvaluation
from tuning.dead_trials import sign
from tuning.shared_trials import SharedMemory
from tuning.spaces import build_spaces, starting_configuration
from tuning.study_exchange import _CONFIGURATION

ROOT = Path(__file__).parents[2]
N_POINTS = 40

# Searches a grid; says what it begins and how many points it has computed, and computes when it is let. With
# "at a sign" it also waits between its look at what others enqueued and enqueueing itself.
SEARCH = """
import json, sys
import numpy as np
from tests.tuning.test_waiting import grid, rows
from tests.tuning.searches import run
from tuning import batch_evaluation, open_study

computed = 0
outcomes = batch_evaluation.BatchEvaluation.outcomes

def counted(self, asked, **options):
    global computed
    if asked:
        computed += len(asked)
        print("begins", len(asked), flush=True)
        sys.stdin.readline()
    return outcomes(self, asked, **options)

batch_evaluation.BatchEvaluation.outcomes = counted
study = open_study("s", sys.argv[1])
enqueue_trial = study.enqueue_trial

def enqueue_at_a_sign(*given, **options):
    study.enqueue_trial = enqueue_trial
    print("enqueues", flush=True)
    sys.stdin.readline()
    enqueue_trial(*given, **options)

if sys.argv[2:] == ["at a sign"]:
    study.enqueue_trial = enqueue_at_a_sign
found = run(rows(), study=study, on_step=lambda text: print(text, flush=True), **grid())
scores = [[trial.number, trial.key, trial.score] for trial in found.trials]
print("found", json.dumps({"computed": computed, "scores": scores, "best": found.best}), flush=True)
"""


def rows():
    """Sixty rows of noise and signal."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 4)).astype(np.float32)
    X[:, 0] += y
    return X, y


def grid():
    """Forty points: more than one process takes at a time."""
    values = ", ".join(f"{10 ** (k / 10):.4g}" for k in range(N_POINTS))
    declared = parse_space(f"[ridge]\nalpha = [{values}]\nbalance = 'none'\nonly = true")
    space = build_spaces(["ridge"], n_features=4, n_rows=60, declared=declared)
    return {"names": ("ridge",), "space": space, "grid": grid_configurations(space, limit=N_POINTS)}


class Other:
    """A process that searches the grid in a shared study."""

    def __init__(self, journal, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SEARCH, journal, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def says(self, words):
        """Read until a line begins with these words; return the rest of it."""
        for line in self.process.stdout:
            if line.startswith(words):
                return line.removeprefix(words).strip()
        raise AssertionError(f"it ended ({self.process.wait()}) and never said '{words}'")

    def go_on(self, times=1):
        """Let it compute what it has begun."""
        self.process.stdin.write("\n" * times)
        self.process.stdin.flush()


@pytest.fixture
def start(tmp_path):
    """Starts searches of one study, and ends what is left of them."""
    started = []

    def begin(*words):
        started.append(Other(str(tmp_path / "s.journal"), *words))
        return started[-1]

    yield begin
    for other in started:
        other.process.kill()
        other.process.communicate()


@pytest.fixture
def pair(start):
    """Two processes: the first has taken 32 points and computes, the second the other 8 and waits."""
    first = start()
    assert first.says("begins") == "32"
    second = start()
    assert second.says("begins") == "8"
    second.go_on()
    assert second.says("waiting for") == f"32 configurations from process {first.process.pid}"
    return first, second


def test_processes_that_share_a_grid_compute_every_point_once(pair):
    """Of forty points each is computed by one of two processes, and both report all forty alike."""
    pair[0].go_on()
    found = [json.loads(other.says("found")) for other in pair]
    assert [one.pop("computed") for one in found] == [32, 8]
    assert found[0] == found[1]
    assert [number for number, _, _ in found[0]["scores"]] == list(range(N_POINTS))
    alone = run(rows(), **grid())
    assert found[0]["scores"] == [[trial.number, trial.key, trial.score] for trial in alone.trials]


def test_points_of_a_process_that_dies_are_taken_over_by_who_waits(pair):
    """Killed in the middle, it is waited for no longer: the other computes its points, and reports all."""
    first, second = pair
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert second.says("begins") == "32"
    second.go_on()
    found = json.loads(second.says("found"))
    assert found["computed"] == N_POINTS
    assert len(found["scores"]) == N_POINTS


def test_processes_that_begin_at_the_same_instant_compute_every_point_once(start):
    """Neither sees what the other enqueues, so all points wait twice: each is computed by one of them."""
    both = [start("at a sign"), start("at a sign")]
    for other in both:
        other.says("enqueues")
    for other in both:
        other.go_on()
    for other in both:
        other.says("begins")
    for other in both:
        other.go_on(N_POINTS)
    found = [json.loads(other.says("found")) for other in both]
    assert sum(one.pop("computed") for one in found) == N_POINTS
    assert found[0] == found[1]
    assert [number for number, _, _ in found[0]["scores"]] == list(range(N_POINTS))


# --- processes that cannot be seen from here ---------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that only pauses move on; returns the pauses."""
    pauses = []
    monkeypatch.setattr(waiting.time, "sleep", pauses.append)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: 100.0 + sum(pauses))
    return pauses


def taken_elsewhere(study, n):
    """Take some points in the name of a process of another machine; return their trials."""
    points = [study.ask() for _ in range(n)]
    for question in points:
        sign(question)
        mine = question.user_attrs["embedonce:process"]
        question.set_user_attr("embedonce:process", {**mine, "where": "another machine"})
    return points


@pytest.fixture
def shared():
    """The grid and a study in which all of its points but the first wait."""
    options, study = grid(), open_study()
    run(rows(), study=study, **{**options, "grid": options["grid"][:1]})
    enqueue_rest(options, study)
    return options, study


def enqueue_rest(options, study):
    """Let all points of the grid but the first wait."""
    for one in options["grid"][1:]:
        parameters = options["space"].study_parameters(one)
        study.enqueue_trial(parameters, user_attrs={_CONFIGURATION: one.as_dict()})


def test_a_process_elsewhere_is_waited_for_as_long_as_its_points_would_take(shared, clock):
    """It may have died unseen: after the seconds that 5 points take here, they are computed here."""
    options, study = shared
    asked = [question.user_attrs[_CONFIGURATION] for question in taken_elsewhere(study, 5)]
    taken = {one["parameters"]["alpha"] for one in asked}
    memory, steps = InMemory(), []
    for trial in run(rows(), **options).trials:
        if trial.configuration.parameters["alpha"] not in taken:
            memory.kept[trial.key] = replace(trial, seconds=1.25)
    assert len(memory.kept) == N_POINTS - 5
    found = run(rows(), study=study, recall=memory, on_step=steps.append, **options)
    assert [trial.configuration for trial in found.trials] == options["grid"]
    assert sum(clock) == pytest.approx(5 * 1.25, abs=waiting._PAUSE)
    told = [text for text in steps if "waiting" in text]
    assert told == ["waiting for 5 configurations from another machine"]


def test_points_enqueued_twice_are_left_to_who_has_them(shared, monkeypatch):
    """The copies of 5 points that another process computes are dropped, and its answers are taken."""
    options, study = shared
    enqueue_rest(options, study)
    taken = taken_elsewhere(study, 5)
    alone = {trial.key: trial for trial in run(rows(), **options).trials}
    computed, outcomes = [], BatchEvaluation.outcomes

    def counted(self, asked, **given):
        computed.extend(one.key for one, _ in asked)
        return outcomes(self, asked, **given)

    def finish(_):
        for question in taken:
            trial = alone[Configuration(**question.user_attrs[_CONFIGURATION]).key]
            for name, value in shared_attributes(trial).items():
                question.set_user_attr(name, value)
            study.tell(question, trial.score)

    monkeypatch.setattr(BatchEvaluation, "outcomes", counted)
    monkeypatch.setattr(waiting.time, "sleep", finish)
    found = run(rows(), study=study, **options)
    assert [trial.configuration for trial in found.trials] == options["grid"]
    assert len(computed) == len(set(computed)) == N_POINTS - 6
    scored = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    assert len(scored) == N_POINTS


def test_points_that_this_process_left_running_are_not_waited_for(shared, clock):
    """Nobody but this process could finish them."""
    options, study = shared
    for _ in range(3):
        sign(study.ask())
    found = run(rows(), study=study, **options)
    assert [trial.configuration for trial in found.trials] == options["grid"]
    assert not clock


def test_points_of_trials_that_no_study_can_keep_are_not_waited_for(shared, clock, monkeypatch):
    """They would be computed here all the same."""
    options, study = shared
    taken_elsewhere(study, 5)
    monkeypatch.setattr(SharedMemory, "holds_all", False)
    found = run(rows(), study=study, **options)
    assert [trial.configuration for trial in found.trials] == options["grid"]
    assert not clock


def test_shared_memory_says_whether_every_trial_fits():
    """Where it says so, even bits that do not compress at all are kept; 2 % more of them are not."""

    def kept(n_rows):
        bits = np.random.default_rng(0).integers(0, 0x7BFF, size=(n_rows, 3), dtype=np.uint16)
        oof = bits.view(np.float16).astype(np.float32)
        return bool(shared_attributes(Trial(0, starting_configuration("ridge"), 0.5, [0.5], 1.0, oof)))

    def holds(n_rows):
        return SharedMemory(open_study(), None, shape=(n_rows, 3)).holds_all

    assert holds(127_300)
    assert kept(127_300)
    assert not holds(127_600)
    assert not kept(130_000)
