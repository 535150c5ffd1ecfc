"""Counts: what happened to the rows of a pass, and how long each stage worked."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class StageClock:
    """Seconds, summed over workers: reading and preparing inputs, the forward, waiting, and writing.

    Attributes
    ----------
    reading, forward, write : float
    waiting : float
        On a GPU: seconds in which it stood still because no batch was ready.
    """

    reading: float = 0.0
    forward: float = 0.0
    waiting: float = 0.0
    write: float = 0.0

    @property
    def limiting(self) -> str:
        """The stage that sets the pace."""
        return "reading" if max(self.reading, self.waiting) > self.forward else "forward"


@dataclass
class ModalityCount:
    """What happened to the rows of one modality.

    Attributes
    ----------
    resumed, computed, reused, repeated, bad : int
        Rows, by how they came to what the store holds.
    truncated : int
        Computed rows whose text was longer than the network takes, for who watches the pass; that of all rows
        is in the store (`extract.truncation`).
    views : int
        Augmented views computed.
    smallest_batch : int or None
        Rows that fit, if memory ran out.
    peak_bytes : int or None
        Most device memory that was in use; None on a CPU.
    clock : StageClock
    """

    resumed: int = 0
    computed: int = 0
    reused: int = 0
    repeated: int = 0
    bad: int = 0
    truncated: int = 0
    views: int = 0
    smallest_batch: int | None = None
    peak_bytes: int | None = None
    clock: StageClock = field(default_factory=StageClock)
