"""``embedonce backbones``: every registered backbone, what it takes and what it costs. No torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.console import say, say_json, table

if TYPE_CHECKING:
    from extract.cards import Card

#: Kinds in the order in which they are printed, with their headings.
KINDS = {
    "text": "Text",
    "image": "Image",
    "paired": "Paired: a text tower and an image tower into one space",
    "joint": "Joint: one network for a text and an image together",
}
_PRECISION = "fp16"


def list_backbones(*, modality: str | None = None, match: str = "", as_json: bool = False) -> None:
    """Print the registered backbones.

    Parameters
    ----------
    modality : {"text", "image", "joint"} or None
        Only backbones that embed it.
    match : str
        Only backbones whose name or family contains this, in any case.
    as_json : bool
        Print everything that is known of each, as a JSON list.

    Raises
    ------
    UsageError
        If nothing is left.
    """
    from extract import backbone_names, find_card

    cards = [find_card(name) for name in backbone_names()]
    chosen = [card for card in cards if _is_wanted(card, modality, match.lower())]
    if not chosen:
        from pipelines.errors import UsageError

        asked = f" with {modality} vectors" if modality else ""
        raise UsageError(
            f"No backbone{asked} has '{match}' in its name or family; there are {len(cards)}. Leave out "
            "--match to see them."
        )
    if as_json:
        say_json([describe(card) for card in chosen])
    else:
        _print(chosen)


def kind(card: Card) -> str:
    """Return the kind of a backbone: one of `KINDS`."""
    if "joint" in card.modalities:
        return "joint"
    return "paired" if len(card.modalities) > 1 else card.modalities[0]


def describe(card: Card) -> dict[str, Any]:
    """Return a card with its kind, its size on disk and the memory that its towers take, as JSON values."""
    from extract.memory import QUOTED_INPUTS, estimate_memory, largest_estimate

    largest = largest_estimate(card, _PRECISION)
    towers = {modality: estimate_memory(card, modality, _PRECISION) for modality in card.modalities}
    return {
        **card.as_dict(),
        "kind": kind(card),
        "weights_bytes": weights_bytes(card),
        "weights_bytes_estimated": card.weights_bytes is None and card.parameters is not None,
        "gpu_memory": {
            "estimated": True,
            "precision": _PRECISION,
            "inputs": QUOTED_INPUTS,
            "bytes": None if largest is None else largest.total(),
            "towers": {
                modality: {"weights_bytes": tower.weights, "bytes_per_input": tower.per_input}
                for modality, tower in towers.items()
                if tower is not None
            },
        },
    }


def weights_bytes(card: Card) -> int | None:
    """Return the size of the weight file: what the card says, else that of its parameters as float32."""
    if card.weights_bytes is not None or card.parameters is None:
        return card.weights_bytes
    return 4 * card.parameters


def _is_wanted(card: Card, modality: str | None, match: str) -> bool:
    return (modality is None or modality in card.modalities) and (match in card.name or match in card.family)


def _print(cards: Sequence[Card]) -> None:
    from extract.memory import QUOTED_INPUTS

    for name, heading in KINDS.items():
        group = [card for card in cards if kind(card) == name]
        if group:
            say(heading)
            say(_table(group))
            say()
    say(
        f"GPU: estimated memory of the larger tower in {_PRECISION} with {QUOTED_INPUTS} inputs at a time, "
        "without the CUDA context."
    )
    for licence in sorted({card.licence for card in cards if "(" in card.licence}):
        say(f"{_short(licence)}: {licence.partition('(')[2].rstrip(')')}.")
    say("Also hf:ORG/NAME of these families, timm:NAME, or the path of a folder of weights. --json has more.")


def _table(cards: Sequence[Card]) -> str:
    from extract.memory import largest_estimate

    estimates = [largest_estimate(card, _PRECISION) for card in cards]
    columns = {
        "name": [card.name for card in cards],
        "family": [card.family for card in cards],
        "also alone": [", ".join(m for m in card.modalities if m != "joint") for card in cards],
        "width": [str(_width(card)) for card in cards],
        "params": _right([_count(card.parameters) for card in cards]),
        "weights": _right([_size(weights_bytes(card)) for card in cards]),
        "GPU": _right([_size(None if estimate is None else estimate.total()) for estimate in estimates]),
        "licence": [_short(card.licence) for card in cards],
        "paper": [_paper(card.paper) for card in cards],
    }
    if kind(cards[0]) != "joint":
        del columns["also alone"]
    return table(list(zip(*columns.values(), strict=True)), list(columns))


def _width(card: Card) -> int:
    """Return the columns of the default readout; the towers of a pair embed into one space."""
    return card.readouts[card.modalities[-1]]["pooled"]


def _right(cells: list[str]) -> list[str]:
    """Return numbers with units set flush right."""
    return [cell.rjust(max(map(len, cells))) for cell in cells]


def _count(n: int | None) -> str:
    if n is None:
        return "?"
    return f"{n / 1e9:.1f} B" if n >= 1e9 else f"{n / 1e6:.0f} M"


def _size(n_bytes: int | None) -> str:
    if n_bytes is None:
        return "?"
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 999.5e6 else f"{n_bytes / 1e6:.0f} MB"


def _short(licence: str) -> str:
    return licence.partition(" (")[0]


def _paper(address: str) -> str:
    return address.replace("https://arxiv.org/abs/", "arXiv:").removeprefix("https://")
