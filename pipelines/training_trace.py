"""Training trace: what was measured while the final model was trained, kept beside it for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.runs import write_csv, write_json

TRAINING = "training.json"
FUSION_WEIGHTS = "fusion_weights.csv"

_WEIGHING = ("weighted_sum", "gated", "attention")


def write_training_trace(folder: Path, pipeline: Any, X: np.ndarray, ids: Sequence[str]) -> None:
    """Write learning curves and fusion weights of a fitted pipeline; nothing for heads without epochs.

    Parameters
    ----------
    folder : Path
        Of the model.
    pipeline : imblearn.pipeline.Pipeline
        Fitted, from ``heads.make_pipeline``.
    X : ndarray of shape (n_samples, n_features), float32
        The labelled rows. A missing block is NaN.
    ids : sequence of str
        Of these rows.

    Notes
    -----
    ``training.json`` holds ``blocks`` and per network ``history``, ``best_epoch``, ``fusion_weights`` and
    ``silent_blocks`` (see `heads.MLPHead`); ``fusion_weights.csv`` the weight of each block in each row, mean
    over the networks.
    """
    head = pipeline.named_steps["head"]
    members = getattr(head, "members_", None)
    if not members or not members[0].history:
        return
    blocks = list(head.blocks or {"all": head.n_features_in_})
    networks = [
        {
            "history": member.history,
            "best_epoch": member.best_epoch,
            "fusion_weights": None if member.fusion_weights is None else member.fusion_weights.tolist(),
            "silent_blocks": [block for block, n in zip(blocks, member.block_widths, strict=True) if not n],
        }
        for member in members
    ]
    write_json(folder / TRAINING, {"blocks": blocks, "fusion": head.fusion, "networks": networks})
    if head.fusion in _WEIGHING and len(blocks) > 1:
        weights = head.sample_fusion_weights(pipeline[:-1].transform(X))
        rows = [[guid, *(f"{w:.6g}" for w in row)] for guid, row in zip(ids, weights, strict=True)]
        write_csv(folder / FUSION_WEIGHTS, ["id", *blocks], rows)


def silent_block_notes(pipeline: Any) -> list[str]:
    """Say which blocks an MLP left out because they say nothing about the labels.

    Parameters
    ----------
    pipeline : imblearn.pipeline.Pipeline
        Fitted, from ``heads.make_pipeline``.

    Returns
    -------
    list of str
        Empty for other heads, and where nothing was left out.
    """
    return [
        f"block '{block}' says no more about the labels than vectors of other rows would, so the MLP was "
        "trained without it (train --set screen_blocks=false keeps it)"
        for block in getattr(pipeline.named_steps["head"], "silent_blocks_", [])
    ]
