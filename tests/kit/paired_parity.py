"""What two-tower networks should give: the library's own tokenizer, processor and whole network."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.backbones import ImageTower, TextTower
from tests.kit.emoji_images import draw_emoji

_WORDS = ["the", "cat", "dog", "go", "x", "é", "😀", "2", "!", "RAIN"]


def mixed_texts(n: int) -> list[str]:
    """Draw texts of 0 to 12 words: the first is empty, the second long, some pass a limit of 16 tokens."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(_WORDS, k=draw.randint(1, 12))) for _ in range(n - 2)]
    return ["", "the cat and a dog " * 9, *texts]


def mixed_images(n: int) -> list[Image.Image]:
    """Draw pictures of different shapes, one of a single row of pixels among them."""
    emoji = [draw_emoji("😀😢❤🎉"[i % 4], 24 + 5 * i) for i in range(n - 1)]
    cut = [image.crop((0, 0, image.width - 7 * (i % 3), image.height)) for i, image in enumerate(emoji)]
    return [*cut, Image.new("RGB", (90, 1), (200, 30, 90))]


def in_batches(tower: TextTower | ImageTower, inputs: Sequence[Any], size: int) -> dict[str, np.ndarray]:
    """Embed `inputs` in batches of `size`."""
    parts = [tower.forward(inputs[i : i + size]) for i in range(0, len(inputs), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def assert_equal_vectors(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compare every readout to 1e-5, and see that rows differ, so that a mixed-up row would show."""
    assert set(found) == set(expected)
    for name, vectors in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], vectors, atol=1e-5, rtol=1e-5, err_msg=name)
        assert name == "layer:0" or np.ptp(vectors, axis=0).max() > 0.05, name


def whole_network(folder: Path) -> Any:
    """Load the whole network as a user of transformers would, in float32."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()


def text_reference(network: Any, inputs: dict[str, torch.Tensor], real: np.ndarray) -> dict[str, np.ndarray]:
    """Embed tokenised texts; `real` (n, length) marks the tokens that are not padding."""
    with torch.no_grad():
        output = network.get_text_features(**inputs, output_hidden_states=True)
    states = [output.last_hidden_state.numpy(), *(state.numpy() for state in output.hidden_states)]
    means = [np.stack([row[kept].mean(0) for row, kept in zip(state, real, strict=True)]) for state in states]
    layers = {f"layer:{k}": mean for k, mean in enumerate(means[1:])}
    return {"pooled": output.pooler_output.numpy(), "mean": means[0], **layers}


def image_reference(
    network: Any, inputs: dict[str, torch.Tensor], *, has_class_token: bool, real: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Embed processed pictures; `real` (n, patches) marks the patches that are not padding."""
    with torch.no_grad():
        output = network.get_image_features(**inputs, output_hidden_states=True)
    last = output.last_hidden_state.numpy()
    patches = last[:, 1:] if has_class_token else last
    kept = np.ones(patches.shape[:2], dtype=bool) if real is None else real
    vectors = {"pooled": output.pooler_output.numpy(), "mean": _kept_means(patches, kept)}
    if has_class_token:
        vectors["cls"] = last[:, 0]
    for k, state in enumerate(output.hidden_states):
        vectors[f"layer:{k}"] = state[:, 0].numpy() if has_class_token else _kept_means(state.numpy(), kept)
    return vectors


def _kept_means(states: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.stack([row[mask].mean(0) for row, mask in zip(states, kept, strict=True)])
