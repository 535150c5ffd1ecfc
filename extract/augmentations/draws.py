"""Random numbers that belong to one view: the same on every thread, in any order, in every NumPy version."""

from __future__ import annotations

import hashlib

import numpy as np

_STEP = 2.0**-53


class Draws:
    """A stream of numbers that depends on its arguments alone; no global generator is read or moved.

    Parameters
    ----------
    recipe : str
        Name and version of what is drawn for, so that two recipes do not draw alike.
    seed : bytes
        Hash of the input's content: equal inputs have equal views, wherever they stand in the data set.
    view : int
        Number of the view, from 1; 0 is the clean one and draws nothing.

    Raises
    ------
    ValueError
        If the view is less than 1 or the seed is empty.

    Notes
    -----
    NumPy keeps the raw output of a bit generator stable for ever, but not what the methods of ``Generator``
    make of it (NEP 19). The few conversions that are needed are therefore done here.
    """

    def __init__(self, recipe: str, seed: bytes, view: int) -> None:
        if view < 1:
            raise ValueError(f"View {view} was asked for; augmented views count from 1 (0 is the clean one).")
        if not seed:
            raise ValueError("The seed of a view is empty; pass the content hash of the input.")
        name = recipe.encode("utf-8")
        # Each part is preceded by its length, so that no two triples are one string of bytes.
        parts = (name, seed, str(view).encode("ascii"))
        digest = hashlib.sha256(b"".join(len(part).to_bytes(4, "little") + part for part in parts)).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest, "little"))

    def between(self, low: float, high: float) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * _STEP

    def around(self, centre: float, reach: float) -> float:
        """Return a number in [centre - reach, centre + reach)."""
        return self.between(centre - reach, centre + reach)

    def happens(self, chance: float) -> bool:
        """Return True with the given chance."""
        return self.between(0.0, 1.0) < chance

    def below(self, n: int) -> int:
        """Return a whole number from 0 to n - 1."""
        return int(self.between(0.0, float(n)))

    def order(self, n: int) -> list[int]:
        """Return 0 .. n - 1 in random order (Fisher and Yates)."""
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order
