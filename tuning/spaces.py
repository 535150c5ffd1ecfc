"""Search spaces: what a search may try of several heads, and how an Optuna trial becomes a configuration.

Names in the study are prefixed by the head (``mlp.dropout``), so that the heads do not share parameters that
merely have the same name.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import heads
from tuning.declared_spaces import changed, check_declared
from tuning.head_spaces import HeadSpace, default_head_space
from tuning.trials import Configuration

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Space:
    """What a search may try.

    Attributes
    ----------
    heads : mapping of str to HeadSpace
        In the order in which they were asked for.
    """

    heads: Mapping[str, HeadSpace]

    def suggest(self, trial: "optuna.Trial") -> Configuration:
        """Ask a trial for a head and for what its space asks."""
        return self.heads[trial.suggest_categorical("head", list(self.heads))].suggest(trial)

    def study_parameters(self, configuration: Configuration) -> dict[str, Any]:
        """Return the study parameters with which `suggest` comes nearest to a configuration.

        Parameters
        ----------
        configuration : Configuration
            Of one of the heads. What lies outside the space is replaced by the nearest value inside.

        Returns
        -------
        dict of str to JSON value
            Those that `suggest` does not ask for, because a condition does not hold, do no harm.
        """
        head = configuration.head
        return {"head": head, **self.heads[head].study_parameters(configuration)}

    @property
    def digest(self) -> str:
        """Hexadecimal digest of everything that may be tried: equal for equal spaces."""
        facts = {head: [space.declared(), dict(space.fixed)] for head, space in self.heads.items()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def declared(self) -> dict[str, Any]:
        """Return the space as in a space file, the heads' own ranges included; see `tuning.parse_space`."""
        return {head: space.declared() for head, space in self.heads.items()}


def check_heads(names: Sequence[str]) -> None:
    """Refuse an empty list of heads, an unknown head or one given twice.

    Parameters
    ----------
    names : sequence of str

    Raises
    ------
    ValueError
        All faults in one message.
    """
    unknown = [name for name in names if name not in heads.HEADS]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    faults = []
    if isinstance(names, str) or not names:
        faults.append(f"'heads' is {names!r}, not a list of one or more names")
    elif unknown:
        faults.append(f"unknown heads {unknown[:5]}")
    if repeated and not isinstance(names, str):
        faults.append(f"heads given twice {repeated[:5]}")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Allowed are {', '.join(heads.HEADS)}, each once.")


def build_spaces(
    heads: Sequence[str],
    *,
    blocks: Mapping[str, int] | None = None,
    n_features: int | None = None,
    n_rows: int | None = None,
    declared: Mapping[str, Any] | None = None,
) -> Space:
    """Return what a search may try of some heads on data of some shape.

    Parameters
    ----------
    heads : sequence of str
        Names of the heads to choose from.
    blocks : mapping of str to int, or None
        Block name to width. With one block (or None) no fusion is asked, and principal directions are at
        most as many as the narrowest block is wide.
    n_features, n_rows : int or None
        Shape of the data, when known. Up to 64 columns, principal directions are not asked; they are at most
        half as many as there are rows. Above 20,000 rows an MLP takes 12 epochs at most instead of 30.
    declared : mapping of head to mapping of parameter to JSON value, or None
        What the user wants otherwise, from `tuning.parse_space`. It is taken as it is, whatever the shape of
        the data. Sections of heads that are not in ``heads`` are checked only.

    Returns
    -------
    Space

    Raises
    ------
    ValueError
        When ``heads`` is empty, or holds an unknown or a repeated name, or ``declared`` has faults.
    """
    check_heads(heads)
    check_declared(declared or {})
    spaces = {
        head: default_head_space(head, blocks=blocks, n_features=n_features, n_rows=n_rows) for head in heads
    }
    return Space(
        {
            head: changed(space, (declared or {})[head]) if head in (declared or {}) else space
            for head, space in spaces.items()
        }
    )


def suggest(trial: "optuna.Trial", heads: Sequence[str], space: Space | None = None) -> Configuration:
    """Ask a trial for a head, its parameters, and how to treat the rare classes.

    Parameters
    ----------
    trial : optuna.Trial
    heads : sequence of str
        Names of the heads to choose from; used when there is no ``space``.
    space : Space or None
        From `build_spaces`; None is what it gives for these heads when nothing is known of the data.

    Returns
    -------
    Configuration
        Rare classes are either weighted (``class_weight``), or resampled, or left alone.

    Raises
    ------
    ValueError
        When ``heads`` is empty, or holds an unknown or a repeated name.
    """
    check_heads(heads)
    return (space or build_spaces(heads)).suggest(trial)


def default_configuration(head: str) -> Configuration:
    """Return the configuration of a head that nobody tuned: its default parameters, without resampling.

    Parameters
    ----------
    head : str

    Returns
    -------
    Configuration

    Raises
    ------
    ValueError
        When the head is unknown.
    """
    check_heads([head])
    return Configuration(head, "none", dict(heads.default_parameters(head)))


def starting_configuration(head: str, space: Space | None = None) -> Configuration:
    """Return the configuration that a search tries first: a sensible one, inside its space where it is asked.

    Parameters
    ----------
    head : str
    space : Space or None
        From `build_spaces`, with this head; None is what it gives when nothing is known of the data.

    Returns
    -------
    Configuration
        Like the default configuration, but trained as a search trains: for a fixed number of epochs (or
        rounds; fewer than the most that the space allows), on all training rows.

    Raises
    ------
    ValueError
        When the head is unknown.
    """
    return (space or build_spaces([head])).heads[head].starting_configuration()
