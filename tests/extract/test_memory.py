"""Memory: sizes as words, and estimates that hold against counted tensors of real networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from extract.cards import Card
from extract.memory import (
    MemoryEstimate,
    estimate_memory,
    largest_estimate,
    limit_device_memory,
    parse_bytes,
)
from extract.registry import backbone_names, find_card
from tests.kit.live_bytes import peak_bytes

LAYERS_B32 = {"text": (512,) * 13, "image": (768,) * 13}
LAYERS_L14 = {"text": (768,) * 13, "image": (1024,) * 25}


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("4GB", 4_000_000_000),
        ("4 GiB", 4 * 2**30),
        ("512mb", 512_000_000),
        ("1.5g", 1_500_000_000),
        ("64KiB", 65_536),
        ("2T", 2 * 10**12),
        ("123456", 123_456),
        ("7 B", 7),
    ],
)
def test_parse_bytes_knows_the_usual_units(text: str, n_bytes: int) -> None:
    """Powers of ten and of two, in any case, with or without a space or a B."""
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "4 gigs", "-1GB", "0", "0.0001B", "GB", "1e9", "4GB 2", "nan", "١GB"])
def test_parse_bytes_refuses_in_one_sentence(text: str) -> None:
    """Anything else is named, with what is allowed."""
    if text == "١GB":
        assert parse_bytes(text) == 10**9  # a digit is a digit in any script
        return
    with pytest.raises(
        ValueError, match=r"Memory size '.*' is not valid; allowed is .* such as 4GB"
    ) as caught:
        parse_bytes(text)
    assert repr(text) in str(caught.value)


def clip_image_b32() -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return one layer of CLIP B/32's image tower, which peaks as high as twelve, and two inputs."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    network = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=1, patch_size=32))
    return network, {"pixel_values": torch.rand(2, 3, 224, 224)}


def clip_image_l14() -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return one layer of CLIP L/14's image tower and two inputs."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    network = CLIPVisionModel(CLIPVisionConfig(num_hidden_layers=1, patch_size=14, **sizes))
    return network, {"pixel_values": torch.rand(2, 3, 224, 224)}


def clip_text() -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return one layer of CLIP B/32's text tower and two inputs of full length."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = torch.randint(1, 100, (2, 77))
    network = CLIPTextModel(CLIPTextConfig(num_hidden_layers=1, vocab_size=100, eos_token_id=99))
    return network, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def bert_base() -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return one layer of BERT-base and two inputs of full length, one of them padded."""
    from transformers import BertConfig, BertModel

    ids = torch.randint(1, 100, (2, 512))
    mask = torch.ones_like(ids)
    mask[0, 400:] = 0
    return BertModel(BertConfig(num_hidden_layers=1, vocab_size=100)), {
        "input_ids": ids,
        "attention_mask": mask,
    }


def resnet50() -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return ResNet50 and two inputs."""
    import torchvision

    return torchvision.models.resnet50(), {"x": torch.rand(2, 3, 224, 224)}


@pytest.mark.parametrize(
    ("build", "name", "modality"),
    [
        (clip_image_b32, "clip-vit-b32", "image"),
        (clip_image_l14, "clip-vit-l14", "image"),
        (clip_text, "clip-vit-b32", "text"),
        (bert_base, "bert-base-uncased", "text"),
        (resnet50, "resnet50", "image"),
    ],
)
def test_estimate_of_an_input_bounds_what_is_counted(
    build: Callable[[], tuple[torch.nn.Module, dict[str, Any]]], name: str, modality: str
) -> None:
    """An estimate is never below the tensors that a real forward holds, and at most 1.6 times them."""
    torch.manual_seed(0)
    network, inputs = build()
    counted = peak_bytes(network, lambda: network.eval()(**inputs)) / 2
    estimate = estimate_memory(find_card(name), modality, "fp32")
    assert estimate is not None
    assert counted <= estimate.per_input <= 1.6 * counted


@pytest.mark.parametrize(
    ("name", "layers", "repository_sizes"),
    [
        ("clip-vit-b32", LAYERS_B32, ({}, {"patch_size": 32})),
        (
            "clip-vit-l14",
            LAYERS_L14,
            (
                {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
                {
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_attention_heads": 16,
                    "num_hidden_layers": 24,
                    "patch_size": 14,
                },
            ),
        ),
    ],
)
def test_estimate_tells_the_towers_of_a_pair_apart(
    name: str, layers: dict[str, tuple[int, ...]], repository_sizes: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    """The weights of each CLIP tower come out within 6 % of those of the true-size network."""
    from transformers import CLIPConfig, CLIPModel

    text, vision = repository_sizes
    projection = 768 if text else 512
    with torch.device("meta"):
        network = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection))
    card = replace(find_card(name), layers=layers)
    assert sum(p.numel() for p in network.parameters()) == card.parameters
    for modality, tower in (("text", network.text_model), ("image", network.vision_model)):
        estimate = estimate_memory(card, modality, "fp16")
        assert estimate is not None
        assert estimate.weights == pytest.approx(2 * sum(p.numel() for p in tower.parameters()), rel=0.06)
    largest = largest_estimate(card)
    assert largest == max((estimate_memory(card, m) for m in card.modalities), key=MemoryEstimate.total)


def test_estimate_without_layers_is_an_upper_bound() -> None:
    """A pair whose card does not tell the towers apart counts the weights of both."""
    card = replace(find_card("clip-vit-b32"), layers={})
    estimate = estimate_memory(card, "text", "fp32")
    assert estimate is not None and card.parameters is not None
    assert estimate.weights == 4 * card.parameters


def test_estimate_of_one_network_for_all_inputs_counts_all_of_it() -> None:
    """A language model that sees has no tower of less than all its weights; a pair of a text and an image is
    longer than either.
    """
    card = find_card("qwen2-vl-2b")
    towers = {m: estimate_memory(card, m, "fp16") for m in ("text", "image", "joint")}
    assert {tower.weights for tower in towers.values() if tower} == {2 * (card.parameters or 0)}
    assert towers["joint"] and towers["image"] and towers["joint"].per_input > towers["image"].per_input


def test_estimate_is_none_where_parameters_are_unknown() -> None:
    """A card without a parameter count gets no figure rather than a guess."""
    card = replace(find_card("resnet50"), parameters=None)
    assert estimate_memory(card, "image") is None
    assert largest_estimate(card) is None


def test_estimate_exists_for_every_registered_backbone() -> None:
    """Every tower of every registered backbone gets a positive figure, a joint one for both its inputs."""
    for name in backbone_names():
        card: Card = find_card(name)
        for modality in card.modalities:
            estimate = estimate_memory(card, modality)
            if card.parameters:
                assert estimate is not None and estimate.weights > 0 and estimate.per_input > 0, name
                assert estimate.weights <= 2 * card.parameters


def test_limit_device_memory_refuses_a_cpu() -> None:
    """torch cannot limit the memory of a CPU; saying so beats a limit that does nothing."""
    with pytest.raises(ValueError, match=r"--max-memory limits the memory of a GPU, but the device is 'cpu'"):
        limit_device_memory("cpu", 10**9)


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_limit_device_memory_is_set_on_the_device_that_is_named(device: str, index: int) -> None:
    """torch's own checks of the arguments run here; only what asks the driver is replaced."""
    with (
        mock.patch("torch.cuda.memory._lazy_init"),
        mock.patch("torch.cuda.current_device", return_value=0),
        mock.patch("torch.cuda.get_device_properties", return_value=mock.Mock(total_memory=8 * 10**9)),
        mock.patch("torch._C._cuda_setMemoryFraction", create=True) as limit,
    ):
        limit_device_memory(device, 10**9)
        limit_device_memory(device, 10**10)
    assert [call.args for call in limit.call_args_list] == [(0.125, index), (1.0, index)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_limit_device_memory_is_kept() -> None:
    """Above the limit an allocation is out of memory, below it succeeds."""
    limit_device_memory("cuda", 10**9)
    try:
        torch.empty(800_000_000, dtype=torch.uint8, device="cuda")
        torch.cuda.empty_cache()
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(1_200_000_000, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
