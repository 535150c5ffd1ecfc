"""Model files: what is saved predicts the same, and nothing else is loaded."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import heads
from heads import load_model, make_pipeline, save_model
from heads.model_files import _card_hash

NAMES = ["positive", "neutral", "negative"]
BLOCKS = {"text": 5, "image": 7}
FAST = {name: {} for name in heads.HEADS} | {
    "mlp": {"max_epochs": 3, "n_hidden": 2, "hidden": 16},
    "lightgbm": {"n_estimators": 5},
}


def _fitted(name, data, **more):
    X, y = data
    missing = X.copy()
    missing[::9, :5] = np.nan
    pipeline = make_pipeline(name, blocks=BLOCKS, parameters={**FAST[name], **more}, resampler="random-over")
    return pipeline.fit(missing, y), missing


@pytest.fixture(scope="module", params=heads.HEADS)
def saved(request, hard, tmp_path_factory) -> Path:
    """A saved model of every head. Copy what you change."""
    folder = tmp_path_factory.mktemp("models") / request.param
    save_model(_fitted(request.param, hard)[0], folder, classes=NAMES, extra={"spaces": ["clip/text"]})
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A copy of a saved model that may be spoilt."""
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _reseal(folder: Path, **changes) -> None:
    """Change the card and give it a hash that fits, as an attacker would."""
    card = json.loads((folder / "model.json").read_text())
    card.pop("sha256")
    card.update(changes)
    (folder / "model.json").write_text(json.dumps({**card, "sha256": _card_hash(card)}))


@pytest.mark.parametrize("name", heads.HEADS)
def test_model_round_trip_is_bit_equal(name, hard, tmp_path):
    """A loaded model predicts what the pipeline predicted, to the last bit, invalid blocks included."""
    pipeline, rows = _fitted(name, hard)
    save_model(pipeline, tmp_path / "deep" / "model", classes=NAMES, extra={"spaces": ["clip/text"], "n": 3})
    model = load_model(tmp_path / "deep" / "model")
    assert_array_equal(model.predict_proba(rows), pipeline.predict_proba(rows))
    assert (model.head, model.classes, model.blocks) == (name, tuple(NAMES), BLOCKS)
    assert model.extra == {"spaces": ["clip/text"], "n": 3}
    assert model.n_parameters == pipeline["head"].n_parameters
    assert {key: model.parameters[key] for key in FAST[name]} == FAST[name]


@pytest.mark.parametrize("name", heads.HEADS)
def test_model_round_trip_without_blocks_and_with_dead_block(name, hard, tmp_path):
    """One block, string labels and a block that is missing in every training row survive the round trip."""
    X, y = hard
    pipeline = make_pipeline(name, parameters=FAST[name]).fit(X, np.array(NAMES)[y])
    save_model(pipeline, tmp_path / "one", classes=sorted(NAMES))
    assert load_model(tmp_path / "one").blocks is None
    assert_array_equal(load_model(tmp_path / "one").predict_proba(X), pipeline.predict_proba(X))
    dead = X.copy()
    dead[:, 5:] = np.nan
    pipeline = make_pipeline(name, blocks=BLOCKS, parameters=FAST[name]).fit(dead, y)
    save_model(pipeline, tmp_path / "dead", classes=NAMES)
    assert_array_equal(load_model(tmp_path / "dead").predict_proba(X), pipeline.predict_proba(X))


EVERYTHING = {
    "hidden": [8, 4],
    "norm": "batch",
    "activation": "relu",
    "residual": True,
    "input_norm": True,
    "projection_width": 8,
    "n_members": 2,
    "loss": "focal",
    "logit_adjustment": 0.5,
    "class_weight": "effective",
    "schedule": "one-cycle",
    "stop_metric": "weighted_f1",
    "clip_norm": 1.0,
    "mixup": 0.2,
    "modality_dropout": 0.2,
    "max_epochs": 2,
}


@pytest.mark.parametrize("fusion", heads.FUSIONS)
def test_model_round_trip_of_every_fusion(fusion, hard, tmp_path):
    """Every fusion, with every other setting changed, predicts bit-equal after loading."""
    pipeline, rows = _fitted("mlp", hard, **EVERYTHING, fusion=fusion)
    save_model(pipeline, tmp_path, classes=NAMES)
    model = load_model(tmp_path)
    assert_array_equal(model.predict_proba(rows), pipeline.predict_proba(rows))
    assert model.n_parameters == pipeline["head"].n_parameters
    assert {key: model.parameters[key] for key in EVERYTHING} == EVERYTHING
    loaded, fitted = model._estimator, pipeline["head"]
    if fitted.fusion_weights_ is not None:
        X = hard[0]
        assert_array_equal(loaded.sample_fusion_weights(X), fitted.sample_fusion_weights(X))


def test_model_without_the_arrays_of_a_member_is_refused(hard, tmp_path):
    """A card that asks for more networks than were saved is refused in one sentence."""
    pipeline, _ = _fitted("mlp", hard, n_members=2)
    save_model(pipeline, tmp_path, classes=NAMES)
    parameters = json.loads((tmp_path / "model.json").read_text())["parameters"]
    _reseal(tmp_path, parameters={**parameters, "n_members": 3})
    with pytest.raises(ValueError, match=r"cannot be put together \(KeyError: .*mean"):
        load_model(tmp_path)


def test_model_folder_holds_no_pickle_and_no_leftovers(saved):
    """A folder has the card, the arrays and (for trees) a text, and no temporary file."""
    expected = {"model.json", "arrays.safetensors"} | ({"booster.txt"} if saved.name == "lightgbm" else set())
    assert {path.name for path in saved.iterdir()} == expected
    card = json.loads((saved / "model.json").read_text())
    for name, digest in card["files"].items():
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_model_saved_over_another_replaces_it(hard, tmp_path):
    """Saving into a folder that has a model leaves the new one only."""
    save_model(_fitted("lightgbm", hard)[0], tmp_path, classes=NAMES)
    pipeline, rows = _fitted("logreg", hard)
    save_model(pipeline, tmp_path, classes=NAMES)
    assert not (tmp_path / "booster.txt").exists()
    assert_array_equal(load_model(tmp_path).predict_proba(rows), pipeline.predict_proba(rows))


def test_model_altered_file_is_refused(copy):
    """One changed byte in any file is noticed before the file is parsed."""
    for name in json.loads((copy / "model.json").read_text())["files"]:
        good = (copy / name).read_bytes()
        (copy / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"{name}' was altered or belongs to another model"):
            load_model(copy)
        (copy / name).write_bytes(good)
    text = (copy / "model.json").read_text()
    (copy / "model.json").write_text(text.replace('"neutral"', '"neutrai"'))
    with pytest.raises(ValueError, match=r"model.json' was altered after it was written"):
        load_model(copy)


def test_model_missing_file_is_named(copy):
    """A file that is not there is named; so is a folder without a model."""
    (copy / "arrays.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"is incomplete: '.*arrays.safetensors' is missing"):
        load_model(copy)
    with pytest.raises(FileNotFoundError, match=r"There is no model in .*nowhere"):
        load_model(copy / "nowhere")


class _Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_model_pickle_is_never_executed(copy, tmp_path):
    """A pickle in place of any file is refused, even with hashes that fit, and does not run."""
    mark = tmp_path / "mark"
    bomb = pickle.dumps(_Bomb(mark))
    for name in list(json.loads((copy / "model.json").read_text())["files"]):
        good = (copy / name).read_bytes()
        (copy / name).write_bytes(bomb)
        with pytest.raises(ValueError, match="was altered"):
            load_model(copy)
        (copy / name).write_bytes(good)
    (copy / "arrays.safetensors").write_bytes(bomb)
    files = json.loads((copy / "model.json").read_text())["files"]
    _reseal(copy, files={**files, "arrays.safetensors": hashlib.sha256(bomb).hexdigest()})
    with pytest.raises(ValueError, match="cannot be put together"):
        load_model(copy)
    (copy / "model.json").write_bytes(bomb)
    with pytest.raises(ValueError, match="is not JSON"):
        load_model(copy)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has format version 2, but this installation reads version 1. Update embedonce"),
        ({"format": "other"}, "is not an embedonce-model card"),
        ({"head": "forest"}, "cannot be put together .*unknown head 'forest'"),
        ({"parameters": {"depth": 3}}, "cannot be put together .*depth"),
        ({"files": {"../secret": "0"}}, "was altered after it was written"),
    ],
)
def test_model_foreign_card_is_refused(changes, message, copy):
    """A newer format, another format, and a card that fits nothing are told apart."""
    _reseal(copy, **changes)
    with pytest.raises(ValueError, match=message):
        load_model(copy)


def test_model_huge_card_is_not_read(copy):
    """A card of absurd size is refused by its size."""
    with (copy / "model.json").open("ab") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(ValueError, match="has 17825792 bytes, more than the 16777216"):
        load_model(copy)


def test_save_refuses_what_it_cannot_keep(hard, tmp_path):
    """Unfitted and foreign pipelines, wrong class names and facts that are not JSON are refused; nothing is "
    "written."""
    folder = tmp_path / "model"
    pipeline, _ = _fitted("logreg", hard)
    with pytest.raises(NotFittedError, match="not fitted"):
        save_model(make_pipeline("logreg"), folder, classes=NAMES)
    with pytest.raises(ValueError, match=r"names 2 class\(es\) .* trained on 3: \[0, 1, 2\]"):
        save_model(pipeline, folder, classes=NAMES[:2])
    with pytest.raises(ValueError, match=r"Only pipelines of heads.make_pipeline.*steps \['lr'\]"):
        save_model(Pipeline([("lr", LogisticRegression())]), folder, classes=NAMES)
    with pytest.raises(ValueError, match=r"must be JSON-able, but are not .*Path"):
        save_model(pipeline, folder, classes=NAMES, extra={"path": tmp_path})
    with pytest.raises(ValueError, match=r"must be JSON-able, but are not .*Out of range float"):
        save_model(pipeline, folder, classes=NAMES, extra={"score": float("nan")})
    assert not folder.exists()


def test_save_failing_disk_leaves_old_model(hard, tmp_path, monkeypatch):
    """When a write fails, the model that was there still loads and no temporary file is left."""
    pipeline, rows = _fitted("logreg", hard)
    save_model(pipeline, tmp_path, classes=NAMES)
    expected = load_model(tmp_path).predict_proba(rows)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("heads.durable_files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(_fitted("mlp", hard)[0], tmp_path, classes=NAMES)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.safetensors", "model.json"]
    assert_array_equal(load_model(tmp_path).predict_proba(rows), expected)


def test_loaded_model_refuses_other_rows(saved):
    """Rows of another width, or partly NaN blocks, are refused as in the pipeline."""
    model = load_model(saved)
    with pytest.raises(ValueError, match="X has 3 features, but BlockImputer is expecting 12"):
        model.predict_proba(np.zeros((1, 3)))
    rows = np.zeros((1, 12))
    rows[0, 2] = np.nan
    with pytest.raises(ValueError, match="row 0, block 'text': partly NaN"):
        model.predict_proba(rows)
