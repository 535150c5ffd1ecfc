"""Choices: which modalities and readouts of a backbone a pass takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from extract.data_sets import UNREAD, DataSet
from extract.samples import IMAGE, JOINT, TEXT, DataError

if TYPE_CHECKING:
    from extract.backbones import Backbone


def shared_modalities(data_set: DataSet, backbone: Backbone, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the modalities to embed, in the backbone's order.

    Parameters
    ----------
    data_set : DataSet
    backbone : Backbone
    asked : sequence of str
        Empty takes the backbone's default modalities that the data set has, or else all that it has.

    Raises
    ------
    ValueError
        If the backbone has no modality of that name.
    DataError
        If the data set lacks what is asked for, or has nothing that the backbone embeds.
    """
    card = backbone.card
    unknown = [modality for modality in asked if modality not in card.modalities]
    if unknown:
        raise ValueError(
            f"Backbone '{card.name}' has no modality {', '.join(map(repr, unknown))}; it embeds "
            f"{', '.join(card.modalities)}. Change --modality."
        )
    there = [m for m in card.modalities if all(part in data_set.modalities for part in parts_of(m))]
    absent = [modality for modality in asked if modality not in there]
    if absent or not there:
        raise DataError(
            f"Backbone '{card.name}' embeds {' and '.join(asked or card.modalities)}, but the data set in "
            f"'{data_set.root}' has only {' and '.join(data_set.modalities)}. Choose another "
            f"{'--modality' if absent else '--backbone'}."
            + (f" Its {UNREAD}: {data_set.notes[UNREAD]}." if UNREAD in data_set.notes else "")
        )
    wanted = asked or [m for m in card.default_modalities if m in there] or there
    return tuple(modality for modality in card.modalities if modality in wanted)


def parts_of(modality: str) -> tuple[str, ...]:
    """Return the halves of an input: text and image of a pair, else the modality itself."""
    return (TEXT, IMAGE) if modality == JOINT else (modality,)


def readouts_by_modality(
    backbone: Backbone, modalities: Sequence[str], asked: Sequence[str]
) -> dict[str, list[str]]:
    """Return the readouts of each modality, without repeats, in the order asked for.

    Raises
    ------
    ValueError
        If a readout does not exist, belongs to a modality that is not embedded, or a modality has none.
    """
    found: dict[str, list[str]] = {modality: [] for modality in modalities}
    for word in asked:
        modality, dot, readout = word.partition(".")
        if dot and modality not in modalities:
            raise ValueError(
                f"Readout '{word}' is of modality '{modality}', but '{backbone.card.name}' embeds "
                f"{', '.join(modalities)} here. Change --readout or --modality."
            )
        for each in [modality] if dot else modalities:
            name = readout if dot else word
            backbone.card.width(each, name)
            if name not in found[each]:
                found[each].append(name)
    bare = [modality for modality, names in found.items() if not names]
    if bare:
        raise ValueError(
            f"No readout is asked for {' and '.join(bare)} of '{backbone.card.name}'. Name one with "
            f"--readout, such as {bare[0]}.pooled, or leave the modality out with --modality."
        )
    return found
