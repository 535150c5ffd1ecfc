"""Rows that nothing is trained for: prompts of the classes against the vectors of a two-tower network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heads import default_parameters
from pipelines.ablation.feature_sets import FeatureSets, modality_sets
from pipelines.ablation.fitted_rows import Fitted
from pipelines.ablation.grid import Candidate, wanted_features
from pipelines.errors import UsageError
from pipelines.joined_blocks import SpaceRef
from pipelines.matrices import Matrix
from pipelines.prediction_rows import EmbeddingOptions
from pipelines.zero_shot import HEAD, ClassPrompts, check_prompts, class_prompts, zero_shot_trial
from tuning import Configuration, Fold

_TOWERS = ("text.pooled", "image.pooled")


def is_zero_shot(row: Candidate) -> bool:
    """Tell whether nothing is trained for a row."""
    return row.configuration.head == HEAD


def zero_shot_candidates(
    sets: FeatureSets, prompts: Sequence[str], modalities: Sequence[str]
) -> list[Candidate]:
    """Return the rows that prompts can answer: of stores that hold both towers of a network.

    Parameters
    ----------
    sets : FeatureSets
    prompts : sequence of str
        Templates with ``{class}``; with none there are no rows.
    modalities : sequence of str
        Of ``modality_sets``; () is all that a set has.

    Raises
    ------
    UsageError
        If a template lacks ``{class}``, or no set has such a store.
    """
    if not prompts:
        return []
    check_prompts(prompts)
    configuration = Configuration(HEAD, "none", {**default_parameters(HEAD), "prompts": list(prompts)})
    rows = [
        Candidate("", name, features, tuple(blocks), configuration)
        for name, matrix in sets.matrices.items()
        for features, blocks in modality_sets(matrix).items()
        if set(blocks) <= {tower.block for tower in _towers(matrix)}
        and features in wanted_features(modalities, modality_sets(matrix))
    ]
    if not rows:
        raise UsageError(
            "--prompts answer for stores with 'text.pooled' and 'image.pooled' of one network such as CLIP, "
            "and no row asked for has vectors of these alone. Leave out --prompts, or name such a store."
        )
    return rows


def embed_prompts(
    rows: Sequence[Candidate],
    sets: FeatureSets,
    prompts: Sequence[str],
    weights: Mapping[str, Path],
) -> dict[str, ClassPrompts]:
    """Embed the prompts of every class with the network of each feature set that has such a row.

    Returns
    -------
    dict of str to ClassPrompts
        By the name of the feature set.

    Raises
    ------
    UsageError, RunError, WeightsMissingError
        As `class_prompts`.
    """
    names = dict.fromkeys(row.feature_set for row in rows if is_zero_shot(row))
    how = EmbeddingOptions(weights=weights)
    return {
        name: class_prompts(
            replace(sets.matrices[name], spaces=_towers(sets.matrices[name])), prompts, how, scale=None
        )
        for name in names
    }


def score_prompts(
    rows: Sequence[Candidate],
    sets: FeatureSets,
    embedded: Mapping[str, ClassPrompts],
    folds: Sequence[Fold],
    *,
    metric: str,
    seed: int,
    on_row: Callable[[Candidate, Fitted], None],
) -> dict[str, Fitted]:
    """Answer for the folds of every row, as ``train --head zero-shot`` does.

    Parameters
    ----------
    rows : sequence of Candidate
        Of `zero_shot_candidates`.
    sets : FeatureSets
    embedded : mapping of str to ClassPrompts
        From `embed_prompts`.
    folds : sequence of (train, valid)
        Positions among the training rows.
    metric : str
    seed : int
    on_row : callable
        Called with each row when it is done.

    Returns
    -------
    dict of str to Fitted
        By `Candidate.key`.
    """
    found = {}
    for row in rows:
        matrix, prompts = sets.matrices[row.feature_set], embedded[row.feature_set]
        scaled = {**row.configuration.parameters, "scale": prompts.scale}
        trial = zero_shot_trial(
            replace(row.configuration, parameters=scaled),
            _only(matrix, row.blocks),
            prompts,
            folds,
            metric=metric,
            seed=seed,
        )
        found[row.key] = Fitted(trial.oof, 0, trial.seconds)
        on_row(row, found[row.key])
    return found


def _towers(matrix: Matrix) -> tuple[SpaceRef, ...]:
    """Return the blocks of a store that holds both towers of a network, equally wide; () without one."""
    for path in dict.fromkeys(ref.path for ref in matrix.spaces):
        pair = [ref for ref in matrix.spaces if ref.path == path and ref.space in _TOWERS]
        if len(pair) == len(_TOWERS) and pair[0].width == pair[1].width and pair[0].backbone:
            return tuple(pair)
    return ()


def _only(matrix: Matrix, blocks: Sequence[str]) -> Matrix:
    """Return a matrix with some of its blocks."""
    return replace(
        matrix,
        X=matrix.columns(blocks),
        blocks={block: matrix.blocks[block] for block in blocks},
        spaces=tuple(ref for ref in matrix.spaces if ref.block in blocks),
        views=None,
    )
