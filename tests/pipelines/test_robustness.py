"""``robustness``: honest scores of a run under faults of its inputs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from extract import EditedInputs
from pipelines.cli import main
from pipelines.console import Progress
from pipelines.faulty_vectors import Variant
from pipelines.matrices import Matrix, read_matrix
from pipelines.recorded_winner import winner_of_run
from pipelines.robustness import RobustnessSettings, robustness
from pipelines.robustness_scores import out_of_fold, sample_rows, score_variants
from pipelines.runs import read_json
from pipelines.trainable import matrix_folds
from pipelines.work_lock import work_lock
from tests.kit.data_sets import write_guid_data_set, write_list
from tests.kit.tiny_checkpoints import make_tiny_clip
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World
from tuning import Configuration, evaluate

FAULTS = "noise,blur,jpeg,downscale,typos,dropped-words,missing-text,missing-image"


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A data set a third of whose labels were shuffled, so that scores lie in the middle, and a run on it."""
    root = tmp_path_factory.mktemp("doubtful")
    ids = write_guid_data_set(root, 90, 0)
    labels = np.array([line.split(",")[1] for line in (root / "train.txt").read_text("utf-8").split()[1:]])
    some = np.random.default_rng(1).permutation(90)[:30]
    labels[some] = labels[np.roll(some, 1)]
    write_list(root / "train.txt", list(zip(ids, labels.tolist(), strict=True)))
    clip = make_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")
    before = Path.cwd()
    os.chdir(root)
    try:
        assert main(["extract", "--backbone", str(clip)]) == 0
        assert main(["train", "--head", "logreg", "--folds", "3", "--study", "r"]) == 0
    finally:
        os.chdir(before)
    return World(root, clip, clip, tuple(ids))


@pytest.fixture
def in_world(doubtful: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The data set, as the current folder."""
    monkeypatch.chdir(doubtful.root)
    return doubtful


@pytest.fixture
def trained(in_world: World, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(in_world.root / "runs" / "r", tmp_path / "r"))


def _robustness(run: Path, world: World, *words: object) -> int:
    weights = ["--weights", f"tiny-clip={world.clip}"]
    return main(["robustness", "--run", str(run), *weights, *map(str, words)])


def test_scores_are_those_of_models_that_never_saw_the_rows(trained: Path, in_world: World) -> None:
    """The unharmed score is that of the run's own out-of-fold rows, by scikit-learn; files and keys agree."""
    assert _robustness(trained, in_world, "--rows", 30, "--severities", "1,5") == 0
    found = json.loads((trained / "robustness.json").read_text(encoding="utf-8"))
    with (trained / "oof.csv").open(encoding="utf-8", newline="") as file:
        oof = list(csv.DictReader(file))
    classes = ["negative", "neutral", "positive"]
    y = np.array([classes.index(row["label"]) for row in oof])
    predicted = np.array([np.argmax([float(row[f"p_{name}"]) for name in classes]) for row in oof])
    picked = sample_rows(y, 30, 0)
    assert found["rows"] == 30
    assert found["clean"]["score"] < 0.95
    assert found["metric"] == "macro_f1"
    assert found["clean"]["score"] == pytest.approx(
        f1_score(y[picked], predicted[picked], average="macro", labels=[0, 1, 2], zero_division=0)
    )
    assert found["clean"]["low"] <= found["clean"]["score"] <= found["clean"]["high"]
    names = [(fault["name"], fault["severity"]) for fault in found["faults"]]
    image_and_text = [name for name in FAULTS.split(",") if not name.startswith("missing")]
    assert names == [
        *((name, severity) for name in image_and_text for severity in (1, 5)),
        ("missing-text", 1),
        ("missing-image", 1),
    ]
    for fault in found["faults"]:
        assert fault["score"] - found["clean"]["score"] == pytest.approx(fault["difference"])
        assert fault["diff_low"] <= fault["difference"] <= fault["diff_high"]
    with (trained / "robustness.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["score"]) for line in lines] == pytest.approx(
        [found["clean"]["score"], *(fault["score"] for fault in found["faults"])], abs=1e-6
    )
    assert (trained / "robustness.svg").read_text(encoding="utf-8").count("dropped-words 5") == 1
    assert not (trained / "robustness.work").exists()


def test_fits_tell_how_far_they_are(
    trained: Path, in_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where fits take long, a line says how many of the folds are done."""
    monkeypatch.setattr(Progress, "_quiet_seconds", 0.0)
    monkeypatch.setattr(Progress, "_log_every", 0.0)
    capsys.readouterr()
    assert _robustness(trained, in_world, "--rows", 9, "--faults", "missing-image") == 0
    told = capsys.readouterr().err
    assert "fitting the winner in 3 folds" in told
    for line in ("fitting: 0/3 folds (0 %)", "fitting: 1/3 folds (33 %)", "fitting: 2/3 folds (67 %)"):
        assert line in told


def test_lower_scores_are_found_where_a_fault_hides_what_tells_the_classes(
    trained: Path, in_world: World
) -> None:
    """Every word hints at its class: most words dropped cost a run on texts something, a few less."""
    words = ["--head", "logreg", "--folds", "3", "--out", str(trained.parent), "--study", "text"]
    assert main(["train", "--features", "features/tiny-clip.h5:text.pooled", *words]) == 0
    options = ["--rows", 90, "--faults", "dropped-words", "--severities", "1,5"]
    assert _robustness(trained.parent / "text", in_world, *options) == 0
    found = json.loads((trained.parent / "text" / "robustness.json").read_text(encoding="utf-8"))
    light, heavy = (fault["score"] for fault in found["faults"])
    assert heavy < found["clean"]["score"] - 0.05
    assert heavy < light
    assert found["faults"][1]["diff_high"] < 0.05


def test_same_question_has_nothing_to_do_and_json_prints_the_file(
    trained: Path, in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command again says so and prints the same; another question is computed."""
    words = ["--rows", 20, "--faults", "typos", "--severities", 3]
    assert _robustness(trained, in_world, *words) == 0
    table = capsys.readouterr().out
    assert _robustness(trained, in_world, *words) == 0
    again = capsys.readouterr()
    assert "Nothing to do" in again.err
    assert again.out == table
    assert _robustness(trained, in_world, *words, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "run": str(trained),
        **json.loads((trained / "robustness.json").read_text(encoding="utf-8")),
    }
    assert _robustness(trained, in_world, "--rows", 25, *words[2:]) == 0
    assert "Nothing to do" not in capsys.readouterr().err
    for damaged in (
        "{",
        json.dumps({"asked": json.loads((trained / "robustness.json").read_bytes())["asked"]}),
    ):
        (trained / "robustness.json").write_text(damaged, encoding="utf-8")
        assert _robustness(trained, in_world, "--rows", 25, *words[2:]) == 0  # measured again
        assert "Nothing to do" not in capsys.readouterr().err


def test_interrupted_call_goes_on_and_ends_in_the_same(
    trained: Path, in_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was embedded before Ctrl-C is not embedded again; the result is that of a call in one go."""
    words = ["--rows", 20, "--faults", "noise,typos", "--severities", "1,2,3"]
    calls: list[int] = []
    plain = EditedInputs.embed
    stop_at = 4  # the guard and two severities of the first tower

    def embed(self, edits, **options):
        calls.append(len(edits))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return plain(self, edits, **options)

    monkeypatch.setattr(EditedInputs, "embed", embed)
    settings = RobustnessSettings(
        trained,
        rows=20,
        faults=("noise", "typos"),
        severities=(1, 2, 3),
        weights={"tiny-clip": in_world.clip},
    )
    with pytest.raises(KeyboardInterrupt):  # not through main, which would end this process
        robustness(settings)
    assert not (trained / "robustness.json").exists()
    kept = list((trained / "robustness.work").glob("*.npz"))
    assert len(kept) == 2
    damaged = kept[0]
    damaged.write_bytes(damaged.read_bytes()[:100])  # cut short: made again, not believed
    calls.clear()
    stop_at = -1
    assert _robustness(trained, in_world, *words) == 0
    assert len(calls) == 2 + 6 - 1
    resumed = json.loads((trained / "robustness.json").read_text(encoding="utf-8"))
    (trained / "robustness.json").unlink()
    assert _robustness(trained, in_world, *words) == 0
    whole = json.loads((trained / "robustness.json").read_text(encoding="utf-8"))
    assert resumed["faults"] == whole["faults"]


def test_variants_of_a_row_are_scored_without_the_row(tmp_path: Path) -> None:
    """On labels that mean nothing, a head that remembers every row scores chance on exact copies of them."""
    generator = np.random.default_rng(0)
    n = 300
    matrix = Matrix(
        X=generator.normal(size=(n, 8)).astype(np.float32),
        blocks={"text.pooled": 8},
        ids=tuple(map(str, range(n))),
        labels=generator.integers(0, 3, n).astype(np.int32),
        class_names=("a", "b", "c"),
        splits=np.zeros(n, dtype=np.uint8),
        groups=np.arange(n, dtype=np.int32),
        texts=None,
        images=None,
        spaces=(),
    )
    config = {"folds": 5, "seed": 0, "metric": "accuracy"}
    folds = matrix_folds(matrix, 5, 0)
    picked = sample_rows(matrix.labels, 150, 1)
    copies = np.repeat(matrix.X[picked][None], 2, axis=0)
    memory = Configuration("knn", "none", {"n_neighbors": 1, "smoothing": 0.0})
    found = out_of_fold(memory, config, matrix, folds, picked, copies)
    assert found.shape == (3, 150, 3)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
    right = (found[0].argmax(axis=1) == matrix.labels[picked]).mean()
    assert 0.2 < right < 0.47  # 1 if a row's own copy were among the neighbours


def test_scores_follow_the_folds_that_the_run_recorded(trained: Path, in_world: World) -> None:
    """With other folds in ``oof.csv`` than would be cut now, the models are those of the recorded ones."""
    with (trained / "oof.csv").open(encoding="utf-8", newline="") as file:
        header, *lines = list(csv.reader(file))
    names = np.array([line[2] for line in lines])
    folds = np.zeros(len(lines), dtype=int)  # a first fold whose model learns from four rows of a class
    for name in np.unique(names):
        folds[np.flatnonzero(names == name)[:4]] = [1, 1, 2, 2]
    with (trained / "oof.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [[line[0], str(fold), *line[2:]] for line, fold in zip(lines, folds, strict=True)]
        csv.writer(file).writerows([header, *rows])
    words = ["--rows", 90, "--faults", "missing-text"]
    assert _robustness(trained, in_world, *words) == 0
    found = json.loads((trained / "robustness.json").read_text(encoding="utf-8"))
    configuration, config = winner_of_run(trained)
    matrix = read_matrix([f"{space['path']}:{space['space']}" for space in config["spaces"]])
    cut = [(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(3)]
    places = [matrix.ids.index(line[0]) for line in lines]
    fitted = evaluate(
        configuration,
        matrix.X[places],
        matrix.labels[places],
        cut,
        blocks=matrix.blocks,
        n_classes=3,
        metric="macro-f1",
        random_state=0,
    )
    expected = f1_score(matrix.labels[places], fitted.oof.argmax(axis=1), average="macro")
    assert found["clean"]["score"] == pytest.approx(expected)
    before = read_json(trained / "metrics.json")["cv"]["macro_f1"]["mean"]
    assert abs(found["clean"]["score"] - before) > 0.02  # of the folds that would be cut now


def test_related_rows_are_drawn_together() -> None:
    """Ten copies of each row are no more evidence than one: the intervals are those of few rows."""
    generator = np.random.default_rng(2)
    y = np.repeat(generator.integers(0, 2, 40), 10).astype(np.int32)
    once = generator.normal(size=(40, 4)) + np.eye(4)[y[::10]]
    alone = Matrix(
        X=np.repeat(once, 10, axis=0).astype(np.float32),
        blocks={"text.pooled": 4},
        ids=tuple(map(str, range(400))),
        labels=y,
        class_names=("a", "b"),
        splits=np.zeros(400, dtype=np.uint8),
        groups=np.arange(400, dtype=np.int32),
        texts=None,
        images=None,
        spaces=(),
    )
    related = replace(alone, groups=np.repeat(np.arange(40, dtype=np.int32), 10))
    folds = matrix_folds(related, 4, 0)
    vectors = np.roll(alone.X, 1, axis=1)[None]
    config = {"seed": 0, "metric": "accuracy"}
    typos, logreg = [Variant("typos", 1)], Configuration("logreg", "none", {"C": 1.0})
    wide, narrow = (
        score_variants(logreg, config, matrix, folds, np.arange(400), vectors, typos, 0)
        for matrix in (related, alone)
    )
    assert wide["clean"]["score"] == narrow["clean"]["score"]
    for kind, low, high in (("clean", "low", "high"), ("faults", "diff_low", "diff_high")):
        one, other = (found[kind] if kind == "clean" else found[kind][0] for found in (wide, narrow))
        assert one[high] - one[low] > 2 * (other[high] - other[low])


def test_one_process_measures_a_run_at_a_time(
    trained: Path, in_world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another holds the work folder the command says so; a lock file that is a link is not opened."""
    words = ["--rows", 9, "--faults", "missing-text"]
    with work_lock(trained / "robustness.work") as is_free:
        assert is_free
        assert _robustness(trained, in_world, *words) == 1
    assert "is being measured by another process right now" in capsys.readouterr().err
    assert not (trained / "robustness.json").exists()
    (trained / "robustness.work" / "LOCK").unlink()
    target = trained / "keep"
    target.write_text("mine", encoding="utf-8")
    (trained / "robustness.work" / "LOCK").symlink_to(target)
    assert _robustness(trained, in_world, *words) == 1
    assert target.read_text(encoding="utf-8") == "mine"
    (trained / "robustness.work" / "LOCK").unlink()
    elsewhere = trained / "elsewhere"
    (trained / "robustness.work").rename(elsewhere)
    (elsewhere / "config.json").write_text("mine", encoding="utf-8")
    (trained / "robustness.work").symlink_to(elsewhere)
    capsys.readouterr()
    assert _robustness(trained, in_world, *words) == 1
    assert "nothing is written through links" in capsys.readouterr().err
    assert (elsewhere / "config.json").read_text(encoding="utf-8") == "mine"
    (trained / "robustness.work").unlink()
    assert _robustness(trained, in_world, *words) == 0
    answers = iter([None, read_json(trained / "robustness.json")])  # another process is done in between
    monkeypatch.setattr("pipelines.robustness._measured_before", lambda *_: next(answers))
    capsys.readouterr()
    assert _robustness(trained, in_world, *words) == 0
    assert "Nothing to do" in capsys.readouterr().err
    assert not (trained / "robustness.work").exists()


def test_stopped_writing_leaves_no_answer_of_another_question(
    trained: Path, in_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New tables never stand beside the JSON of an earlier question."""
    words = ["--rows", 9, "--faults", "missing-text"]
    assert _robustness(trained, in_world, *words) == 0

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.robustness.write_figure", full)
        assert _robustness(trained, in_world, *words, "--seed", 1) == 1
    assert not (trained / "robustness.json").exists()
    assert _robustness(trained, in_world, *words, "--seed", 1) == 0


def test_permuted_labels_score_chance_under_every_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that were shuffled cannot be told, with or without faults."""
    ids = write_guid_data_set(tmp_path / "set", 60, 0)
    monkeypatch.chdir(tmp_path / "set")
    labels = [line.split(",")[1] for line in Path("train.txt").read_text(encoding="utf-8").split()[1:]]
    np.random.default_rng(3).shuffle(labels)
    write_list(Path("train.txt"), list(zip(ids, labels, strict=True)))
    clip = make_tiny_clip(tmp_path / "tiny-clip")
    assert main(["extract", "--backbone", str(clip)]) == 0
    assert main(["train", "--head", "logreg", "--study", "r"]) == 0
    faults = ["--faults", "jpeg,typos,missing-text,missing-image"]
    words = ["--rows", "60", "--severities", "2", "--weights", f"tiny-clip={clip}", *faults]
    assert main(["robustness", "--run", "runs/r", *words]) == 0
    found = json.loads(Path("runs/r/robustness.json").read_text(encoding="utf-8"))
    for each in [found["clean"], *found["faults"]]:
        assert each["score"] < 0.5  # 0.33 on average; a leak scores 1


def test_other_weights_and_changed_pictures_are_refused(
    trained: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors that the store does not hold, and files that it was not made from, end the command."""
    import torch
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(in_world.clip, other)
    weights = load_file(other / "model.safetensors")
    save_file({k: v + 0.3 * torch.ones_like(v) for k, v in weights.items()}, other / "model.safetensors")
    assert main(["robustness", "--run", str(trained), "--rows", "9", "--weights", f"tiny-clip={other}"]) == 1
    assert "does not make 'text.pooled' of row" in capsys.readouterr().err
    shutil.copytree(in_world.root / "data", tmp_path / "set" / "data")
    pictures = sorted((tmp_path / "set" / "data").glob("*.jpg"))
    for picture in pictures[1:]:
        picture.write_bytes(pictures[0].read_bytes())
    pictures[0].unlink()
    assert _robustness(trained, in_world, "--rows", 90, "--data", tmp_path / "set") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "90 picture(s) of" in message
    assert "'data/100.jpg' is missing, 'data/101.jpg' has changed since it was embedded, " in message
    assert message.endswith("Put them back, or extract and tune again.")
    assert _robustness(trained, in_world, "--rows", 9, "--data", tmp_path) == 1
    assert f"were not found in '{tmp_path}'" in capsys.readouterr().err


def test_wrong_words_and_paths_are_named(
    trained: Path, in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All wrong words of one call together with exit 2; a wrong folder with exit 1."""
    assert _robustness(trained, in_world, "--faults", "fog,noise", "--severities", "0,9", "--rows", 1) == 2
    message = capsys.readouterr().err
    for part in ("'fog' are not known", "severities 0, 9 are not of 1 to 5", "rows 1 must be at least 2"):
        assert part in message
    assert _robustness(trained, in_world, "--seed", -1) == 2
    assert "seed -1 must not be negative" in capsys.readouterr().err
    assert _robustness(tmp_path / "nowhere", in_world) == 1
    assert "is not a finished run folder" in capsys.readouterr().err
    assert _robustness(trained, in_world, "--data", tmp_path / "nowhere") == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["robustness", "--run", str(trained)]) == 2
    assert "came from a folder of weights" in capsys.readouterr().err


def test_runs_on_texts_alone_and_on_imported_stores(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text-only run offers text faults only; imported vectors cannot be made again and say so."""
    store = "features/tiny-clip.h5:text.pooled"
    words = ["--head", "logreg", "--folds", "3", "--out", str(tmp_path)]
    assert main(["train", "--features", store, "--study", "text", *words]) == 0
    assert _robustness(tmp_path / "text", in_world, "--rows", 20, "--faults", "missing-text,blur") == 2
    assert "Choose from typos, dropped-words." in capsys.readouterr().err
    assert _robustness(tmp_path / "text", in_world, "--rows", 20, "--severities", 3) == 0
    found = json.loads((tmp_path / "text" / "robustness.json").read_text(encoding="utf-8"))
    assert [fault["name"] for fault in found["faults"]] == ["typos", "dropped-words"]
    codes = labels_of(60)
    made = make_store(tmp_path / "i.h5", "i", {"text": noisy(codes, 1.0, seed=1)}, codes)
    assert main(["train", "--features", str(made), "--study", "imported", *words]) == 0
    assert main(["robustness", "--run", str(tmp_path / "imported"), "--rows", "20"]) == 2
    assert "were imported or counted" in capsys.readouterr().err


def test_variant_names_its_level() -> None:
    """A severity means the published level; a missing modality has none."""
    assert Variant("noise", 3).level == 0.18
    assert Variant("missing-text", 1).level is None
    assert Variant("typos", 2).changes("joint")
    assert Variant("missing-image", 1).removes("joint")
    assert not Variant("blur", 2).changes("text")
