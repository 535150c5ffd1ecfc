"""Studies that several processes share through the real command: a PostgreSQL, and a journal file."""

import csv
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from optuna import load_study
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tuning import open_study

STUDY = "shared"
HEADS = "ridge,svm"
PATIENCE = 600  # seconds for what takes a few on a quiet machine

# The command, which says when it has stored its first trial and then waits to be killed.
STOPS_AT_ITS_FIRST_TRIAL = """
import sys
from pipelines.cli import main
from pipelines.runs import TrialFolder
put = TrialFolder.put
def put_and_wait(folder, trial):
    put(folder, trial)
    print("stored", flush=True)
    sys.stdin.read()
TrialFolder.put = put_and_wait
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of 240 rows, imported by the command."""
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    codes = np.arange(240) % 10
    codes = np.select([codes < 6, codes < 7], [0, 1], 2)
    X = rng.normal(size=(240, 12)).astype(np.float32)
    X[:, 0] += codes
    np.save(folder / "joint.npy", X)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *((f"r{i}", "abc"[c]) for i, c in enumerate(codes))])
    words = ["import", "--table", "table.csv", "--joint", "joint.npy", "--out", "tiny.h5"]
    program = [sys.executable, "-m", "pipelines"]
    subprocess.run([*program, *words], cwd=folder, check=True, capture_output=True, env=environment())
    return folder / "tiny.h5"


@pytest.fixture(scope="module")
def database():
    """URL of a PostgreSQL of our own, on a socket in a fresh folder; it never runs as root."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = binaries[-1] if binaries else shutil.which("initdb")
    if found is None:
        pytest.skip("PostgreSQL is not installed here (apt-get install postgresql); .ci/run installs it")
    bin_folder = Path(found).resolve().parent
    # Not in pytest's folder, which only its own user may enter; a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    who = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def server(program, *words):
        done = subprocess.run(
            [bin_folder / program, *words], capture_output=True, text=True, cwd=folder, **who
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    server("initdb", "-D", data, "-U", "embedonce", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    # The log is no pipe: the server would hold it open, and `run` would wait for its end.
    options = f"-F -k {folder} -c listen_addresses=''"
    server("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql+psycopg://embedonce@/postgres?host={folder}"
    finally:
        server("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def environment():
    """One BLAS thread per process, and this checkout on the path."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture
def start(store):
    """Starts searches, each in a process of its own; those that are left at the end are ended."""
    started = []

    def begin(storage, out, *, n_trials, program=("-m", "pipelines")):
        words = ["--features", str(store), "--heads", HEADS, "--trials", str(n_trials), "--folds", "2"]
        shared = ["--study", STUDY, "--storage", storage, "--out", str(out), "--json"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        line = [sys.executable, *program, "tune", *words, *shared]
        started.append(subprocess.Popen(line, **pipes, text=True, env=environment()))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def result(process):
    """Wait for a search; return what it printed as JSON."""
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return json.loads(out)


def finished(storage):
    """The trials of the study that count."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    if "://" not in storage:
        return open_study(STUDY, storage).get_trials(deepcopy=False, states=states)
    opened = RDBStorage(storage)
    try:
        return load_study(study_name=STUDY, storage=opened).get_trials(states=states)
    finally:  # psycopg warns of connections that nobody closed
        opened.remove_session()
        opened.engine.dispose()


def listed(out):
    """Configurations and scores of a run's table of trials."""
    with (out / STUDY / "trials.csv").open(newline="") as file:
        return Counter(
            (row["head"], row["resampler"], row["parameters"], row["score"]) for row in csv.DictReader(file)
        )


def check_agreement(results, outs, storage, *, n_trials, n_processes):
    """All searches report the same trials and the same best; about as many as asked for, each once."""
    trials = finished(storage)
    assert n_trials <= len(trials) <= n_trials + (n_processes - 1) * max(4, -(-n_trials // 5))
    assert len({trial.number for trial in trials}) == len(trials)
    tables = [listed(out) for out in outs]
    for table, found in zip(tables, results, strict=True):
        assert table == tables[0]
        assert max(table.values()) == 1
        assert found["winner"] == results[0]["winner"]
        assert found["cv"] == results[0]["cv"]
    assert 2 <= len(tables[0]) <= n_trials + len(HEADS.split(","))


def test_search_is_shared_through_postgresql(start, database, tmp_path):
    """Two processes that start at once on an empty database share one study, and agree on its best."""
    outs = [tmp_path / "a", tmp_path / "b"]
    processes = [start(database, out, n_trials=20) for out in outs]
    results = [result(process) for process in processes]
    check_agreement(results, outs, database, n_trials=20, n_processes=2)


def test_search_survives_the_death_of_a_process_beside_it(start, tmp_path):
    """Of four processes one is killed: the others finish, and so does its command, run again."""
    journal = str(tmp_path / "study.journal")
    out, *others = (tmp_path / name for name in "abcd")
    victim = start(journal, out, n_trials=48, program=("-c", STOPS_AT_ITS_FIRST_TRIAL))
    assert victim.stdout.readline() == "stored\n", victim.communicate()[1]
    processes = [start(journal, other, n_trials=48) for other in others]
    wait_for_work(processes, others)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert not (out / STUDY).exists()
    results = [result(process) for process in processes]
    check_agreement(results, others, journal, n_trials=48, n_processes=4)
    n_before = len(finished(journal))
    again = result(start(journal, out, n_trials=48))
    assert len(finished(journal)) == n_before  # nothing was left to ask
    running = open_study(STUDY, journal).get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    assert not running  # those of the killed process were failed
    assert again["winner"] == results[0]["winner"]
    assert listed(out) == listed(others[0])


def wait_for_work(processes, outs):
    """Wait until one of the searches has stored a trial, or made its run already."""
    deadline = time.monotonic() + PATIENCE
    while not any((out / STUDY).exists() or any(out.glob("*.work/trials/*.trial")) for out in outs):
        assert {process.poll() for process in processes} <= {None, 0}
        assert time.monotonic() < deadline, f"No process stored a trial within {PATIENCE} s."
        time.sleep(0.01)
