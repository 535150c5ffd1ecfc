"""Changing what is tried of a head by what a user declared, and refusing declarations that mean nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from heads import HEADS
from heads.names import unknown_name
from heads.parameter_rules import Rule
from heads.presets import parameter_rules
from tuning.balance import BALANCE, allowed_words, is_balance
from tuning.dimensions import Choice, Dimension, Float, Int
from tuning.head_spaces import CONDITIONS, HeadSpace, default_values, settled

_ONLY = "only"
_RANGE_KEYS = ("low", "high", "log")
_INSTEAD = {"class_weight": BALANCE, "resampler": BALANCE}


@dataclass
class Section:
    """One head's part of a declared space.

    Attributes
    ----------
    dimensions : dict of str to Dimension
    fixed : dict of str to JSON value
    only : bool
        Whether nothing but `dimensions` is asked.
    faults : list of str
        What is wrong, one clause each; the rest of the section is then incomplete.
    """

    dimensions: dict[str, Dimension] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    only: bool = False
    faults: list[str] = field(default_factory=list)


def check_declared(declared: Mapping[str, Any]) -> None:
    """Refuse a declared space that names what does not exist or values that a head does not take.

    Parameters
    ----------
    declared : mapping of head to mapping of parameter to JSON value
        As in a space file (see `tuning.parse_space`).

    Raises
    ------
    ValueError
        All faults in one message, with near matches.
    """
    faults = []
    for head, entries in declared.items():
        if head not in HEADS:
            faults.append(unknown_name("head", head, HEADS))
        elif not isinstance(entries, Mapping):
            faults.append(f"{head} is {entries!r}, not a section (write [{head}], and its parameters below)")
        else:
            faults += [f"[{head}] {fault}" for fault in read_section(head, entries).faults]
    if faults:
        raise ValueError(f"The search space has {len(faults)} fault(s): {'; '.join(faults)}.")


def changed(space: HeadSpace, entries: Mapping[str, Any]) -> HeadSpace:
    """Return the space of a head as a user's section changes it.

    Parameters
    ----------
    space : HeadSpace
    entries : mapping of str to JSON value
        A section that `check_declared` finds no fault in.

    Returns
    -------
    HeadSpace

    Raises
    ------
    ValueError
        When a declared dimension can never matter, because of the value of the parameter it depends on.
    """
    section = read_section(space.head, entries)
    kept = {} if section.only else space.dimensions
    dropped = {name: d for name, d in space.dimensions.items() if name not in kept}
    fixed = {
        **space.fixed,
        **{name: d.nearest(space.start.get(name, space.fixed[name])) for name, d in dropped.items()},
        **section.fixed,
    }
    dimensions = {name: d for name, d in {**kept, **section.dimensions}.items() if name not in section.fixed}
    start = {
        name: value
        for name, value in space.start.items()
        if name not in section.fixed
        or (name not in space.dimensions and section.fixed[name] == space.fixed[name])
    }
    whole = replace(space, dimensions=dimensions, fixed=fixed, start=start)
    idle = [
        f"[{space.head}] {name} plays no part, because it matters only while "
        f"{CONDITIONS[space.head][name]}; leave it out, or change {CONDITIONS[space.head][name].on}"
        for name in section.dimensions
        if not whole.can_matter(name)
    ]
    if idle:
        raise ValueError(f"The search space has {len(idle)} fault(s): {'; '.join(idle)}.")
    return settled(whole)


def read_section(head: str, entries: Mapping[str, Any]) -> Section:
    """Read the section of a known head; what is wrong is listed in the result."""
    section = Section()
    rules, usual = parameter_rules(head), default_values(head)
    known = [name for name in usual if name in rules or name == BALANCE]
    for name, entry in entries.items():
        if name == _ONLY:
            section.only = entry is True
            if not isinstance(entry, bool):
                section.faults.append(f"only is {entry!r} (allowed: true or false)")
        elif name in _INSTEAD:
            section.faults.append(f"{name} is not declared by itself (use {_INSTEAD[name]})")
        elif name not in known:
            section.faults.append(unknown_name("parameter", name, [*known, _ONLY]))
        else:
            _read_entry(section, _Parameter(name, rules.get(name, _balance_rule), usual[name]), entry)
    return section


@dataclass(frozen=True)
class _Parameter:
    """What a head says about one of its parameters."""

    name: str
    rule: Rule
    usual: Any

    def value(self, entry: Any) -> tuple[Any, str | None]:
        """Return a TOML value as the head takes it, and what is allowed instead if the head does not."""
        value = entry
        if entry == "none" and self.rule("none") is not None and self.rule(None) is None:
            value = None  # TOML has no word for it
        elif isinstance(self.usual, float) and isinstance(entry, int) and not isinstance(entry, bool):
            value = float(entry)
        allowed = self.rule(value)
        return value, None if allowed is None else f"{self.name}={entry!r} (allowed: {allowed})"


def _balance_rule(value: object) -> str | None:
    return None if is_balance(value) else allowed_words(value)


def _read_entry(section: Section, parameter: _Parameter, entry: Any) -> None:
    """Read a table as a range, a list as choices, and anything else as a fixed value."""
    if isinstance(entry, Mapping):
        dimension, faults = _range(parameter, entry)
        section.faults += faults
        if dimension is not None:
            section.dimensions[parameter.name] = dimension
        return
    read = [parameter.value(one) for one in (entry if isinstance(entry, list) else [entry])]
    values = tuple(value for value, _ in read)
    section.faults += [fault for _, fault in read if fault is not None]
    if not values:
        section.faults.append(f"{parameter.name} is an empty list (allowed: one or more values)")
    elif any(value in values[:position] for position, value in enumerate(values)):
        section.faults.append(f"{parameter.name}={entry!r} holds a value twice")
    elif len(values) == 1:
        section.fixed[parameter.name] = values[0]
    else:
        section.dimensions[parameter.name] = Choice(values)


def _range(parameter: _Parameter, entry: Mapping[str, Any]) -> tuple[Dimension | None, list[str]]:
    name = parameter.name
    faults = [f"{name}: {unknown_name('word', key, _RANGE_KEYS)}" for key in entry if key not in _RANGE_KEYS]
    faults += [f"{name} has no {key!r}" for key in ("low", "high") if key not in entry]
    log = entry.get("log", False)
    if not isinstance(log, bool):
        faults.append(f"{name}: log is {log!r} (allowed: true or false)")
    if faults:
        return None, faults
    low, high = entry["low"], entry["high"]
    wrong = [end for end in (low, high) if isinstance(end, bool) or not isinstance(end, int | float)]
    if wrong:
        return None, [f"{name}: {wrong[0]!r} is no number (give words as a list of choices)"]
    faults = [fault for _, fault in map(parameter.value, (low, high)) if fault is not None]
    if not low < high:
        faults.append(f"{name}: low {low!r} is not below high {high!r}")
    if log and low <= 0:
        faults.append(f"{name}: low {low!r} is not above 0, which log = true needs")
    if faults:
        return None, faults
    # The rules allow intervals: where a number between two whole ones is refused, only whole ones will do.
    if isinstance(low, int) and isinstance(high, int) and parameter.rule(low + 0.5) is not None:
        return Int(low, high, log), []
    return Float(float(low), float(high), log), []
