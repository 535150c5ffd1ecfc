"""Names of blocks: enough to tell spaces apart, whatever their stores are called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.joined_blocks import named_blocks
from pipelines.matrices import read_matrix
from tests.pipelines.ablation_stores import labels_of, make_store, noisy


def test_block_names_tell_spaces_apart() -> None:
    """A space alone, then its store, then as many folders as it takes."""
    wanted = [("a/x.h5", "text.pooled"), ("b/x.h5", "image.pooled")]
    assert list(named_blocks(wanted)) == ["text.pooled", "image.pooled"]
    wanted = [("a/x.h5", "text.pooled"), ("a/y.h5", "text.pooled"), ("a/y.h5", "image.pooled")]
    assert named_blocks(wanted) == dict(
        zip(["text.pooled@x", "text.pooled@y", "image.pooled"], wanted, strict=True)
    )
    wanted = [("a/b/x.h5", "text.pooled"), ("c/b/x.h5", "text.pooled")]
    assert named_blocks(wanted) == dict(zip(["text.pooled@a/b/x", "text.pooled@c/b/x"], wanted, strict=True))


def test_one_file_under_two_paths_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its columns would be there twice."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Among the stores 'x\.h5', '.*x\.h5' one is named twice"):
        named_blocks([("x.h5", "text.pooled"), (str(tmp_path / "x.h5"), "text.pooled")])


def test_stores_of_one_name_are_both_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders may hold a store of the same name; a model of both answers for both."""
    monkeypatch.chdir(tmp_path)
    codes = labels_of(60)
    vectors = [noisy(codes, 2.0, width=width, seed=width) for width in (8, 9)]
    specs = [
        str(make_store(Path(folder) / "x.h5", folder, {"text": x}, codes))
        for folder, x in zip("ab", vectors, strict=True)
    ]
    matrix = read_matrix(specs)
    assert matrix.blocks == {"text.pooled@a/x": 8, "text.pooled@b/x": 9}
    np.testing.assert_array_equal(matrix.X, np.concatenate(vectors, axis=1))
    named = [word for spec in specs for word in ("--features", spec)]
    mlp = ["--head", "mlp", "--set", "fusion=gated", "--set", "max_epochs=2"]
    assert main(["train", *named, *mlp, "--folds", "2", "--study", "r"]) == 0
    assert len(json.loads(Path("runs/r/config.json").read_text())["spaces"]) == 2
    assert main(["predict", "--run", "runs/r", *named, "--out", "answers.csv"]) == 0
    assert len(Path("answers.csv").read_text().splitlines()) == 61
