"""What is read off inside a network is what its output layer decides on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.exceptions import NotFittedError

from heads import FUSIONS, MLPHead, load_model, make_pipeline, save_model

BLOCKS = {"text": 5, "image": 4}
SMALL = {"projection_width": 8, "hidden": 6, "max_epochs": 2, "random_state": 0, "blocks": BLOCKS}


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 9)).astype(np.float32), rng.integers(0, 3, 80)


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "late"])
def test_output_layer_over_hidden_layer_is_the_prediction(
    fusion: str, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    """Softmax of the output layer's weights times the hidden layer gives the head's own probabilities."""
    X, y = rows
    head = MLPHead(fusion=fusion, **SMALL).fit(X, y)
    found = head.layer_outputs(X)
    assert ("fused" in found) == (fusion != "concat")
    assert found["hidden"].shape == (80, 6)
    logits = found["hidden"] @ head.weights_["output.weight"].T + head.weights_["output.bias"]
    assert_allclose(softmax(logits, axis=1), head.predict_proba(X), atol=1e-6)


def test_late_fusion_has_the_hidden_layers_of_every_network(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """Side by side, in the order of the blocks; each decides alone and the mean is the prediction."""
    X, y = rows
    head = MLPHead(fusion="late", **SMALL).fit(X, y)
    found = head.layer_outputs(X)
    assert list(found) == ["hidden"]
    hidden = np.split(found["hidden"], 2, axis=1)
    each = [
        softmax(
            part @ head.weights_[f"trunks.{k}.output.weight"].T + head.weights_[f"trunks.{k}.output.bias"],
            axis=1,
        )
        for k, part in enumerate(hidden)
    ]
    assert_allclose(np.mean(each, axis=0), head.predict_proba(X), atol=1e-6)


def test_network_without_hidden_layers_has_only_fused_vectors(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """The output layer reads the fused vectors themselves."""
    X, y = rows
    head = MLPHead(fusion="gated", **{**SMALL, "hidden": 128, "n_hidden": 0}).fit(X, y)
    found = head.layer_outputs(X)
    assert list(found) == ["fused"]
    logits = found["fused"] @ head.weights_["output.weight"].T + head.weights_["output.bias"]
    assert_allclose(softmax(logits, axis=1), head.predict_proba(X), atol=1e-6)


def test_layers_are_not_known_before_fit(rows: tuple[np.ndarray, np.ndarray]) -> None:
    """An unfitted head says so."""
    with pytest.raises(NotFittedError, match="not fitted"):
        MLPHead(**SMALL).layer_outputs(rows[0])


def test_loaded_model_has_the_layers_of_the_saved_one(rows: tuple[np.ndarray, np.ndarray], tmp_path) -> None:
    """Missing blocks are imputed first, as for predictions; heads without layers have none."""
    X, y = rows
    X = X.copy()
    X[:5, :5] = np.nan
    parameters = {name: value for name, value in SMALL.items() if name not in ("blocks", "random_state")}
    pipeline = make_pipeline(
        "mlp", blocks=BLOCKS, parameters={**parameters, "fusion": "gated"}, random_state=0
    ).fit(X, y)
    save_model(pipeline, tmp_path / "mlp", classes=["a", "b", "c"])
    loaded = load_model(tmp_path / "mlp")
    imputed = pipeline.named_steps["impute"].transform(X)
    for name, values in pipeline.named_steps["head"].layer_outputs(imputed).items():
        assert_array_equal(loaded.layer_outputs(X)[name], values)
    weights = loaded.sample_fusion_weights(X)
    assert_allclose(weights, pipeline.named_steps["head"].sample_fusion_weights(imputed))
    plain = make_pipeline("logreg", blocks=BLOCKS, random_state=0).fit(X, y)
    save_model(plain, tmp_path / "logreg", classes=["a", "b", "c"])
    assert load_model(tmp_path / "logreg").layer_outputs(X) == {}
    with pytest.raises(ValueError, match="does not weigh blocks"):
        load_model(tmp_path / "logreg").sample_fusion_weights(X)
