"""What a finished run records of its winner, folds and groups, and runs that cannot be trained anew."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.errors import RunError
from pipelines.matrices import read_matrix
from pipelines.recorded_winner import recorded_folds, recorded_groups, winner_of_run
from pipelines.runs import read_json
from pipelines.trainable import matrix_folds
from tests.pipelines.ablation_stores import labels_of, make_store, noisy


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 60 rows, of which every two share a text."""
    root = tmp_path_factory.mktemp("recorded")
    codes = np.repeat(labels_of(30), 2)
    texts = tuple(f"text number {row // 2}" for row in range(len(codes)))
    store = make_store(root / "s.h5", "s", {"text": noisy(codes, 1.0)}, codes, texts=texts)
    train = ["train", "--features", str(store), "--set", "C=0.5", "--folds", "3", "--study", "r"]
    assert main([*train, "--out", str(root)]) == 0
    return root / "r"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made, tmp_path / "r"))


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**read_json(path), **values}), encoding="utf-8")


def test_winner_and_folds_are_those_of_the_run(run: Path) -> None:
    """The folds are the ones that were cut, in the order of the rows that are asked for."""
    configuration, config = winner_of_run(run)
    assert (configuration.head, configuration.parameters["C"]) == ("logreg", 0.5)
    assert config["command"] == "train"
    matrix = read_matrix([f"{space['path']}:{space['space']}" for space in config["spaces"]])
    ids = [matrix.ids[row] for row in matrix.training]
    for found, expected in zip(recorded_folds(run, ids), matrix_folds(matrix, 3, 0), strict=True):
        for part, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part, np.sort(wanted))
    turned = recorded_folds(run, ids[::-1])
    np.testing.assert_array_equal(np.sort(len(ids) - 1 - turned[0][1]), recorded_folds(run, ids)[0][1])


def test_groups_are_those_of_related_rows(run: Path) -> None:
    """Rows that share a text have one number, in the order that is asked for."""
    config = read_json(run / "config.json")
    groups = recorded_groups(run, config, ["0", "7", "1", "6"])
    assert groups[0] == groups[2]
    assert groups[1] == groups[3]
    assert groups[0] != groups[1]
    with pytest.raises(RunError, match=r"lack 1 of its 2 rows"):
        recorded_groups(run, config, ["0", "sixty"])
    with pytest.raises(RunError, match=r"Other rows of .* are related now"):
        recorded_groups(run, {**config, "related_rows": "0" * 16}, ["0"])


def test_groups_are_found_without_counting_terms(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is related to whom follows from the texts: no term is counted and no vector read for it."""
    store = f"{made.parent / 's.h5'}:text.terms"
    assert main(["train", "--features", store, "--folds", "3", "--study", "t", "--out", str(tmp_path)]) == 0
    run = tmp_path / "t"
    config = read_json(run / "config.json")
    monkeypatch.delattr("pipelines.joined_blocks.build_term_counts")
    monkeypatch.delattr("pipelines.stored_rows.StoredBlock.read")
    groups = recorded_groups(run, config, [str(row) for row in range(60)])
    np.testing.assert_array_equal(groups, np.repeat(np.arange(30), 2))


def test_folds_of_other_or_damaged_rows_are_refused(run: Path) -> None:
    """One line that names the file: a row less, a fold that is no number, one fold only."""
    with (run / "oof.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = list(csv.reader(file))
    ids = [line[0] for line in lines]

    def write(rows: list[list[str]]) -> None:
        with (run / "oof.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    for rows, told in (
        (lines[1:], r"has 59 rows in 3 fold\(s\), but the run's stores have 60 labelled rows"),
        ([[ids[0], "first", *lines[0][2:]], *lines[1:]], r"oof\.csv' is damaged \(ValueError"),
        ([[line[0], "0", *line[2:]] for line in lines], r"has 60 rows in 1 fold\(s\)"),
    ):
        write(rows)
        with pytest.raises(RunError, match=told):
            recorded_folds(run, ids)


@pytest.mark.parametrize("command", ["stability", "robustness", "augment"])
def test_heads_that_cannot_be_trained_anew_are_refused(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zero-shot head, settings that no run records, and no winner at all are one line each."""
    out = [] if command == "robustness" else ["--out", str(tmp_path / "out")]
    before = {name: (run / name).read_bytes() for name in ("metrics.json", "config.json")}
    for name, values, told in (
        ("metrics.json", {"winner": {"head": "zero-shot", "resampler": "none", "parameters": {}}},
         "is 'zero-shot', which cannot be trained anew here"),
        ("metrics.json", {"winner": {"head": ["mlp"], "resampler": "none", "parameters": {}}},
         "has no winner; --run takes a run folder of tune or train"),
        ("metrics.json", {"winner": {"head": "logreg", "resampler": "none", "parameters": {"CC": 1}}},
         "has parameter 'CC', which this version does not know"),
        ("metrics.json", {"winner": {"head": "logreg", "resampler": "none", "parameters": {"C": -1}}},
         "has parameter 'C' of -1, which this version does not know"),
        ("metrics.json", {"winner": {"head": "oracle", "resampler": "dice", "parameters": {"C": 1}}},
         "has head 'oracle', resampler 'dice', which this version does not know"),
        ("config.json", {"folds": 1, "metric": "beauty"},
         "is not what a run records: folds is 1; metric is 'beauty'. Make the run again."),
        ("config.json", {"use_views": "two", "duplicates": 3},
         "is not what a run records: duplicates is 3; use_views is 'two'. Make the run again."),
        ("config.json", {"duplicates": None}, "is not what a run records: duplicates is None."),
    ):  # fmt: skip
        _change(run / name, **values)
        assert main([command, "--run", str(run), *out]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        (run / name).write_bytes(before[name])
    assert not (tmp_path / "out").exists()
