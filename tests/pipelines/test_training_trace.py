"""What is written of a training: blocks that were left out are named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from heads import make_pipeline
from pipelines.training_trace import FUSION_WEIGHTS, TRAINING, silent_block_notes, write_training_trace

BLOCKS = {"text.pooled": 4, "image.pooled": 6}


def _fitted(head: str, **parameters: object):
    """Train on 200 rows whose second block says nothing."""
    random = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = random.normal(size=(200, 10)).astype(np.float32)
    X[:, 0] += 3 * y
    return make_pipeline(head, blocks=BLOCKS, parameters=parameters).fit(X, y), X


def test_training_trace_names_the_blocks_that_were_left_out(tmp_path: Path) -> None:
    """The file says which block no network saw, and its weight in every row is 0."""
    small = {"max_epochs": 2, "hidden": 4, "projection_width": 4, "n_members": 2}
    pipeline, X = _fitted("mlp", fusion="gated", **small)
    write_training_trace(tmp_path, pipeline, X, [str(row) for row in range(200)])
    training = json.loads((tmp_path / TRAINING).read_text(encoding="utf-8"))
    assert [network["silent_blocks"] for network in training["networks"]] == [["image.pooled"]] * 2
    with (tmp_path / FUSION_WEIGHTS).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["text.pooled"], row["image.pooled"]) for row in rows} == {("1", "0")}


def test_note_says_what_was_left_out_and_how_to_keep_it() -> None:
    """There is a note for the block that says nothing; none where it is kept, and none of other heads."""
    (note,) = silent_block_notes(_fitted("mlp", max_epochs=1)[0])
    assert "'image.pooled'" in note
    assert "train --set screen_blocks=false" in note
    assert silent_block_notes(_fitted("mlp", max_epochs=1, screen_blocks=False)[0]) == []
    assert silent_block_notes(_fitted("logreg")[0]) == []
