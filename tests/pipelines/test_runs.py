"""Runs: every file of the contract, the same command again, replay, and going on after Ctrl-C."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from cache import FeatureStore
from pipelines import scoreboard
from pipelines.cli import main
from pipelines.runs import TrialFolder
from tests.pipelines.conftest import World
from tuning import SCORES, Configuration, Trial

METRICS_KEYS = {
    "classes",
    "n",
    "metric",
    "cv",
    "corrected",
    "default",
    "majority",
    "per_class",
    "test",
    "seconds",
}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_run_folder_holds_every_file_of_the_contract(world: World) -> None:
    """Settings, scores, trials, out-of-fold rows, model, predictions and report are there."""
    names = {path.name for path in world.run.iterdir()}
    assert names == {
        "config.json",
        "metrics.json",
        "trials.csv",
        "oof.csv",
        "model",
        "predictions.csv",
        "report.html",
    }
    assert not (world.run.parent / "small.work").exists()
    config = json.loads((world.run / "config.json").read_text(encoding="utf-8"))
    assert {"trials", "heads", "seed", "spaces", "versions", "metric", "folds"} <= set(config)


def test_metrics_follow_from_the_out_of_fold_rows(world: World) -> None:
    """metrics.json has the contract's keys, and its score is scikit-learn's on oof.csv."""
    metrics = json.loads((world.run / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) >= METRICS_KEYS
    assert set(metrics["cv"]) == set(metrics["corrected"]) == set(SCORES)
    rows = _rows(world.run / "oof.csv")
    assert len(rows) == metrics["n"] == 90
    classes = metrics["classes"]
    predicted = [classes[int(np.argmax([float(row[f"p_{name}"]) for name in classes]))] for row in rows]
    folds = np.array([int(row["fold"]) for row in rows])
    truth = np.array([row["label"] for row in rows])
    scores = [f1_score(truth[folds == k], np.array(predicted)[folds == k], average="macro") for k in range(3)]
    assert metrics["cv"]["macro_f1"]["mean"] == pytest.approx(np.mean(scores), abs=1e-9)
    low, high = metrics["cv"]["macro_f1"]["ci95"]
    assert low <= metrics["cv"]["macro_f1"]["mean"] <= high
    assert metrics["test"] is None


def test_predictions_answer_every_unlabelled_id_once(world: World) -> None:
    """predictions.csv has one line per withheld id, in manifest order."""
    rows = _rows(world.run / "predictions.csv")
    assert [row["guid"] for row in rows] == list(world.ids[-7:])
    assert {row["tag"] for row in rows} <= {"positive", "neutral", "negative"}


def test_same_command_has_nothing_to_do(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Tuning again with the same settings says so and changes nothing."""
    before = (in_world.run / "metrics.json").stat().st_mtime_ns
    assert main(["tune", "--trials", "5", "--heads", "logreg,mlp", "--folds", "3", "--study", "small"]) == 0
    assert "Nothing to do" in capsys.readouterr().err
    assert (in_world.run / "metrics.json").stat().st_mtime_ns == before


def test_other_settings_under_the_same_name_are_refused(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's name stands for one set of settings; the first difference is named."""
    assert main(["tune", "--trials", "6", "--heads", "logreg,mlp", "--folds", "3", "--study", "small"]) == 1
    assert "trials = 5, but 6" in capsys.readouterr().err


def test_config_replays_a_run_to_the_same_numbers(in_world: World, tmp_path: Path) -> None:
    """`--config` of a run gives the same scores, out-of-fold rows and predictions elsewhere."""
    assert main(["tune", "--config", str(in_world.run / "config.json"), "--out", str(tmp_path)]) == 0
    again = tmp_path / "small"
    for name in ("oof.csv", "predictions.csv"):
        assert (again / name).read_bytes() == (in_world.run / name).read_bytes()
    old, new = (
        json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in (in_world.run, again)
    )
    assert {k: v for k, v in old.items() if k != "seconds"} == {
        k: v for k, v in new.items() if k != "seconds"
    }


@pytest.mark.parametrize("storage", ["gone/x.journal", "plain", "nodatabase://x"])
def test_storage_that_cannot_be_opened_leaves_no_work_folder(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str
) -> None:
    """It is refused before anything is begun, so doctor has no unfinished run to show."""
    words = ["--heads", "logreg", "--trials", "2", "--study", "a", "--storage", storage]
    assert main(["tune", *words, "--out", str(tmp_path / "runs")]) == 1
    assert storage.split("/")[0] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_interrupted_tune_goes_on_without_repeating_trials(
    in_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C after the third trial exits with 130 and a hint; the same command recalls those three."""
    command = [
        "tune",
        "--trials",
        "5",
        "--heads",
        "logreg,mlp",
        "--folds",
        "3",
        "--study",
        "broken",
        "--out",
        str(tmp_path),
    ]
    real = scoreboard.TrialPrinter.__call__
    seen: list[int] = []

    def stop_at_third(self: object, trial: Trial, best: Trial) -> None:
        seen.append(trial.number)
        real(self, trial, best)  # type: ignore[arg-type]
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(scoreboard.TrialPrinter, "__call__", stop_at_third)
    monkeypatch.setattr("threading.active_count", lambda: 1)  # else it leaves by os._exit
    assert main(command) == 130
    assert "same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "broken").exists()
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "broken.work" / "trials").iterdir()}
    assert len(stored) == 3
    monkeypatch.undo()
    monkeypatch.chdir(in_world.root)
    written: list[str] = []
    put = TrialFolder.put
    monkeypatch.setattr(
        TrialFolder, "put", lambda self, trial: (written.append(trial.configuration.key), put(self, trial))[1]
    )
    assert main(command) == 0
    assert not {path.stem for path in stored} & set(written)
    assert (tmp_path / "broken" / "oof.csv").read_bytes() == (in_world.run / "oof.csv").read_bytes()


def test_trial_folder_ignores_a_damaged_trial(tmp_path: Path) -> None:
    """A stored trial comes back equal; one flipped byte and it is computed again."""
    memory = TrialFolder(tmp_path)
    trial = Trial(
        3,
        Configuration("logreg", "none", {"C": 0.1}),
        0.5,
        [0.4, 0.6],
        1.0,
        np.ones((4, 2), dtype=np.float32),
        0,
    )
    memory.put(trial)
    found = memory.get(trial.configuration.key)
    assert found is not None
    assert (found.score, found.fold_scores, found.configuration) == (0.5, [0.4, 0.6], trial.configuration)
    np.testing.assert_array_equal(found.oof, trial.oof)
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert memory.get(trial.configuration.key) is None


def test_train_fits_one_head_with_given_parameters(in_world: World, tmp_path: Path) -> None:
    """train writes the same kind of run, for one configuration."""
    command = [
        "train",
        "--head",
        "logreg",
        "--set",
        "C=0.5",
        "--resampler",
        "smote",
        "--folds",
        "3",
        "--study",
        "one",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["winner"]["parameters"]["C"] == 0.5
    assert metrics["winner"]["resampler"] == "smote"
    assert metrics["runner_up"] is None


def test_permuted_labels_score_chance_through_the_whole_pipeline(tmp_path: Path) -> None:
    """With labels that mean nothing, the corrected score of a whole tune is within noise of chance."""
    rng = np.random.default_rng(1)
    n = 300
    np.save(tmp_path / "x.npy", rng.normal(size=(n, 24)).astype(np.float32))
    labels = rng.permutation(np.repeat(["a", "b", "c"], [180, 30, 90]))
    lines = ["id,label", *(f"{i},{label}" for i, label in enumerate(labels))]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    store = tmp_path / "noise.h5"
    assert (
        main(
            [
                "import",
                "--table",
                str(tmp_path / "t.csv"),
                "--text",
                str(tmp_path / "x.npy"),
                "--out",
                str(store),
            ]
        )
        == 0
    )
    command = ["tune", "--features", str(store), "--trials", "12", "--study", "noise", "--out", str(tmp_path)]
    assert main(command) == 0
    metrics = json.loads((tmp_path / "noise" / "metrics.json").read_text(encoding="utf-8"))
    corrected = metrics["corrected"]["macro_f1"]["mean"]
    # Chance lies between "always the most frequent class" (0.25) and a fair guess (about 1/3).
    assert 0.2 < corrected < 0.40
    assert metrics["cv"]["macro_f1"]["mean"] > corrected


def test_test_split_is_scored_once_and_never_trained_on(tmp_path: Path) -> None:
    """Rows of the test split are left out of cross-validation; their labels cannot leak."""
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 60)
    x = rng.normal(size=(120, 8)) + (y == "b")[:, None] * 2
    splits = np.where(np.arange(120) % 4 == 0, "test", "train")
    flipped = np.where(splits == "test", np.where(y == "a", "b", "a"), y)
    np.save(tmp_path / "x.npy", x.astype(np.float32))
    lines = [
        "id,label,split",
        *(f"{i},{label},{split}" for i, (label, split) in enumerate(zip(flipped, splits, strict=True))),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    store = tmp_path / "s.h5"
    assert (
        main(
            [
                "import",
                "--table",
                str(tmp_path / "t.csv"),
                "--image",
                str(tmp_path / "x.npy"),
                "--out",
                str(store),
            ]
        )
        == 0
    )
    assert main(["train", "--features", str(store), "--study", "r", "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n"] == 90
    assert metrics["cv"]["accuracy"]["mean"] > 0.9
    assert metrics["test"]["n"] == 30
    assert metrics["test"]["accuracy"]["mean"] < 0.1
    with FeatureStore.open(store) as opened:
        assert opened.n_rows == 120


def test_two_processes_cannot_make_the_same_run(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While one process makes a run, another is told so; the system frees the run when the process ends."""
    import fcntl

    work = tmp_path / "shared.work"
    command = ["train", "--folds", "3", "--study", "shared", "--out", str(tmp_path)]
    work.mkdir()
    with (work / "LOCK").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(command) == 1
        assert "another process" in capsys.readouterr().err
    assert main(command) == 0


def test_a_search_stopped_by_its_timeout_is_another_run(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search that ran out of time says so, and the same search without a limit starts anew."""
    command = ["tune", "--heads", "logreg", "--folds", "3", "--trials", "40", "--out", str(tmp_path)]
    assert main([*command, "--timeout", "0.0001"]) == 0
    assert "--timeout stopped the search" in capsys.readouterr().err
    stopped = json.loads(next(tmp_path.glob("*/metrics.json")).read_text(encoding="utf-8"))
    assert stopped["n_trials"] < 40
    assert main([*command, "--trials", "4"]) == 0
    assert len(list(tmp_path.glob("*/metrics.json"))) == 2


def test_config_refuses_a_store_that_has_changed(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replaying a run on another store under the same name would not be a replay."""
    config = json.loads((in_world.run / "config.json").read_text(encoding="utf-8"))
    config["spaces"][0]["store_fingerprint"] = "0" * 64
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert main(["tune", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path)]) == 1
    assert "has changed since" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"command": "tune"}', encoding="utf-8")
    assert main(["tune", "--config", str(tmp_path / "config.json")]) == 1
    assert "names no spaces" in capsys.readouterr().err
    assert main(["tune", "--config", str(tmp_path)]) == 1
    assert f"--config takes a file: '{tmp_path / 'config.json'}'" in capsys.readouterr().err


def test_tune_selects_the_simplest_trial_when_asked(in_world: World, tmp_path: Path) -> None:
    """With --select simplest the winner is no better than the best, and the run is another one."""
    command = ["tune", "--heads", "logreg,ridge", "--folds", "3", "--trials", "12", "--out", str(tmp_path)]
    assert main(command) == 0
    assert main([*command, "--select", "simplest"]) == 0
    runs = {
        json.loads((path / "config.json").read_text(encoding="utf-8")).get("select", "best"): json.loads(
            (path / "metrics.json").read_text(encoding="utf-8")
        )
        for path in tmp_path.iterdir()
    }
    assert set(runs) == {"best", "simplest"}
    assert runs["simplest"]["winner"]["head"] == "ridge"  # of the two the simpler
    assert runs["simplest"]["cv"]["macro_f1"]["mean"] <= runs["best"]["cv"]["macro_f1"]["mean"]
