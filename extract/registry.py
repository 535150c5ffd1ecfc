"""The registry: from the name of a backbone to its card and its network; importing it loads no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from extract.backbones.contract import Backbone
from extract.cards import VISION_LANGUAGE_FAMILIES, Card
from extract.weight_sources import GivenFolder, HubSnapshot, WeightSource
from extract.weights import read_json

Opener = Callable[[Card, WeightSource | None], Backbone]
Recogniser = Callable[[str, WeightSource], Backbone]

_BACKBONE_MODULES = (
    "extract.backbones.text",
    "extract.backbones.vision",
    "extract.backbones.vision_transformers",
    "extract.backbones.timm_models",
    "extract.backbones.paired",
    "extract.backbones.siglip",
    "extract.backbones.openclip_layout",
    "extract.backbones.flava",
    "extract.backbones.blip",
    "extract.backbones.vision_language",
)
_registered: dict[str, tuple[Card, Opener]] = {}
_families: dict[str, Recogniser] = {}

_OTHER_SPELLINGS = (
    "Other valid spellings: hf:ORG/NAME (a Hugging Face repository), timm:NAME (a network of timm), or the "
    "path of a folder of weights"
)


class BackboneNameError(ValueError):
    """A word that names no backbone, or several."""


def register_backbone(card: Card) -> Callable[[Opener], Opener]:
    """Register a function that opens the backbone of `card`; it may be stacked for cards of one family.

    Parameters
    ----------
    card : Card
        Its name is what ``--backbone`` takes.

    Returns
    -------
    callable
        Decorator for ``open(card, source) -> Backbone``, where `source` is None for the card's own source.
        It returns the function unchanged.

    Raises
    ------
    ValueError
        If the name is taken.

    Examples
    --------
    >>> from extract.registry import find_card
    >>> find_card("resnet50").readouts["image"]["pooled"]
    2048
    """

    def register(opener: Opener) -> Opener:
        if card.name in _registered:
            raise ValueError(
                f"Backbone name '{card.name}' is registered twice. Give the new backbone another name."
            )
        _registered[card.name] = (card, opener)
        return opener

    return register


def register_family(model_type: str) -> Callable[[Recogniser], Recogniser]:
    """Register a function that builds a backbone, card included, from a folder of weights of one family.

    Parameters
    ----------
    model_type : str
        ``model_type`` in ``config.json``, "sentence-transformers" for folders with ``modules.json``, or
        "state-dict" for folders with neither.

    Raises
    ------
    ValueError
        If the family is taken.
    """

    def register(recogniser: Recogniser) -> Recogniser:
        if model_type in _families:
            raise ValueError(f"Family '{model_type}' is registered twice.")
        _families[model_type] = recogniser
        return recogniser

    return register


def backbone_names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_table()))


def opens_by_name(name: str) -> bool:
    """Tell whether a name is all that `open_backbone` needs; one that came from a folder needs that folder.

    Parameters
    ----------
    name : str
        As a store names its backbone.

    Returns
    -------
    bool
        Also of a name whose weights are not on this machine.
    """
    return name.startswith(("hf:", "timm:")) or name in _table()


def find_card(name: str) -> Card:
    """Return the card of a registered name, an ``hf:ORG/NAME`` or a folder of weights.

    Raises
    ------
    BackboneNameError
        If the name is unknown or ambiguous; at most five near matches are named.
    WeightsMissingError
        For ``hf:`` names and folders, whose card is read from their files, if those are not there.
    """
    table = _table()
    return table[name][0] if name in table else _open_unregistered(name, None).card


def open_backbone(name: str, *, weights: Path | None = None) -> Backbone:
    """Return the backbone of a name. Nothing is loaded before a tower is opened.

    Parameters
    ----------
    name : str
        A registered name, ``hf:ORG/NAME``, ``timm:NAME``, or the path of a folder of weights. A registered
        name wins over a folder of the same name; write ``./NAME`` for the folder.
    weights : Path or None
        Folder to take the weights from instead of the card's own source.

    Raises
    ------
    BackboneNameError
        If the name is unknown or ambiguous.
    ValueError
        If it is the path of no folder, or the weights are not those of the card.
    WeightsMissingError
        If `weights`, or the files that an ``hf:`` name or folder is described by, are not there.
    """
    table = _table()
    if name not in table:
        return _open_unregistered(name, weights)
    card, opener = table[name]
    if weights is None:
        return opener(card, None)
    backbone = opener(card, GivenFolder(Path(weights)))
    backbone.check_available()
    return backbone


def _table() -> dict[str, tuple[Card, Opener]]:
    for module in _BACKBONE_MODULES:
        import_module(module)
    return _registered


def _open_unregistered(name: str, weights: Path | None) -> Backbone:
    if name.startswith("timm:"):
        from extract.backbones.timm_models import open_timm

        backbone = open_timm(name, weights)
        if weights is not None:
            backbone.check_available()
        return backbone
    if name.startswith("hf:"):
        repo = name.removeprefix("hf:")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise BackboneNameError(
                f"Backbone '{name}' is not valid: after 'hf:' comes ORG/NAME, such as "
                "hf:openai/clip-vit-base-patch32."
            )
        return _recognise(name, GivenFolder(Path(weights)) if weights else HubSnapshot(repo, None))
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():
        raise _unknown(name)
    if weights is not None:
        raise ValueError(
            f"Backbone '{name}' is a folder of weights already; leave out --weights '{weights}'."
        )
    return _recognise(folder.resolve().name, GivenFolder(folder))


def _recognise(name: str, source: WeightSource) -> Backbone:
    """Build the backbone whose family the files in `source` name."""
    folder = source.folder()
    if (folder / "modules.json").is_file() and not _is_vision_language(folder):
        family = "sentence-transformers"
    elif (folder / "config.json").is_file():
        family = _declared_family(folder / "config.json")
    elif (folder / "open_clip_config.json").is_file():
        family = "open-clip"
    else:
        family = "state-dict"
    _table()
    if family not in _families:
        config = folder / "config.json"
        # Families such as jina_clip exist only as code in their repositories.
        is_code = config.is_file() and "auto_map" in read_json(config)
        code = " It needs program code from its repository, which is never run." if is_code else ""
        raise ValueError(
            f"Weights in '{folder}' are of family '{family}', which is not supported; supported are "
            f"{', '.join(sorted(_families))}.{code} Choose another backbone, or import vectors made "
            "elsewhere with 'embedonce import'."
        )
    return _families[family](name, source)


def _declared_family(config: Path) -> str:
    """Return the family that config.json names; timm's own files name an architecture instead."""
    settings = read_json(config)
    is_timm = "architecture" in settings and "model_type" not in settings
    return "timm" if is_timm else str(settings.get("model_type"))


def _is_vision_language(folder: Path) -> bool:
    """Whether the files are those of a network that reads texts and images in chats.

    Embedding models made from one carry sentence-transformers files as well, whose pipeline is for texts.
    """
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") in VISION_LANGUAGE_FAMILIES


def _unknown(name: str) -> ValueError:
    """Return why `name` is refused: a missing folder, an ambiguous name, or an unknown one."""
    from difflib import get_close_matches

    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        return BackboneNameError(
            f"Backbone '{name}' is not a folder here. For the Hugging Face repository of that name "
            f"write 'hf:{name}'; "
            "else give the path of an existing folder of weights."
        )
    if os.sep in name or name.startswith((".", "~")):
        return ValueError(
            f"Backbone '{name}' looks like a path, but there is no such folder. {_OTHER_SPELLINGS}."
        )
    names = backbone_names()
    wanted = name.lower()
    contained = [known for known in names if wanted and wanted in known]
    contained.sort(key=lambda known: not known.startswith(wanted))
    if len(contained) > 1:
        return BackboneNameError(
            f"Backbone '{name}' is ambiguous: it could be {_quoted(contained)}. Write one of them in full."
        )
    near = contained or get_close_matches(wanted, names, n=5, cutoff=0.5)
    known = f"Near matches: {_quoted(near)}" if near else f"Known names: {', '.join(names)}"
    return BackboneNameError(f"Backbone '{name}' is not known. {known}. {_OTHER_SPELLINGS}.")


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:5])
