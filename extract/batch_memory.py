"""Batch memory: find the best batch size of a device by trying, and remember it for the next pass."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cache import canonical_json, sha256_hex, write_file
from extract.forwards import give_memory_back, is_out_of_memory

#: A larger batch must raise the throughput by this factor, or it is not worth its memory.
WORTHWHILE = 1.05
#: Sizes that are kept; the oldest are forgotten.
_MOST_ENTRIES = 500


@dataclass(frozen=True)
class BatchKey:
    """What a batch size was found for.

    Attributes
    ----------
    backbone : str
        Fingerprint of the backbone, such as the SHA-256 of its weights.
    modality : str
    precision : str
    device : str
        Name of the device with its memory; see :func:`device_name`.
    max_memory : int or None
        Limit in bytes.
    """

    backbone: str
    modality: str
    precision: str
    device: str
    max_memory: int | None


def probe_batch_size(run: Callable[[int], float], *, start: int, limit: int) -> int:
    """Return the batch size with the best throughput, found by doubling.

    Parameters
    ----------
    run : callable
        Takes a number of rows, sends a batch of them through the network, returns its seconds. It may raise
        out of memory. It is called twice per size: the first call chooses kernels and fills the allocator.
    start, limit : int
        First size to try, at least 1, and the largest. If `start` does not fit, smaller ones are tried.

    Raises
    ------
    MemoryError or RuntimeError
        If not even one row fits: what `run` raised.
    """
    size = max(1, min(start, limit))
    best, best_rate = 0, 0.0
    while size <= limit:
        rate = None
        try:
            rate = size / min(run(size), run(size))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or (best == 0 and size == 1):
                raise
        if rate is None:
            give_memory_back()  # only now: the error held the tensors of its frames
            if best:
                break
            limit = size - 1  # nothing has fitted yet: go down until something does
            size //= 2
            continue
        if best and rate < best_rate * WORTHWHILE:
            break
        best, best_rate = size, rate
        size *= 2
    return best


class BatchMemory:
    """Batch sizes of earlier passes, in a small JSON file of the user's cache.

    It only ever saves time: a file that cannot be read or written is left alone, and a note says so.

    Parameters
    ----------
    file : Path or None
        Default: ``embedonce/batch_sizes.json`` in ``XDG_CACHE_HOME``, or in ``~/.cache``.

    Attributes
    ----------
    notes : list of str
        What the user should know.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or default_file()
        self.notes: list[str] = []

    def remembered(self, key: BatchKey) -> int | None:
        """Return the batch size that was found for `key`, if one was."""
        return self._read().get(_name(key))

    def remember(self, key: BatchKey, size: int) -> None:
        """Keep the batch size of `key`."""
        sizes = self._read()
        sizes.pop(_name(key), None)
        sizes[_name(key)] = size
        kept = dict(list(sizes.items())[-_MOST_ENTRIES:])
        text = json.dumps({"format": 1, "batch_sizes": kept}, indent=1)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._file, text.encode())
        except OSError as error:
            self._note(
                f"The batch size could not be kept in '{self._file}' ({error}): the next pass probes again"
            )

    def _read(self) -> dict[str, int]:
        try:
            stored = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._note(f"File '{self._file}' cannot be read ({error}): batch sizes are probed again")
            return {}
        sizes = stored.get("batch_sizes") if isinstance(stored, dict) and stored.get("format") == 1 else None
        if not isinstance(sizes, dict) or not all(type(n) is int and n > 0 for n in sizes.values()):
            self._note(f"File '{self._file}' holds no batch sizes of format 1: they are probed again")
            return {}
        return sizes

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def default_file() -> Path:
    """Return where batch sizes are kept for this user."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path there is to be ignored.
    folder = Path(root) if Path(root).is_absolute() else Path.home() / ".cache"
    return folder / "embedonce" / "batch_sizes.json"


def device_name(device: str) -> str:
    """Return a CUDA device's name with its memory in MiB: cards of one name come in several sizes."""
    import torch

    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} {properties.total_memory // 2**20} MiB"


def _name(key: BatchKey) -> str:
    """Return `key` as one string that tells a reader what it is, and every two keys apart."""
    words = f"{key.modality} {key.precision} {key.device}"
    return f"{words} {sha256_hex(canonical_json(asdict(key)))[:16]}"
