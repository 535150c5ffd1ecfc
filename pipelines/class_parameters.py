"""Parameters that name classes: by name in commands and files, by code in the heads, which see codes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pipelines.errors import UsageError
from tuning import Configuration

#: Parameters of the heads that may map classes to numbers.
BY_CLASS = ("class_weight", "class_boost")


def with_class_codes(configuration: Configuration, class_names: Sequence[str]) -> Configuration:
    """Return a configuration whose parameters name classes by code.

    Parameters
    ----------
    configuration : Configuration
        Its parameters name classes by name, such as ``class_boost={"neutral": 1.5}``.
    class_names : sequence of str
        The position of a name is its code.

    Raises
    ------
    UsageError
        If there is no class of a name; all of them are named, with near matches.
    """
    mappings = {
        parameter: value
        for parameter in BY_CLASS
        if isinstance(value := configuration.parameters.get(parameter), Mapping)
    }
    if not mappings:
        return configuration
    _check_names(mappings, class_names)
    coded = {
        parameter: {list(class_names).index(name): number for name, number in value.items()}
        for parameter, value in mappings.items()
    }
    return Configuration(configuration.head, configuration.resampler, {**configuration.parameters, **coded})


def _check_names(mappings: Mapping[str, Mapping[str, Any]], class_names: Sequence[str]) -> None:
    faults = []
    for parameter, value in mappings.items():
        for name in value:
            if name not in class_names:
                near = get_close_matches(str(name), class_names, n=5, cutoff=0.5)
                hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
                faults.append(f"{parameter} names class {name!r}{hint}")
    if faults:
        raise UsageError(
            f"The data set has no such class: {'; '.join(faults)}. Its classes are "
            f"{', '.join(map(repr, class_names))}."
        )
