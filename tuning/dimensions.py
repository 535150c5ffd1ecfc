"""Declared dimensions of a search: what one parameter may be, and when it is asked for at all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Float:
    """A real number between two ends, both included.

    Attributes
    ----------
    low, high : float
    log : bool
        Whether orders of magnitude are equally likely; ``low`` is then above 0.
    """

    low: float
    high: float
    log: bool = False

    def ask(self, trial: "optuna.Trial", name: str) -> float:
        """Return the value that `trial` gives to the study parameter `name`."""
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def nearest(self, value: Any) -> float:
        """Return `value`, or the end of the range that is nearest; ``low`` for what is no number."""
        return min(max(float(value), self.low), self.high) if _is_number(value) else self.low

    def label(self, value: Any) -> float:
        """Return how a study writes `value`, which lies in the range."""
        return float(value)

    def declared(self) -> dict[str, Any]:
        """Return the range as in a space file."""
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Int:
    """A whole number between two ends, both included.

    Attributes
    ----------
    low, high : int
    log : bool
        Whether orders of magnitude are equally likely; ``low`` is then above 0.
    """

    low: int
    high: int
    log: bool = False

    def ask(self, trial: "optuna.Trial", name: str) -> int:
        """Return the value that `trial` gives to the study parameter `name`."""
        return int(trial.suggest_int(name, self.low, self.high, log=self.log))

    def nearest(self, value: Any) -> int:
        """Return `value`, rounded, or the end of the range that is nearest; ``low`` for what is no number."""
        return min(max(round(value), self.low), self.high) if _is_number(value) else self.low

    def label(self, value: Any) -> int:
        """Return how a study writes `value`, which lies in the range."""
        return int(value)

    def declared(self) -> dict[str, Any]:
        """Return the range as in a space file."""
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Choice:
    """One of a few values.

    Attributes
    ----------
    values : tuple of JSON values
        At least one, all different. Studies take words, numbers, booleans and None as they are; a list (the
        units of each hidden layer, say) is written there as its JSON.
    """

    values: tuple[Any, ...]

    def ask(self, trial: "optuna.Trial", name: str) -> Any:
        """Return the value that `trial` gives to the study parameter `name`."""
        labels = [self.label(value) for value in self.values]
        return self.values[labels.index(trial.suggest_categorical(name, labels))]

    def nearest(self, value: Any) -> Any:
        """Return `value` if it is a choice, else the choice next to it among numbers, else the first."""
        if value in self.values:
            return value
        numbers = [choice for choice in self.values if _is_number(choice)]
        if _is_number(value) and numbers:
            return min(numbers, key=lambda choice: abs(choice - value))
        return self.values[0]

    def label(self, value: Any) -> str | int | float | bool | None:
        """Return how a study writes `value`, which is one of the choices."""
        return value if value is None or isinstance(value, str | int | float) else json.dumps(value)

    def declared(self) -> list[Any]:
        """Return the choices as in a space file."""
        return list(self.values)


Dimension = Float | Int | Choice
"""What one parameter may be."""


@dataclass(frozen=True)
class Condition:
    """When a dimension matters: while another parameter has, or has not, one of some values.

    Attributes
    ----------
    on : str
        Name of the other parameter.
    values : tuple
    among : bool
        Whether the other parameter must be one of ``values``; False: must not be.
    """

    on: str
    values: tuple[Any, ...]
    among: bool = True

    def holds(self, known: Mapping[str, Any]) -> bool:
        """Whether the dimension is asked for, given the values of the other parameters."""
        return (known[self.on] in self.values) == self.among

    def __str__(self) -> str:
        """Return the condition in words, such as ``fusion is 'bilinear'``."""
        values = " or ".join(map(repr, self.values))
        return f"{self.on} is {'' if self.among else 'not '}{values}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
