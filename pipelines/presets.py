"""``train --preset``: the systems of the reports as settings, and what to know about them on other stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from heads import PRESETS, Preset, find_preset
from pipelines.class_parameters import BY_CLASS
from pipelines.console import say, say_json, table
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.matrices import Matrix
    from pipelines.tune_settings import TuneSettings

#: Given instead of a name, it asks for the table.
LIST = "list"


def apply_preset(settings: TuneSettings, name: str, *, keep_resampler: bool = False) -> TuneSettings:
    """Return settings with a preset's head, resampler and every one of its parameters.

    Parameters
    ----------
    settings : TuneSettings
        Its `parameters` win over the preset's.
    name : str
    keep_resampler : bool
        Whether the resampler of `settings` wins as well.

    Raises
    ------
    UsageError
        If there is no such preset; the message has near matches.
    """
    try:
        preset = find_preset(name)
    except ValueError as error:
        raise UsageError(f"{error} 'embedonce train --preset {LIST}' describes them.") from error
    return replace(
        settings,
        preset=name,
        heads=(preset.head,),
        resampler=settings.resampler if keep_resampler else preset.resampler,
        parameters={**preset.expanded(), **(settings.parameters or {})},
    )


def settle_preset(settings: TuneSettings, matrix: Matrix) -> tuple[TuneSettings, list[str]]:
    """Fit a preset to a data set, and say how the run differs from the report.

    Parameters
    ----------
    settings : TuneSettings
        With or without a preset.
    matrix : Matrix

    Returns
    -------
    settings : TuneSettings
        Without what the preset says of classes that have no training rows.
    notes : list of str
    """
    preset = PRESETS.get(settings.preset or "")
    if preset is None:
        return settings, []
    notes = [
        f"preset '{preset.name}' of report {preset.report}: {preset.not_reproduced}; see docs/presets.md"
    ]
    if not _has_features_of(preset, matrix):
        notes.append(
            f"the report used {_asked(preset)}, here is {_found(matrix)}: its figures do not carry over"
        )
    changed = _changes(preset, settings)
    if changed:
        notes.append(f"changed from the preset: {', '.join(changed)}")
    parameters, absent = _without_absent_classes(preset, settings, matrix)
    return replace(settings, parameters=parameters), notes + absent


def _changes(preset: Preset, settings: TuneSettings) -> list[str]:
    wanted, found = preset.expanded(), settings.parameters or {}
    changed = [name for name, value in wanted.items() if found.get(name) != value]
    return changed + (["resampler"] if settings.resampler != preset.resampler else [])


def _without_absent_classes(
    preset: Preset, settings: TuneSettings, matrix: Matrix
) -> tuple[dict[str, Any], list[str]]:
    """Leave out classes without rows from the preset's own mappings; the user's are checked, not changed."""
    present = {matrix.class_names[code] for code in np.unique(matrix.labels[matrix.training])}
    parameters, notes = dict(settings.parameters or {}), []
    for parameter in BY_CLASS:
        value = parameters.get(parameter)
        if not isinstance(value, Mapping) or value != preset.parameters.get(parameter):
            continue
        parameters[parameter] = {name: value[name] for name in value if name in present} or None
        notes += [
            f"the preset's {parameter} names class '{name}', which has no rows here, and is left out"
            for name in value
            if name not in present
        ]
    return parameters, notes


def _has_features_of(preset: Preset, matrix: Matrix) -> bool:
    found = {space.space.split(".")[0]: space for space in matrix.spaces}
    if len(matrix.spaces) != len(preset.backbones) or set(found) != set(preset.backbones):
        return False
    return all(
        found[modality].backbone.startswith(wanted.name) and wanted.width in (None, found[modality].width)
        for modality, wanted in preset.backbones.items()
    )


def _asked(preset: Preset) -> str:
    """Return the report's features in words, such as ``text of clip-vit-b32 (512)``."""
    return " and ".join(
        f"{modality} of {wanted.name or 'a backbone of its own'}"
        + (f" ({wanted.width})" if wanted.width else "")
        for modality, wanted in preset.backbones.items()
    )


def _found(matrix: Matrix) -> str:
    return " and ".join(
        f"{space.space} of {space.backbone or 'no named backbone'} ({space.width})" for space in matrix.spaces
    )


def print_presets(*, as_json: bool) -> None:
    """Print every preset with its report's figures."""
    if as_json:
        described = [{**asdict(preset), "parameters": preset.expanded()} for preset in PRESETS.values()]
        say_json(described)
        return
    rows = [
        [
            preset.name,
            preset.report,
            " + ".join(preset.backbones),
            preset.system,
            ", ".join(f"{score} {value:.4g}" for score, value in preset.reported.items()) or "none",
        ]
        for preset in PRESETS.values()
    ]
    say(table(rows, ["preset", "report", "features", "head", "reported, on the report's own split"]))
    say("Where the report is silent or did more than train a head: docs/presets.md")
