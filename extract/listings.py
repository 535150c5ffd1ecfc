"""Files of a folder by the part of their names before the ending, a hundred bytes of memory for each stem."""

from __future__ import annotations

import os
from pathlib import Path

from extract.samples import DataError


class FilesByStem:
    """The regular files of a folder, looked up by stem.

    Looking ids up in a listing, instead of building paths from them, means that no id can name a file outside
    the folder. A link is followed only if it stays under the folder's parent, the data set.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    DataError
        If there is no such folder, or a link in it leads out of the data set.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise DataError(
                f"Folder '{folder}' does not exist; the guid layout keeps '<guid>.txt' and '<guid>.jpg' "
                "there."
            )
        self._folder = folder
        # Few combinations of endings are shared by all stems; paths would take a kilobyte for each stem.
        self._endings: dict[str, tuple[str, ...]] = {}
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        names = _regular_files(folder)
        for has_capitals in (False, True):
            for name in names:
                stem, ending = _divided(name)
                if (ending != ending.lower()) == has_capitals:
                    self._set(stem, (*self._endings.get(stem, ()), ending))

    def of(self, stem: str) -> dict[str, Path]:
        """Return ending in lower case -> file of a stem; empty if there is none.

        Of 1.jpg and 1.JPG the lower-case name counts; the other one keeps its own ending, so that it is found
        under a name nobody asks for.
        """
        found: dict[str, Path] = {}
        for ending in self._endings.get(stem, ()):
            key = ending if ending.lower() in found else ending.lower()
            found[key] = self._folder / f"{stem}{ending}"
        return found

    def take(self, *paths: Path | None) -> None:
        """Forget some files, so that `names` does not count them."""
        for path in paths:
            if path is not None:
                stem, taken = _divided(path.name)
                self._set(stem, tuple(ending for ending in self._endings.get(stem, ()) if ending != taken))

    def names(self) -> list[str]:
        """Return the names of all files that were not taken."""
        return [f"{stem}{ending}" for stem, endings in self._endings.items() for ending in endings]

    def _set(self, stem: str, endings: tuple[str, ...]) -> None:
        self._endings[stem] = self._known.setdefault(endings, endings)


def _regular_files(folder: Path) -> list[str]:
    """Return the names of the regular files in a folder, sorted; links to some in the data set are such."""
    names, links = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                links.append(entry.name)
            elif entry.is_file():
                names.append(entry.name)
    root = folder.parent.resolve()
    for name in sorted(links):
        refuse_link_outside(folder / name, root)
        if (folder / name).is_file():
            names.append(name)
    return sorted(names)


def _divided(name: str) -> tuple[str, str]:
    """Return stem and suffix as `Path` does, without a path, which puts every name into a global table."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def refuse_link_outside(path: Path, root: Path) -> None:
    """Refuse a link that leads out of a data set.

    Parameters
    ----------
    path : Path
        Anything but a link is let through.
    root : Path
        The data set's folder, resolved.

    Raises
    ------
    DataError
        If it leads elsewhere, or nowhere.
    """
    if not path.is_symlink():
        return
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, a name that is too long
        raise DataError(f"'{path}' is a link that leads nowhere ({error}). Remove it.") from error
    if not target.is_relative_to(root):
        raise DataError(
            f"'{path}' is a link to '{target}', outside the data set. Copy the file into the data set "
            "instead."
        )
