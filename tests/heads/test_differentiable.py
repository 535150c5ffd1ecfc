"""Heads as functions of tensors: the probabilities of the head, and gradients that are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from heads import load_model, make_pipeline, save_model
from heads.names import FUSIONS

BLOCKS = {"text": 6, "image": 4}


def _data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    y = np.tile([0, 1, 2], 40)
    X = generator.normal(size=(120, 10)).astype(np.float32) + y[:, None] * np.linspace(-1, 1, 10)
    X = X.astype(np.float32)
    X[5, :6] = np.nan
    return X, y


def _loaded(folder: Path, head: str, parameters: dict[str, object]):
    X, y = _data()
    pipeline = make_pipeline(head, blocks=BLOCKS, parameters=parameters).fit(X, y)
    save_model(pipeline, folder, classes=["a", "b", "c"])
    return load_model(folder), X


CASES = [
    ("logreg", {}),
    ("mlp", {"max_epochs": 2, "pca": 3, "n_members": 2}),
    *(("mlp", {"max_epochs": 2, "fusion": fusion, "projection_width": 8}) for fusion in FUSIONS),
]


@pytest.mark.parametrize(("head", "parameters"), CASES)
def test_function_gives_the_probabilities_and_their_gradient(
    tmp_path: Path, head: str, parameters: dict[str, object]
) -> None:
    """It equals predict_proba on rows with an invalid block too, and its gradient is the numeric one."""
    model, X = _loaded(tmp_path, head, parameters)
    answer = model.differentiable()
    rows = torch.from_numpy(np.asarray(model.filled(X[:8]), dtype=np.float64))
    np.testing.assert_allclose(answer(rows).numpy(), model.predict_proba(X[:8]), atol=2e-7)
    assert torch.autograd.gradcheck(answer, rows[:2].requires_grad_(True), atol=1e-5)


def test_heads_without_a_gradient_say_so(tmp_path: Path) -> None:
    """Trees have none."""
    model, _ = _loaded(tmp_path, "lightgbm", {})
    with pytest.raises(
        ValueError, match=r"LightGBMHead has no gradient that could be followed; LogisticHead"
    ):
        model.differentiable()
