"""`tune --space`, `--grid` and `--print-space`: what is tried is what the file says."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from heads import HEADS
from pipelines.cli import main
from tests.pipelines.conftest import World

TUNE = ["tune", "--folds", "2", "--study", "s"]
GRID = "[svm]\nC = [0.01, 0.1]\nbalance = ['none', 'class-weight^0.5']\nonly = true\n"


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    """A grid of four points."""
    path = tmp_path / "grid.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


def _tried(run: Path) -> list[dict[str, object]]:
    with (run / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [json.loads(row["parameters"]) for row in csv.DictReader(file)]


def test_grid_tries_every_combination_and_nothing_else(
    in_world: World, grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run lists the four points in order; its config has the space, and replays it without the file."""
    command = [*TUNE, "--heads", "svm", "--grid"]
    assert main([*command, "--space", str(grid_file), "--out", str(tmp_path / "a")]) == 0
    run = tmp_path / "a" / "s"
    tried = [(one["C"], one["class_weight"]) for one in _tried(run)]
    assert tried == [(0.01, None), (0.01, 0.5), (0.1, None), (0.1, 0.5)]
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["grid"] is True
    assert config["space"]["svm"]["C"] == [0.01, 0.1]
    grid_file.unlink()
    capsys.readouterr()
    assert main(["tune", "--config", str(run / "config.json"), "--out", str(tmp_path / "b")]) == 0
    assert _tried(tmp_path / "b" / "s") == _tried(run)


def test_space_is_what_the_search_tries(in_world: World, tmp_path: Path) -> None:
    """Fixed values and ranges of the file hold in every trial."""
    path = tmp_path / "space.toml"
    path.write_text("[ridge]\nalpha = {low = 5, high = 6}\nbalance = 'effective'\n", encoding="utf-8")
    command = [*TUNE, "--heads", "ridge", "--trials", "5", "--space", str(path), "--out", str(tmp_path)]
    assert main(command) == 0
    tried = _tried(tmp_path / "s")
    assert len(tried) == 5
    assert all(5 <= float(str(one["alpha"])) <= 6 and one["class_weight"] == "effective" for one in tried)


def test_another_space_under_the_same_name_is_refused(
    in_world: World, grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The space is part of what makes a run."""
    command = [*TUNE, "--heads", "svm", "--grid", "--space", str(grid_file), "--out", str(tmp_path)]
    assert main(command) == 0
    grid_file.write_text(GRID.replace("0.1]", "0.2]"), encoding="utf-8")
    assert main(command) == 1
    assert "was made with space.svm.C" in capsys.readouterr().err.replace("'", "")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("[svm]\nC = [0.01, 0.1]\n", [], "there are ranges: mlp.n_hidden, mlp.dropout"),
        (GRID, ["--trials", "3"], "The grid has 4 combinations, and --trials allows 3"),
        ("[smv]\nC = 1\n[svm]\nC = 0\n", [], "has 2 fault(s): unknown head 'smv'"),
        ("[svm\n", [], "This is not TOML"),
        ("", [], "there are ranges"),
    ],
)
def test_wrong_spaces_are_refused_before_anything_is_written(
    in_world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    options: list[str],
    message: str,
) -> None:
    """One line says what is wrong, and no run folder is begun."""
    path = tmp_path / "space.toml"
    path.write_text(text, encoding="utf-8")
    heads = [] if "ranges" in message else ["--heads", "svm"]
    out = tmp_path / "runs"
    is_word = "ranges" in message or "--trials allows" in message  # what was asked for, not the file
    code = main([*TUNE, *heads, "--grid", *options, "--space", str(path), "--out", str(out)])
    assert code == (2 if is_word else 1)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


def test_space_files_that_cannot_be_read_are_named(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing file, a folder and bytes that are no text are one clear line each."""
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "missing.toml", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (binary, "is not UTF-8"),
    ):
        assert main([*TUNE, "--space", str(path)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert str(path) in error


def test_print_space_prints_a_file_that_tune_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every head's space is printed as TOML; printed again with that file, it is the same."""
    command = ["tune", "--heads", ",".join(HEADS), "--print-space"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    path = tmp_path / "space.toml"
    path.write_text(printed, encoding="utf-8")
    assert main([*command, "--space", str(path)]) == 0
    assert capsys.readouterr().out == printed
    assert main([*command, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(HEADS)
