"""What a run says about its choice: against the default and the runner-up, and what the search gained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import scoreboard
from pipelines.cli import main
from pipelines.metrics import metrics_of_run
from tuning import (
    Configuration,
    EarlyDrops,
    Finalists,
    Repeats,
    SearchResult,
    Trial,
    bbc_cv,
    bbc_difference,
    bbc_finalists,
    bbc_finalists_difference,
    cv_summary,
    make_folds,
    mcnemar,
    paired_difference,
)


def _found(rights: list[float], *, n: int = 400, default: int | None = 0) -> tuple[SearchResult, np.ndarray]:
    """A finished search over trials that are right on these shares of rows."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat([0, 1, 2], [n * 6 // 10, n // 10, n * 3 // 10]))
    folds = make_folds(y, random_state=0)
    trials = []
    for number, right in enumerate(rights):
        codes = np.where(rng.random(n) < right, y, rng.integers(0, 3, n))
        oof = np.eye(3, dtype=np.float32)[codes] * 0.8 + np.float32(0.2 / 3)
        configuration = Configuration("ridge", "none", {"alpha": float(number + 1)})
        trials.append(Trial(number, configuration, right, [right] * 5, 0.1, oof, asked=configuration))
    best = int(np.argmax(rights))
    return SearchResult(trials, [], best, default, folds, "macro_f1", 3), y


def _metrics(found: SearchResult, y: np.ndarray) -> dict:
    return metrics_of_run(found, y, ["a", "b", "c"], test=None, random_state=3)


def test_metrics_compare_the_winner_with_the_default_and_the_runner_up() -> None:
    """Both comparisons hold the paired difference of the winner and McNemar's p-value."""
    found, y = _found([0.3, 0.7, 0.65])
    metrics = _metrics(found, y)
    for key, other in (("against_default", 0), ("runner_up", 2)):
        compared = paired_difference(
            found.trials[1].oof,
            found.trials[other].oof,
            y,
            n_classes=3,
            folds=found.folds,
            random_state=3,
        )
        assert {name: metrics[key][name] for name in compared} == compared
        expected = mcnemar(found.trials[1].predictions, found.trials[other].predictions, y)
        assert metrics[key]["mcnemar"] == expected
    assert metrics["against_default"]["mcnemar"] < 1e-6 < metrics["runner_up"]["mcnemar"]


def test_overtuning_is_the_corrected_gain_and_says_whether_it_is_noise() -> None:
    """A real gain is outside the noise, the best of equals inside, and the terminal says which."""
    found, y = _found([0.3, 0.8, 0.6])
    metrics = _metrics(found, y)["overtuning"]
    gain = bbc_difference(found.predictions, y, 0, n_classes=3, random_state=3)
    assert metrics == {"gain": gain["difference"], "ci95": gain["ci95"], "inside_noise": False}
    assert f"gained {gain['difference']:.3f} over the default" in scoreboard.gain_line(metrics)
    assert "outside the noise" in scoreboard.gain_line(metrics)
    luck, y = _found([0.5] * 30)
    metrics = _metrics(luck, y)["overtuning"]
    assert metrics["inside_noise"] is True
    assert "inside the noise" in scoreboard.gain_line(metrics)


def test_a_single_configuration_needs_no_correction() -> None:
    """Where nothing was chosen, the corrected scores are the scores."""
    found, y = _found([0.6])
    metrics = _metrics(found, y)
    assert metrics["corrected"] == metrics["cv"]


def test_metrics_repeat_the_dropping_and_draw_groups() -> None:
    """What the search dropped takes part in the correction, and every interval is over groups."""
    found, y = _found([0.5] * 9)
    seen = np.concatenate([valid for _, valid in found.folds[:2]])
    dropped = [
        replace(trial, rung=1, oof=np.where(np.isin(np.arange(len(y)), seen)[:, None], trial.oof, np.nan))
        for trial in found.trials[4:]
    ]
    kept = replace(found, trials=found.trials[:4], dropped=dropped, best=1)
    groups = np.empty(len(y), dtype=np.int64)
    for fold, (_, valid) in enumerate(kept.folds):
        groups[valid] = 1000 * fold + np.arange(len(valid)) // 2
    metrics = metrics_of_run(kept, y, ["a", "b", "c"], groups=groups, test=None, random_state=3)
    arguments = {"n_classes": 3, "groups": groups, "random_state": 3}
    drops = EarlyDrops.of(kept.trials, dropped)
    assert drops is not None
    assert metrics["corrected"] == bbc_cv(kept.predictions, y, dropped=drops, **arguments)
    assert metrics["corrected"] != bbc_cv(kept.predictions, y, **arguments)
    assert metrics["cv"] == cv_summary(kept.trials[1].oof, y, kept.folds, **arguments)
    gain = bbc_difference(kept.predictions, y, 0, dropped=drops, **arguments)
    assert metrics["overtuning"]["ci95"] == gain["ci95"]
    against = paired_difference(kept.trials[1].oof, kept.trials[0].oof, y, folds=kept.folds, **arguments)
    assert metrics["against_default"]["ci95"] == against["ci95"]
    assert metrics["finalists"] == []


def test_metrics_are_of_the_splits_that_decided() -> None:
    """The corrected score, the gain and the runner-up are those of the finalists on other splits."""
    found, y = _found([0.3, 0.7, 0.65])
    rng = np.random.default_rng(4)
    table = np.where(rng.random((3, 2, len(y))) < 0.6, y, rng.integers(0, 3, (3, 2, len(y))))
    scores = np.array([[[0.6] * 5] * 2, [[0.7, 0.6, 0.7, 0.7, 0.7]] * 2, [[0.5] * 5] * 2])
    configurations = [found.trials[i].configuration for i in (1, 2, 0)]
    finalists = Finalists([1, 2, 0], Repeats(configurations, scores, table, 0.25))
    metrics = metrics_of_run(
        finalists.decide(found),
        y,
        ["a", "b", "c"],
        test=None,
        random_state=3,
        finalists=finalists,
        decided=True,
    )
    choice = finalists.choice(found, y)
    assert metrics["winner"]["number"] == 2
    assert metrics["corrected"] == bbc_finalists(choice, random_state=3)
    gain = bbc_finalists_difference(choice, 0, random_state=3)
    assert metrics["overtuning"]["gain"] == gain["difference"]
    assert metrics["runner_up"]["number"] == 1
    assert metrics["runner_up"]["score"] == pytest.approx(0.6)
    assert metrics["runner_up"]["difference"] == pytest.approx(0.08)
    assert metrics["runner_up"]["mcnemar"] == mcnemar(table[1, 0], table[0, 0], y)
    assert "chosen among the finalists by the other splits" in scoreboard.verdict(metrics)


def test_winner_and_default_are_compared_in_one_line() -> None:
    """The scoreboard says by how much, how surely, and McNemar's answer."""
    found, y = _found([0.3, 0.7, 0.65])
    compared = _metrics(found, y)["against_default"]
    line = scoreboard.default_line({**compared, "p_value": 0.0432, "mcnemar": 0.0})
    assert f"{compared['difference']:+.3f} (95 % interval" in line
    assert line.endswith("p = 0.043; whether both are right equally often: McNemar's p < 0.001)")


def test_a_loss_to_the_default_is_called_a_loss() -> None:
    """The sign is in the word, and a clear loss is not noise."""
    line = scoreboard.gain_line({"gain": -0.02, "ci95": [-0.03, -0.01], "inside_noise": False})
    assert line.startswith("tuning lost 0.020 over the default")
    assert "outside the noise (95 % interval -0.030 to -0.010)" in line


@pytest.mark.parametrize(("rights", "default"), [([0.6], 0), ([0.6, 0.5], None)])
def test_nothing_is_said_about_a_gain_without_a_search_or_a_default(
    rights: list[float], default: int | None
) -> None:
    """One trial, or a default that could not be trained, leaves nothing to compare."""
    metrics = _metrics(*_found(rights, default=default))
    assert metrics["overtuning"] is None
    assert metrics["against_default"] is None


def test_permuted_labels_show_no_gain_of_tuning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole tune on labels that mean nothing reports a gain inside the noise, in its one line."""
    rng = np.random.default_rng(5)
    np.save(tmp_path / "x.npy", rng.normal(size=(300, 24)).astype(np.float32))
    labels = rng.permutation(np.repeat(["a", "b", "c"], [180, 30, 90]))
    lines = ["id,label", *(f"{i},{label}" for i, label in enumerate(labels))]
    table, store = tmp_path / "t.csv", tmp_path / "noise.h5"
    table.write_text("\n".join(lines), encoding="utf-8")
    make = ["import", "--table", str(table), "--text", str(tmp_path / "x.npy"), "--out", str(store)]
    assert main(make) == 0
    tune = ["tune", "--features", str(store), "--trials", "12", "--heads", "ridge", "--study", "noise"]
    assert main([*tune, "--out", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "noise" / "metrics.json").read_text(encoding="utf-8"))
    low, high = metrics["overtuning"]["ci95"]
    assert metrics["overtuning"]["inside_noise"] is True
    assert low <= 0 <= high
    assert scoreboard.gain_line(metrics["overtuning"]) in capsys.readouterr().out
