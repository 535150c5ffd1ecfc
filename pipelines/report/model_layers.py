"""What the layers of a run's final model make of its rows: fused vectors, hidden layer, attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipelines.report.evidence import Evidence
from pipelines.runs import MODEL


@dataclass(frozen=True)
class ModelLayers:
    """Layers of the first network of the final model.

    Attributes
    ----------
    vectors : dict of str to ndarray of shape (n_rows, width), float64
        ``fused features`` and ``hidden layer``, as far as the head has them.
    attention : ndarray of shape (n_blocks, n_blocks), float64, or None
        What each block (line) takes from each (column), mean over rows and attention heads.
    missing : str
        One sentence that says why there are none; may be empty.
    """

    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    attention: np.ndarray | None = None
    missing: str = ""


_NAMES = {"fused": "fused features", "hidden": "hidden layer"}


def model_layers(run: Evidence, features: Mapping[str, np.ndarray]) -> ModelLayers:
    """Run rows through the final model and note what its layers hold.

    Parameters
    ----------
    run : Evidence
    features : mapping of str to ndarray of shape (n_rows, d), float32
        Every block of the run, in its order; a missing embedding is a row of NaN.

    Returns
    -------
    ModelLayers
        A head without layers, or a model that cannot be read, is a sentence in ``missing``, not an error.
    """
    from heads import load_model

    head = run.metrics.get("winner", {}).get("head", "")
    if head != "mlp":
        return ModelLayers(missing=f"Head '{head}' has no hidden layer, so there is no map of one.")
    try:
        model = load_model(run.folder / MODEL)
        rows = np.concatenate(list(features.values()), axis=1)
        vectors = {_NAMES[name]: values for name, values in model.layer_outputs(rows).items()}
    except (OSError, ValueError) as error:
        return ModelLayers(missing=f"The hidden layer is not drawn: {error}")
    attention = None
    if model.parameters["fusion"] == "attention":
        attention = model.sample_fusion_weights(rows, detail=True).mean(axis=(0, 1))
    return ModelLayers(vectors, attention)
