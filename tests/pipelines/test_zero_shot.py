"""``train --head zero-shot``: prompts embedded by the store's own network, and CLIP's own answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heads import load_model
from pipelines.cli import main
from pipelines.predict import PredictSettings, predict
from tests.kit.tiny_checkpoints import make_tiny_clip
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World

STORE = "features/tiny-clip.h5"
PROMPTS = ("a {class} dog", "the {class} cat")


def _words(world: World, out: Path, *words: str) -> list[str]:
    weights = ["--weights", f"tiny-clip={world.clip}"]
    command = ["train", "--head", "zero-shot", "--folds", "3", "--out", str(out), "--study", "zero"]
    return [*command, *weights, *words]


@pytest.fixture(scope="module")
def image_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zero-shot run on the pictures, with one prompt."""
    out = tmp_path_factory.mktemp("zero")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.root)
        words = ["--features", f"{STORE}:image.pooled", "--prompts", PROMPTS[0]]
        assert main(_words(world, out, *words)) == 0
    return out / "zero"


def test_zero_shot_gives_clips_own_probabilities(in_world: World, image_run: Path) -> None:
    """For one picture the answer is the softmax of transformers' logits_per_image."""
    import torch
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

    guid = in_world.ids[0]
    model = CLIPModel.from_pretrained(in_world.clip).eval()
    names = load_model(image_run / "model").classes
    texts = CLIPTokenizer.from_pretrained(in_world.clip)(
        [PROMPTS[0].replace("{class}", name) for name in names], padding=True, return_tensors="pt"
    )
    with Image.open(in_world.root / "data" / f"{guid}.jpg") as picture:
        pixels = CLIPImageProcessor.from_pretrained(in_world.clip)(
            picture.convert("RGB"), return_tensors="pt"
        )["pixel_values"]
    with torch.no_grad():
        logits = model(**texts, pixel_values=pixels).logits_per_image
    stored = predict(PredictSettings(run=image_run, features=(STORE,)))
    wanted = logits.softmax(dim=1).double().numpy()[0]
    np.testing.assert_allclose(stored.probabilities[stored.ids.index(guid)], wanted, atol=2e-4)
    assert load_model(image_run / "model").parameters["scale"] == pytest.approx(
        float(model.logit_scale.detach().exp()), rel=1e-6
    )


def test_prediction_needs_no_prompts_and_no_text_tower(in_world: World, image_run: Path) -> None:
    """The class vectors are in the model: stored rows are predicted without any weights."""
    again = predict(PredictSettings(run=image_run))
    assert len(again.ids) == 7
    metrics = json.loads((image_run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_parameters"] == 0
    assert metrics["winner"]["parameters"]["prompts"] == [PROMPTS[0]]
    config = json.loads((image_run / "config.json").read_text(encoding="utf-8"))
    assert "weights" not in config


def test_several_prompts_are_averaged_and_replayed(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class vectors are the mean of the prompts' directions, text and picture count, --config repeats it."""
    both = [word for prompt in PROMPTS for word in ("--prompts", prompt)]
    assert main(_words(in_world, tmp_path, *both, "--set", "scale=30")) == 0
    singles = []
    for number, prompt in enumerate(PROMPTS):
        assert main(_words(in_world, tmp_path / str(number), "--prompts", prompt)) == 0
        singles.append(_class_vectors(tmp_path / str(number) / "zero"))
    mean = singles[0] + singles[1]
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(_class_vectors(tmp_path / "zero"), mean, atol=1e-12)
    model = load_model(tmp_path / "zero" / "model")
    assert (model.parameters["scale"], list(model.blocks or {})) == (30, ["text.pooled", "image.pooled"])
    replay = ["train", "--config", str(tmp_path / "zero" / "config.json"), "--out", str(tmp_path / "again")]
    assert main([*replay, "--weights", f"tiny-clip={in_world.clip}"]) == 0
    first, second = (folder / "zero" / "oof.csv" for folder in (tmp_path, tmp_path / "again"))
    assert second.read_bytes() == first.read_bytes()


def _class_vectors(run: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    vectors: np.ndarray = load_file(run / "model" / "arrays.safetensors")["head.class_vectors"]
    return vectors


def test_weights_that_did_not_make_the_store_are_refused(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts of another network would be compared with vectors of a space they do not live in."""
    import torch
    from safetensors.torch import load_file, save_file

    other = make_tiny_clip(tmp_path / "tiny-clip")
    weights = load_file(other / "model.safetensors")
    weights["text_projection.weight"] = torch.flip(weights["text_projection.weight"], [0]).contiguous()
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert main([*_words(in_world, tmp_path), "--weights", f"tiny-clip={other}"]) == 1
    assert "are not those that made 'features/tiny-clip.h5'" in capsys.readouterr().err
    assert not (tmp_path / "zero").exists()


def test_stores_that_prompts_say_nothing_about_are_refused(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text encoder, two networks, other readouts and counts of terms have no space with prompts."""
    assert main(["extract", "--backbone", str(in_world.bert), "--out", str(tmp_path)]) == 0
    bert = ["--features", str(tmp_path / "tiny-bert.h5")]
    capsys.readouterr()
    assert main(_words(in_world, tmp_path, *bert, "--weights", f"tiny-bert={in_world.bert}")) == 2
    assert "has no space that texts and images share" in capsys.readouterr().err
    assert main(_words(in_world, tmp_path, *bert, "--features", f"{STORE}:image.pooled")) == 2
    assert "come from tiny-bert, tiny-clip" in capsys.readouterr().err
    assert main(_words(in_world, tmp_path, "--features", f"{STORE}:text.terms")) == 2
    assert "'text.terms' is not 'text.pooled' or 'image.pooled'" in capsys.readouterr().err


def test_weights_that_are_not_there_are_asked_for(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A published backbone without its weights on this machine is one clear error."""
    codes = labels_of(60)
    vectors = {"image": noisy(codes, 1.0, width=512)}
    store = make_store(tmp_path / "clip-vit-b32.h5", "clip-vit-b32", vectors, codes)
    assert main(["train", "--head", "zero-shot", "--features", str(store), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "clip-vit-b32" in error
    assert "Traceback" not in error


def test_wrong_words_of_zero_shot_are_usage_errors(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt without its class, prompts for another head, and a search are answered with what to do."""
    weights = ["--weights", f"tiny-clip={in_world.clip}"]
    assert main(["train", "--head", "zero-shot", "--prompts", "a dog", *weights]) == 2
    assert "does not say where the class goes" in capsys.readouterr().err
    assert main(["train", "--head", "logreg", "--prompts", PROMPTS[0]]) == 2
    assert "--prompts are for --head zero-shot" in capsys.readouterr().err
    assert main(["tune", "--heads", "zero-shot,logreg"]) == 2
    assert "'zero-shot' have nothing to search" in capsys.readouterr().err


def _ablate(world: World, out: Path, *words: str) -> list[str]:
    command = ["ablate", "--features", STORE, "--folds", "3", "--shuffles", "0", "--out", str(out)]
    return [*command, "--weights", f"tiny-clip={world.clip}", *words]


def test_ablate_adds_rows_that_nothing_is_trained_for(
    in_world: World, tmp_path: Path, image_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts beside logistic regression: every modality, with the answers of train --head zero-shot."""
    both = [word for prompt in PROMPTS[:1] for word in ("--prompts", prompt)]
    assert main(_ablate(in_world, tmp_path, *both)) == 0
    (run,) = tmp_path.iterdir()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in metrics["rows"]}
    assert list(rows) == [
        *("text / logreg", "image / logreg", "both / logreg"),
        *("text / zero-shot", "image / zero-shot", "both / zero-shot"),
    ]
    assert metrics["reference"] == "both / logreg"
    alone = json.loads((image_run / "metrics.json").read_text(encoding="utf-8"))
    shown = rows["image / zero-shot"]["cv"]["macro_f1"]
    assert shown["mean"] == alone["cv"]["macro_f1"]["mean"]
    assert rows["image / zero-shot"]["against_reference"] is not None
    capsys.readouterr()
    replay = ["ablate", "--config", str(run / "config.json"), "--out", str(tmp_path)]
    assert main(replay) == 0
    assert [path.name for path in tmp_path.iterdir()] == [run.name]  # the same table: nothing to do


def test_replay_takes_the_folder_of_weights_that_was_noted(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noted by a folder that is there, it need not be named again; --weights wins; the run is the same."""
    prompt = ["--prompts", PROMPTS[0], "--modalities", "image"]
    assert main(_ablate(in_world, tmp_path / "first", *prompt)) == 0
    (run,) = (tmp_path / "first").iterdir()
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["inputs"] == {"weights": {"tiny-clip": str(in_world.clip)}}

    def replayed(out: str, weights: object, *words: str) -> tuple[int, str]:
        config["inputs"]["weights"]["tiny-clip"] = weights
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        capsys.readouterr()
        command = ["ablate", "--config", str(tmp_path / "config.json"), "--out", str(tmp_path / out), *words]
        return main(command), capsys.readouterr().err

    gone = str(tmp_path / "gone")
    assert replayed("again", str(in_world.clip))[0] == 0
    assert [path.name for path in (tmp_path / "again").iterdir()] == [run.name]
    status, error = replayed("none", gone)
    assert status == 2
    assert "--weights tiny-clip=DIR" in error
    assert replayed("given", gone, "--weights", f"tiny-clip={in_world.clip}")[0] == 0
    status, error = replayed("damaged", 3)
    assert status == 1
    assert "the weights of 'tiny-clip' are in 3" in error


def test_ablate_compares_with_a_trained_row_where_all_have_views(in_world: World, tmp_path: Path) -> None:
    """The reference that nobody named is a trained row, even if only zero-shot rows are without views."""
    embed = ["extract", "--backbone", str(in_world.clip), "--views", "1", "--out", str(tmp_path)]
    assert main(embed) == 0
    words = ["--prompts", PROMPTS[0], "--use-views", "1"]
    command = _ablate(in_world, tmp_path / "runs", *words)
    command[command.index(STORE)] = str(tmp_path / "tiny-clip.h5")
    assert main(command) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert "zero-shot" not in json.loads((run / "metrics.json").read_text(encoding="utf-8"))["reference"]


def test_ablate_puts_prompts_to_fitting_stores_alone(in_world: World, tmp_path: Path) -> None:
    """Of several feature sets the one with both towers has such rows, and of the modalities asked for."""
    assert main(["extract", "--backbone", str(in_world.bert), "--out", str(tmp_path)]) == 0
    swap = ["--swap", f"bert={tmp_path / 'tiny-bert.h5'}", "--modalities", "text", "--prompts", PROMPTS[0]]
    assert main(_ablate(in_world, tmp_path / "runs", *swap)) == 0
    (run,) = (tmp_path / "runs").iterdir()
    rows = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"]
    prompted = [row["name"] for row in rows if row["head"] == "zero-shot"]
    assert prompted == ["tiny-clip: text / zero-shot"]


def test_ablate_refuses_prompts_that_no_row_can_use(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One tower, a template without a class, a zero-shot reference and a table of a report are refused."""
    prompt = ["--prompts", PROMPTS[0]]
    image = ["ablate", "--features", f"{STORE}:image.pooled", "--out", str(tmp_path / "runs"), *prompt]
    assert main(image) == 2
    assert "--prompts answer for stores with 'text.pooled' and 'image.pooled'" in capsys.readouterr().err
    out = tmp_path / "runs"
    assert main(_ablate(in_world, out, "--prompts", "a dog")) == 2
    assert "does not say where the class goes" in capsys.readouterr().err
    assert main(_ablate(in_world, out, *prompt, "--reference", "both / zero-shot")) == 2
    assert "'both / zero-shot' is a row that nothing is trained for" in capsys.readouterr().err
    assert main(_ablate(in_world, out, *prompt, "--preset", "clip-small")) == 2
    assert "pass --prompts without it" in capsys.readouterr().err
    assert not out.exists()
