"""BLIP: image-text retrieval checkpoints, and captioning checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source
from extract.backbones.contract import Backbone
from extract.backbones.joint import JointBackbone, JointShape, Meanings, card_of_folder
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource
from extract.weights import read_json

if TYPE_CHECKING:
    from extract.backbones.contract import ImageTower, JointTower, TextTower

BLIP_ITM_BASE = Card(
    name="blip-itm-base-coco",
    family="blip",
    modalities=("text", "image", "joint"),
    readouts={
        "text": {"pooled": 256, "hidden": 768, "mean": 768},
        "image": {"pooled": 256, "hidden": 768, "mean": 768},
        "joint": {"pooled": 768, "mean": 768, "enc": 768},
    },
    layers={"text": (768,) * 13, "image": (768,) * 13, "joint": (768,) * 13},
    source="hf:Salesforce/blip-itm-base-coco",
    image_size=384,
    resize=384,
    resize_mode="exact",
    interpolation="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    token_limit=512,
    padding="longest",
    licence="BSD-3-Clause",
    paper="https://arxiv.org/abs/2201.12086",
    parameters=223_744_258,
)
BLIP_CAPTIONING_BASE = replace(
    BLIP_ITM_BASE,
    name="blip-captioning-base",
    modalities=("image", "joint"),
    readouts={"image": {"pooled": 768, "mean": 768}, "joint": {"pooled": 768, "mean": 768}},
    layers={"image": (768,) * 13, "joint": (768,) * 13},
    source="hf:Salesforce/blip-image-captioning-base",
    parameters=223_971_644,
)

_ITM, _CAPTIONING = "BlipForImageTextRetrieval", "BlipForConditionalGeneration"
_TEXT_LAYER = "masked mean of hidden state k over the text's tokens, float32; 0 is the first layer's input"
_IMAGE = {
    "mean": "mean of the patch tokens after the final norm, float32",
    "layer:k": "class token of hidden state k; 0 is the input of the first layer",
}
_MEANINGS: dict[str, Meanings] = {
    _ITM: {
        "text": {
            "pooled": "class token of the text encoder without the image, projected, not normalised",
            "hidden": "class token of the text encoder without the image, before projection",
            "mean": "masked mean of the states without the image, float32",
            "layer:k": _TEXT_LAYER,
        },
        "image": {
            "pooled": "class token after the final norm, projected, not normalised",
            "hidden": "class token after the final norm, before projection",
            **_IMAGE,
        },
        "joint": {
            "pooled": "class token of the text encoder with cross-attention to the image, which the matching "
            "head reads",
            "mean": "masked mean over the text's tokens of the states with cross-attention, float32",
            "enc": "as pooled, with [ENC] in place of [CLS], as in training",
            "layer:k": _TEXT_LAYER,
        },
    },
    _CAPTIONING: {
        "image": {"pooled": "class token after the final norm", **_IMAGE},
        "joint": {
            "pooled": "state of the caption decoder at the closing token, with cross-attention to the image; "
            "[DEC] in place of [CLS]",
            "mean": "masked mean over the text's tokens of the caption decoder's states, float32",
            "layer:k": _TEXT_LAYER,
        },
    },
}


class BlipBackbone(JointBackbone):
    """A BLIP checkpoint.

    Parameters
    ----------
    card : Card
    source : WeightSource
    kind : str
        The class in transformers that its weights belong to.
    """

    def __init__(self, card: Card, source: WeightSource, *, kind: str) -> None:
        super().__init__(card, source)
        self._kind = kind

    @property
    def meanings(self) -> Meanings:
        """How each readout is made, by modality."""
        return _MEANINGS[self._kind]

    def _open_text(self, readouts: Sequence[str], device: str, precision: str) -> TextTower:
        from transformers import BlipForImageTextRetrieval

        from extract.backbones.blip_towers import BlipTextTower
        from extract.backbones.loading import load_tokenizer
        from extract.backbones.network_parts import parts_of

        parts = parts_of(BlipForImageTextRetrieval, {"text_encoder", "text_proj"})
        config = self._config()
        config.text_config.is_decoder = False  # builds no cross-attention, which only looks at images
        return BlipTextTower(
            self._load(parts, device, precision, {"config": config}),
            load_tokenizer(self._folder),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
        )

    def _open_image(self, readouts: Sequence[str], device: str, precision: str) -> ImageTower:
        from transformers import BlipForImageTextRetrieval

        from extract.backbones.blip_towers import BlipImageTower
        from extract.backbones.network_parts import parts_of
        from extract.weights import torch_dtype

        kept = {"vision_model", "vision_proj"} if self._kind == _ITM else {"vision_model"}
        return BlipImageTower(
            self._load(parts_of(BlipForImageTextRetrieval, kept), device, precision, {}),
            self.recipe,
            readouts=readouts,
            device=device,
            dtype=torch_dtype(precision),
        )

    def _open_pair(self, readouts: Sequence[str], device: str, precision: str) -> JointTower:
        from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval

        from extract.backbones.blip_towers import BlipCaptionTower, BlipPairTower, BlipTextTower
        from extract.backbones.loading import load_tokenizer
        from extract.backbones.network_parts import parts_of
        from extract.weights import torch_dtype

        tokenizer = load_tokenizer(self._folder)
        settings: dict[str, Any] = {"pad_id": tokenizer.pad_token_id, "recipe": self.recipe}
        settings |= {"readouts": readouts, "device": device, "dtype": torch_dtype(precision)}
        dec_id = self._config().text_config.bos_token_id
        if self._kind == _ITM:
            matcher = parts_of(BlipForImageTextRetrieval, {"vision_model", "text_encoder"})
            network = self._load(matcher, device, precision, {})
        else:
            network = self._load(BlipForConditionalGeneration, device, precision, {})
        text = BlipTextTower(network, tokenizer, readouts=(), token_limit=self._token_limit, device=device)
        if self._kind == _ITM:
            return BlipPairTower(network, text, enc_id=dec_id + 1, **settings)
        return BlipCaptionTower(network, text, dec_id=dec_id, **settings)

    def _load(self, model_class: Any, device: str, precision: str, options: dict[str, Any]) -> Any:
        from extract.backbones.loading import load_network

        return load_network(model_class, self._folder, precision=precision, device=device, options=options)

    def _config(self) -> Any:
        return _config(self._folder)

    def _shape(self, folder: Path) -> JointShape:
        return blip_shape(folder, self._kind)

    def _mismatches(self, folder: Path) -> list[str]:
        faults = super()._mismatches(folder)
        return faults if faults else _kind_faults(folder, self._kind)


@register_backbone(BLIP_ITM_BASE)
def open_blip_itm(card: Card, source: WeightSource | None) -> Backbone:
    """Open the published image-text retrieval checkpoint."""
    return BlipBackbone(card, source or hub_source(card), kind=_ITM)


@register_backbone(BLIP_CAPTIONING_BASE)
def open_blip_captioning(card: Card, source: WeightSource | None) -> Backbone:
    """Open the published captioning checkpoint."""
    return BlipBackbone(card, source or hub_source(card), kind=_CAPTIONING)


@register_family("blip")
def recognise_blip(name: str, source: WeightSource) -> Backbone:
    """Build the backbone of a BLIP folder; config.json says whether it retrieves or captions.

    Raises
    ------
    ValueError
        If it does neither: other checkpoints lack the parts that would make a vector.
    """
    folder = source.folder()
    kind = _kind(folder)
    if kind not in _MEANINGS:
        raise ValueError(
            f"BLIP checkpoint in '{folder}' is a '{kind}', supported are {_ITM} (text, image, joint) and "
            f"{_CAPTIONING} (image, joint). Use one of those, such as --backbone blip-itm-base-coco."
        )
    return BlipBackbone(card_of_folder(name, "blip", folder, blip_shape(folder, kind)), source, kind=kind)


def blip_shape(folder: Path, kind: str) -> JointShape:
    """Read the sizes of the checkpoint in `folder`, which belongs to class `kind`."""
    config = _config(folder)
    text, image, projected = config.text_config, config.vision_config, config.image_text_hidden_size
    widths = {"text": text.hidden_size, "image": image.hidden_size, "joint": text.hidden_size}
    readouts: dict[str, dict[str, int]] = {}
    for modality, meanings in _MEANINGS[kind].items():
        names = [name for name in meanings if name != "layer:k"]
        readouts[modality] = dict.fromkeys(names, widths[modality])
        if "hidden" in meanings:
            readouts[modality]["pooled"] = projected
    depths = {m: (image if m == "image" else text).num_hidden_layers for m in widths}
    if "enc" in readouts["joint"] and text.vocab_size < text.bos_token_id + 2:
        del readouts["joint"]["enc"]  # saved with BERT's vocabulary: the token after [DEC] does not exist
    return JointShape(
        readouts=readouts,
        layers={modality: (widths[modality],) * (depths[modality] + 1) for modality in readouts},
        image_size=image.image_size,
        token_limit=text.max_position_embeddings,
    )


def _kind(folder: Path) -> str:
    named = read_json(folder / "config.json").get("architectures")
    return str(named[0]) if named else "not named"


def _kind_faults(folder: Path, kind: str) -> list[str]:
    found = _kind(folder)
    return [] if found == kind else [f"class is {found!r}, the card says {kind!r}"]


def _config(folder: Path) -> Any:
    from transformers import BlipConfig

    from extract.backbones.loading import load_config

    return load_config(BlipConfig, folder)
