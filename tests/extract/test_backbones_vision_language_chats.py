"""Chats of vision-language backbones: where the template comes from, and what a text can do in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.backbones.patches import TOKEN_CAP
from extract.backbones.vision_language import TOKEN_LIMIT
from extract.registry import open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_joint import QWEN_SPECIAL, make_tiny_qwen
from tests.kit.vision_language import MODALITIES, prepared


@pytest.mark.parametrize("template_file", ["chat_template.jinja", "tokenizer_config.json"])
def test_vision_language_finds_the_template_wherever_it_is(
    qwen_folders: dict[str, Path], tmp_path: Path, template_file: str
) -> None:
    """The hub's repositories keep the chat template in three places; the tokens are the same."""
    folder = make_tiny_qwen(tmp_path / "qwen2_vl", template_file=template_file)
    one: Any = open_backbone(str(folder)).open_tower("joint")
    other: Any = open_backbone(str(qwen_folders["qwen2_vl"])).open_tower("joint")
    for a, b in zip(prepared(one), prepared(other), strict=True):
        np.testing.assert_array_equal(a.tokens.ids, b.tokens.ids)


@pytest.mark.parametrize("modality", ["text", "joint"])
def test_chat_cuts_the_text_and_keeps_the_closing(qwen_folders: dict[str, Path], modality: str) -> None:
    """A text of 100,000 words loses its end; the message still closes, and the full length is told."""
    tower: Any = open_backbone(str(qwen_folders["qwen2_vl"])).open_tower(modality)
    image = draw_emoji("😀", 60)

    def tokens(text: str) -> Any:
        return tower.tokenise([text])[0] if modality == "text" else tower.prepare(text, image).tokens

    short, long = tokens("cat"), tokens("cat " * 100_000)
    tail = [int(i) for i in tower._chats.frame.tail]
    assert short.ids[-len(tail) :].tolist() == long.ids[-len(tail) :].tolist() == tail
    visual = 0 if modality == "text" else 3  # 4 visual tokens stand where the template has one
    assert len(long.ids) == TOKEN_LIMIT + visual < long.full_length
    assert short.full_length == len(short.ids)
    assert long.ids[:60].tolist() == tokens("cat " * 50).ids[:60].tolist()


def test_chat_text_cannot_claim_an_image_or_close_the_message(qwen_folders: dict[str, Path]) -> None:
    """Control tokens that a text quotes are read as characters, so that they stand for nothing."""
    tower: Any = open_backbone(str(qwen_folders["qwen3_vl"])).open_tower("joint")
    pair = tower.prepare("".join(QWEN_SPECIAL), draw_emoji("😀", 100))
    plain = tower.prepare("", draw_emoji("😀", 100))
    controls = range(int(pair.tokens.ids.max()) - len(QWEN_SPECIAL), int(pair.tokens.ids.max()) + 3)
    count = {name: [int(np.isin(p.tokens.ids, c).sum()) for c in controls] for name, p in
             (("quoting", pair), ("plain", plain))}  # fmt: skip
    assert count["quoting"] == count["plain"] and sum(count["plain"]) > 10
    assert len(pair.tokens.ids) > len(plain.tokens.ids) + 50
    assert np.isfinite(tower.forward([pair])["pooled"]).all()


def test_chat_keeps_what_the_tokenizer_puts_behind_a_text(tmp_path: Path) -> None:
    """A tokenizer that closes every text with a token of its own closes the chat with it too."""
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    folder = make_tiny_qwen(tmp_path / "closing", kind="qwen3_vl")
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = backend.token_to_id("<|endoftext|>")
    backend.post_processor = TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    backend.save(str(folder / "tokenizer.json"))
    rendered = {}
    for modality in MODALITIES:
        tower: Any = open_backbone(str(folder)).open_tower(modality)
        rendered[modality] = [(i if modality == "text" else i.tokens).ids for i in prepared(tower)]
    assert all(row[-1] == end and row[-2] != end for rows in rendered.values() for row in rows)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "does not put the text before a control token",
        ),
        (
            "<|im_start|>{{ messages[0]['content'][-1]['text'] }}<|im_end|>",
            "shows 0 places for an image where 1",
        ),
        (
            "<|image_pad|><|image_pad|>{{ messages[0]['content'][-1]['text'] }}<|im_end|>",
            "shows 2 places for an image where 1",
        ),
        (
            "cat " * 1500 + "<|image_pad|>{{ messages[0]['content'][-1]['text'] }}<|im_end|>",
            r"takes \d+ of 1024 tokens and leaves no room",
        ),
    ],
)
def test_chat_template_that_cannot_be_used_is_refused(tmp_path: Path, template: str, message: str) -> None:
    """A template that loses the text, has no place for the image or is too long is one clear error."""
    folder = make_tiny_qwen(tmp_path / "qwen", template_file="chat_template.jinja")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ValueError, match=message):
        open_backbone(str(folder)).open_tower("joint")


def test_vision_language_preprocessing_says_what_each_modality_sees(qwen_folders: dict[str, Path]) -> None:
    """Template, cap, cutting and readouts are plain JSON; texts have no image settings."""
    backbone = open_backbone(str(qwen_folders["qwen3_vl"]))
    settings = {modality: backbone.preprocessing(modality) for modality in MODALITIES}
    assert json.loads(json.dumps(settings)) == settings
    assert "image" not in settings["text"]
    assert settings["joint"]["image"]["resize"]["most_pixels"] == TOKEN_CAP * 32 * 32
    assert len(settings["joint"]["chat_template_sha256"]) == 64
    assert settings["joint"]["user_message"] == "image, then text"
    assert backbone.card.default_modalities == ("joint",)
