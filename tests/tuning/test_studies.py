"""Studies repeat themselves, survive being closed, and refuse what they cannot open."""

import fcntl
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from tuning import open_study, suggest
from tuning.journal_lock import JournalLock

HEADS = ("mlp", "logreg")


def ask_and_tell(study, n):
    """Ask ``n`` times, tell a score made from the parameters; return what was asked."""
    asked = []
    for _ in range(n):
        trial = study.ask()
        asked.append(suggest(trial, HEADS))
        study.tell(trial, len(asked[-1].key.strip("0123456789")) / 64)
    return asked


@pytest.fixture(params=["study.journal", "sqlite:///{}/study.db"])
def storage(request, tmp_path):
    """A journal file and a database."""
    return request.param.format(tmp_path) if "://" in request.param else str(tmp_path / request.param)


def test_open_study_asks_the_same_with_the_same_seed():
    """Past the random start, the sampler's answers repeat; another seed asks something else."""
    first, again, other = (ask_and_tell(open_study(random_state=seed), 16) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_open_study_goes_on_where_it_was_closed(storage):
    """A study opened a second time asks what the uninterrupted one would have asked."""
    whole = ask_and_tell(open_study(random_state=3), 13)
    begun = ask_and_tell(open_study("a", storage, random_state=3), 11)
    continued = ask_and_tell(open_study("a", storage, random_state=3), 2)
    assert begun + continued == whole


def test_open_study_puts_the_log_level_back(caplog):
    """Opening is silent and leaves Optuna's verbosity as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG):
            open_study("quiet")
    finally:
        optuna.logging.disable_propagation()
    assert optuna.logging.get_verbosity() == before
    assert not caplog.records


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("study.db", r"Unknown storage 'study\.db', allowed are .*'sqlite:///study\.db'"),
        ("nosuchbase://host/x", "'nosuchbase://host/x' cannot be opened .*Correct the URL"),
        ("sqlite:////nowhere/at/all/x.db", "'sqlite:////nowhere/at/all/x.db' cannot be opened"),
        ("/nowhere/at/all/x.journal", "folder '/nowhere/at/all' of the journal 'x.journal' does not exist"),
    ],
)
def test_open_study_explains_a_bad_storage(storage, message):
    """The error names the storage and what is allowed."""
    with pytest.raises(ValueError, match=message):
        open_study("a", storage)


def test_open_study_refuses_a_file_that_is_no_journal(tmp_path):
    """Another file with the journal's ending is not overwritten."""
    path = tmp_path / "notes.journal"
    path.write_text("dear diary\nanother line\n")
    with pytest.raises(ValueError, match=r"notes\.journal' cannot be read as a journal"):
        open_study("a", str(path))
    assert path.read_text() == "dear diary\nanother line\n"


def test_open_study_needs_a_name_with_a_storage(storage):
    """Without a name the study could not be found again."""
    with pytest.raises(ValueError, match=r"without a study name.*--study NAME"):
        open_study(None, storage)


def test_open_study_refuses_a_negative_seed():
    """Seeds are not negative."""
    with pytest.raises(ValueError, match="'random_state' is -1, allowed is 0 or more"):
        open_study(random_state=-1)


def test_open_study_refuses_a_study_that_minimises(storage):
    """A study of a loss under the same name is not continued."""
    open_study("other", storage)
    backend = open_study("other", storage)._storage
    optuna.create_study(study_name="loss", storage=backend, direction="minimize")
    with pytest.raises(ValueError, match=r"Study 'loss' .* minimises"):
        open_study("loss", storage)


def test_journal_lock_lets_one_remove_what_a_dead_process_left(tmp_path):
    """Several that wait for a link that nobody holds any more get the lock one after the other."""
    path = tmp_path / "study.journal"
    path.touch()
    (tmp_path / "study.journal.lock").symlink_to(path)
    held, most = [], []

    def take():
        lock = JournalLock(str(path), grace_period=3)
        lock.acquire()
        held.append(1)
        most.append(len(held))
        time.sleep(0.01)
        held.pop()
        lock.release()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(take) for _ in range(8)]:
            done.result()
    assert most == [1] * 8
    assert not (tmp_path / "study.journal.lock").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_journal_lock_is_shared_by_users():
    """A lock file that the first user's umask closes to writing is locked by the second all the same."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own may be entered by its user alone
        path, locked = Path(folder, "study.journal"), Path(folder, "study.journal.flock")
        path.touch()
        path.chmod(0o666)
        Path(folder).chmod(0o777)
        lock = JournalLock(str(path))
        umask = os.umask(0o022)
        lock.acquire()
        lock.release()
        os.umask(umask)
        assert locked.stat().st_mode & 0o777 == 0o644
        os.seteuid(65534)
        try:
            lock.acquire()
            with locked.open() as other, pytest.raises(BlockingIOError, match="temporarily unavailable"):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.release()
        finally:
            os.seteuid(0)
