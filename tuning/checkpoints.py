"""Where on the way training is looked at: one sequence for all configurations of a head."""

from collections.abc import Iterable


def checkpoints_up_to(most: int, sequence: Iterable[int]) -> tuple[int, ...]:
    """Return the beginning of a sequence, up to the first that is not below a number.

    Parameters
    ----------
    most : int
        Epochs or rounds that are taken at most.
    sequence : iterable of int
        Ascending; it may have no end.

    Returns
    -------
    tuple of int
        Where the sequence ends below `most`, that is the last.

    Examples
    --------
    >>> checkpoints_up_to(7, [2, 4, 6, 8, 10]), checkpoints_up_to(7, [2, 4])
    ((2, 4, 6, 8), (2, 4, 7))
    """
    found = []
    for steps in sequence:
        found.append(steps)
        if steps >= most:
            return tuple(found)
    return (*found, most)
