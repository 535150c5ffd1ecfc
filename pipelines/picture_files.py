"""Picture files that stores name: in which folder they lie, and which of them may be opened.

A store is data and may be a stranger's: what it names is opened only inside the data set's folder. Where the
pictures that a page shows are guessed to lie is never a folder that holds everything a user has; to look for
duplicates, of which nothing is shown, any folder around the stores will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

_MOST_PROBES = 50


def folders_around(stores: Iterable[Path]) -> list[Path]:
    """Return the folders around some stores and the current one, where their data set usually lies."""
    homes = [store.resolve().parent for store in stores]
    return [*(folder for home in homes for folder in (home.parent, home)), Path()]


def data_folders(data: Path | None, stores: Iterable[Path], run: Path) -> list[Path]:
    """Return where the pictures of a run may lie: the folder given, or those around its stores and itself.

    Parameters
    ----------
    data : Path or None
        The data set's folder or manifest.
    stores : iterable of Path
        Store files.
    run : Path
        The run folder.

    Returns
    -------
    list of Path
        Guessed folders never hold the home folder or everything: a stranger's run could name any picture
        in them.

    Raises
    ------
    FileNotFoundError
        If `data` does not exist.
    """
    if data is not None:
        if not data.exists():
            raise FileNotFoundError(f"Data set '{data}' does not exist.")
        return [data if data.is_dir() else data.parent]
    guessed = [*folders_around(stores), *run.resolve().parents[:3]]
    return [folder for folder in guessed if not _holds_all(folder.resolve())]


def _holds_all(folder: Path) -> bool:
    home = os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111 - Path raises where there is no home
    return folder == folder.parent or Path(home).is_relative_to(folder)


def searched(data: Path | None) -> str:
    """Return in words where pictures were looked for: `data_folders` of a data set given, or of none."""
    if data is not None:
        return f"'{data}'"
    return "the current folder or around the stores and the run (the home folder itself is never searched)"


def data_root(paths: Sequence[str], roots: Iterable[Path]) -> Path | None:
    """Return the first folder in which most of the first pictures lie, or None.

    Parameters
    ----------
    paths : sequence of str
        Pictures relative to the data set; "" = none.
    roots : iterable of Path
        From `data_folders`.
    """
    probes = [path for path in paths if path][:_MOST_PROBES]
    for root in dict.fromkeys(root.resolve() for root in roots):
        hits = sum(file_inside(root, path) is not None for path in probes)
        if probes and hits * 2 > len(probes):
            return root
    return None


def file_inside(root: Path, path: str) -> Path | None:
    """Return the file a store names, if it is one and lies in the data folder.

    Parameters
    ----------
    root : Path
        Resolved.
    path : str
        As the store says it; an absolute one is never opened.
    """
    if not path or "\0" in path or Path(path).is_absolute():
        return None
    try:
        file = (root / path).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (OSError, RuntimeError):  # a name that is too long, links in a circle
        return None
