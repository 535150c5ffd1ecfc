"""Runs and weights of strangers: no file is opened that they point to, and nothing fills the memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.errors import RunError
from pipelines.runs import check_config, read_csv, read_json
from tests.cache.builders import Toy
from tests.kit.tiny_checkpoints import make_tiny_bert

ROOT = Path(__file__).resolve().parents[2]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

#: Give every command line of a JSON list to the command, in one process.
CALLS = """
import json, sys
from pipelines.cli import main
print(json.dumps([main(words) for words in json.loads(sys.argv[1])]))
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, the store that it was trained on, and a tiny BERT."""
    root = tmp_path_factory.mktemp("good")
    Toy(n=40).write(root / "toy.h5")
    words = [
        "train",
        "--features",
        str(root / "toy.h5"),
        "--folds",
        "2",
        "--study",
        "run",
        "--out",
        str(root),
    ]
    assert main(words) == 0
    make_tiny_bert(root / "tiny-bert")
    return root


def _edited(run: Path, **changes: object) -> None:
    config = json.loads((run / "config.json").read_text())
    config["spaces"][0].update(changes)
    (run / "config.json").write_text(json.dumps(config))


def _link(name: str) -> Callable[[Path, Path], None]:
    def make(run: Path, decoy: Path) -> None:
        shutil.copy(run / name, decoy)
        (run / name).unlink()
        (run / name).symlink_to(decoy)

    return make


POINTERS: dict[str, Callable[[Path, Path], None]] = {
    "store": lambda run, decoy: _edited(run, path=str(decoy)),
    "relative store": lambda run, decoy: _edited(run, path=os.path.relpath(decoy)),
    **{name: _link(name) for name in ("config.json", "metrics.json", "oof.csv", "trials.csv")},
    **{name: _link(name) for name in ("model/model.json", "model/arrays.safetensors")},
}


def _opened(words: list[list[str]], log: Path, folder: Path) -> tuple[list[int], str]:
    """Run commands in one process under strace; return their exit statuses and everything it opened."""
    trace = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=open,openat,openat2",
        "-s",
        "400",
        "-o",
        str(log),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*trace, sys.executable, "-c", CALLS, json.dumps(words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1]), log.read_text()


@needs_strace
def test_no_command_opens_what_a_strange_run_points_to(good: Path, tmp_path: Path) -> None:
    """Stores that are none, links in place of its files, an index that leads outside: none is followed."""
    words = []
    decoys = tmp_path / "decoys"
    decoys.mkdir()
    for number, (name, point) in enumerate(POINTERS.items()):
        run, decoy = tmp_path / f"run{number}", decoys / f"secret{number}"
        shutil.copytree(good / "run", run)
        decoy.write_text("{}")
        point(run, decoy)
        words += [
            ["predict", "--run", str(run), "--out", "x.csv"],
            ["report", "--run", str(run), "--out", "x.html"],
        ]
        words += (
            [["train", "--config", str(run / "config.json"), "--out", "runs"]] if "model" not in name else []
        )
    weights = Path(shutil.copytree(good / "tiny-bert", tmp_path / "tiny-bert"))
    (weights / "model.safetensors").rename(decoys / "model.safetensors")
    index = {"weight_map": {"x": "../decoys/model.safetensors"}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index))
    words.append(["doctor", "--backbone", str(weights)])
    statuses, opened = _opened(words, tmp_path / "log", tmp_path)
    assert str(good / "run") not in opened
    assert f"{tmp_path}/run0/config.json" in opened
    assert "decoys/secret" not in opened and "decoys/model" not in opened
    assert statuses[0] == statuses[1] == statuses[-1] == 1


def test_run_file_that_is_no_plain_file_is_named(tmp_path: Path) -> None:
    """A link, a pipe, a folder and a giant in place of a run's file are refused before they are opened."""
    path = tmp_path / "config.json"
    (tmp_path / "real").write_text("{}")
    path.symlink_to("real")
    for make in (lambda: None, lambda: os.mkfifo(path), path.mkdir):
        make()
        with pytest.raises(RunError, match="is a link or no regular file, so it is not opened"):
            read_json(path)
        with pytest.raises(RunError, match="is a link or no regular file, so it is not opened"):
            read_csv(path)
        path.rmdir() if path.is_dir() else path.unlink()
    path.touch()
    os.truncate(path, 40 << 30)
    with pytest.raises(RunError, match="has 42,949,672,960 bytes; at most 16,777,216 are read"):
        read_json(path)
    with pytest.raises(RunError, match="has 42,949,672,960 bytes; at most 134,217,728 are read"):
        read_csv(path)


@pytest.mark.parametrize("content", [b"[" * 1_000_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 100_000 + b"}"])
def test_json_bomb_of_a_run_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    """Nesting and numbers that Python's parser refuses are named like any other damage."""
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_json(tmp_path / "config.json")


def test_table_bomb_of_a_run_stays_within_memory(tmp_path: Path) -> None:
    """Millions of tiny rows are refused long before they fill the memory."""
    path = tmp_path / "oof.csv"
    path.write_bytes(b"id\n" + b"1\n" * 8_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match="it has more rows than are read"):
        read_csv(path)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 900 << 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n", "line 2 has 1 cells, the header has 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells, the header has 2"),
        (b"a,a\n1,2\n", "its header names a column twice"),
        (b'a,b\n"1,2\n', "unexpected end of data"),
        (b"a,b\n\xff,2\n", "can't decode byte"),
    ],
)
def test_damaged_table_of_a_run_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    """A row that does not fit the header, a column twice and lost quotes are never read as something else."""
    (tmp_path / "oof.csv").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_csv(tmp_path / "oof.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "/etc/passwd"}, "the store '/etc/passwd' does not end in .h5 or .hdf5"),
        ({"path": "x\0.h5"}, "path is 'x"),
        ({"path": 7}, "path is 7"),
        ({"width": -1}, "width is -1"),
        ({"width": 1 << 40}, "width is 1099511627776"),
        ({"backbone": ["hf:x/y"]}, "backbone is "),
    ],
)
def test_config_with_odd_spaces_is_refused(changes: dict[str, object], message: str, good: Path) -> None:
    """Whatever a stranger writes into the spaces of config.json is refused by its name."""
    config = json.loads((good / "run" / "config.json").read_text())
    check_config(config, good / "run" / "config.json")
    config["spaces"][0].update(changes)
    with pytest.raises(RunError, match=message):
        check_config(config, good / "run" / "config.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duplicates": "foo"}, "duplicates is 'foo'"),
        ({"duplicates": None}, "duplicates is None"),
        ({"folds": 1, "seed": -1}, "folds is 1; seed is -1"),
        ({"metric": "beauty"}, "metric is 'beauty'"),
        ({"use_views": -1}, "use_views is -1"),
        ({"use_views": [1]}, r"use_views is \[1\]"),
        ({"command": "ablate", "use_views": [None, 2, True]}, r"use_views is \[None, 2, True\]"),
    ],
)
def test_config_with_odd_settings_is_refused(changes: dict[str, object], message: str, good: Path) -> None:
    """Words and numbers of the right kind that no run records are refused by their name as well."""
    path = good / "run" / "config.json"
    config = json.loads(path.read_text())
    for usual in ({"duplicates": "exact", "use_views": 2}, {"command": "ablate", "use_views": [None, 0, 2]}):
        check_config({**config, **usual}, path)
    with pytest.raises(RunError, match=message):
        check_config({**config, **changes}, path)
