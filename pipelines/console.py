"""What commands print: progress on stderr, tables on stdout, durations and sizes in words."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from pipelines.stops import raise_lost_stop

#: What steers a terminal, reverses what is read, or cannot be encoded; names from files may hold any of it.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """Return `text` with what steers a terminal written out, as ``\\u001b``; JSON keeps its meaning."""
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: str = "") -> None:
    """Print a line of result to stdout."""
    sys.stdout.write(plain(text) + "\n")


def say_json(values: object) -> None:
    """Print values to stdout as one indented JSON value."""
    takes_all = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    say(json.dumps(values, indent=2, ensure_ascii=not takes_all))


def tell(text: str) -> None:
    """Print a line about the work to stderr."""
    raise_lost_stop()
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return ``"12.3 s"``, ``"4 min 05 s"`` or ``"2 h 10 min"``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: int) -> str:
    """Return a size in kB, MB or GB (powers of ten)."""
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"


def p_text(p: float) -> str:
    """Return a p-value as a cell: three digits, and no zero."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


@dataclass(frozen=True)
class NumberCell:
    """A number in a cell of a table that is also written as CSV.

    Attributes
    ----------
    text : str
        As people read it, such as ``"<0.001"`` or ``"1,155"``; what ``str`` returns.
    value : float or int
        As programs read it.
    """

    text: str
    value: float

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class IntervalCell:
    """An interval in a cell of a table, which the CSV has in two columns.

    Attributes
    ----------
    ends : sequence of two floats
    form : str
        Of both numbers as people read them.
    """

    ends: Sequence[float]
    form: str = ".3f"

    def __str__(self) -> str:
        low, high = self.ends
        return f"{low:{self.form}} to {high:{self.form}}"


def p_cell(p: float) -> NumberCell:
    """Return a p-value as a cell that keeps its value."""
    return NumberCell(p_text(p), p)


def count_cell(n: int) -> NumberCell:
    """Return a count as a cell: ``1,155`` for people, ``1155`` for programs."""
    return NumberCell(f"{n:,}", n)


def p_in_words(p: float) -> str:
    """Return a p-value as a sentence has it: ``"p = 0.043"`` or ``"p < 0.001"``."""
    text = p_text(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Return an aligned text table; columns whose cells are all numbers stand right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(header)]
    right = [bool(cells) and all(is_number(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return "\n".join([line(list(header)), line(["-" * w for w in widths]), *map(line, cells)])


def is_number(text: str) -> bool:
    """Tell whether a cell stands right: a number, a share, a small p-value, or nothing."""
    try:
        float(text.replace(",", "").lstrip("<").rstrip("%"))
    except ValueError:
        return text in ("", "-")
    return True


class Progress:
    """A progress line with rate and time left; on a terminal it redraws, in a log it speaks rarely.

    Parameters
    ----------
    label : str
    unit : str
        What is counted, e.g. ``"texts"``.
    stream : text stream, optional
        Default: stderr.
    """

    _quiet_seconds = 2.0
    _log_every = 15.0

    def __init__(self, label: str, unit: str, *, stream: TextIO | None = None) -> None:
        self._label, self._unit = label, unit
        self._stream = stream or sys.stderr
        self._began = self._last = time.monotonic()
        self._first_done: int | None = None
        self._shown = False

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` are done; nothing is shown in the first two seconds."""
        raise_lost_stop()
        now = time.monotonic()
        if self._first_done is None:
            # Rows that were already there when this run began say nothing about its speed.
            self._first_done = done
        interval = 0.2 if self._stream.isatty() else self._log_every
        since = now - self._last if self._shown else now - self._began - self._quiet_seconds + interval
        if since < interval:
            return
        self._last = now
        self._write(self._line(done, total, now - self._began, note))

    def close(self) -> None:
        """End the progress line."""
        if self._shown and self._stream.isatty():
            self._stream.write("\n")
            self._stream.flush()

    def _line(self, done: int, total: int, elapsed: float, note: str) -> str:
        rate = (done - (self._first_done or 0)) / elapsed if elapsed > 0 else 0.0
        # The first moment that is told of says nothing yet about the speed.
        speed = f", {rate:.1f}/s, {duration((total - done) / rate)} left" if rate > 0 else ""
        percent = 100 * done / total if total else 100.0
        text = f"{self._label}: {done:,}/{total:,} {self._unit} ({percent:.0f} %){speed}"
        return f"{text} [{note}]" if note else text

    def _write(self, text: str) -> None:
        self._shown = True
        if self._stream.isatty():
            self._stream.write("\r\x1b[2K" + text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
