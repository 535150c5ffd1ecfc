"""The command line as a stranger meets it: help, wrong input, exit codes, and what is printed where."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.cli import _one_line as _one_line_of
from pipelines.cli import extract_features, main, tune
from pipelines.console import Progress
from pipelines.errors import unwritable
from pipelines.verbs import VERBS
from tests.kit.data_sets import write_guid_data_set
from tests.kit.processor_time import children_seconds
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World

COMMAND = [sys.executable, "-m", "pipelines"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_answers_in_under_300_ms(verb: str | None) -> None:
    """Help of every command takes little of the processor; the first of five that is quick enough counts."""
    words = [verb, "--help"] if verb else ["--help"]
    seconds: list[float] = []
    while not seconds or (min(seconds) >= 0.3 and len(seconds) < 5):
        began = children_seconds()
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, cwd=ROOT, check=False)
        seconds.append(children_seconds() - began)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: embedonce")
    assert min(seconds) < 0.3


def _one_line(captured: str) -> str:
    lines = [line for line in captured.splitlines() if line.startswith("embedonce: ")]
    assert len(lines) == 1, captured
    assert "Traceback" not in captured
    return lines[0]


BAD_PATHS = {
    "missing": lambda folder: folder / "nowhere",
    "directory": lambda folder: folder / "folder",
    "empty": lambda folder: folder / "empty.h5",
    "text": lambda folder: folder / "text.h5",
    "truncated": lambda folder: folder / "cut.h5",
}


@pytest.fixture
def bad(world: World, tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("hello", encoding="utf-8")
    whole = (world.root / "features" / "tiny-clip.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize("kind", BAD_PATHS)
@pytest.mark.parametrize(
    "words",
    [
        ["inspect"],
        ["verify"],
        ["tune", "--features"],
        ["train", "--features"],
        ["ablate", "--features"],
        ["report", "--run"],
        ["predict", "--run"],
        ["stability", "--run"],
        ["robustness", "--run"],
        ["augment", "--run"],
        ["errors", "--run"],
        ["explain", "--text", "x", "--run"],
        ["audit", "--features"],
        ["extract", "--backbone", "minilm-l6", "--data"],
        ["inspect", "--data"],
        ["import", "--out", "x.h5", "--text", "x.npy", "--table"],
        ["tune", "--config"],
    ],
    ids=" ".join,
)
def test_wrong_paths_are_one_clear_line(
    bad: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    words: list[str],
) -> None:
    """No command shows a traceback for a missing path, a folder, an empty, a foreign or a cut file."""
    monkeypatch.chdir(bad)
    path = BAD_PATHS[kind](bad)
    assert main([*words, str(path)]) in (1, 2)
    captured = capsys.readouterr()
    line = _one_line(captured.err)
    assert "internal error" not in line
    assert captured.out == ""
    assert not list(bad.rglob("*.work"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["extract", "--backbone", "clip"], "ambiguous"),
        (["extract", "--backbone", "clip-vit-l41"], "clip-vit-l14"),
        (["tune", "--heads", "mlp,forest"], "'forest'"),
        (["tune", "--metric", "macro-f2"], "macro"),
        (["tune", "--trials", "0"], "at least 1"),
        (["tune", "--storage", "sqlite:///x.db"], "--study"),
        (["tune", "--study", "../x"], "plain name"),
        (["train", "--set", "c=1"], "'c'"),
        (["train", "--resampler", "smoth"], "'smoth'"),
        (["predict", "--run", "runs/small", "--text", "x", "--data", "."], "different inputs"),
        (["inspect"], "either a store"),
        (["import", "--table", "train.txt", "--out", "x.h5"], "at least one array"),
    ],
)
def test_wrong_usage_says_what_is_allowed(
    in_world: World, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """A wrong word ends with what was found and what is allowed."""
    assert main(words) in (1, 2)
    assert says in _one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["tune", "--trails", "3"],
            "unrecognized arguments: --trails 3; for '--trails', did you mean '--trials'",
        ),
        (["tune", "--zzz=1"], "unrecognized arguments: --zzz=1\n"),
        (["tun"], "for 'tun', did you mean 'tune'"),
        (["train", "--duplicates", "exac"], "for 'exac', did you mean 'exact'"),
        (
            ["inspect", "--data", ".", "--encodings", "utf-8,foo"],
            "encoding 'foo' is not known; use names such as",
        ),
    ],
)
def test_mistyped_words_exit_with_two_and_name_what_was_meant(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """An unknown option, verb, choice or encoding is refused before any work, with near matches."""
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, extract_features, tune])
def test_version_is_that_of_the_package(
    capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int]
) -> None:
    """Each of the three commands says it with --version."""
    with pytest.raises(SystemExit, match="0"):
        command(["--version"])
    assert capsys.readouterr().out == f"embedonce {version('embedonce')}\n"


def test_run_that_is_a_file_is_said_to_be_one(
    bad: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is 'missing' in a file."""
    monkeypatch.chdir(bad)
    assert main(["predict", "--run", "text.h5"]) == 1
    assert _one_line(capsys.readouterr().err).startswith(
        "embedonce: 'text.h5' is not a folder, but a run is one."
    )


def test_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is named, not a temporary file in it; of an --out before anything is computed."""
    for name in ("runs/0123abcd.tmp", "runs/tune-1.work"):
        said = _one_line_of(PermissionError(errno.EACCES, "Permission denied", name))
        assert said.startswith("Permission denied: nothing can be written in the folder 'runs'. Make it")
    assert (
        _one_line_of(PermissionError(errno.EACCES, "Permission denied", "a.h5"))
        == "Permission denied: 'a.h5'"
    )
    assert unwritable(tmp_path / "predictions.csv") == ""
    monkeypatch.setattr(os, "access", lambda folder, _how: folder != tmp_path)  # root may write everywhere
    assert f"nothing may be written in the folder '{tmp_path}'" in unwritable(tmp_path / "predictions.csv")


def test_progress_gives_a_rate_only_once_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line counts; the second has the rate since."""
    clock = iter([0.0, 5.0, 35.0])
    monkeypatch.setattr("pipelines.console.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    progress = Progress("text", "texts", stream=stream)
    progress.update(10, 40)
    progress.update(20, 40)
    assert stream.getvalue().splitlines() == [
        "text: 10/40 texts (25 %)",
        "text: 20/40 texts (50 %), 0.3/s, 1 min 10 s left",
    ]


def test_dry_run_of_a_store_that_is_there_says_that_there_is_nothing_to_do(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of the pass itself, and without bytes or seconds that nothing needs."""
    words = ["extract", "--backbone", str(in_world.clip), "--dry-run"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "Nothing to do: 'features/tiny-clip.h5' is whole" in captured.err
    assert "would write" not in captured.out
    assert "time" not in captured.out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nothing_to_do"] is True


@pytest.mark.parametrize(
    "words", [["extract", "--backbone", "minilm-l6", "--limit", "-1"], ["tune", "--tri", "3"]]
)
def test_options_are_neither_negative_nor_abbreviated(words: list[str]) -> None:
    """A negative --limit would cut from the end, and a cut option name would lose against --config."""
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_missing_weights_are_one_message_with_two_ways(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a network, clip-vit-l14 ends in what is missing and how to provide it."""
    assert main(["extract", "--backbone", "clip-vit-l14"]) == 1
    line = _one_line(capsys.readouterr().err)
    assert "openai/clip-vit-large-patch14" in line
    assert "--weights" in line
    assert "HF_HOME" in line


def test_several_stores_are_listed_not_guessed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two stores that offer the same modality need --features; none at all says how to make one."""
    monkeypatch.chdir(tmp_path)
    assert main(["tune"]) == 2
    assert "extract-features" in capsys.readouterr().err
    (tmp_path / "features").mkdir()
    for name in ("a.h5", "b.h5"):
        shutil.copy(world.root / "features" / "tiny-clip.h5", tmp_path / "features" / name)
    assert main(["tune"]) == 2
    assert "features/a.h5" in capsys.readouterr().err


def test_json_prints_one_object(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """--json output of each command parses."""
    store = "features/tiny-clip.h5"
    for words in (
        ["inspect", store],
        ["inspect", "--data", "."],
        ["verify", store],
        ["backbones"],
        ["extract", "--backbone", str(in_world.clip)],
        ["extract", "--backbone", str(in_world.clip), "--dry-run"],
        ["ablate", "--folds", "3"],
        ["report", "--run", str(in_world.run)],
    ):
        capsys.readouterr()
        assert main([*words, "--json"]) == 0, words
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_inspect_describes_a_store_without_loading_what_embeds(tmp_path: Path, words: list[str]) -> None:
    """Looking at a store loads neither the pass nor its command, nor anything heavy."""
    codes = labels_of(6)
    store = make_store(tmp_path / "s.h5", "s", {"text": noisy(codes, 1.0)}, codes)
    code = (
        "import sys; from pipelines.cli import main; status = main(sys.argv[1:]); "
        "known = {'extract.engine', 'extract.run', 'pipelines.extract', 'torch', 'pandas', 'sklearn'}; "
        "sys.stderr.write(f'loaded: {sorted(known & set(sys.modules))}'); raise SystemExit(status)"
    )
    command = [sys.executable, "-c", code, "inspect", str(store), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "6" in done.stdout
    assert done.stderr.endswith("loaded: []")


def test_inspect_describes_what_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data set's oddities are all in its description."""
    write_guid_data_set(tmp_path, 20, 2)
    files = tmp_path / "data"
    (files / "100.txt").write_bytes("I don’t know".encode("cp1252"))
    (files / "101.txt").write_bytes("今天天气很好，心情不错".encode("gbk"))
    (files / "102.jpg").unlink()
    (files / "103.jpg").write_bytes((files / "103.jpg").read_bytes()[:300])
    (files / "stray.md").touch()
    with (tmp_path / "train.txt").open("a") as file:
        file.write("7.0,positive\n")
    (files / "7.txt").write_text("the cat", encoding="utf-8")
    shutil.copy(files / "105.jpg", files / "7.jpg")
    assert main(["inspect", "--data", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 23
    assert found["encodings"] == {"utf-8": 21, "cp1252": 1, "gb18030": 1}
    assert found["broken"] == {"102": "image_missing", "103": "image_corrupt"}
    assert found["repeated images"] == 1
    assert "'7.0' -> '7'" in found["notes"]["repaired ids"]
    assert found["notes"]["files ignored"].startswith("1 ")
    assert main(["inspect", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "not ok: 103 (image_corrupt)" in printed
    assert "gb18030 1" in printed


#: The command, which says when it has a shard, and then waits as if the next batch took minutes.
WAITS_AFTER_A_SHARD = """
import sys, threading, time
from pathlib import Path
import extract.assembly
from cache import PassFolder
from extract.assembly import Assembly
from pipelines.cli import main
extract.assembly.HOLD_SECONDS = 0.0  # shards are written one by one, as in a pass of minutes
write, settle, written = PassFolder.write, Assembly.settle, threading.Event()
def write_and_note(*given):
    write(*given)
    written.set()
def settle_and_wait(assembly):
    settle(assembly)
    if written.is_set():
        Path("waits").touch()
        time.sleep(600)
PassFolder.write, Assembly.settle = write_and_note, settle_and_wait
sys.exit(main())
"""


def test_ctrl_c_during_a_pass_exits_130_and_says_how_to_go_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGINT in the middle of a real pass leaves one line and no store; the same command then finishes."""
    write_guid_data_set(tmp_path / "set", 600, 0)
    words = ["extract", "--backbone", str(world.clip), "--data", "set", "--batch-size", "4"]
    child = subprocess.Popen(
        [sys.executable, "-c", WAITS_AFTER_A_SHARD, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "waits").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    has_shard = bool(list(tmp_path.glob("features/*.work/shards/*.h5")))
    out, err = child.communicate(timeout=120)
    assert has_shard, err
    assert child.returncode == 130, err
    assert "same command goes on" in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.glob("features/*.h5"))
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert counts["text"]["resumed"] + counts["text"]["computed"] == 600
    assert counts["text"]["resumed"] >= 256
    assert counts["image"]["computed"] > 0
