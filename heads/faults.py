"""Everything that is wrong with a training, in one message."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Faults:
    """Runs checks one after the other, and raises what they found together.

    Parameters
    ----------
    what : str
        Beginning of the message when there are several faults, such as ``"MLPHead cannot be trained"``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: list[ValueError] = []

    def __bool__(self) -> bool:
        """Tell whether a check has failed."""
        return bool(self._found)

    def note(self, check: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        """Run a check; return what it returns, or None when it raises a ValueError, which is kept."""
        try:
            return check(*args, **kwargs)
        except ValueError as error:
            self._found.append(error)
            return None

    def raise_any(self) -> None:
        """Raise what was found, if anything.

        Raises
        ------
        ValueError
            The error itself when there is one; otherwise one that holds the messages of all.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            listed = " ".join(f"({number}) {error}" for number, error in enumerate(self._found, start=1))
            raise ValueError(f"{self._what}, {len(self._found)} faults: {listed}") from self._found[0]
