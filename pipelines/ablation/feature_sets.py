"""Feature sets: stores under a name, read so that all of them hold the same rows and share their folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureStore, align
from pipelines.errors import UsageError
from pipelines.matrices import Matrix, read_matrix
from pipelines.named_stores import split_spec
from tuning import Fold, connected_groups, make_folds

MODALITIES = ("text", "image", "joint")


@dataclass(frozen=True)
class FeatureSets:
    """Named matrices over the same samples.

    Attributes
    ----------
    matrices : dict of str to Matrix
        Name of the set -> its features. All have the same ids, labels, class names, splits and groups; the
        only set of a call without ``--swap`` is named "".
    notes : tuple of str
    """

    matrices: dict[str, Matrix]
    notes: tuple[str, ...]

    @property
    def samples(self) -> Matrix:
        """Any of the matrices: what they say of the samples is the same."""
        return next(iter(self.matrices.values()))

    @property
    def labels(self) -> np.ndarray:
        """Class codes of the training rows."""
        codes: np.ndarray = self.samples.labels[self.samples.training]
        return codes

    @property
    def groups(self) -> np.ndarray:
        """Groups of the training rows: those that are related in any set have one."""
        numbers: np.ndarray = self.samples.groups[self.samples.training]
        return numbers

    def folds(self, n_folds: int, seed: int) -> list[Fold]:
        """Return folds over the training rows; rows of a group stay together."""
        return make_folds(self.labels, n_folds=n_folds, groups=self.groups, random_state=seed)


def named_specs(features: Sequence[str], swaps: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return name of the set -> its ``FILE[:SPACE]``.

    Parameters
    ----------
    features : sequence of str
        Values of ``--features``: one set, first, named after its files when there are swaps and "" otherwise.
    swaps : sequence of str
        Values of ``--swap``: ``[NAME=]FILE[:SPACE],...``, named after its files when it has no name.

    Raises
    ------
    UsageError
        If a set has no file, or two sets have one name.
    """
    sets = [("" if not swaps else _name_of(features), tuple(features))] if features else []
    sets += [_parsed(swap) for swap in swaps]
    names = [name for name, _ in sets]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(
            f"Several feature sets are named {', '.join(map(repr, repeated))}. Name them apart: --swap "
            "NAME=FILE,FILE."
        )
    return dict(sets)


def _parsed(swap: str) -> tuple[str, tuple[str, ...]]:
    name, equals, rest = swap.partition("=")
    named = bool(equals) and "/" not in name and not Path(swap.split(",")[0]).exists()
    files = tuple(part.strip() for part in (rest if named else swap).split(",") if part.strip())
    if not files or (named and not name.strip()):
        raise UsageError(
            f"--swap {swap!r} is not NAME=FILE[:SPACE],FILE[:SPACE]... (the name may be left out)."
        )
    return (name.strip() if named else _name_of(files)), files


def _name_of(files: Sequence[str]) -> str:
    """Return ``"bert+resnet50"`` for two stores."""
    return "+".join(dict.fromkeys(split_spec(file)[0].stem for file in files))


def read_feature_sets(
    sets: Mapping[str, Sequence[str]], *, duplicates: str = "near", use_views: int | None = None
) -> FeatureSets:
    """Read every set and cut them to the samples that all of them hold.

    Parameters
    ----------
    sets : mapping of str to sequence of str
        From `named_specs`.
    duplicates : str
        Which rows share a fold; see ``duplicates.find_related_rows``.
    use_views : int or None
        How many of the stored views to read, the first ones; None reads all.

    Returns
    -------
    FeatureSets
        In the order of the first set's samples. A text or a picture that two samples share in one set, in
        which cleaning may have made them equal, keeps them together in the folds of all.

    Raises
    ------
    StoreError
        If a store cannot be trusted, or two stores disagree about a sample.
    UsageError
        If a space is named twice in a set or is ambiguous, or there are fewer views than `use_views`.
    """
    matrices = {
        name: read_matrix(specs, duplicates=duplicates, use_views=use_views) for name, specs in sets.items()
    }
    notes = [
        f"{name}: {note}" if name else note for name, matrix in matrices.items() for note in matrix.notes
    ]
    if len(matrices) == 1:
        return FeatureSets(matrices, tuple(notes))
    with ExitStack() as stack:
        # Read and verified a moment ago: this looks at ids, labels and source hashes only.
        paths = list(dict.fromkeys(ref.path for matrix in matrices.values() for ref in matrix.spaces))
        aligned = align([stack.enter_context(FeatureStore.open(path, verify=False)) for path in paths])
        labels, class_names = np.array(aligned.labels), tuple(aligned.class_names)
    rows = {name: _places(matrix.ids, aligned.ids) for name, matrix in matrices.items()}
    for name, matrix in matrices.items():
        if len(matrix.ids) > len(aligned.ids):
            left_out = len(matrix.ids) - len(aligned.ids)
            notes.append(f"{name}: {left_out:,} rows are not in every feature set and are left out")
    groups = connected_groups(
        *(matrix.groups[rows[name]].tolist() for name, matrix in matrices.items()), n=len(aligned.ids)
    )
    shared = {"ids": tuple(aligned.ids), "labels": labels, "class_names": class_names, "groups": groups}
    cut = {name: _cut(matrix, rows[name], shared) for name, matrix in matrices.items()}
    return FeatureSets(cut, tuple(notes))


def _places(ids: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    place = {sample: row for row, sample in enumerate(ids)}
    return np.array([place[sample] for sample in wanted], dtype=np.int64)


def _cut(matrix: Matrix, rows: np.ndarray, shared: Mapping[str, Any]) -> Matrix:
    """Return the named rows of a matrix, with what all sets share."""
    whole = len(rows) == len(matrix.ids) and bool((rows == np.arange(len(rows))).all())
    return replace(
        matrix,
        X=matrix.X if whole else matrix.X[rows],
        views=matrix.views if whole or matrix.views is None else matrix.views[:, rows],
        splits=matrix.splits[rows],
        texts=None if matrix.texts is None else tuple(matrix.texts[row] for row in rows),
        images=None if matrix.images is None else tuple(matrix.images[row] for row in rows),
        **shared,
    )


def modality_sets(matrix: Matrix) -> dict[str, list[str]]:
    """Return row name -> blocks: each modality alone, then all together when there are several."""
    by_modality: dict[str, list[str]] = {}
    for block in sorted(matrix.blocks, key=lambda block: MODALITIES.index(modality_of(block))):
        by_modality.setdefault(modality_of(block), []).append(block)
    if len(by_modality) == 1 and len(matrix.blocks) > 1:
        by_modality = {block: [block] for block in matrix.blocks}
    sets = dict(by_modality)
    if len(by_modality) > 1:
        sets["both" if len(by_modality) == 2 else "all"] = list(matrix.blocks)
    return sets


def modality_of(block: str) -> str:
    """Return the modality of a block, the first word of its name."""
    return block.split(".")[0]
