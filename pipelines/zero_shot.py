"""``train --head zero-shot``: class prompts, embedded by the network that made the stored vectors."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore
from extract import DataSet, PassOptions, Sample, SourceOptions, resolve_device, run_pass
from heads import make_pipeline
from pipelines.console import tell
from pipelines.errors import RunError, UsageError
from pipelines.joined_blocks import SpaceRef
from pipelines.matrices import Matrix
from pipelines.named_stores import open_store
from pipelines.prediction_rows import EmbeddingOptions, open_again
from tuning import Configuration, Trial, confusion, score, score_name

HEAD = "zero-shot"
DEFAULT_PROMPTS = ("a photo of {class}",)
_MARK = "{class}"


@dataclass(frozen=True, eq=False)
class ClassPrompts:
    """Class vectors.

    Attributes
    ----------
    vectors : mapping of int to ndarray of shape (d,), float64
        Class code -> mean of its prompts' directions.
    scale : float
        What cosines are multiplied by.
    """

    vectors: Mapping[int, np.ndarray]
    scale: float


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse templates without a place for the class.

    Raises
    ------
    UsageError
        Naming all of them.
    """
    wrong = [repr(prompt) for prompt in prompts if not isinstance(prompt, str) or _MARK not in prompt]
    if wrong or not prompts:
        raise UsageError(
            f"--prompts {', '.join(wrong) or '(none)'} does not say where the class goes: write {_MARK} "
            f"there, as in --prompts {DEFAULT_PROMPTS[0]!r}."
        )


def class_prompts(
    matrix: Matrix, prompts: Sequence[str], how: EmbeddingOptions, *, scale: float | None
) -> ClassPrompts:
    """Embed the prompts of every class.

    Parameters
    ----------
    matrix : Matrix
        All of its blocks are ``pooled`` vectors of one two-tower network, such as CLIP.
    prompts : sequence of str
        Templates with ``{class}``; the directions of several are averaged.
    how : EmbeddingOptions
        Device, and the folder of weights if the network came from one.
    scale : float or None
        None takes the checkpoint's ``logit_scale``.

    Returns
    -------
    ClassPrompts

    Raises
    ------
    UsageError
        If a template lacks ``{class}``, or text and image of the store are not in one space.
    RunError
        If the weights on this machine are not those that made the store.
    WeightsMissingError
        If they are not there at all.
    """
    check_prompts(prompts)
    reference = _one_network(matrix)
    backbone = open_again(reference.backbone, how)
    logit_scale = getattr(backbone, "logit_scale", None)
    if logit_scale is None:
        raise UsageError(
            f"Backbone '{reference.backbone}' has no space that texts and images share, so a prompt says "
            "nothing about its vectors. Zero-shot works on stores of CLIP, SigLIP and their kin."
        )
    texts = [prompt.replace(_MARK, name) for name in matrix.class_names for prompt in prompts]
    tell(f"embedding {len(texts)} prompt(s) with {reference.backbone}")
    directions = _embedded(texts, backbone, reference, how)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    means = (directions / lengths).reshape(len(matrix.class_names), len(prompts), -1).mean(axis=1)
    return ClassPrompts(dict(enumerate(means)), logit_scale() if scale is None else scale)


def _one_network(matrix: Matrix) -> SpaceRef:
    """Return a block of the network that made all of them."""
    faults = [
        f"'{ref.block}' is not 'text.pooled' or 'image.pooled'"
        for ref in matrix.spaces
        if ref.space not in ("text.pooled", "image.pooled")
    ]
    networks = sorted({ref.backbone or "an unnamed backbone" for ref in matrix.spaces})
    if len(networks) > 1:
        faults.append(f"the blocks come from {', '.join(networks)}")
    if faults:
        raise UsageError(
            f"Zero-shot needs pooled vectors of one two-tower network such as CLIP, but {'; '.join(faults)}. "
            "Choose with --features FILE:SPACE."
        )
    return matrix.spaces[0]


def _embedded(texts: Sequence[str], backbone: Any, reference: SpaceRef, how: EmbeddingOptions) -> np.ndarray:
    """Return vectors of texts, float64 of shape (n_texts, d), by the pass that makes stores."""
    samples = tuple(Sample(id=str(number), text=text) for number, text in enumerate(texts))
    with tempfile.TemporaryDirectory(prefix="embedonce-prompts-") as folder:
        options = PassOptions(
            out=Path(folder),
            readouts=("text.pooled",),
            modalities=("text",),
            device=resolve_device(how.device),
            precision=reference.precision,
            source=SourceOptions(clean="none"),
        )
        report = run_pass(DataSet(Path(), "prompts", samples, ("text",)), backbone, options)
        with open_store(report.path) as made, FeatureStore.open(reference.path, verify=False) as store:
            found, wanted = (dict(s.meta)["identity"].get("weights_sha256") for s in (made, store))
            if found != wanted:
                raise RunError(
                    f"The weights of '{reference.backbone}' on this machine are not those that made "
                    f"'{reference.path}'. Pass the right ones with --weights {reference.backbone}=DIR."
                )
            vectors: np.ndarray = np.asarray(made.select("text.pooled")[:], dtype=np.float64)
            return vectors  # rows in = rows out, in the order of the samples


def zero_shot_pipeline(
    configuration: Configuration, matrix: Matrix, prompts: ClassPrompts, rows: np.ndarray, seed: int
) -> Any:
    """Return the pipeline of a zero-shot head; of the rows only the means of missing blocks are learnt."""
    pipeline = make_pipeline(
        HEAD, blocks=matrix.blocks, parameters=dict(configuration.parameters), random_state=seed
    )
    return pipeline.fit(matrix.X[rows], matrix.labels[rows], head__class_vectors=prompts.vectors)


def zero_shot_trial(
    configuration: Configuration,
    matrix: Matrix,
    prompts: ClassPrompts,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    metric: str,
    seed: int,
) -> Trial:
    """Score a zero-shot head on the folds that trained heads are scored on.

    Parameters
    ----------
    configuration : Configuration
    matrix : Matrix
    prompts : ClassPrompts
    folds : sequence of (train, valid)
        Positions among the training rows.
    metric : str
    seed : int

    Returns
    -------
    Trial
        As from ``tuning.evaluate``.
    """
    began = time.perf_counter()
    rows, n_classes = matrix.training, len(matrix.class_names)
    oof = np.zeros((len(rows), n_classes), dtype=np.float32)
    for train, valid in folds:
        pipeline = zero_shot_pipeline(configuration, matrix, prompts, rows[train], seed)
        oof[np.ix_(valid, pipeline.classes_)] = pipeline.predict_proba(matrix.X[rows[valid]])
    y, codes = matrix.labels[rows], oof.argmax(axis=1)
    scores = [
        float(score(confusion(y[valid], codes[valid], n_classes), score_name(metric))) for _, valid in folds
    ]
    return Trial(0, configuration, float(np.mean(scores)), scores, time.perf_counter() - began, oof)
