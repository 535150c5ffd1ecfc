"""Every fusion keeps the promises of a scikit-learn estimator."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.utils.estimator_checks import check_estimator

from heads import FUSIONS, MLPHead

EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "draws mini-batches by row, so a row of weight 2 is not "
    "the same as two rows"
}
FAST = {"hidden": 32, "max_epochs": 8, "learning_rate": 1e-2, "projection_width": 32, "rank": 2}


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "concat"])
def test_fusion_passes_scikit_learn_checks(fusion):
    """The MLP head is a well-behaved estimator with every fusion, on one block."""
    results = check_estimator(
        MLPHead(**FAST, fusion=fusion), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None
    )
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion_learns_and_repeats(fusion, easy):
    """Every fusion of three blocks finds classes that are well apart, the same way twice."""
    X, y = easy
    settings = {**FAST, "fusion": fusion, "blocks": {"a": 2, "b": 18, "c": 20}}
    first, second = (
        MLPHead(**settings, mixup=0.2, modality_dropout=0.1).fit(X[:450], y[:450]).predict_proba(X[450:])
        for _ in range(2)
    )
    assert f1_score(y[450:], first.argmax(axis=1), average="macro") > 0.8
    np.testing.assert_array_equal(first, second)
