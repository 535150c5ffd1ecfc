"""Heads by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

import heads
from heads import default_parameters, make_pipeline


@pytest.mark.parametrize("head", heads.HEADS)
def test_default_parameters_make_the_default_head(head):
    """The defaults are JSON-able and, given back, change nothing."""
    defaults = json.loads(json.dumps(default_parameters(head)))
    explicit = make_pipeline(head, parameters=defaults)["head"].get_params()
    assert explicit == make_pipeline(head)["head"].get_params()
    assert not {"blocks", "random_state", "resampler", "device", "n_jobs"} & set(defaults)


def test_default_parameters_unknown_head():
    """An unknown head is answered with what was meant."""
    with pytest.raises(ValueError, match=r"unknown head 'logref'.*did you mean 'logreg'"):
        default_parameters("logref")


@pytest.mark.parametrize("head", heads.HEADS)
@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_pipeline_has_a_resample_step_when_needed(head, resampler):
    """Only the MLP resamples by itself; nothing is resampled twice."""
    pipeline = make_pipeline(head, resampler=resampler, random_state=9)
    inside = head == "mlp" or resampler == "none"
    assert list(pipeline.named_steps) == (["impute", "head"] if inside else ["impute", "resample", "head"])
    assert pipeline["head"].get_params().get("resampler", resampler) == resampler
    assert pipeline["head"].random_state == 9


def test_pipeline_names_all_faults_at_once():
    """Unknown names of every kind come in one message, with near matches."""
    parameters = {"learning_rat": 1, "blocks": None, "hidden": 3}
    with pytest.raises(ValueError, match="Cannot make the pipeline") as caught:
        make_pipeline("mlp", resampler="smot", parameters=parameters)
    text = str(caught.value)
    assert text.startswith("Cannot make the pipeline, 3 fault(s): unknown resampler 'smot'")
    assert "did you mean 'smote' or" in text
    assert "unknown parameter of 'mlp' 'learning_rat'" in text
    assert "did you mean 'learning_rate'" in text
    assert "parameter 'blocks' is an argument of make_pipeline itself" in text
    assert "hidden'" not in text.split("allowed")[0]


def test_pipeline_unknown_head():
    """An unknown head is named beside an unknown resampler."""
    with pytest.raises(ValueError, match=r"2 fault\(s\): unknown resampler 'x'.*unknown head 'forest'"):
        make_pipeline("forest", resampler="x")


@pytest.mark.parametrize("head", heads.HEADS)
def test_pipeline_fills_in_invalid_blocks(head, hard):
    """Rows with an invalid block are trained on and predicted, as if they held the training means."""
    X, y = hard
    blocks = {"text": 5, "image": 7}
    missing = X.copy()
    missing[::7, :5] = np.nan
    missing[3::11, 5:] = np.nan
    filled = missing.copy()
    for columns in (slice(0, 5), slice(5, 12)):
        part = filled[:, columns]
        gone = np.isnan(part[:, 0])
        part[gone] = part[~gone].mean(axis=0, dtype=np.float64)
    parameters = {"mlp": {"max_epochs": 5}, "lightgbm": {"n_estimators": 10}}.get(head)
    make = lambda: make_pipeline(head, blocks=blocks, parameters=parameters)  # noqa: E731
    expected = make().fit(filled, y).predict_proba(filled)
    np.testing.assert_array_equal(make().fit(missing, y).predict_proba(missing), expected)
