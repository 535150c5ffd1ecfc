"""The TabPFN head without TabPFN: it is there, and says what to install."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from heads import OTHER_HEADS, default_parameters, make_pipeline


def test_missing_package_is_named(monkeypatch, hard):
    """Without the package the head is known all the same, and fitting says what to install."""
    monkeypatch.setitem(sys.modules, "tabpfn", None)  # what an import then finds, installed or not
    assert "tabpfn" in OTHER_HEADS
    pipeline = make_pipeline("tabpfn", parameters=default_parameters("tabpfn"))
    with pytest.raises(ImportError, match="Install it with: pip install tabpfn"):
        pipeline.fit(*hard)


def test_rows_cannot_be_weighed(hard):
    """What TabPFN cannot do is refused before its package is asked for."""
    X, y = hard
    with pytest.raises(ValueError, match="TabPFN cannot weigh rows, but class_weight, sample_weight"):
        make_pipeline("tabpfn", parameters={"class_weight": "balanced"}).fit(
            X, y, head__sample_weight=np.arange(1, len(y) + 1)
        )
