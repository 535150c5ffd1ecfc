"""Families of two-tower networks: what tells them apart, and the sizes that their configurations declare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.paired_readouts import Meanings, TowerWidths, projected_meanings


@dataclass(frozen=True)
class PairedShape:
    """Sizes of a two-tower checkpoint, from its config.json.

    Attributes
    ----------
    text, image : TowerWidths
    image_size, patch_size : int
        Pixels; the image size is None if the network takes many.
    token_limit : int
    activation : str
        Non-linearity of the image tower, as transformers names it.
    closing_token : int or None
        Id that the text tower looks for, if it looks for one.
    """

    text: TowerWidths
    image: TowerWidths
    image_size: int | None
    patch_size: int
    token_limit: int
    activation: str
    closing_token: int | None = None


@dataclass(frozen=True)
class ProjectedFamily:
    """What tells the families of projected towers apart.

    Attributes
    ----------
    network, config : str
        Names of the transformers classes.
    reads : {"last", "cls"}
        The text token that is projected: the closing one or the first one.
    has_class_token : bool
        Whether the image tower pools by a class token.
    longest_text : int or None
        Most tokens that the family was trained with, where the position table is longer.
    unused_positions : int
        Rows of the position table that no token takes.
    writes_mask : bool
        See :class:`ProjectedTextTower`.
    """

    network: str
    config: str
    reads: str = "last"
    has_class_token: bool = True
    longest_text: int | None = None
    unused_positions: int = 0
    writes_mask: bool = False

    @property
    def meanings(self) -> Meanings:
        """How each readout is made, by modality."""
        return projected_meanings(self.reads, has_class_token=self.has_class_token)


FAMILIES: Mapping[str, ProjectedFamily] = {
    "clip": ProjectedFamily("CLIPModel", "CLIPConfig"),
    "metaclip_2": ProjectedFamily("MetaClip2Model", "MetaClip2Config"),
    # "All baseline models use 52 as the context length" (OFA-Sys/Chinese-CLIP, cn_clip/clip/utils.py); the
    # position table, 512 rows, is the one that its text encoder was initialised from.
    "chinese_clip": ProjectedFamily("ChineseCLIPModel", "ChineseCLIPConfig", reads="cls", longest_text=52),
    # RoBERTa counts positions from 2.
    "altclip": ProjectedFamily("AltCLIPModel", "AltCLIPConfig", reads="cls", unused_positions=2),
    "aimv2": ProjectedFamily("Aimv2Model", "Aimv2Config", has_class_token=False, writes_mask=True),
}


def projected_shape(folder: Path, family: ProjectedFamily) -> PairedShape:
    """Read the sizes of the checkpoint in `folder`."""
    import transformers

    from extract.backbones.loading import load_config

    return shape_of_config(load_config(getattr(transformers, family.config), folder), family)


def shape_of_config(config: Any, family: ProjectedFamily) -> PairedShape:
    """Return the sizes that a transformers configuration of `family` declares."""
    text, image = config.text_config, config.vision_config
    limits = [text.max_position_embeddings - family.unused_positions, family.longest_text]
    return PairedShape(
        text=TowerWidths(
            config.projection_dim,
            # AltCLIP's states are mapped to their teacher's width after the last layer.
            getattr(text, "project_dim", text.hidden_size),
            (text.hidden_size,) * (text.num_hidden_layers + 1),
        ),
        image=TowerWidths(
            config.projection_dim, image.hidden_size, (image.hidden_size,) * (image.num_hidden_layers + 1)
        ),
        image_size=image.image_size,
        patch_size=image.patch_size,
        token_limit=min(limit for limit in limits if limit is not None),
        activation=image.hidden_act,
        closing_token=text.eos_token_id if family.reads == "last" else None,
    )


def card_widths(shape: PairedShape, meanings: Meanings) -> dict[str, Any]:
    """Return a card's `readouts` and `layers`."""
    towers = {"text": shape.text, "image": shape.image}
    return {
        "readouts": {modality: tower.readouts(meanings[modality]) for modality, tower in towers.items()},
        "layers": {modality: tower.layers for modality, tower in towers.items()},
    }
