"""Joint encoders: FLAVA and BLIP equal transformers' own forward, in any company, and load only parts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from extract.backbones import ImageTower, JointTower, Pair, TextTower
from extract.registry import find_card, open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_joint import make_tiny_blip, make_tiny_flava

Rows = dict[str, np.ndarray]
N = 8


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint of each kind for the module."""
    root = tmp_path_factory.mktemp("joint")
    return {
        "flava": make_tiny_flava(root / "flava"),
        "blip": make_tiny_blip(root / "blip"),
        "captions": make_tiny_blip(root / "captions", kind="BlipForConditionalGeneration"),
    }


def mixed_texts(n: int = N) -> list[str]:
    """Draw texts of 0 to 60 words: some fill a bucket, some pass the limit of 48 tokens."""
    draw = random.Random(1)
    words = ["the", "cat", "dog", "happy", "not", "x", "天", "2", "!"]
    return [" ".join(draw.choices(words, k=k)) for k in [0, 6, 14, 60, *draw.choices(range(12), k=n - 4)]]


def mixed_images(n: int = N) -> list[Image.Image]:
    """Draw emoji in pictures of different sizes and shapes."""
    return [
        draw_emoji("😀😢❤🎉"[i % 4], 20 + 9 * i).crop((0, 0, 20 + 5 * i, 20 + 9 * i)).copy() for i in range(n)
    ]


def prepared(tower: Any) -> list[Any]:
    """Prepare the mixed inputs for a tower of any modality."""
    if isinstance(tower, TextTower):
        return list(tower.tokenise(mixed_texts()))
    if isinstance(tower, ImageTower):
        return [tower.preprocess(image) for image in mixed_images()]
    assert isinstance(tower, JointTower)
    return [tower.prepare(*pair) for pair in zip(mixed_texts(), mixed_images(), strict=True)]


def batched(tower: Any, items: list[Any], size: int) -> Rows:
    """Embed `items` in batches of `size`."""
    parts = [tower.forward(items[i : i + size]) for i in range(0, len(items), size)]
    return {readout: np.concatenate([part[readout] for part in parts]) for readout in tower.readouts}


def library_inputs(folder: Path, kind: str) -> dict[str, torch.Tensor]:
    """Prepare the mixed inputs with transformers' own tokenizer and PIL processor."""
    from transformers import AutoTokenizer, BlipImageProcessorPil, FlavaImageProcessorPil

    processor = {"flava": FlavaImageProcessorPil}.get(kind, BlipImageProcessorPil).from_pretrained(folder)
    texts = AutoTokenizer.from_pretrained(folder)(
        mixed_texts(), padding=True, truncation=True, max_length=48, return_tensors="pt"
    )
    pixels = processor(mixed_images(), return_tensors="pt")["pixel_values"]
    return {
        "input_ids": texts["input_ids"],
        "attention_mask": texts["attention_mask"],
        "pixel_values": pixels,
    }


def masked_mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average states over unmasked tokens, row by row."""
    return torch.stack([row[keep.bool()].mean(0) for row, keep in zip(states, mask, strict=True)])


@torch.no_grad()
def flava_reference(folder: Path) -> dict[str, Rows]:
    """Embed with transformers' whole FlavaModel."""
    from transformers import FlavaModel

    model = FlavaModel.from_pretrained(folder).eval()
    inputs = library_inputs(folder, "flava")
    out = model(**inputs)
    mask = inputs["attention_mask"]
    both = torch.cat([torch.ones(N, 1 + out.image_embeddings.shape[1], dtype=torch.long), mask], 1)
    rows = {
        "text": {
            "pooled": out.text_embeddings[:, 0],
            "mean": masked_mean(out.text_embeddings, mask),
            "layer:1": masked_mean(out.text_output.hidden_states[1], mask),
        },
        "image": {
            "pooled": out.image_embeddings[:, 0],
            "mean": out.image_embeddings[:, 1:].mean(1),
            "layer:1": out.image_output.hidden_states[1][:, 0],
        },
        "joint": {
            "pooled": out.multimodal_embeddings[:, 0],
            "mean": masked_mean(out.multimodal_embeddings, both),
        },
    }
    return {m: {readout: row.numpy() for readout, row in named.items()} for m, named in rows.items()}


@torch.no_grad()
def blip_reference(folder: Path) -> dict[str, Rows]:
    """Embed with transformers' whole BlipForImageTextRetrieval."""
    from transformers import BlipForImageTextRetrieval

    model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    inputs = library_inputs(folder, "blip")
    mask = inputs["attention_mask"]
    matched = model(**inputs)
    contrasted = model(**inputs, use_itm_head=False)
    as_trained = inputs["input_ids"].clone()
    as_trained[:, 0] = model.config.text_config.vocab_size - 1
    image = model.vision_model(inputs["pixel_values"], output_hidden_states=True)
    rows = {
        "text": {
            "pooled": model.text_proj(contrasted.question_embeds[:, 0]),
            "hidden": contrasted.question_embeds[:, 0],
            "mean": masked_mean(contrasted.question_embeds, mask),
        },
        "image": {
            "pooled": model.vision_proj(contrasted.last_hidden_state[:, 0]),
            "hidden": contrasted.last_hidden_state[:, 0],
            "mean": contrasted.last_hidden_state[:, 1:].mean(1),
            "layer:1": image.hidden_states[1][:, 0],
        },
        "joint": {
            "pooled": matched.question_embeds[:, 0],
            "mean": masked_mean(matched.question_embeds, mask),
            "enc": model(**{**inputs, "input_ids": as_trained}).question_embeds[:, 0],
        },
    }
    return {m: {readout: row.numpy() for readout, row in named.items()} for m, named in rows.items()}


@torch.no_grad()
def captions_reference(folder: Path) -> dict[str, Rows]:
    """Embed with the vision model and the decoder of transformers' BlipForConditionalGeneration."""
    from transformers import BlipForConditionalGeneration

    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    inputs = library_inputs(folder, "captions")
    mask = inputs["attention_mask"]
    inputs["input_ids"][:, 0] = model.config.text_config.bos_token_id
    image = model.vision_model(inputs["pixel_values"]).last_hidden_state
    states = model.text_decoder(
        input_ids=inputs["input_ids"],
        attention_mask=mask,
        encoder_hidden_states=image,
        output_hidden_states=True,
    ).hidden_states
    rows = {
        "image": {"pooled": image[:, 0], "mean": image[:, 1:].mean(1)},
        "joint": {
            "pooled": states[-1][torch.arange(N), mask.sum(1) - 1],
            "mean": masked_mean(states[-1], mask),
            "layer:1": masked_mean(states[1], mask),
        },
    }
    return {m: {readout: row.numpy() for readout, row in named.items()} for m, named in rows.items()}


REFERENCES: dict[str, Callable[[Path], dict[str, Rows]]] = {
    "flava": flava_reference,
    "blip": blip_reference,
    "captions": captions_reference,
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_joint_encoder_equals_transformers(folders: dict[str, Path], kind: str) -> None:
    """Every readout of every modality equals the library's whole model at batch sizes 1, 3 and 8."""
    backbone = open_backbone(str(folders[kind]))
    expected = REFERENCES[kind](folders[kind])
    assert set(expected) == set(backbone.card.modalities)
    for modality, rows in expected.items():
        assert {*backbone.card.readouts[modality]} <= {*rows}
        tower: Any = backbone.open_tower(modality, readouts=tuple(rows))
        items = prepared(tower)
        for size in (1, 3, 8):
            found = batched(tower, items, size)
            for readout, row in rows.items():
                np.testing.assert_allclose(found[readout], row, atol=1e-5, rtol=1e-5, err_msg=readout)
                assert row.shape == (N, backbone.card.width(modality, readout))
                assert np.ptp(row, axis=0).max() > 0.1, (
                    f"{modality}.{readout}: the inputs differ, so a mixed-up row would show"
                )


@pytest.mark.parametrize("kind", REFERENCES)
def test_joint_encoder_rows_have_the_same_bits_in_any_company(
    folders: dict[str, Path], kind: str, two_torch_threads: None
) -> None:
    """No vector depends, to the last bit, on batch size or order (fp32, CPU)."""
    backbone = open_backbone(str(folders[kind]))
    for modality in backbone.card.modalities:
        tower: Any = backbone.open_tower(modality, readouts=("pooled", "mean"))
        items = prepared(tower)
        whole = tower.forward(items)
        for readout in ("pooled", "mean"):
            np.testing.assert_array_equal(tower.forward(items[::-1])[readout], whole[readout][::-1])
            np.testing.assert_array_equal(batched(tower, items, 1)[readout], whole[readout])
            np.testing.assert_array_equal(batched(tower, items, 3)[readout], whole[readout])


@pytest.mark.parametrize("kind", REFERENCES)
def test_joint_encoder_forwards_may_run_in_threads(folders: dict[str, Path], kind: str) -> None:
    """Eight forwards at once give the bits of eight forwards in turn, so the towers keep no state."""
    tower: Any = open_backbone(str(folders[kind])).open_tower("joint", readouts=("pooled", "layer:1"))
    assert tower.reentrant
    items = prepared(tower) * 4
    expected = [tower.forward([item]) for item in items]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: tower.forward([item]), items))
    for row, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row["pooled"], other["pooled"])
        np.testing.assert_array_equal(row["layer:1"], other["layer:1"])


@pytest.mark.parametrize("kind", REFERENCES)
def test_joint_encoder_padded_among_longer_texts_is_the_same(folders: dict[str, Path], kind: str) -> None:
    """The padded forward that a GPU makes of a batch gives what single forwards give: padding is masked."""
    tower: Any = open_backbone(str(folders[kind])).open_tower("joint", readouts=("pooled", "mean"))
    items = prepared(tower)
    assert len({tower.bucket(item) for item in items}) > 1 and tower.rows_per_forward(8) == 1
    together, apart = tower._embed(items), tower.forward(items)
    for readout in ("pooled", "mean"):
        np.testing.assert_allclose(together[readout], apart[readout], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "modality", "parts"),
    [
        ("flava", "text", {"text_model"}),
        ("flava", "image", {"image_model"}),
        ("blip", "text", {"text_encoder", "text_proj"}),
        ("blip", "image", {"vision_model", "vision_proj"}),
        ("blip", "joint", {"vision_model", "text_encoder"}),
        ("captions", "image", {"vision_model"}),
        ("captions", "joint", {"vision_model", "text_decoder"}),
    ],
)
def test_joint_encoder_loads_only_what_it_reads(
    folders: dict[str, Path], kind: str, modality: str, parts: set[str]
) -> None:
    """A tower holds its own part of the checkpoint: no other half, no head, no image codebook."""
    tower: Any = open_backbone(str(folders[kind])).open_tower(modality)
    names = [name for name, _ in tower.network.named_parameters()]
    assert {name.split(".")[0] for name in names} == parts
    assert modality != "text" or not any("crossattention" in name for name in names)


def test_flava_joint_never_loads_the_codebook(folders: dict[str, Path]) -> None:
    """The multimodal tower holds the three encoders and the two maps between them, nothing else."""
    tower: Any = open_backbone(str(folders["flava"])).open_tower("joint")
    found = {name.split(".")[0] for name, _ in tower.network.named_parameters()}
    halves = {"text_model", "image_model", "text_to_mm_projection", "image_to_mm_projection"}
    assert found == {*halves, "multimodal_model"}


@pytest.mark.parametrize("options", [{"whole": False}, {"safetensors": False}])
def test_flava_of_other_layouts_gives_the_same_vectors(
    tmp_path: Path, folders: dict[str, Path], options: dict[str, bool]
) -> None:
    """A FlavaModel without heads, and the published file's format (a state dict of tensors), load alike."""
    from transformers import FlavaForPreTraining

    folder = make_tiny_flava(tmp_path / "flava", **options)
    weights = load_file(folders["flava"] / "model.safetensors")
    if options == {"whole": False}:
        inner = {n.removeprefix("flava."): w for n, w in weights.items() if n.startswith("flava.")}
        save_file(inner, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        model = FlavaForPreTraining.from_pretrained(folders["flava"])
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for modality in ("text", "image", "joint"):
        one: Any = open_backbone(str(folder)).open_tower(modality)
        other: Any = open_backbone(str(folders["flava"])).open_tower(modality)
        np.testing.assert_array_equal(
            one.forward(prepared(one))["pooled"], other.forward(prepared(other))["pooled"]
        )


def test_joint_prepare_cuts_the_text_and_keeps_its_closing_token(folders: dict[str, Path]) -> None:
    """A text over the limit ends with [SEP], and its full length is told."""
    tower = open_backbone(str(folders["blip"])).open_tower("joint")
    assert isinstance(tower, JointTower)
    pair = tower.prepare("cat " * 100_000, draw_emoji("😀", 40))
    assert isinstance(pair, Pair) and pair.pixels.shape == (3, 32, 32)
    assert len(pair.tokens.ids) == 48 and pair.tokens.full_length == 100_002
    assert pair.tokens.ids[-1] == 3 and tower.bucket(pair) == 48
    assert np.isfinite(tower.forward([pair])["pooled"]).all()


@pytest.mark.parametrize("kind", ["flava", "blip"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_joint_encoder_in_half_precision_stays_near(
    folders: dict[str, Path], kind: str, precision: str
) -> None:
    """Half precision gives finite float32 rows at cosine above 0.999 to fp32."""
    backbone = open_backbone(str(folders[kind]))
    exact: Any = backbone.open_tower("joint")
    half: Any = backbone.open_tower("joint", precision=precision)
    a, b = exact.forward(prepared(exact))["pooled"], half.forward(prepared(half))["pooled"]
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert b.dtype == np.float32 and cosine.min() > 0.999


def test_joint_preprocessing_says_what_each_modality_sees(folders: dict[str, Path]) -> None:
    """Each modality has its own settings, all plain JSON, and every readout of the card is explained."""
    for kind, folder in folders.items():
        backbone = open_backbone(str(folder))
        for modality, widths in backbone.card.readouts.items():
            settings = backbone.preprocessing(modality)
            assert json.loads(json.dumps(settings)) == settings
            assert set(settings["readouts"]) == {*widths, "layer:k"}, kind
            assert ("tokenizer_sha256" in settings) == (modality != "image")
        joint = backbone.preprocessing("joint")
        assert joint["image"]["resize"]["height"] == 32 and joint["token_limit"] == 48


def test_blip_captioning_has_no_text_tower(folders: dict[str, Path]) -> None:
    """A captioning checkpoint has no encoder for texts alone; asking says what there is."""
    with pytest.raises(ValueError, match=r"'captions' has no text tower; it embeds image and joint\."):
        open_backbone(str(folders["captions"])).open_tower("text")


def test_blip_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A question-answering checkpoint is refused by name, with what is supported."""
    folder = make_tiny_blip(tmp_path / "vqa", kind="BlipForQuestionAnswering")
    with pytest.raises(ValueError, match=r"is a 'BlipForQuestionAnswering', supported are BlipForImageText"):
        open_backbone(str(folder))


def test_blip_without_enc_in_its_vocabulary_offers_no_enc(tmp_path: Path) -> None:
    """Where the token after [DEC] does not exist, reading it would fail inside the network."""
    folder = make_tiny_blip(tmp_path / "blip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["bos_token_id"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="Readout 'enc' of 'blip' does not exist for joint"):
        open_backbone(str(folder)).open_tower("joint", readouts=("enc",))


@pytest.mark.parametrize(
    ("kind", "lost", "modality"),
    [
        ("flava", "flava.multimodal_model.cls_token", "joint"),
        ("flava", "flava.text_to_mm_projection.weight", "joint"),
        ("flava", "flava.image_model.layernorm.weight", "image"),
        ("blip", "text_encoder.encoder.layer.1.crossattention.self.query.weight", "joint"),
        ("blip", "vision_proj.weight", "image"),
        ("captions", "text_decoder.bert.encoder.layer.0.output.dense.weight", "joint"),
    ],
)
def test_joint_encoder_with_a_missing_weight_is_refused(
    tmp_path: Path, kind: str, lost: str, modality: str
) -> None:
    """A weight that is not in the file is named; it is never filled with random numbers."""
    builders: dict[str, Callable[[Path], Path]] = {
        "flava": make_tiny_flava,
        "blip": make_tiny_blip,
        "captions": lambda path: make_tiny_blip(path, kind="BlipForConditionalGeneration"),
    }
    folder = builders[kind](tmp_path / kind)
    weights = load_file(folder / "model.safetensors")
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"lack 1 tensors of the network \({lost.removeprefix('flava.')}\)"):
        open_backbone(str(folder)).open_tower(modality)


def test_joint_encoder_from_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    """A pickle that holds more than tensors is not read."""
    folder = make_tiny_flava(tmp_path / "flava", safetensors=False)
    torch.save({"weights": print}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is a pickle that holds more than tensors"):
        open_backbone(str(folder)).open_tower("joint")


def test_joint_encoder_without_padding_token_is_refused(tmp_path: Path) -> None:
    """A tokenizer that cannot pad is one clear error."""
    folder = make_tiny_blip(tmp_path / "blip")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    with pytest.raises(ValueError, match="no padding token"):
        open_backbone(str(folder)).open_tower("joint")


@pytest.mark.parametrize("name", ["flava-full", "blip-itm-base-coco", "blip-captioning-base"])
def test_joint_weights_of_another_size_are_refused(name: str, folders: dict[str, Path]) -> None:
    """--weights must have the card's widths, layers, image size and token limit."""
    kind = {"flava-full": "flava", "blip-itm-base-coco": "blip"}.get(name, "captions")
    faults = r"widths is .*; layers is .*; image size is 32, the card says \d+; token limit is 48"
    with pytest.raises(ValueError, match=faults):
        open_backbone(name, weights=folders[kind])


def test_blip_weights_of_another_class_are_refused(tmp_path: Path) -> None:
    """Both published checkpoints have the same sizes; the class in config.json tells them apart."""
    from transformers import BlipConfig

    config = BlipConfig(
        text_config={"num_attention_heads": 12},
        vision_config={},
        architectures=["BlipForConditionalGeneration"],
    )
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    open_backbone("blip-captioning-base", weights=tmp_path)
    with pytest.raises(
        ValueError,
        match=r"class is 'BlipForConditionalGeneration', the card says 'BlipForImageTextRetrieval'\.",
    ):
        open_backbone("blip-itm-base-coco", weights=tmp_path)


def test_joint_cards_state_the_true_number_of_parameters() -> None:
    """Networks of the published sizes, built without memory, have as many weights as the cards say."""
    import transformers as t

    blip = t.BlipConfig(text_config={"num_attention_heads": 12}, vision_config={})
    networks = {
        "flava-full": (t.FlavaModel, t.FlavaConfig()),
        "blip-itm-base-coco": (t.BlipForImageTextRetrieval, blip),
        "blip-captioning-base": (t.BlipForConditionalGeneration, blip),
    }
    for name, (model_class, config) in networks.items():
        with torch.device("meta"):
            model = model_class(config)
        assert sum(p.numel() for p in model.parameters()) == find_card(name).parameters, name
