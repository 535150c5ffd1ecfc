"""Published text encoders: their cards' facts, and their repositories' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones import TextTower
from extract.backbones.encoders import ENCODERS
from extract.backbones.text_cards import ENCODER_CARDS, SENTENCE_CARDS, PublishedEncoder
from extract.registry import backbone_names, find_card, open_backbone
from tests.kit.tiny_text import make_tiny_encoder, make_tiny_pipeline

PUBLISHED = (*ENCODER_CARDS, *SENTENCE_CARDS)
TEXTS = ["the cat sat on the mat", "", "very happy day"]
#: What the published configurations say beside the sizes on the card.
SPECIAL = {
    "deberta": {
        "type_vocab_size": 0, "relative_attention": True, "position_biased_input": False,
        "pos_att_type": "c2p|p2c",
    },
    "deberta-v2": {
        "type_vocab_size": 0, "relative_attention": True, "position_biased_input": False,
        "pos_att_type": "p2c|c2p", "position_buckets": 256, "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
    },
    "roberta": {"type_vocab_size": 1},
    "xlm-roberta": {"type_vocab_size": 1},
}  # fmt: skip
#: Positions where the card's limit is the pipeline's own, not the network's.
POSITIONS = {"minilm-l6": 512, "minilm-l12": 512}


def counted(published: PublishedEncoder) -> int:
    """Count the weights of the network that the card describes, on the meta device."""
    import transformers
    from transformers import AutoConfig

    card, family = published.card, ENCODERS[published.encoder]
    width = card.width("text", "cls")
    positions = POSITIONS.get(card.name, card.token_limit or 0) + (2 if family.counts_from_padding else 0)
    config = AutoConfig.for_model(
        published.encoder,
        vocab_size=published.vocabulary,
        hidden_size=width,
        num_hidden_layers=len(card.layers["text"]) - 1,
        num_attention_heads=width // 64 if width > 400 else 12,
        intermediate_size=4 * width,
        max_position_embeddings=positions,
        **SPECIAL.get(published.encoder, {}),
    )
    pooler: dict[str, Any] = {}
    if family.has_pooler:
        pooler = {"add_pooling_layer": family.trains_pooler and not published.ending}
    with torch.device("meta"):
        network = getattr(transformers, family.network)(config, **pooler)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.card.name)
def test_published_card_counts_its_weights(published: PublishedEncoder) -> None:
    """The parameters on a card are those of a network of the card's sizes; the name is registered."""
    card = published.card
    assert card.parameters == counted(published)
    assert card.name in backbone_names() and find_card(card.name) is card
    assert card.paper.startswith("https://arxiv.org/abs/")


@pytest.mark.parametrize(
    ("name", "prompt"), [("e5-base-v2", "query: "), ("multilingual-e5-base", "query: "), ("bge-m3", "")]
)
def test_published_pipeline_works_with_its_repositorys_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, prompt: str
) -> None:
    """A registered name finds modules.json in the hub's cache and puts its documented prompt before texts."""
    from sentence_transformers import SentenceTransformer

    published = next(item for item in SENTENCE_CARDS if item.card.name == name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"models--{published.card.source.removeprefix('hf:').replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("1" * 40)
    snapshot = make_tiny_pipeline(
        repository / "snapshots" / ("1" * 40),
        published.encoder,
        pooling=published.ending[:1],
        steps=published.ending[1:],
        max_tokens=48,
    )
    backbone = open_backbone(name)
    assert backbone.revision == "1" * 40 and backbone.preprocessing("text")["prompt"] == prompt
    tower = backbone.open_tower("text")
    assert isinstance(tower, TextTower)
    expected = SentenceTransformer(str(snapshot), device="cpu").encode(TEXTS, prompt=prompt or None)
    found = tower.forward(tower.tokenise(TEXTS))["pooled"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_moved_repository_is_found_under_its_former_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """roberta-base lies in older caches as it was called before it was moved to FacebookAI."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--roberta-base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("2" * 40)
    make_tiny_encoder(repository / "snapshots" / ("2" * 40), "roberta", head="MaskedLM")
    tower = open_backbone("roberta-base").open_tower("text", readouts=("pooled", "layer:1"))
    assert isinstance(tower, TextTower)
    assert {v.shape for v in tower.forward(tower.tokenise(TEXTS)).values()} == {(3, 32)}


def test_weights_of_another_pipeline_are_refused(tmp_path: Path) -> None:
    """Folders of equal sizes are told apart by encoder, vocabulary, pooling and prompt."""
    folder = make_tiny_pipeline(tmp_path / "st", "roberta", pooling=("cls",), prompt="passage: ")
    with pytest.raises(ValueError, match=r"not those of backbone 'e5-base-v2': .*") as refusal:
        open_backbone("e5-base-v2", weights=folder)
    message = str(refusal.value)
    assert "encoder is 'roberta', the card says 'bert'" in message
    assert "pooling is ('cls', 'Normalize'), the card says ('mean', 'Normalize')" in message
    assert "prompt is 'passage: ', the card says 'query: '" in message
    with pytest.raises(ValueError, match=r"family is 'bert', the card says 'sentence-transformers'"):
        open_backbone("e5-base-v2", weights=make_tiny_encoder(tmp_path / "bert", "bert"))
