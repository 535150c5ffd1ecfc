"""The grid: which rows a table has, and what each of them trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cache import canonical_json, sha256_hex
from heads.names import unknown_name
from pipelines.ablation.feature_sets import FeatureSets, modality_sets
from pipelines.errors import UsageError
from tuning import Configuration, default_configuration


@dataclass(frozen=True)
class Shuffle:
    """How partners are exchanged: the pictures of a fold's rows are dealt out anew among its texts.

    Attributes
    ----------
    within_class : bool
        Only among rows of one label.
    seed : int
    """

    within_class: bool
    seed: int


@dataclass(frozen=True)
class Candidate:
    """One row of the table before it is computed.

    Attributes
    ----------
    name : str
        Unique in the table.
    feature_set : str
        Name of the set, "" when there is one.
    features : str
        Which modalities, and whether views are trained on: ``"both + views"``.
    blocks : tuple of str
        Blocks of the set.
    configuration : Configuration
        Classes are named by name.
    n_views : int
        Views of each training row that are trained on.
    shuffle : Shuffle or None
    reported : mapping of str to float
        Figures of a report for this row, by score.
    note : str
        How a report's row differs from this one.
    label : str
        What stands in the table's column "features"; "" is the set and the features.
    votes : tuple of str
        Keys of the rows whose majority this row is; then nothing is fitted for it.
    """

    name: str
    feature_set: str
    features: str
    blocks: tuple[str, ...]
    configuration: Configuration
    n_views: int = 0
    shuffle: Shuffle | None = None
    reported: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    label: str = ""
    votes: tuple[str, ...] = ()

    @property
    def shown_features(self) -> str:
        """What stands in the table's column "features"."""
        return self.label or (f"{self.feature_set}: {self.features}" if self.feature_set else self.features)

    @property
    def key(self) -> str:
        """Hexadecimal hash of what is computed, whatever the row is called."""
        shuffle = None if self.shuffle is None else [self.shuffle.within_class, self.shuffle.seed]
        facts = [self.feature_set, list(self.blocks), self.configuration.as_dict(), self.n_views, shuffle]
        facts += list(self.votes)
        return sha256_hex(canonical_json(facts))

    @property
    def head_label(self) -> str:
        """Head with its fusion and resampler: ``"mlp gated, smote"``."""
        if self.votes:
            return f"vote of {len(self.votes)}"
        configuration = self.configuration
        fusion = configuration.parameters.get("fusion", "concat")
        label = configuration.head + (f" {fusion}" if fusion != "concat" else "")
        return label + (f", {configuration.resampler}" if configuration.resampler != "none" else "")


@dataclass(frozen=True)
class Grid:
    """What is crossed with what.

    Attributes
    ----------
    heads, resamplers : tuple of str
    modalities : tuple of str
        Of ``modality_sets``; () is all that a set has.
    fusions : tuple of str
        For heads that fuse; () is the head's own.
    views : tuple of int or None
        Numbers of stored views to train on; None stands for all. () is none, and one more row with all views
        where all modalities are together.
    """

    heads: tuple[str, ...]
    resamplers: tuple[str, ...]
    modalities: tuple[str, ...]
    fusions: tuple[str, ...]
    views: tuple[int | None, ...]


def candidates_of(sets: FeatureSets, grid: Grid) -> list[Candidate]:
    """Return the rows of a grid without names (`named_rows`), set by set and head by head.

    Raises
    ------
    UsageError
        If a modality is asked for that no set has, or views that a set does not have.
    """
    _check_modalities(sets, grid.modalities)
    rows: dict[str, Candidate] = {}
    for name, matrix in sets.matrices.items():
        available = modality_sets(matrix)
        last = list(available)[-1]
        for configuration in _configurations(grid):
            for features in (key for key in available if key in wanted_features(grid.modalities, available)):
                blocks = tuple(available[features])
                # One block has nothing to fuse: one row, whatever fusions are asked for.
                chosen = configuration if len(blocks) > 1 else without_fusion(configuration)
                for n, suffix in _views(matrix.stored_views, grid.views, is_last=features == last):
                    row = Candidate("", name, features + suffix, blocks, chosen, n)
                    rows.setdefault(row.key, row)
    return list(rows.values())


def wanted_features(modalities: Sequence[str], available: Mapping[str, Any]) -> Sequence[str]:
    """Return which rows of features are asked for: all for (), and "both" is "all" of three."""
    if not modalities:
        return list(available)
    together = {"both", "all"} & set(modalities)
    return [*modalities, *(("both", "all") if together else ())]


def _check_modalities(sets: FeatureSets, modalities: Sequence[str]) -> None:
    known = dict.fromkeys(name for matrix in sets.matrices.values() for name in modality_sets(matrix))
    together = {"both", "all"} if {"both", "all"} & set(known) else set()
    wrong = [name for name in modalities if name not in known and name not in together]
    if wrong:
        faults = "; ".join(unknown_name("row of features", name, known) for name in wrong)
        raise UsageError(f"--modalities: {faults}.")


def _configurations(grid: Grid) -> list[Configuration]:
    made = []
    for head in grid.heads:
        start = default_configuration(head)
        variants = [start]
        if grid.fusions and "fusion" in start.parameters:
            variants = [
                Configuration(head, "none", {**start.parameters, "fusion": fusion}) for fusion in grid.fusions
            ]
        made += [replace(variant, resampler=name) for variant in variants for name in grid.resamplers]
    return made


def without_fusion(configuration: Configuration) -> Configuration:
    """Return a configuration for a single block: with the head's own fusion, whatever was asked for."""
    if "fusion" not in configuration.parameters:
        return configuration
    own = default_configuration(configuration.head).parameters["fusion"]
    return replace(configuration, parameters={**configuration.parameters, "fusion": own})


def _views(stored: int, asked: tuple[int | None, ...], *, is_last: bool) -> list[tuple[int, str]]:
    """Return (views, how the row says so)."""
    if not asked:
        return [(0, "")] + ([(stored, " + views")] if stored and is_last else [])
    numbers = list(dict.fromkeys(stored if number is None else number for number in asked))
    too_many = [number for number in numbers if number > stored]
    if too_many:
        raise UsageError(
            f"--use-views {too_many[0]} was asked for, but there are {stored} views of each row. Extract "
            f"with --views {too_many[0]}, or pass a smaller number, all or none."
        )
    return [(n, "" if not n else " + views" if n == stored else f" + {n} views") for n in numbers]


def named_rows(rows: Sequence[Candidate]) -> list[Candidate]:
    """Name rows by what differs among them."""
    several_heads = len({row.head_label for row in rows}) > 1
    named = []
    for row in rows:
        name = row.shown_features + (f" / {row.head_label}" if several_heads else "")
        named.append(replace(row, name=name))
    return named


def find_reference(rows: Sequence[Candidate], asked: str | None) -> Candidate:
    """Return the row that the others are compared with.

    Parameters
    ----------
    rows : sequence of Candidate
    asked : str or None
        Its name; None is the richest: the first of the rows with the most modalities and then blocks, on
        clean rows.

    Raises
    ------
    UsageError
        If no row has that name; the names are listed.
    """
    if asked is None:
        clean = [row for row in rows if not row.n_views] or list(rows)
        return max(clean, key=lambda row: (len({b.split(".")[0] for b in row.blocks}), len(row.blocks)))
    for row in rows:
        if row.name == asked:
            return row
    raise UsageError(f"--reference: {unknown_name('row', asked, [row.name for row in rows])}.")
