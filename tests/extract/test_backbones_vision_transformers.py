"""Image backbones in the transformers format: equal to the library's own processor and forward."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from extract.backbones import ImageTower
from extract.backbones.vision_families import FAMILIES
from extract.registry import find_card, open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_vision import make_tiny_vision

EMOJI = "😀😢❤🎉🐱🐶🌞🌧🚗"
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
#: Register tokens of the tiny checkpoints.
N_PREFIX = {"dinov2_with_registers": 4, "dinov3_vit": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny checkpoint of every family."""
    root = tmp_path_factory.mktemp("vision")
    return {family: make_tiny_vision(root / family, family) for family in FAMILIES}


def pictures(n: int) -> list[Image.Image]:
    """Draw emoji of several sizes and shapes."""
    sizes = (150, 64, 97, 33, 240, 48, 32, 70, 121)
    drawn = [draw_emoji(char, size) for char, size in zip(EMOJI, sizes, strict=True)][:n]
    return [image.crop((0, 0, image.width, image.height - 7 * (i % 2))) for i, image in enumerate(drawn)]


def reference(folder: Path, images: list[Image.Image]) -> Any:
    """Run the library's own processor and network."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    kind = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"]
    ending = "" if kind.startswith("DINOv3") else "Pil"
    processor = getattr(transformers, kind.removesuffix("Fast") + ending).from_pretrained(folder)
    with torch.no_grad():
        return model(**processor(images, return_tensors="pt"), output_hidden_states=True)


def readouts_of(folder: Path) -> list[str]:
    """Return every readout of the checkpoint."""
    card = open_backbone(str(folder)).card
    return [*card.readouts["image"], *(f"layer:{k}" for k in range(len(card.layers["image"])))]


def expected_vectors(family: str, output: Any, readouts: list[str]) -> dict[str, np.ndarray]:
    """Take the readouts from the library's output, written down independently of the tower."""
    has_class = family in ("vit", "beit", "dinov2", "dinov2_with_registers", "dinov3_vit")
    vectors = {"pooled": output.pooler_output.flatten(1)}
    if has_class:
        vectors["cls"] = output.last_hidden_state[:, 0]
    if has_class or family == "dinov3_convnext":
        vectors["mean"] = output.last_hidden_state[:, N_PREFIX.get(family, 1) :].mean(1)
    for k, states in enumerate(output.hidden_states):
        if states.ndim == 4:
            vectors[f"layer:{k}"] = states.flatten(2).mean(2)
        else:
            vectors[f"layer:{k}"] = states[:, 0] if has_class else states.mean(1)
    assert set(vectors) == set(readouts)
    return {name: vector.numpy() for name, vector in vectors.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_vision_backbone_equals_transformers(family: str, folders: dict[str, Path]) -> None:
    """Every readout, every layer included, equals the library's at batch sizes 1, 3 and 8."""
    folder = folders[family]
    readouts = readouts_of(folder)
    tower = open_backbone(str(folder)).open_tower("image", readouts=readouts)
    assert isinstance(tower, ImageTower)
    images = pictures(8)
    expected = expected_vectors(family, reference(folder, images), readouts)
    inputs = [tower.preprocess(image) for image in images]
    for n in (1, 3, 8):
        found = tower.forward(inputs[:n])
        for readout in readouts:
            assert found[readout].dtype == np.float32
            # DINOv3's reference resizes by torch, in float32: see test_backbones_vision_processors.
            tolerance = {"atol": 3e-4} if family.startswith("dinov3") else TOLERANCE
            np.testing.assert_allclose(found[readout], expected[readout][:n], **tolerance)
            assert found[readout].shape == (n, open_backbone(str(folder)).card.width("image", readout))
    between = np.corrcoef(expected["pooled"])
    assert between[0, 1] < 0.999, "different pictures are told apart, so equal vectors mean something"


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.startswith("dinov3")])
def test_dinov3_equals_transformers_on_the_same_pixels(family: str, folders: dict[str, Path]) -> None:
    """With the tower's own pixels the network's vectors equal the library's to 1e-5."""
    tower = open_backbone(str(folders[family])).open_tower("image", readouts=["pooled", "mean"])
    assert isinstance(tower, ImageTower)
    inputs = [tower.preprocess(image) for image in pictures(5)]
    model = transformers.AutoModel.from_pretrained(folders[family], dtype=torch.float32).eval()
    with torch.no_grad():
        output = model(pixel_values=torch.from_numpy(np.stack(inputs)))
    found = tower.forward(inputs)
    np.testing.assert_allclose(found["pooled"], output.pooler_output.numpy(), **TOLERANCE)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_vision_tower_gives_a_row_the_same_bits_in_any_company(
    family: str, n_threads: int, folders: dict[str, Path], one_torch_thread: None
) -> None:
    """A picture's vectors do not depend, to the last bit, on batch size or neighbours (fp32, CPU)."""
    torch.set_num_threads(n_threads)
    readouts = readouts_of(folders[family])
    tower = open_backbone(str(folders[family])).open_tower("image", readouts=readouts)
    assert isinstance(tower, ImageTower)
    inputs = [tower.preprocess(image) for image in pictures(9)]
    whole = tower.forward(inputs)
    for rows in (slice(0, 1), slice(8, 9), slice(3, 6), slice(None, None, -1)):
        part = tower.forward(inputs[rows])
        for readout in readouts:
            np.testing.assert_array_equal(part[readout], whole[readout][rows])


@pytest.mark.parametrize("family", FAMILIES)
def test_vision_tower_may_be_called_by_several_threads(
    family: str, folders: dict[str, Path], one_torch_thread: None
) -> None:
    """Four threads that share a fresh tower get the bits that one thread gets, layers included."""
    readouts = readouts_of(folders[family])
    towers = [open_backbone(str(folders[family])).open_tower("image", readouts=readouts) for _ in range(2)]
    alone, shared = towers
    assert isinstance(alone, ImageTower) and isinstance(shared, ImageTower) and shared.reentrant
    batches = [[alone.preprocess(image)] * 2 for image in pictures(8)]
    expected = [alone.forward(batch) for batch in batches]

    def forward(batch: list[np.ndarray]) -> dict[str, np.ndarray]:
        torch.set_num_threads(1)  # holds for this thread
        return shared.forward(batch)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(forward, batches * 3))
    for i, vectors in enumerate(found):
        for readout in readouts:
            np.testing.assert_array_equal(vectors[readout], expected[i % 8][readout])


@pytest.mark.parametrize("family", ["vit", "dinov2", "convnext", "resnet", "efficientnet", "swin", "beit"])
def test_classifier_checkpoint_gives_its_base(family: str, tmp_path: Path) -> None:
    """A checkpoint with a classification head loads without it, and nothing of the base is missing."""
    folder = make_tiny_vision(tmp_path / family, family, head=True, safetensors=family != "convnext")
    backbone = open_backbone(str(folder))
    tower = backbone.open_tower("image")
    assert isinstance(tower, ImageTower)
    classifier = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    inputs = [tower.preprocess(image) for image in pictures(4)]
    with torch.no_grad():
        output = classifier.base_model(pixel_values=torch.from_numpy(np.stack(inputs)))
    pooled = output.last_hidden_state[:, 0] if family == "vit" else output.pooler_output.flatten(1)
    np.testing.assert_allclose(tower.forward(inputs)["pooled"], pooled.numpy(), **TOLERANCE)
    if family == "vit":
        assert backbone.preprocessing("image")["readouts"]["pooled"] == "class token after the last norm"


def test_vit_pooled_is_the_pooler_where_the_files_have_one(folders: dict[str, Path]) -> None:
    """Whether "pooled" is the trained pooler or the class token is decided by the files, and said."""
    settings = open_backbone(str(folders["vit"])).preprocessing("image")
    assert settings["readouts"]["pooled"] == "pooler (dense and tanh of the class token)"
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize("family", ["resnet", "efficientnet"])
def test_folded_batch_norms_change_nothing(family: str, folders: dict[str, Path]) -> None:
    """No batch norm is left, and the preprocessing says so; the parity test shows that vectors stay."""
    backbone = open_backbone(str(folders[family]))
    tower = backbone.open_tower("image")
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in tower.network.modules())  # type: ignore[union-attr]
    assert backbone.preprocessing("image")["batch_norms"] == "folded"


@pytest.mark.parametrize("family", ["vit", "dinov3_vit", "convnext", "resnet"])
def test_vision_backbone_in_half_precision_stays_near(family: str, folders: dict[str, Path]) -> None:
    """bf16 returns float32 vectors within a cosine of 0.99 of fp32 (a tiny net of exaggerated weights)."""
    backbone = open_backbone(str(folders[family]))
    rows = []
    for precision in ("fp32", "bf16"):
        tower = backbone.open_tower("image", precision=precision)
        assert isinstance(tower, ImageTower)
        rows.append(tower.forward([tower.preprocess(image) for image in pictures(3)])["pooled"])
    one, two = rows
    assert two.dtype == np.float32 and not np.array_equal(one, two)
    assert ((one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)).min() > 0.99


#: Configs of the published checkpoints, as far as they differ from the class's defaults.
PUBLISHED: dict[str, dict[str, Any]] = {
    "vit-b16": {},
    "dinov2-s": {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518, "patch_size": 14},
    "dinov2-b": {"image_size": 518, "patch_size": 14},
    "dinov2-l": {
        "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24, "image_size": 518,
        "patch_size": 14,
    },
    "dinov3-vits16": {"num_register_tokens": 4},
    "dinov3-vitb16": {
        "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_register_tokens": 4
    },
    "dinov3-vitl16": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
        "num_register_tokens": 4,
    },
    "convnext-tiny": {},
    "convnext-base": {"depths": [3, 3, 27, 3], "hidden_sizes": [128, 256, 512, 1024]},
    "efficientnet-b0": {
        "hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224,
        "depthwise_padding": [],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_registered_card_is_true_of_the_network(name: str) -> None:
    """Widths, layers and parameters are those of the network that the published config describes."""
    card = find_card(name)
    config = transformers.AutoConfig.for_model(card.family, **PUBLISHED[name])
    with torch.device("meta"), torch.inference_mode():
        model = transformers.AutoModel.from_config(config).eval()
        size = card.image_size
        assert size
        output = model(pixel_values=torch.empty(1, 3, size, size), output_hidden_states=True)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert card.readouts["image"]["pooled"] == output.pooler_output.shape[1]
    widths = [h.shape[1] if h.ndim == 4 else h.shape[2] for h in output.hidden_states]
    assert list(card.layers["image"]) == widths


def test_registered_name_refuses_other_weights(folders: dict[str, Path]) -> None:
    """Weights of another family or size are refused, with what is wrong and what to do."""
    with pytest.raises(ValueError, match=r"family is 'convnext', the card says 'vit'.* as --backbone"):
        open_backbone("vit-b16", weights=folders["convnext"])
    with pytest.raises(ValueError, match=r"widths is .*'pooled': 32.*parameters is .*image_size is 32"):
        open_backbone("vit-b16", weights=folders["vit"])


def test_broken_vision_checkpoints_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """A missing tensor, a missing processor, or a processor of another size is one clear error."""
    from safetensors.torch import load_file, save_file

    folder = make_tiny_vision(tmp_path / "vit", "vit")
    processor = folder / "preprocessor_config.json"
    settings = json.loads(processor.read_text())
    processor.write_text(json.dumps({**settings, "size": {"height": 40, "width": 40}}))
    with pytest.raises(ValueError, match=r"crop size is 40, the card says 32|pictures of 40 x 40"):
        open_backbone(str(folder))
    processor.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 'preprocessor_config.json'"):
        open_backbone(str(folder))
    processor.write_text(json.dumps(settings))
    state = load_file(folder / "model.safetensors")
    gone = next(name for name in state if "patch_embeddings" in name)
    save_file({k: v for k, v in state.items() if k != gone}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lack 1 tensors of the network .*patch_embeddings"):
        open_backbone(str(folder)).open_tower("image")


def test_unknown_vision_readout_is_refused(folders: dict[str, Path]) -> None:
    """A readout that the family has not is refused with those that it has."""
    with pytest.raises(ValueError, match=r"'cls' .* allowed are pooled, layer:0 to layer:4"):
        open_backbone(str(folders["convnext"])).open_tower("image", readouts=["cls"])
    with pytest.raises(ValueError, match=r"'layer:4' .* layer:0 to layer:3"):
        open_backbone(str(folders["vit"])).open_tower("image", readouts=["layer:4"])
