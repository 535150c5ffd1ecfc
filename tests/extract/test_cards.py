"""Cards: what a backbone says about itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from extract.cards import Card
from extract.registry import backbone_names, find_card, open_backbone

TEXT = Card("t", "bert", ("text",), {"text": {"pooled": 8}}, "folder:t", token_limit=16, padding="longest")
IMAGE = Card(
    "i", "resnet18", ("image",), {"image": {"pooled": 8}}, "folder:i", image_size=8, resize=9,
    interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
)  # fmt: skip


def test_card_as_dict_survives_json() -> None:
    """A card's plain form is JSON and keeps every field."""
    plain = IMAGE.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert set(plain) == {field.name for field in dataclasses.fields(Card)}
    assert plain["mean"] == [0.5, 0.5, 0.5] and plain["readouts"] == {"image": {"pooled": 8}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: dataclasses.replace(TEXT, token_limit=2), "token_limit 2 must be at least 3"),
        (lambda: dataclasses.replace(TEXT, token_limit=None), "token_limit None"),
        (lambda: dataclasses.replace(TEXT, padding="left"), "padding 'left' must be"),
        (lambda: dataclasses.replace(TEXT, readouts={"text": {"cls": 8}}), "'pooled' is missing for text"),
        (lambda: dataclasses.replace(TEXT, readouts={"text": {"pooled": 0}}), "width 0 of 'text.pooled'"),
        (
            lambda: dataclasses.replace(TEXT, modalities=("sound",)),
            "modality 'sound' is not one of text, image",
        ),
        (lambda: dataclasses.replace(TEXT, modalities=("text", "image")), "readouts are given for"),
        (lambda: dataclasses.replace(IMAGE, resize=7), "resize 7 must be at least image_size 8"),
        (lambda: dataclasses.replace(IMAGE, interpolation="cubic"), "interpolation 'cubic' must be"),
        (lambda: dataclasses.replace(IMAGE, std=(0.5, 0.0, 0.5)), "std above 0"),
    ],
)
def test_card_refuses_a_wrong_field(change: Callable[[], Card], message: str) -> None:
    """Every field that a modality needs is checked when the card is made."""
    with pytest.raises(ValueError, match=message):
        change()


def test_card_names_all_faults_together() -> None:
    """One message lists every fault of a card."""
    with pytest.raises(ValueError, match=r"token_limit 1 .*; padding 'x'"):
        dataclasses.replace(TEXT, token_limit=1, padding="x")


@pytest.mark.parametrize("name", backbone_names())
def test_registered_card_is_complete(name: str) -> None:
    """Every registered backbone states its source, licence, paper and size, and has a safe file name."""
    card = find_card(name)
    assert card.name == name
    assert card.source.split(":")[0] in {"hf", "package", "torchvision"}
    assert card.licence != "unknown" and card.paper.startswith("https://") and card.parameters
    assert all("pooled" in readouts for readouts in card.readouts.values())
    assert json.loads(json.dumps(card.as_dict()))["name"] == name
    assert open_backbone(name).file_name == name
