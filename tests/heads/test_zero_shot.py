"""ZeroShotHead: cosines with class vectors, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from heads import ZeroShotHead, load_model, make_pipeline, save_model

BLOCKS = {"image.pooled": 8, "text.pooled": 8}


@pytest.fixture(scope="module")
def structured() -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """300 rows of two blocks that lie near the vector of their class, of any length, and the vectors."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3, 8))
    y = random.choice(3, 300, p=[0.6, 0.1, 0.3])
    rows = np.hstack([vectors[y] + 0.8 * random.normal(size=(300, 8)) for _ in BLOCKS])
    rows *= random.uniform(0.1, 10, (300, 1))
    return rows.astype(np.float32), y, dict(enumerate(vectors))


def _fitted(X, y, vectors, **parameters):
    pipeline = make_pipeline("zero-shot", blocks=BLOCKS, parameters=parameters)
    return pipeline.fit(X, y, head__class_vectors=vectors)


def test_zero_shot_is_the_softmax_of_scaled_cosines(structured):
    """Probabilities are those of a plain loop over rows, blocks and classes."""
    X, y, vectors = structured
    found = _fitted(X, y, vectors, scale=7.0).predict_proba(X[:20])
    for row, probabilities in zip(X[:20].astype(np.float64), found, strict=True):
        logits = []
        for vector in vectors.values():
            blocks = (row[:8], row[8:])
            cosines = [b @ vector / np.linalg.norm(b) / np.linalg.norm(vector) for b in blocks]
            logits.append(7.0 * np.mean(cosines))
        expected = np.exp(logits) / np.exp(logits).sum()
        assert_allclose(probabilities, expected, atol=1e-12)


def test_zero_shot_finds_classes_without_labels(structured):
    """Class-structured rows are recognised, and dealing the labels out anew changes no answer."""
    X, y, vectors = structured
    head = _fitted(X, y, vectors)
    assert (head.predict(X) == y).mean() > 0.9
    permuted = np.random.default_rng(1).permutation(y)
    again = _fitted(X, permuted, vectors)
    assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    recalls = [(again.predict(X)[permuted == code] == code).mean() for code in range(3)]
    assert abs(np.mean(recalls) - 1 / 3) < 0.1
    assert head["head"].n_parameters == 0


def test_zero_shot_model_file_keeps_the_class_vectors(structured, tmp_path):
    """A saved model answers to the bit as before, and its settings hold no vectors."""
    X, y, vectors = structured
    pipeline = _fitted(X, y, vectors, scale=20.0, prompts=["a photo of {class}"])
    save_model(pipeline, tmp_path, classes=["a", "b", "c"])
    loaded = load_model(tmp_path)
    assert_array_equal(loaded.predict_proba(X), pipeline.predict_proba(X))
    assert loaded.head == "zero-shot"
    assert loaded.parameters["prompts"] == ["a photo of {class}"]
    assert "class_vectors" not in loaded.parameters


def test_zero_shot_fills_in_a_missing_block(structured):
    """A row without a picture is answered from its text and the mean of the pictures."""
    X, y, vectors = structured
    broken = X.copy()
    broken[:100, :8] = np.nan
    found = _fitted(X, y, vectors).predict_proba(broken)
    assert np.isfinite(found).all()
    assert (found.argmax(axis=1)[:100] == y[:100]).mean() > 0.6


def test_zero_shot_faults_are_named(structured):
    """No vectors, a class without one, another width and a zero vector are one clear error each."""
    X, y, vectors = structured
    head = ZeroShotHead(blocks=BLOCKS)
    with pytest.raises(ValueError, match=r"no class vector for 0, 1, 2\. Pass class_vectors"):
        head.fit(X, y)
    with pytest.raises(ValueError, match="no class vector for 2"):
        head.fit(X, y, class_vectors={0: vectors[0], 1: vectors[1]})
    with pytest.raises(ValueError, match=r"3 entries, but block\(s\) 'image.pooled': 8, 'text.pooled': 8"):
        head.fit(X, y, class_vectors=dict.fromkeys(range(3), np.ones(3)))
    with pytest.raises(ValueError, match="zero or not finite"):
        head.fit(X, y, class_vectors={**vectors, 1: np.zeros(8)})
    with pytest.raises(ValueError, match=r"scale=0 \(allowed"):
        ZeroShotHead(scale=0, blocks=BLOCKS).fit(X, y, class_vectors=vectors)
    assert clone(head).get_params() == head.get_params()
