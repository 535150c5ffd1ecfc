"""What tests of vision-language backbones share: tiny checkpoints, mixed inputs, and the library itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from extract.backbones import ImageTower, TextTower
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_joint import make_tiny_qwen

KINDS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
MODALITIES = ("text", "image", "joint")
N = 8


@pytest.fixture(scope="session")
def qwen_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one tiny checkpoint of each generation, which no test may change."""
    root = tmp_path_factory.mktemp("vision_language")
    return {kind: make_tiny_qwen(root / kind, kind=kind) for kind in KINDS}


def mixed_texts(n: int = N) -> list[str]:
    """Draw texts of 0 to 40 words; some begin with line breaks or quote the template's control tokens."""
    import transformers

    draw = random.Random(2)
    words = ["the", "cat", "user", "é", "天", "2", "!", "😀"]
    quoting = ["", "\n\nthe dog ", "bye <|im_end|>\n<|im_start|>assistant\nok", "a <|image_pad|> b"]
    if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 23):
        # Earlier versions take quoted control tokens for real ones, so they are no reference for these texts.
        quoting = [text.replace("<|", "< |") for text in quoting]
    return quoting + [" ".join(draw.choices(words, k=k)) for k in (1, 3, 12, 40)][: n - len(quoting)]


def mixed_images(n: int = N) -> list[Image.Image]:
    """Draw emoji in pictures of many sizes and shapes, one above the cap of visual tokens."""
    sizes = [(1, 1), (30, 200), (57, 57), (100, 70), (64, 300), (333, 90), (56, 84), (800, 700)]
    return [
        draw_emoji("😀😢❤🎉"[i % 4], max(size)).crop((0, 0, *size)).copy() for i, size in enumerate(sizes[:n])
    ]


def prepared(tower: Any) -> list[Any]:
    """Prepare the mixed inputs for a tower of any modality."""
    if isinstance(tower, TextTower):
        return list(tower.tokenise(mixed_texts()))
    if isinstance(tower, ImageTower):
        return [tower.preprocess(image) for image in mixed_images()]
    return [tower.prepare(*pair) for pair in zip(mixed_texts(), mixed_images(), strict=True)]


def batched(tower: Any, items: list[Any], size: int) -> dict[str, np.ndarray]:
    """Embed `items` in batches of `size`."""
    parts = [tower.forward(items[i : i + size]) for i in range(0, len(items), size)]
    return {readout: np.concatenate([part[readout] for part in parts]) for readout in tower.readouts}


class Library:
    """transformers' own processor, with its PIL image processor and our cap, and its whole model."""

    def __init__(self, folder: Path, kind: str, *, system: str | None = None) -> None:
        import transformers as t

        model_class = {
            "qwen2_vl": t.Qwen2VLForConditionalGeneration,
            "qwen2_5_vl": t.Qwen2_5_VLForConditionalGeneration,
            "qwen3_vl": t.Qwen3VLForConditionalGeneration,
        }[kind]
        self.model = model_class.from_pretrained(folder).eval()
        self.processor = t.AutoProcessor.from_pretrained(folder)
        self.processor.image_processor = t.Qwen2VLImageProcessorPil.from_pretrained(folder)
        side = 32 if kind == "qwen3_vl" else 28
        self.processor.image_processor.size = {"shortest_edge": 4 * side**2, "longest_edge": 512 * side**2}
        self.system = system

    def inputs(self, modality: str, text: str, image: Image.Image) -> Any:
        """Render and tokenise one chat, and cut its image into patches."""
        content = [{"type": "image", "image": image}, {"type": "text", "text": text}]
        content = {"text": content[1:], "image": content[:1], "joint": content}[modality]
        chat: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.system:
            chat.insert(0, {"role": "system", "content": [{"type": "text", "text": self.system}]})
        return self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            sanitize_control_tokens=True,
        )  # fmt: skip

    @torch.no_grad()
    def states(self, modality: str) -> tuple[list[list[int]], list[tuple[np.ndarray, ...]]]:
        """Return the token ids and all hidden states, (length, d) each, of the mixed inputs one by one."""
        ids, states = [], []
        for text, image in zip(mixed_texts(), mixed_images(), strict=True):
            inputs = self.inputs(modality, text, image)
            ids.append(inputs["input_ids"][0].tolist())
            hidden = self.model(**inputs, output_hidden_states=True).hidden_states
            states.append(tuple(layer[0].numpy() for layer in hidden))
        return ids, states
