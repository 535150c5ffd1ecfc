"""``train --preset``: a report's head on any store, recorded in full and replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from extract import backbone_names
from heads import PRESETS, find_preset
from pipelines.class_parameters import with_class_codes
from pipelines.cli import main
from pipelines.errors import UsageError
from pipelines.term_counts import TERMS_BACKBONE
from tests.pipelines.conftest import World
from tuning import Configuration

ROOT = Path(__file__).resolve().parents[2]


def _config(run: Path) -> dict:
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def _store(folder: Path, labels: list[str]) -> Path:
    """Import a store of noise with the given labels."""
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(len(labels), 6)).astype(np.float32))
    rows = "\n".join(["id,label", *(f"{i},{label}" for i, label in enumerate(labels))])
    (folder / "t.csv").write_text(rows, encoding="utf-8")
    words = ["--table", str(folder / "t.csv"), "--text", str(folder / "x.npy"), "--out", str(folder / "s.h5")]
    assert main(["import", *words]) == 0
    return folder / "s.h5"


def test_preset_run_is_recorded_in_full_and_replays(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """config.json holds the name and every setting; --config gives the same rows; notes say what differs."""
    command = ["train", "--preset", "clip-l14-concat", "--folds", "2", "--study", "p", "--out"]
    assert main([*command, str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert "clip-l14-concat' of report 004" in told
    assert "text of clip-vit-l14-336 (768)" in told
    assert "changed from the preset" not in told
    config = _config(tmp_path / "p")
    assert config["preset"] == "clip-l14-concat"
    assert config["heads"] == ["mlp"]
    assert config["parameters"] == find_preset("clip-l14-concat").expanded()
    replay = ["train", "--config", str(tmp_path / "p" / "config.json"), "--out", str(tmp_path / "again")]
    assert main(replay) == 0
    again = tmp_path / "again" / "p"
    assert (again / "oof.csv").read_bytes() == (tmp_path / "p" / "oof.csv").read_bytes()
    assert _config(again) == config


def test_options_win_over_a_preset(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--set and --resampler change a preset, at once or in a replay, and a note names what they changed."""
    command = ["train", "--preset", "bert-resnet50-mlp0", "--folds", "2", "--out", str(tmp_path)]
    changes = ["--set", "max_epochs=3", "--resampler", "none"]
    assert main([*command, *changes, "--study", "changed"]) == 0
    assert "changed from the preset: max_epochs, resampler" in capsys.readouterr().err
    config = _config(tmp_path / "changed")
    assert (config["resampler"], config["parameters"]["max_epochs"]) == ("none", 3)
    replay = ["train", "--config", str(tmp_path / "changed" / "config.json"), "--out", str(tmp_path)]
    assert main([*replay, "--set", "patience=2", "--study", "twice"]) == 0
    expected = {**config["parameters"], "patience": 2}
    assert _config(tmp_path / "twice")["parameters"] == expected
    assert _config(tmp_path / "twice")["preset"] == "bert-resnet50-mlp0"
    assert main([*replay, "--head", "logreg", "--study", "other"]) == 0
    assert "preset" not in _config(tmp_path / "other")


def test_wrong_presets_are_usage_errors(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is answered with near matches; a preset and a head do not go together."""
    assert main(["train", "--preset", "clip-l14-atention"]) == 2
    assert "did you mean 'clip-l14-attention'" in capsys.readouterr().err
    assert main(["train", "--preset", "clip-ln", "--head", "mlp"]) == 2
    assert "Leave out --head" in capsys.readouterr().err


def test_list_shows_every_preset_without_torch() -> None:
    """The table comes from names and numbers alone."""
    code = (
        "import sys; from pipelines.cli import main; main(['train', '--preset', 'list']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'optuna', 'lightgbm')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:-1]] == list(PRESETS)


def test_class_that_a_data_set_lacks_is_left_out_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A preset's weight of 'neutral' is left out among other classes; a weight of the user's is refused."""
    store = _store(tmp_path, ["good", "bad"] * 30)
    command = ["train", "--features", str(store), "--folds", "2", "--preset", "clip-l14-concat"]
    assert main([*command, "--out", str(tmp_path), "--study", "two"]) == 0
    assert "class_boost names class 'neutral', which has no rows here" in capsys.readouterr().err
    assert _config(tmp_path / "two")["parameters"]["class_boost"] is None
    assert main([*command, "--set", 'class_boost={"goo": 2}']) == 2
    told = capsys.readouterr().err
    assert "class_boost names class 'goo'; did you mean 'good'" in told


def test_classes_are_named_by_name_and_trained_by_code(tmp_path: Path) -> None:
    """A weight of a class by its name moves predictions to that class, and is recorded by name."""
    store = _store(tmp_path, ["a", "b", "b"] * 20)
    command = ["train", "--features", str(store), "--folds", "2", "--out", str(tmp_path)]
    shares = {}
    for study, weight in (("few", 0.01), ("many", 100)):
        weights = json.dumps({"a": weight})
        assert main([*command, "--study", study, "--set", f"class_weight={weights}"]) == 0
        metrics = json.loads((tmp_path / study / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["winner"]["parameters"]["class_weight"] == {"a": weight}
        shares[study] = metrics["per_class"]["a"]["recall"]
    assert shares == {"few": 0.0, "many": 1.0}


def test_class_codes_are_positions() -> None:
    """Names become positions in the list of classes; a configuration without names stays itself."""
    named = Configuration("mlp", "none", {"class_boost": {"c": 2.0, "a": 3.0}, "class_weight": "balanced"})
    coded = with_class_codes(named, ["a", "b", "c"])
    assert coded.parameters == {"class_boost": {2: 2.0, 0: 3.0}, "class_weight": "balanced"}
    plain = Configuration("mlp", "none", {"class_weight": "balanced"})
    assert with_class_codes(plain, ["a"]) is plain
    with pytest.raises(UsageError, match=r"class_boost names class 'c'.*class_boost names class 'a'"):
        with_class_codes(named, ["x", "y"])


@pytest.mark.parametrize("name", PRESETS)
def test_backbones_of_presets_exist(name: str) -> None:
    """What a report embedded with can be extracted with here, under the name that the preset says."""
    known = list(backbone_names())
    for backbone in find_preset(name).backbones.values():
        assert backbone.name == TERMS_BACKBONE or any(other.startswith(backbone.name) for other in known)
