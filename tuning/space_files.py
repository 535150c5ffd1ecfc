"""Search spaces as TOML: the text of a file to a declaration, and back."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from tuning.declared_spaces import check_declared


def parse_space(text: str) -> dict[str, Any]:
    """Read what a user says is to be tried.

    Parameters
    ----------
    text : str
        TOML with a section per head. In it, a list is a choice of values, ``{low = 1, high = 8, log = true}``
        is a range, and anything else fixes a parameter. ``"none"`` stands for None. ``balance`` is how the
        rare classes are treated. ``only = true`` leaves out what the head's own space would ask besides.

    Returns
    -------
    dict of head to dict of parameter to JSON value
        The declaration as it is written, for `tuning.build_spaces` and for ``config.json``.

    Raises
    ------
    ValueError
        When the text is not TOML, or names what does not exist or values that a head does not take; all such
        faults come in one message.

    Examples
    --------
    >>> parse_space("[logreg]\\nC = {low = 1e-4, high = 1.0, log = true}")
    {'logreg': {'C': {'low': 0.0001, 'high': 1.0, 'log': True}}}
    """
    try:
        declared = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"This is not TOML: {error}. A section looks like: [mlp], dropout = 0.3") from error
    check_declared(declared)
    return declared


def space_as_toml(declared: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a declaration as the text that `parse_space` reads.

    Parameters
    ----------
    declared : mapping of head to mapping of parameter to JSON value
        See `parse_space`; None is written as ``"none"``.

    Returns
    -------
    str
    """
    sections = [
        "\n".join([f"[{head}]", *(f"{name} = {_toml(value)}" for name, value in entries.items())]) + "\n"
        for head, entries in declared.items()
    ]
    return "\n".join(sections)


def _toml(value: Any) -> str:
    """Write one value; names of heads, parameters and range ends need no quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps("none" if value is None else value)
