"""Vision-language backbones: Qwen2-VL, Qwen2.5-VL, Qwen3-VL and the embedding models made from them.

A text, an image or both stand in the user's message of the checkpoint's chat template, and the vector is the
decoder's state at the last token. Text, image and joint are three ways into one network and one space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.chat_templates import TEMPLATE_FILES, chat_template
from extract.backbones.checkpoints import checkpoint_files, hub_source, model_type, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.processors import PROCESSOR_FILES
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import WeightSource
from extract.weights import read_json, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.chat import ChatTokeniser
    from extract.backbones.contract import ImageTower, JointTower, TextTower, Tokenise
    from extract.backbones.patches import PatchRecipe

_MODALITIES = ("text", "image", "joint")
#: Most tokens of a chat, visual tokens not counted. The networks take 32,768 and more; a post has 20 to 200.
TOKEN_LIMIT = 1024
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ChatRecipe:
    """What an embedding model's documentation asks for beyond the chat template.

    Attributes
    ----------
    instruction : str or None
        The system message; None leaves it to the template.
    normalised : bool
        Whether the vector is scaled to length 1.
    least_tokens : int or None
        Fewest visual tokens; None takes the number in the checkpoint's files.
    """

    instruction: str | None = None
    normalised: bool = False
    least_tokens: int | None = None


PLAIN = ChatRecipe()
#: QwenLM/Qwen3-VL-Embedding, ``src/models/qwen3_vl_embedding.py``: default instruction, last token, L2,
#: MIN_PIXELS = 4 tokens. (Its MAX_PIXELS are 1,800 tokens; ``patches.TOKEN_CAP`` is less.)
EMBEDDING = ChatRecipe("Represent the user's input.", normalised=True, least_tokens=4)


def _card(name: str, family: str, width: int, n_layers: int, **fields: Any) -> Card:
    return Card(
        name=name,
        family=family,
        modalities=_MODALITIES,
        readouts={modality: {"pooled": width, "mean": width} for modality in _MODALITIES},
        layers=dict.fromkeys(_MODALITIES, (width,) * (n_layers + 1)),
        resize_mode="dynamic",
        token_limit=TOKEN_LIMIT,
        padding="longest",
        default_modalities=("joint",),
        **fields,
    )


# Weights are stored in bf16: two bytes each, the tied language-model head only once.
QWEN2_VL_2B = _card(
    "qwen2-vl-2b", "qwen2_vl", 1536, 28,
    source="hf:Qwen/Qwen2-VL-2B-Instruct", mean=_CLIP_MEAN, std=_CLIP_STD, licence="Apache-2.0",
    paper="https://arxiv.org/abs/2409.12191", parameters=2_208_985_600, weights_bytes=4_417_971_200,
)  # fmt: skip
QWEN2_5_VL_3B = _card(
    "qwen2.5-vl-3b", "qwen2_5_vl", 2048, 36,
    source="hf:Qwen/Qwen2.5-VL-3B-Instruct", mean=_CLIP_MEAN, std=_CLIP_STD,
    licence="Qwen Research License (not for commercial use)", paper="https://arxiv.org/abs/2502.13923",
    parameters=3_754_622_976, weights_bytes=7_509_245_952,
)  # fmt: skip
QWEN3_VL_2B = _card(
    "qwen3-vl-2b", "qwen3_vl", 2048, 28,
    source="hf:Qwen/Qwen3-VL-2B-Instruct", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), licence="Apache-2.0",
    paper="https://arxiv.org/abs/2511.21631", parameters=2_127_532_032, weights_bytes=4_255_064_064,
)  # fmt: skip
QWEN3_VL_EMBEDDING_2B = replace(
    QWEN3_VL_2B,
    name="qwen3-vl-embedding-2b",
    source="hf:Qwen/Qwen3-VL-Embedding-2B",
    paper="https://arxiv.org/abs/2601.04720",
)
#: Families, and their class in transformers. Not the classes without the head (Qwen2VLModel): in 5.23 those
#: misname the vision tower of a checkpoint that was saved by a recent version.
_MODEL_CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}


class VisionLanguageBackbone(Backbone):
    """A Qwen vision-language checkpoint.

    Parameters
    ----------
    card : Card
    source : WeightSource
    recipe : ChatRecipe
    """

    def __init__(self, card: Card, source: WeightSource, *, recipe: ChatRecipe) -> None:
        super().__init__(card, source)
        self._recipe = recipe

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the settings of one modality. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        unit = ", scaled to length 1" if self._recipe.normalised else ""
        settings = {
            **tokenizer_settings(self._folder),
            "chat_template_sha256": hashlib.sha256(chat_template(self._folder).encode("utf-8")).hexdigest(),
            "system_message": self._recipe.instruction or "the template's own",
            "user_message": {"text": "text", "image": "image", "joint": "image, then text"}[modality],
            "control_tokens_in_texts": "read as plain characters",
            "token_limit": self.card.token_limit,
            "padding": self.card.padding,
            "truncation": "the text's end, never the template's closing",
            "readouts": {
                "pooled": f"state of the last token after the final norm, float32{unit}",
                "mean": "mean of the states of all tokens of the chat after the final norm, float32",
                "layer:k": "last token of hidden state k; 0 is the input of the first layer, the last one is "
                "after the final norm",
            },
        }
        return settings if modality == "text" else {**settings, "image": self.patches.as_dict()}

    @property
    def patches(self) -> PatchRecipe:
        """How images become the network's input."""
        from extract.backbones.patches import read_patch_recipe

        return read_patch_recipe(self._folder, least_tokens=self._recipe.least_tokens)

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> TextTower | ImageTower | JointTower:
        """Load one tower. See :meth:`Backbone.open_tower`."""
        from extract.backbones.loading import load_tokenizer
        from extract.backbones.vision_language_towers import ChatImageTower, ChatPairTower, ChatTextTower

        self._check_request(modality, readouts)
        tokenizer = load_tokenizer(self._folder, closes_texts=False)
        chats = self._chats(tokenizer, modality)
        settings: dict[str, Any] = {"readouts": readouts, "device": device}
        settings["normalised"] = self._recipe.normalised
        if modality == "text":
            network = self._load({"model.language_model"}, device, precision)
            return ChatTextTower(network, tokenizer, chats=chats, token_limit=TOKEN_LIMIT, **settings)
        network = self._load({"model"}, device, precision)
        settings |= {"recipe": self.patches, "pad_id": tokenizer.pad_token_id}
        tower_class = ChatImageTower if modality == "image" else ChatPairTower
        return tower_class(network, chats, **settings)

    def open_tokeniser(self, modality: str) -> Tokenise:
        """Load the tokenizer and the chat template alone. See :meth:`Backbone.open_tokeniser`."""
        from extract.backbones.loading import load_tokenizer

        if modality == "image":
            return super().open_tokeniser(modality)
        chats = self._chats(load_tokenizer(self._folder, closes_texts=False), modality)
        return lambda texts: [chats.tokens(text, 1) for text in texts]

    def _chats(self, tokenizer: Any, modality: str) -> ChatTokeniser:
        from extract.backbones.chat import ChatTokeniser

        return ChatTokeniser(
            tokenizer,
            chat_template(self._folder),
            modality=modality,
            instruction=self._recipe.instruction,
            image_id=read_json(self._folder / "config.json")["image_token_id"],
            token_limit=TOKEN_LIMIT,
        )

    def _load(self, parts: set[str], device: str, precision: str) -> Any:
        import transformers

        from extract.backbones.loading import load_network
        from extract.backbones.network_parts import parts_of

        model_class = getattr(transformers, _MODEL_CLASSES[self.card.family])
        whole = load_network(
            parts_of(model_class, parts),
            self._folder,
            precision=precision,
            device=device,
            uniform=True,
            packed=False,  # each chat has a length of its own
        )
        return whole.model

    def _files(self, folder: Path) -> list[Path]:
        named = {*PROCESSOR_FILES, *TEMPLATE_FILES}
        extra = [folder / name for name in sorted(named) if (folder / name).is_file()]
        files = checkpoint_files(folder)
        return [*files, *(file for file in extra if file not in files)]

    def _mismatches(self, folder: Path) -> list[str]:
        from extract.backbones.patches import read_patch_recipe

        transformers_weight_files(folder)
        if model_type(folder) != self.card.family:
            return mismatch("family", self.card.family, model_type(folder))
        width, n_layers = _sizes(folder, self.card.family)
        recipe = read_patch_recipe(folder)
        return [
            *mismatch("width", self.card.readouts["joint"]["pooled"], width),
            *mismatch("layers", len(self.card.layers["joint"]) - 1, n_layers),
            *mismatch("image mean", self.card.mean, recipe.mean),
            *mismatch("image std", self.card.std, recipe.std),
        ]


@register_backbone(QWEN2_VL_2B)
@register_backbone(QWEN2_5_VL_3B)
@register_backbone(QWEN3_VL_2B)
def open_instruct(card: Card, source: WeightSource | None) -> Backbone:
    """Open one of the instruction-tuned checkpoints."""
    return VisionLanguageBackbone(card, source or hub_source(card), recipe=PLAIN)


@register_backbone(QWEN3_VL_EMBEDDING_2B)
def open_embedding(card: Card, source: WeightSource | None) -> Backbone:
    """Open the embedding model, with the recipe of its documentation."""
    return VisionLanguageBackbone(card, source or hub_source(card), recipe=EMBEDDING)


@register_family("qwen2_vl")
@register_family("qwen2_5_vl")
@register_family("qwen3_vl")
def recognise_vision_language(name: str, source: WeightSource) -> Backbone:
    """Build the backbone of a Qwen vision-language folder from its config.json and image processor.

    A folder with ``modules.json`` is an embedding model; see :data:`EMBEDDING`.
    """
    from extract.backbones.patches import read_patch_recipe

    folder = source.folder()
    family = model_type(folder)
    recipe = EMBEDDING if _is_embedding_model(name, folder) else PLAIN
    width, n_layers = _sizes(folder, family)
    patches = read_patch_recipe(folder)
    card = _card(
        name, family, width, n_layers, source=folder_source(name), mean=patches.mean, std=patches.std
    )
    return VisionLanguageBackbone(card, source, recipe=recipe)


def _is_embedding_model(name: str, folder: Path) -> bool:
    # Its first upload had no sentence-transformers files; then only the name tells.
    return (folder / "modules.json").is_file() or name == QWEN3_VL_EMBEDDING_2B.source


def _sizes(folder: Path, family: str) -> tuple[int, int]:
    """Return the decoder's width and number of layers."""
    import transformers

    from extract.backbones.loading import load_config

    model_class = getattr(transformers, _MODEL_CLASSES[family])
    config = load_config(model_class.config_class, folder).text_config
    return config.hidden_size, config.num_hidden_layers
