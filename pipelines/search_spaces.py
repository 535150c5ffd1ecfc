"""What ``embedonce tune`` searches: a space file read, the spaces for a matrix, and the spaces printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.console import say, say_json
from pipelines.errors import RunError, users_words

if TYPE_CHECKING:
    from pipelines.matrices import Matrix
    from pipelines.tune_settings import TuneSettings
    from tuning import Configuration, Space

# Shown without data: as wide as embeddings are, in two blocks, so that nothing is left out.
_SHOWN_SHAPE: Mapping[str, Any] = {"blocks": {"text": 1024, "image": 1024}, "n_features": 2048}

_MOST_BYTES = 1_000_000


def read_space(path: Path) -> dict[str, Any]:
    """Read a space file.

    Parameters
    ----------
    path : Path
        TOML; see docs/spaces.md.

    Returns
    -------
    dict of head to dict of parameter to JSON value

    Raises
    ------
    RunError
        If the file cannot be read, is no TOML, or has faults; all of them are named.
    """
    from tuning import parse_space

    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise RunError(f"'{path}' has {path.stat().st_size:,} bytes, which is no space file.")
        return parse_space(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"The space file '{path}' cannot be read: {error.strerror}. 'embedonce tune --print-space' "
            "prints one to start from."
        ) from error
    except UnicodeDecodeError as error:
        raise RunError(f"The space file '{path}' is not UTF-8: {error}.") from error
    except ValueError as error:
        raise RunError(f"'{path}': {error}") from error


def planned_search(settings: TuneSettings, matrix: Matrix) -> tuple[Space, list[Configuration] | None]:
    """Return what a search may try, and with ``--grid`` everything it will try.

    Raises
    ------
    UsageError
        If the grid is not one or is too large.
    ValueError
        If the space has faults.
    """
    from tuning import build_spaces, grid_configurations

    space = build_spaces(
        settings.heads,
        blocks=matrix.blocks,
        n_features=matrix.X.shape[1],
        n_rows=len(matrix.training),
        declared=settings.space,
    )
    if not settings.grid:
        return space, None
    with users_words():
        return space, grid_configurations(space, limit=settings.trials)


def print_spaces(heads: Sequence[str], declared: Mapping[str, Any] | None, *, as_json: bool) -> None:
    """Print what a search may try of each head, as a space file."""
    from tuning import build_spaces, space_as_toml

    spaces = build_spaces(heads, declared=declared, **_SHOWN_SHAPE).declared()
    if as_json:
        say_json(spaces)
        return
    say("# What embedonce tune tries. With one block there is no fusion; up to 64 columns there is no pca.")
    say(space_as_toml(spaces).rstrip("\n"))
