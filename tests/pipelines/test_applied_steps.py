"""``--calibrate`` and ``--decide``: fitted on out-of-fold rows, kept in the model, applied by ``predict``."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from heads import fit_decision_weights, fit_temperature, fit_vector_scaling, load_model
from pipelines.applied_steps import AppliedSteps, asked_steps
from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.matrices import read_matrix
from pipelines.predict import PredictSettings, predict
from tests.pipelines.ablation_stores import CLASSES, labels_of, make_store, noisy
from tuning import score


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 160 rows whose classes overlap, the last ten without a label."""
    codes = labels_of(160)
    vectors = {"text": noisy(codes, 1.0)}
    shown = np.where(np.arange(160) < 150, codes, -1)
    return make_store(tmp_path_factory.mktemp("stores") / "bert.h5", "bert", vectors, shown)


def _trained(store: Path, out: Path, *words: str, verb: str = "train") -> Path:
    command = [verb, "--features", str(store), "--folds", "3", "--out", str(out), "--study", "run", *words]
    assert main(command) == 0
    return out / "run"


def _out_of_fold(run: Path) -> tuple[np.ndarray, np.ndarray]:
    with (run / "oof.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])
    return table, np.array([CLASSES.index(row["label"]) for row in rows])


@pytest.mark.parametrize("calibrate", ["temperature", "vector"])
def test_predict_applies_calibration_and_weights(calibrate: str, store: Path, tmp_path: Path) -> None:
    """Probabilities and tags of predict are those made by hand from the model's and the stored numbers."""
    run = _trained(store, tmp_path, "--calibrate", calibrate, "--decide", "weights")
    model = load_model(run / "model")
    found = predict(PredictSettings(run=run, features=(str(store),)))
    raw = model.predict_proba(read_matrix([str(store)]).X)
    facts = model.extra["after"]
    assert isinstance(facts, dict)
    logs = np.log(np.maximum(raw / raw.sum(axis=1, keepdims=True), 1e-7))
    values = facts["calibration"]
    if calibrate == "temperature":
        logits = logs / values["temperature"]
    else:
        logits = logs * np.array(values["scale"]) + np.array(values["shift"])
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, by_hand, atol=1e-12, rtol=0)
    chosen = (by_hand * np.array(facts["decision"]["weights"])).argmax(axis=1)
    assert found.tags == tuple(CLASSES[code] for code in chosen)
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert [row["tag"] for row in csv.DictReader(file)] == list(found.tags[150:])


def test_applied_steps_are_fitted_on_the_out_of_fold_rows(store: Path, tmp_path: Path) -> None:
    """What the model holds is what the heads' own functions find on oof.csv."""
    run = _trained(store, tmp_path, "--calibrate", "temperature", "--decide", "weights")
    table, y = _out_of_fold(run)
    facts = load_model(run / "model").extra["after"]
    assert isinstance(facts, dict)
    temperature = fit_temperature(table, y)
    assert facts["calibration"]["temperature"] == pytest.approx(temperature.temperature, rel=1e-3)
    weights = fit_decision_weights(
        temperature.apply(table), y, metric=lambda counts: score(counts, "macro_f1")
    )
    np.testing.assert_allclose(facts["decision"]["weights"], weights.weights, rtol=0.02)
    vector = _trained(store, tmp_path / "v", "--calibrate", "vector")
    fitted = fit_vector_scaling(table, y)
    facts = load_model(vector / "model").extra["after"]
    assert isinstance(facts, dict)
    np.testing.assert_allclose(facts["calibration"]["scale"], fitted.scale, rtol=1e-3)


def test_metrics_say_what_is_applied_beside_what_is_not(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With and without stand side by side; temperature alone cannot change a class, only the log loss."""
    run = _trained(store, tmp_path, "--calibrate", "temperature")
    assert "what predict applies" in capsys.readouterr().out
    after = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["after"]
    assert after["applied"] == after["temperature"]
    assert after["applied"]["macro_f1"] == after["none"]["macro_f1"]
    assert after["applied"]["log_loss"] != after["none"]["log_loss"]


def test_low_confidence_rule_names_the_preferred_class(store: Path, tmp_path: Path) -> None:
    """An unsure answer becomes the preferred class where that is likely enough, in predict as well."""
    run = _trained(store, tmp_path, "--decide", "low-confidence:neutral,0.7,0.2")
    found = predict(PredictSettings(run=run, features=(str(store),)))
    p = found.probabilities
    neutral = found.class_names.index("neutral")
    moved = (p.max(axis=1) < 0.7) & (p[:, neutral] > 0.2)
    wanted = np.where(moved, neutral, p.argmax(axis=1))
    assert found.tags == tuple(found.class_names[code] for code in wanted)
    assert (wanted != p.argmax(axis=1)).any()


def test_tune_applies_steps_and_replays_them(store: Path, tmp_path: Path) -> None:
    """tune takes the same options, and --config brings them along."""
    words = ["--heads", "centroid,ridge", "--trials", "3", "--calibrate", "vector", "--decide", "weights"]
    run = _trained(store, tmp_path, *words, verb="tune")
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert (config["calibrate"], config["decide"]) == ("vector", "weights")
    assert main(["tune", "--config", str(run / "config.json"), "--out", str(tmp_path / "again")]) == 0
    again = tmp_path / "again" / "run"
    assert load_model(again / "model").extra["after"] == load_model(run / "model").extra["after"]
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


def test_run_without_steps_keeps_its_settings_and_its_model(store: Path, tmp_path: Path) -> None:
    """Nothing is recorded that was not asked for, so earlier runs keep their names."""
    run = _trained(store, tmp_path)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert {"calibrate", "decide", "weights"} & set(config) == set()
    assert set(load_model(run / "model").extra) == {"spaces"}
    found = predict(PredictSettings(run=run, features=(str(store),)))
    raw = load_model(run / "model").predict_proba(read_matrix([str(store)]).X)
    np.testing.assert_array_equal(found.probabilities, raw)


def test_altered_steps_are_refused(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The steps lie under the model's hash."""
    run = _trained(store, tmp_path, "--calibrate", "temperature")
    card = run / "model" / "model.json"
    facts = json.loads(card.read_text(encoding="utf-8"))
    facts["extra"]["after"]["calibration"]["temperature"] = 3.0
    card.write_text(json.dumps(facts), encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", "--run", str(run), "--features", str(store)]) == 1
    assert "was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("calibrate", "decide", "message"),
    [
        ("temperatur", "argmax", "did you mean 'temperature'"),
        ("none", "weight", "unknown decision 'weight'"),
        ("none", "weights:neutral", "takes nothing after its name"),
        ("none", "low-confidence", "is not low-confidence:CLASS"),
        ("none", "low-confidence:neutral,0.8", "is not low-confidence:CLASS"),
        ("none", "low-confidence:neutral,0.8,4", "is not low-confidence:CLASS"),
    ],
)
def test_wrong_words_are_refused(calibrate: str, decide: str, message: str) -> None:
    """A wrong word says what is allowed."""
    with pytest.raises(UsageError, match=message):
        asked_steps(calibrate, decide)


def test_all_wrong_words_are_named_at_once(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both options are checked together; a class that the data lack is named with what there is."""
    assert main(["train", "--features", str(store), "--calibrate", "x", "--decide", "y"]) == 2
    error = capsys.readouterr().err
    assert "unknown calibration 'x'" in error
    assert "unknown decision 'y'" in error
    assert asked_steps("none", "low-confidence:neutral") == AppliedSteps("none", "low-confidence", "neutral")


def test_preferred_class_that_is_not_there_is_refused_before_anything_is_written(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A class that the data lack is a wrong word."""
    words = ["--decide", "low-confidence:neutrall", "--out", str(tmp_path / "runs")]
    assert main(["train", "--features", str(store), *words]) == 2
    assert "did you mean 'neutral'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_test_split_is_scored_as_predict_answers_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the scores of the model alone stand those of the answers, which are the tags of predict."""
    codes = labels_of(160)
    np.save(tmp_path / "x.npy", noisy(codes, 1.0))
    split = np.where(np.arange(160) % 4 == 0, "test", "train")
    rows = [f"{k},{CLASSES[code]},{part}" for k, (code, part) in enumerate(zip(codes, split, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(["id,label,split", *rows]) + "\n", encoding="utf-8")
    store = tmp_path / "s.h5"
    arrays = ["--table", str(tmp_path / "t.csv"), "--text", str(tmp_path / "x.npy"), "--out", str(store)]
    assert main(["import", *arrays]) == 0
    plain = _trained(store, tmp_path / "plain")
    asked = ["--calibrate", "temperature", "--decide", "low-confidence:neutral,0.9,0.1"]
    run = _trained(store, tmp_path / "asked", *asked)
    assert "test split, as predict answers: macro_f1" in capsys.readouterr().out
    alone = json.loads((plain / "metrics.json").read_text(encoding="utf-8"))["test"]
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]
    assert "applied" not in alone
    assert {key: found[key] for key in alone} == alone
    answers = dict(zip(*_ids_and_tags(run, store), strict=True))
    right = [answers[str(k)] == CLASSES[codes[k]] for k in np.flatnonzero(split == "test")]
    assert found["applied"]["accuracy"]["mean"] == pytest.approx(np.mean(right))
    assert found["applied"]["accuracy"] != found["accuracy"]
    assert "test, as predict answers" in (run / "report.html").read_text(encoding="utf-8")


def _ids_and_tags(run: Path, store: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = predict(PredictSettings(run=run, features=(str(store),)))
    return found.ids, found.tags
