"""The machine: processors, memory and GPUs, found without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: Seconds to wait for a GPU's driver to answer.
_PATIENCE = 1.2
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it.

    Attributes
    ----------
    name : str
    total_bytes, free_bytes : int
        Device memory.
    """

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """What the machine offers to this process.

    Attributes
    ----------
    cores : int
        Processors that this process may use.
    memory_bytes : int
        Physical memory, or the container's limit if that is less.
    gpus : tuple of Gpu
    gpu_note : str
        Why GPUs are unknown; empty when they are known.
    """

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    gpu_note: str


def look_at_machine() -> Machine:
    """Return what this machine offers; takes at most about 1.2 s, and milliseconds without a GPU."""
    gpus, note = _gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores, memory_bytes(), gpus, note)


def memory_bytes() -> int:
    """Return the memory that this process may have, in bytes: the machine's, or the container's limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [text for path in _LIMITS if path.is_file() and (text := path.read_text().strip()).isdigit()]
    return min([physical, *map(int, limits)])


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        known = "an AMD GPU is here; its memory is not known" if Path("/dev/kfd").exists() else ""
        return (), known
    query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_PATIENCE, check=True)
        return tuple(_gpu(line) for line in answer.stdout.splitlines() if line.strip()), ""
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return (), f"nvidia-smi does not answer as it should: {str(error).splitlines()[0]}"


def _gpu(line: str) -> Gpu:
    """Parse ``NVIDIA H100 80GB HBM3, 81559, 81079`` (MiB)."""
    name, total, free = (part.strip() for part in line.rsplit(",", 2))
    return Gpu(name, int(total) << 20, int(free) << 20)
