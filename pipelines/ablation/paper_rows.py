"""Rows of a report's table on a user's stores: which store serves which row, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cache import FeatureStore
from heads import find_preset, majority_vote
from heads.names import unknown_name
from pipelines.ablation.feature_sets import FeatureSets, modality_of, read_feature_sets
from pipelines.ablation.fitted_rows import Fitted
from pipelines.ablation.grid import Candidate
from pipelines.ablation.reported_tables import (
    REPORTED_TABLES,
    USUAL_BACKBONE,
    ReportedRow,
    ReportedTable,
)
from pipelines.class_parameters import BY_CLASS
from pipelines.console import say, say_json, table
from pipelines.errors import RunError, UsageError
from pipelines.matrices import Matrix
from pipelines.named_stores import FEATURES_FOLDER, split_spec
from pipelines.term_counts import TERMS_BACKBONE, is_term_space
from tuning import Configuration

#: Given instead of a name, it asks for the list.
LIST = "list"


@dataclass(frozen=True)
class _Offer:
    """A space that a row could use."""

    path: str
    space: str
    backbone: str

    @property
    def spec(self) -> str:
        return f"{self.path}:{self.space}"


@dataclass(frozen=True)
class PaperRun:
    """A report's table on a user's stores.

    Attributes
    ----------
    sets : FeatureSets
    rows : tuple of Candidate
        Rows that can be computed, votes last.
    skipped : tuple of dict
        Name, reported figures and reason of the rows that cannot.
    reference : str or None
        The report's row to compare with, unless it is skipped.
    tie_class : str
    notes : tuple of str
    """

    sets: FeatureSets
    rows: tuple[Candidate, ...]
    skipped: tuple[dict[str, Any], ...]
    reference: str | None
    tie_class: str
    notes: tuple[str, ...]

    def vote(self, row: Candidate, fitted: Mapping[str, Fitted]) -> Fitted:
        """Return what the majority of rows says: 1 for the class they name, 0 for the others."""
        voters = [fitted[key] for key in row.votes]
        names = self.sets.samples.class_names
        tie = names.index(self.tie_class) if self.tie_class in names else None
        winners = majority_vote(np.stack([voter.oof for voter in voters]), tie=tie)
        return Fitted(
            np.eye(len(names), dtype=np.float32)[winners],
            sum(voter.n_parameters for voter in voters),
            sum(voter.seconds for voter in voters),
        )


def find_table(name: str) -> ReportedTable:
    """Return a report's table by name; UsageError with near matches when there is none."""
    if name not in REPORTED_TABLES:
        raise UsageError(
            f"There is an {unknown_name('preset', name, REPORTED_TABLES)}. "
            f"'embedonce ablate --preset {LIST}' describes them."
        )
    return REPORTED_TABLES[name]


def paper_run(name: str, features: Sequence[str], *, duplicates: str = "near") -> PaperRun:
    """Find the stores of a report's table and read them.

    Parameters
    ----------
    name : str
        One of ``REPORTED_TABLES``.
    features : sequence of str
        ``FILE[:SPACE]``; none means every store in ``features/``. Stores are found by their backbone. Among
        stores that were named, the only space of a modality serves as well, with a note: an imported store
        may not know its backbone.
    duplicates : str
        Which rows share a fold; see ``duplicates.find_related_rows``.

    Raises
    ------
    UsageError
        If there is no such table, or several stores could serve one row.
    RunError
        If no row can be computed; what has to be extracted is named.
    """
    found = find_table(name)
    offers = _offers(features)
    stand_ins: list[str] = []
    specs: dict[str, dict[str, _Offer]] = {}
    lacking: dict[str, list[str]] = {}
    skipped: dict[str, str] = {row.name: row.note for row in found.rows if not row.preset and not row.votes}
    for row in found.rows:
        if row.preset:
            chosen, missing = _chosen(row, offers, may_stand_in=bool(features))
            if missing:
                lacking[row.name] = missing
                skipped[row.name] = "; ".join(missing)
            else:
                specs[row.name] = chosen
                stand_ins += _stand_ins(row, chosen)
    if not specs:
        reasons = list(dict.fromkeys(reason for row in found.rows for reason in lacking.get(row.name, ())))
        raise RunError(f"No row of '{name}' can be computed: {'; '.join(reasons)}.")
    sets = read_feature_sets(_merged(found, specs), duplicates=duplicates)
    rows = [_candidate(row, specs[row.name], sets) for row in found.rows if row.name in specs]
    rows += _votes(found, rows)
    skipped |= {
        row.name: "not all of its voters can be computed"
        for row in found.rows
        if row.votes and row.name not in {made.name for made in rows}
    }
    notes = [
        f"table of report {found.report}: {found.title}; every row is a head on frozen features, see "
        "docs/reproduce.md",
        *dict.fromkeys(stand_ins),
        *(f"'{row}' is not run: {reason}" for row, reason in skipped.items()),
    ]
    return PaperRun(
        sets,
        tuple(rows),
        tuple(
            {"name": row.name, "reported": dict(row.reported), "note": skipped[row.name]}
            for row in found.rows
            if row.name in skipped
        ),
        None if found.reference in skipped else found.reference,
        found.tie_class,
        tuple(notes),
    )


def _offers(features: Sequence[str]) -> list[_Offer]:
    """Return every space of the stores; several of one modality only when one was named or is 'pooled'."""
    specs = list(features) or [str(path) for path in sorted(FEATURES_FOLDER.glob("*.h5"))]
    offers = []
    own_terms = any(is_term_space(split_spec(spec)[1] or "") for spec in specs)
    for spec in specs:
        path, asked = split_spec(spec)
        with FeatureStore.open(path, verify=False) as store:
            backbone = str(dict(store.meta)["identity"].get("backbone", ""))
            if asked and is_term_space(asked):
                offers.append(_Offer(str(path), asked, TERMS_BACKBONE))
                continue
            spaces = [store.select(asked).name] if asked else list(store.spaces)
            offers += [
                _Offer(str(path), space, backbone)
                for space in spaces
                if asked or space.endswith(".pooled") or _alone(space, spaces)
            ]
            has_texts = store.texts is not None
        if has_texts and not own_terms and not any(offer.backbone == TERMS_BACKBONE for offer in offers):
            # The texts of one store are those of all, so the first that has them serves.
            offers.append(_Offer(str(path), "text.terms", TERMS_BACKBONE))
    return offers


def _alone(space: str, spaces: Sequence[str]) -> bool:
    return sum(modality_of(other) == modality_of(space) for other in spaces) == 1


def _chosen(
    row: ReportedRow, offers: Sequence[_Offer], *, may_stand_in: bool
) -> tuple[dict[str, _Offer], list[str]]:
    """Return modality -> space for a row, and what it lacks."""
    chosen, missing = {}, []
    for modality in row.modalities:
        wanted = row.backbones[modality]
        of_modality = [
            offer
            for offer in offers
            if modality_of(offer.space) == modality
            and (offer.backbone == TERMS_BACKBONE) == (wanted == TERMS_BACKBONE)  # neither stands in
        ]
        fitting = [offer for offer in of_modality if offer.backbone.startswith(wanted)]
        if not fitting and may_stand_in and len(of_modality) == 1:
            fitting = of_modality
        if len(fitting) > 1:
            raise UsageError(
                f"Several stores could be the {modality} of '{row.name}' ('{wanted}'): "
                f"{', '.join(offer.spec for offer in fitting)}. Choose with --features."
            )
        if fitting:
            chosen[modality] = fitting[0]
        else:
            missing.append(_missing(modality, wanted))
    return chosen, missing


def _missing(modality: str, wanted: str) -> str:
    if wanted == TERMS_BACKBONE:
        return "no store has texts (any store of a text backbone has them)"
    return (
        f"no store has {modality} vectors of '{wanted}' (make it with: embedonce extract --backbone "
        f"{USUAL_BACKBONE.get(wanted, wanted)})"
    )


def _stand_ins(row: ReportedRow, chosen: Mapping[str, _Offer]) -> list[str]:
    return [
        f"'{offer.spec}' ({offer.backbone or 'no named backbone'}) stands in for {modality} of "
        f"'{row.backbones[modality]}': the reported figures do not carry over"
        for modality, offer in chosen.items()
        if not offer.backbone.startswith(row.backbones[modality])
    ]


def _merged(found: ReportedTable, specs: Mapping[str, Mapping[str, _Offer]]) -> dict[str, list[str]]:
    """Return one feature set for all rows that name the same backbones."""
    sets: dict[str, list[str]] = {}
    for row in found.rows:
        for offer in specs.get(row.name, {}).values():
            together = sets.setdefault(_set_name(row), [])
            if offer.spec not in together:
                together.append(offer.spec)
    return sets


def _set_name(row: ReportedRow) -> str:
    return "+".join(dict.fromkeys(row.backbones.values()))


def _candidate(row: ReportedRow, chosen: Mapping[str, _Offer], sets: FeatureSets) -> Candidate:
    matrix = sets.matrices[_set_name(row)]
    preset = find_preset(row.preset)
    wanted = {(offer.path, offer.space) for offer in chosen.values()}
    configuration = Configuration(
        preset.head, preset.resampler, _without_absent_classes(preset.expanded(), matrix)
    )
    blocks = tuple(ref.block for ref in matrix.spaces if (ref.path, ref.space) in wanted)
    return Candidate(
        row.name,
        _set_name(row),
        "+".join(row.modalities),
        blocks,
        configuration,
        reported=row.reported,
        note=row.note,
        label=row.name,
    )


def _without_absent_classes(parameters: Mapping[str, Any], matrix: Matrix) -> dict[str, Any]:
    """Leave classes that a report weighs and the data set lacks out of its weights."""
    present = {matrix.class_names[code] for code in np.unique(matrix.labels[matrix.training])}
    kept = dict(parameters)
    for parameter in BY_CLASS:
        if isinstance(value := kept.get(parameter), Mapping):
            kept[parameter] = {name: weight for name, weight in value.items() if name in present} or None
    return kept


def _votes(found: ReportedTable, rows: Sequence[Candidate]) -> list[Candidate]:
    """Return the votes of which every voter is there."""
    by_name = {row.name: row for row in rows}
    return [
        Candidate(
            row.name,
            by_name[row.votes[0]].feature_set,
            by_name[row.votes[0]].features,
            by_name[row.votes[0]].blocks,
            by_name[row.votes[0]].configuration,
            reported=row.reported,
            note=row.note,
            label=row.name,
            votes=tuple(by_name[name].key for name in row.votes),
        )
        for row in found.rows
        if row.votes and set(row.votes) <= set(by_name)
    ]


def print_tables(*, as_json: bool) -> None:
    """Print every table of a report, what it needs, and how to make it."""
    if as_json:
        say_json([asdict(found) for found in REPORTED_TABLES.values()])
        return
    cells = [
        [
            found.name,
            found.report,
            str(len(found.rows)),
            ", ".join(
                dict.fromkeys(
                    USUAL_BACKBONE.get(name, name)
                    for row in found.rows
                    for name in row.backbones.values()
                    if name != TERMS_BACKBONE
                )
            ),
            found.title,
        ]
        for found in REPORTED_TABLES.values()
    ]
    say(table(cells, ["preset", "report", "rows", "backbones to extract", "table"]))
    say("What each row is and how far it can be the report's: docs/reproduce.md")
