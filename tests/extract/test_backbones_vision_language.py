"""Vision-language backbones equal transformers' own processor and forward, in any company and any thread."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extract.backbones.vision_language import EMBEDDING
from extract.cards import VISION_LANGUAGE_FAMILIES
from extract.precision import resolve_precision
from extract.registry import find_card, open_backbone
from tests.kit.tiny_joint import make_tiny_qwen
from tests.kit.vision_language import KINDS, MODALITIES, Library, N, batched, prepared


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_equals_transformers(qwen_folders: dict[str, Path], kind: str) -> None:
    """Tokens and readouts of all three ways in equal the library's, one by one, at batch sizes 1, 3 and 8."""
    library, backbone = Library(qwen_folders[kind], kind), open_backbone(str(qwen_folders[kind]))
    for modality in MODALITIES:
        ids, states = library.states(modality)
        tower: Any = backbone.open_tower(
            modality, readouts=("pooled", "mean", "layer:0", "layer:1", "layer:2")
        )
        items = prepared(tower)
        assert [(item if modality == "text" else item.tokens).ids.tolist() for item in items] == ids
        expected = {
            "pooled": np.stack([layers[-1][-1] for layers in states]),
            "mean": np.stack([layers[-1].mean(0) for layers in states]),
            **{f"layer:{k}": np.stack([layers[k][-1] for layers in states]) for k in range(3)},
        }
        for size in (1, 3, 8):
            found = batched(tower, items, size)
            for readout, rows in expected.items():
                np.testing.assert_allclose(found[readout], rows, atol=1e-5, rtol=1e-5, err_msg=readout)
        assert np.ptp(expected["pooled"], axis=0).max() > 0.1, f"{modality}: the inputs differ"


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_rows_have_the_same_bits_in_any_company(
    qwen_folders: dict[str, Path], kind: str, two_torch_threads: None
) -> None:
    """No vector depends, to the last bit, on batch size or order (fp32, CPU)."""
    for modality in MODALITIES:
        tower: Any = open_backbone(str(qwen_folders[kind])).open_tower(modality)
        items = prepared(tower)
        whole = tower.forward(items)["pooled"]
        np.testing.assert_array_equal(tower.forward(items[::-1])["pooled"], whole[::-1])
        np.testing.assert_array_equal(batched(tower, items, 1)["pooled"], whole)
        np.testing.assert_array_equal(batched(tower, items, 3)["pooled"], whole)


def test_vision_language_layers_keep_plain_weights(qwen_folders: dict[str, Path]) -> None:
    """Kernels for packed weights stay in memory for each shape, and every chat has a length of its own."""
    tower: Any = open_backbone(str(qwen_folders[KINDS[0]])).open_tower("joint")
    tower.forward(prepared(tower))
    layouts = {weight.layout for weight in tower.network.parameters()}
    assert layouts == {torch.strided}


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_forwards_may_run_in_threads(qwen_folders: dict[str, Path], kind: str) -> None:
    """Forwards at once give the bits of forwards in turn, and none leaves positions on the network."""
    tower: Any = open_backbone(str(qwen_folders[kind])).open_tower("joint", readouts=("pooled", "layer:1"))
    assert tower.reentrant and tower.rows_per_forward(0) == 1
    items = prepared(tower) * 3
    expected = [tower.forward([item]) for item in items]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: tower.forward([item]), items))
    for row, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row["pooled"], other["pooled"])
        np.testing.assert_array_equal(row["layer:1"], other["layer:1"])
    assert tower.network.rope_deltas is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modality", ["image", "joint"])
def test_vision_language_padded_among_others_is_the_same(
    qwen_folders: dict[str, Path], kind: str, modality: str
) -> None:
    """The padded forward that a GPU makes of chats with different grids gives what single forwards give."""
    tower: Any = open_backbone(str(qwen_folders[kind])).open_tower(modality, readouts=("pooled", "mean"))
    items = prepared(tower)
    assert len({(len(i.tokens.ids), i.pixels.height, i.pixels.width) for i in items}) >= N - 1
    together, apart = tower._embed(items), tower.forward(items)
    for readout in ("pooled", "mean"):
        np.testing.assert_allclose(together[readout], apart[readout], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_vision_language_in_bf16_stays_near(qwen_folders: dict[str, Path], kind: str) -> None:
    """bf16, in which the weights are published, gives finite float32 rows near those of fp32."""
    backbone = open_backbone(str(qwen_folders[kind]))
    exact: Any = backbone.open_tower("joint")
    half: Any = backbone.open_tower("joint", precision="bf16")
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    a, b = exact.forward(prepared(exact))["pooled"], half.forward(prepared(half))["pooled"]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert b.dtype == np.float32 and cosine.min() > 0.99


def test_vision_language_families_compute_in_bf16_on_a_gpu() -> None:
    """fp16 overflows in these networks, so "auto" takes bf16 for all of them and fp16 stays one flag away."""
    cards = [
        find_card(name) for name in ("qwen2-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-2b", "qwen3-vl-embedding-2b")
    ]
    assert {card.family for card in cards} == VISION_LANGUAGE_FAMILIES == set(KINDS)
    assert {resolve_precision("auto", "cuda", card) for card in cards} == {"bf16"}
    assert resolve_precision("fp16", "cuda", cards[0]) == "fp16"
    assert resolve_precision("auto", "cuda", find_card("flava-full")) == "fp16"


def test_embedding_model_follows_its_documented_recipe(tmp_path: Path) -> None:
    """A folder with sentence-transformers files: its instruction, last token, length 1, small pictures."""
    folder = make_tiny_qwen(tmp_path / "embedder", kind="qwen3_vl", template_file="chat_template.jinja")
    (folder / "modules.json").write_text("[]")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["size"]["shortest_edge"] = 64 * 32 * 32  # as published; the documentation says 4 tokens
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone = open_backbone(str(folder))
    assert backbone.preprocessing("joint")["system_message"] == "Represent the user's input."
    library = Library(folder, "qwen3_vl", system=EMBEDDING.instruction)
    for modality in MODALITIES:
        ids, states = library.states(modality)
        tower: Any = backbone.open_tower(modality)
        items = prepared(tower)
        assert [(item if modality == "text" else item.tokens).ids.tolist() for item in items] == ids
        last = np.stack([layers[-1][-1] for layers in states])
        expected = last / np.linalg.norm(last, axis=1, keepdims=True)
        np.testing.assert_allclose(tower.forward(items)["pooled"], expected, atol=1e-5)
