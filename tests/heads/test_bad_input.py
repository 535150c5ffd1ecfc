"""Each head refuses each kind of bad input with one clear message, and several faults with one message."""

from __future__ import annotations

import numpy as np
import pytest

import heads

FAST = {"mlp": {"hidden": 4, "max_epochs": 1}, "lightgbm": {"n_estimators": 2}}
BLOCKS = {"text": 5, "image": 7}
SYNTHETIC = ("smote", "borderline-smote", "adasyn", "smote-enn")


def _head(name: str, **parameters):
    return heads.make_pipeline(name, blocks=BLOCKS, parameters={**FAST.get(name, {}), **parameters})["head"]


def _weighted(name: str) -> bool:
    return "class_weight" in heads.default_parameters(name)


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_one_class(name, hard):
    """A fold with one class only names that class."""
    X, _ = hard
    with pytest.raises(ValueError, match=r"needs at least two classes, but found 1 class: .* is 'neutral'"):
        _head(name).fit(X, np.full(len(X), "neutral"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "minus-inf"])
@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_values_that_are_not_finite(name, bad, hard):
    """In fit and in predictions the rows with NaN or infinity are named."""
    X, y = hard
    faulty = X.copy()
    faulty[[3, 200], [0, 11]] = bad
    message = r"Input X contains NaN or infinity in 2 row\(s\): 3, 200\. Values must be finite"
    with pytest.raises(ValueError, match=message):
        _head(name).fit(faulty, y)
    fitted = _head(name).fit(X, y)
    with pytest.raises(ValueError, match=message):
        fitted.predict_proba(faulty)


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_takes_values_whose_sum_overflows(name, hard):
    """A row of large but finite values is not taken for infinity."""
    X, y = hard
    large = X.copy()
    large[0] = 3e37
    probabilities = _head(name).fit(X, y).predict_proba(large)
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_another_width(name, hard):
    """Rows of another width than in training say both widths."""
    X, y = hard
    fitted = _head(name).fit(X, y)
    with pytest.raises(ValueError, match=r"X has 11 features, but \w+ is expecting 12 features"):
        fitted.predict_proba(X[:, :11])


@pytest.mark.parametrize("name", heads.HEADS)
def test_head_refuses_blocks_that_do_not_add_up(name, hard):
    """The message lists the blocks, their sum and the columns there are."""
    X, y = hard
    with pytest.raises(ValueError, match=r"\('text': 5, 'image': 7\) add up to 12, but X has 11 columns"):
        _head(name).fit(X[:, :11], y)


@pytest.mark.parametrize("argument", ["class_weight", "class_boost"])
@pytest.mark.parametrize("name", [name for name in heads.HEADS if _weighted(name)])
def test_head_refuses_unknown_class_in_weights(name, argument, hard):
    """A label that no row has is named, with those there are."""
    X, y = hard
    labels = np.array(["positive", "neutral", "negative"])[y]
    with pytest.raises(ValueError, match=f"{argument} has 1 fault.*'neutrl'.*'neutral'"):
        _head(name, **{argument: {"neutrl": 2.0}}).fit(X, labels)


@pytest.mark.parametrize("resampler", SYNTHETIC)
@pytest.mark.parametrize("name", heads.HEADS)
def test_pipeline_refuses_synthetic_rows_of_one(name, resampler, hard):
    """SMOTE and its kin name the class that has a single row, and what to use instead."""
    X, y = hard
    labels = np.array(["positive", "neutral", "negative"])[y]
    kept = np.flatnonzero(
        (labels != "neutral") | (np.arange(len(y)) == np.flatnonzero(labels == "neutral")[0])
    )
    pipeline = heads.make_pipeline(name, blocks=BLOCKS, resampler=resampler, parameters=FAST.get(name, {}))
    with pytest.raises(ValueError, match=r"class 'neutral' has 1 training row\. Use resampler='random-over'"):
        pipeline.fit(X[kept], labels[kept])


@pytest.mark.parametrize("name", [name for name in heads.HEADS if _weighted(name)])
def test_head_tells_all_faults_at_once(name, hard):
    """NaN rows, blocks that do not add up and an unknown class are one message."""
    X, y = hard
    faulty = X[:, :11].copy()
    faulty[7, 2] = np.nan
    head = _head(name, class_weight={9: 2.0})
    found = (
        r"cannot be trained, 3 faults: \(1\) Input X .*: 7\. .* \(2\) The widths .* \(3\) class_weight .*'?9"
    )
    with pytest.raises(ValueError, match=found):
        head.fit(faulty, y)


def test_wrong_arguments_are_told_beside_wrong_rows(hard):
    """A wrong constructor argument does not hide what is wrong with the rows."""
    X, _ = hard
    found = r"2 faults: \(1\) MLPHead got 1 wrong parameter.* \(2\) MLPHead needs at least two classes"
    with pytest.raises(ValueError, match=found):
        heads.MLPHead(dropout=2.0).fit(X, np.zeros(len(X)))


def test_mlp_tells_what_does_not_go_together(hard):
    """Arguments that exclude each other and a class too small for SMOTE are one message."""
    X, y = hard
    kept = np.flatnonzero((y != 1) | (np.arange(len(y)) == np.flatnonzero(y == 1)[0]))
    head = heads.MLPHead(fusion="attention", projection_width=10, resampler="smote")
    found = r"n_attention_heads=4 does not divide projection_width=10.*class 1 has 1 training row"
    with pytest.raises(ValueError, match=found):
        head.fit(X[kept], y[kept])
