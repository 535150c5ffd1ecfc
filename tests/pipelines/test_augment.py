"""Targeted augmentation: what is chosen never looks at the rows that are scored, and real gains show."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cache import FeatureStore
from pipelines import row_views, targeting
from pipelines.ablation import fitting
from pipelines.ablation.fitted_rows import RowMemory
from pipelines.ablation.fitting import FitData
from pipelines.augment import AugmentSettings, augment
from pipelines.bad_cases.facts import RowFacts
from pipelines.cli import main
from pipelines.errors import RunError
from pipelines.matrices import read_matrix
from pipelines.prediction_rows import EmbeddingOptions
from pipelines.row_views import embed_views, open_backbones
from pipelines.runs import RunFolder, read_json
from pipelines.targeting import choose_targets, fit_variants, viewed_rows
from tests.pipelines.ablation_stores import CLASSES, labels_of, make_store, noisy
from tests.pipelines.conftest import World
from tests.pipelines.planted_errors import SLICE
from tuning import default_configuration, make_folds

N, WIDTH, N_VIEWS = 450, 80, 4


def _vectors(codes: np.ndarray, hard: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors and views: hard rows carry their class elsewhere, under strong noise that views redraw.

    So the hard rows are few examples of a pattern of their own, and views of them are what teaches it.
    """
    rng = np.random.default_rng(seed)
    signal = np.zeros((len(codes), WIDTH))
    signal[np.arange(len(codes)), np.where(hard, 3 + codes, codes)] = 3.0
    spread = np.where(hard, 1.5, 1.0)[:, None]
    drawn = signal + spread * rng.normal(size=(1 + N_VIEWS, len(codes), WIDTH))
    return drawn[0].astype(np.float32), drawn[1:].astype(np.float32)


def _planted(folder: Path, seed: int, *, permute: bool = False) -> Path:
    """Write a store with views and texts, in which a sixth of the rows is hard and has a URL."""
    codes = labels_of(N, seed=seed)
    rng = np.random.default_rng(seed + 50)
    hard, lengths = rng.random(N) < 1 / 6, rng.integers(1, 80, N)
    x, views = _vectors(codes, hard, seed)
    labels = np.random.default_rng(seed).permutation(codes) if permute else codes
    texts = tuple(f"{'x' * lengths[i]} {i}" + (" http://a.b" if hard[i] else "") for i in range(N))
    return make_store(folder / f"s{seed}.h5", "toy", {"text": x}, labels, texts=texts, views={"text": views})


def _augment(store: Path, folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    run = folder / "runs" / "run"
    train = ["train", "--head", "logreg", "--features", str(store), "--use-views", "none"]
    assert main([*train, "--out", str(folder / "runs"), "--study", "run", "--folds", "3"]) == 0
    capsys.readouterr()
    asked = ["augment", "--run", str(run), "--out", str(folder / "runs"), "--slices", "1", "--folds", "3"]
    assert main([*asked, "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_augment_finds_a_gain_where_views_of_the_slice_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hard slice is chosen, and its views help more than none and than as many random ones."""
    found = _augment(_planted(tmp_path, 4), tmp_path, capsys)
    assert found["slices"] == {SLICE: 3}
    assert found["n_views"] == N_VIEWS
    inside = {line["against"]: line for line in found["comparisons"] if line["rows"] != "all"}
    assert inside["none"]["difference"] > 0.1
    assert inside["none"]["p_holm"] < 0.05
    assert inside["random"]["difference"] > 0.05
    variants = {line["variant"]: line for line in found["variants"]}
    assert list(variants) == ["none", "random 1", "random 2", "random 3", "targeted"]
    assert variants["none"]["rows_with_views"] == 0
    assert variants["random 1"]["rows_with_views"] == variants["targeted"]["rows_with_views"] > 0
    assert (Path(found["run"]) / "config.json").is_file()
    lines = {name: _table(Path(found["run"]) / f"{name}.csv") for name in ("augmentation", "comparisons")}
    assert [int(line["rows with views"]) for line in lines["augmentation"]] == [
        variants[name]["rows_with_views"] for name in ("none", "random 1", "targeted")
    ]
    for column, key in (("p", "p_value"), ("p (Holm)", "p_holm")):
        values = [line[key] for line in found["comparisons"]]
        assert [float(line[column]) for line in lines["comparisons"]] == pytest.approx(values, rel=1e-11)
    for i, end in enumerate(("95 % low", "95 % high")):
        values = [line["ci95"][i] for line in found["comparisons"]]
        assert [float(line[end]) for line in lines["comparisons"]] == pytest.approx(values, rel=1e-11)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.nightly
def test_augment_gains_inside_the_slice_on_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over five draws, against none and against as many random views."""
    gains: dict[str, list[float]] = {"none": [], "random": []}
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = _augment(_planted(folder, seed), folder, capsys)
        assert found["slices"] == {SLICE: 3}
        for line in found["comparisons"]:
            if line["rows"] != "all":
                gains[line["against"]].append(line["difference"])
    assert np.mean(gains["none"]) > 0.1
    assert np.mean(gains["random"]) > 0.08


def test_augment_on_permuted_labels_gains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every variant stays at chance when there is nothing to learn."""
    found = _augment(_planted(tmp_path, 1, permute=True), tmp_path, capsys)
    for line in found["variants"]:
        assert abs(line["cv"]["balanced_accuracy"]["mean"] - 1 / len(CLASSES)) < 0.09, line["variant"]
    assert all(line["verdict"] == "inside the noise" for line in found["comparisons"])


def test_augment_again_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command finds its finished run, and prints the same."""
    first = _augment(_planted(tmp_path, 2), tmp_path, capsys, "--draws", "1")
    asked = ["augment", "--run", str(tmp_path / "runs" / "run"), "--out", str(tmp_path / "runs")]
    assert main([*asked, "--slices", "1", "--folds", "3", "--draws", "1"]) == 0
    shown = capsys.readouterr()
    assert "Nothing to do" in shown.err
    assert SLICE in shown.out
    assert shown.out.strip().splitlines()[-1] == first["run"]


def test_settings_keep_the_name_that_they_have_always_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished measurement is found again by a later version: the same words are recorded alike."""
    found = _augment(_planted(tmp_path, 2), tmp_path, capsys, "--draws", "1")
    config = {**read_json(Path(found["run"]) / "config.json"), "spaces": []}  # hashes of stores are not meant
    assert RunFolder(tmp_path, None, config).identity == {
        "class_names": ["positive", "neutral", "negative"],
        "command": "augment",
        "draws": 1,
        "folds": 3,
        "heads": ["logreg"],
        "metric": "macro-f1",
        "parameters": {
            "C": 0.01,
            "class_boost": None,
            "class_weight": "balanced",
            "effective_beta": 0.999,
            "l1_ratio": 0.0,
            "max_iter": 300,
            "tol": 0.0001,
        },
        "raw_texts": False,
        "resampler": "none",
        "seed": 0,
        "slices": 1,
        "spaces": [],
        "views": None,
    }
    assert RunFolder(tmp_path, None, config).path.name == "augment-3a48c97c47"


def test_interrupted_augment_goes_on_without_fitting_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that were whole before Ctrl-C are not fitted again; the result is that of a call in one go."""
    store = _planted(tmp_path, 2)
    train = ["train", "--head", "ridge", "--features", str(store), "--use-views", "none", "--folds", "3"]
    assert main([*train, "--out", str(tmp_path / "runs"), "--study", "run"]) == 0
    calls, plain = [0], targeting.fit_and_predict

    def settings(out: str) -> AugmentSettings:
        return AugmentSettings(tmp_path / "runs" / "run", folds=3, draws=1, out=tmp_path / out)

    def counted(*arguments: object, **options: object) -> object:
        calls[0] += 1
        if calls[0] == stop_at:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr(targeting, "fit_and_predict", counted)
    monkeypatch.setattr(fitting, "n_threads", lambda: 1)  # so that the fits before the stop are known
    stop_at = 3 * 3 + 3 + 2  # of the second variant
    with pytest.raises(KeyboardInterrupt):
        augment(settings("stopped"))
    (work,) = (tmp_path / "stopped").glob("*.work")
    kept = sorted((work / "trials").glob("*.row"))
    assert len(kept) == 3 + 1
    kept[0].write_bytes(kept[0].read_bytes()[:-9])  # cut short: fitted again, not believed
    calls[0], stop_at = 0, -1
    resumed = augment(settings("stopped")).metrics
    assert calls[0] == 3 + 2 * 3
    calls[0] = 0
    whole = augment(settings("whole")).metrics
    assert calls[0] == 3 * 3 + 3 * 3
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    folders = [next((tmp_path / out).iterdir()) for out in ("stopped", "whole")]
    assert folders[0].name == folders[1].name
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    changing = f'"seconds": {resumed["seconds"]}'.encode(), f'"seconds": {whole["seconds"]}'.encode()
    assert files[0].pop("metrics.json").replace(changing[0], changing[1]) == files[1].pop("metrics.json")
    assert len(files[0]) == 1 + 2 * 3  # settings, and two tables as .csv, .md and .tex
    assert files[0] == files[1]


def test_augment_with_changed_raw_texts_is_another_run(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command on edited texts answers anew; a data set is told apart by what its texts say."""
    data = tmp_path / "set"
    data.mkdir()
    for name in ("train.txt", "test_without_label.txt", "data"):
        source = in_world.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, data / name)
    words = ["augment", "--run", str(in_world.run), "--out", str(tmp_path / "runs"), "--data", str(data)]
    words += ["--draws", "1", "--folds", "2", "--views", "1", "--weights", f"tiny-clip={in_world.clip}"]
    for expected in ("done in", "Nothing to do"):
        assert main(words) == 0
        assert expected in capsys.readouterr().err
    (data / "data" / f"{in_world.ids[0]}.txt").write_text("go http://a.b", encoding="utf-8")
    assert main(words) == 0
    assert "Nothing to do" not in capsys.readouterr().err
    assert len(list((tmp_path / "runs").iterdir())) == 2


# --- what is chosen ----------------------------------------------------------------------------------


def _inputs(seed: int = 0) -> tuple[FitData, RowFacts]:
    codes = labels_of(N, seed=seed)
    hard = np.random.default_rng(seed + 50).random(N) < 1 / 6
    x, views = _vectors(codes, hard, seed)
    texts = ["w" * (1 + i % 37) + (" http://a.b" if hard[i] else "") for i in range(N)]
    return FitData(x, codes, {"text": WIDTH}, CLASSES, views), RowFacts(texts)


def _targets(data: FitData, facts: RowFacts, folds: list, folder: Path) -> list:
    configuration = default_configuration("ridge")
    clean = FitData(data.X, data.y, data.blocks, data.class_names)
    options = {"n_slices": 2, "seed": 0, "memory": _memory(folder)}
    return choose_targets(configuration, clean, facts, np.arange(N), folds, **options)


def _memory(folder: Path) -> RowMemory:
    """Return a memory that knows nothing."""
    return RowMemory(Path(tempfile.mkdtemp(dir=folder)))


def test_targets_do_not_depend_on_the_rows_that_are_scored(tmp_path: Path) -> None:
    """Other vectors, labels and texts of the held-out rows change no choice of their fold."""
    data, facts = _inputs()
    folds = make_folds(data.y, n_folds=3, random_state=0)
    before = _targets(data, facts, folds, tmp_path)
    held_out = folds[0][1]
    rng = np.random.default_rng(9)
    X, y, texts = data.X.copy(), data.y.copy(), list(facts.texts or ())
    X[held_out] = 50 * rng.normal(size=(len(held_out), WIDTH))
    y[held_out] = rng.permutation(y[held_out])
    for row in held_out:
        texts[row] = "z" * int(rng.integers(1, 4000))
    after = _targets(FitData(X, y, data.blocks, CLASSES), RowFacts(texts), folds, tmp_path)
    assert after[0].slices == before[0].slices
    np.testing.assert_array_equal(after[0].rows, before[0].rows)
    assert not np.intersect1d(before[0].rows, held_out).size


def test_variants_score_no_row_that_their_model_saw(tmp_path: Path) -> None:
    """NaN in held-out views, and any label of held-out rows, leave every prediction of the fold as it was."""
    data, facts = _inputs()
    folds = make_folds(data.y, n_folds=3, random_state=0)
    targets = _targets(data, facts, folds, tmp_path)
    viewed = viewed_rows(targets, draws=1, seed=0)
    configuration = default_configuration("ridge")
    before = fit_variants(configuration, data, targets, viewed, seed=0, memory=_memory(tmp_path))
    held_out = folds[0][1]
    views, y = np.array(data.views), data.y.copy()
    views[:, held_out] = np.nan
    y[held_out] = (y[held_out] + 1) % 3
    changed = FitData(data.X, y, data.blocks, CLASSES, views)
    for name, rows in viewed.items():
        only_first = {name: rows[:1]}
        memory = _memory(tmp_path)
        after = fit_variants(configuration, changed, targets[:1], only_first, seed=0, memory=memory)
        np.testing.assert_array_equal(after[name][held_out], before[name][held_out])


def test_random_controls_bring_as_many_views_from_the_same_rows(tmp_path: Path) -> None:
    """Each draw is another one, of training rows only, and repeats with its seed."""
    data, facts = _inputs()
    targets = _targets(data, facts, make_folds(data.y, n_folds=3, random_state=0), tmp_path)
    viewed = viewed_rows(targets, draws=2, seed=4)
    for fold, target in enumerate(targets):
        one, two = viewed["random 1"][fold], viewed["random 2"][fold]
        assert len(np.unique(one)) == len(np.unique(two)) == len(target.rows)
        assert np.isin(one, target.train).all()
        assert not np.array_equal(one, two)
    again = viewed_rows(targets, draws=2, seed=4)
    np.testing.assert_array_equal(again["random 2"][1], viewed["random 2"][1])


def test_targets_without_facts_are_refused(tmp_path: Path) -> None:
    """Stores without texts and pictures leave nothing to sort rows by."""
    data, _ = _inputs()
    with pytest.raises(RunError, match="No slice can be told from the inputs"):
        _targets(data, RowFacts(), make_folds(data.y, n_folds=3, random_state=0), tmp_path)


# --- embedding ---------------------------------------------------------------------------------------


def test_embedded_views_are_the_views_that_a_pass_stores(
    in_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal to those of ``extract --views``; other rows stay clean; what an interrupted call made is kept."""
    out = tmp_path / "views"
    assert main(["extract", "--backbone", str(in_world.clip), "--views", "2", "--out", str(out)]) == 0
    config = read_json(in_world.run / "config.json")
    store = next(out.glob("*.h5"))
    specs = [f"{store}:{space['space']}" for space in config["spaces"]]
    stored = read_matrix(specs, duplicates="none").views
    matrix = read_matrix([f"{s['path']}:{s['space']}" for s in config["spaces"]], duplicates="none")
    rows = matrix.training[::9]
    name = config["spaces"][0]["backbone"]
    how = EmbeddingOptions(device="cpu", weights={name: in_world.clip})
    backbones = open_backbones(config["spaces"], how)

    def embedded() -> np.ndarray:
        kind = {"n_views": 2, "augment": "light", "run": in_world.run, "data": None}
        kind |= {"backbones": backbones, "device": "cpu"}
        return embed_views(matrix, rows, config["spaces"], **kind, work=tmp_path)

    found = embedded()
    assert stored is not None
    assert found.shape == stored.shape
    np.testing.assert_allclose(found[:, rows], stored[:, rows], atol=1e-5)
    others = np.setdiff1d(np.arange(len(matrix.ids)), rows)
    np.testing.assert_array_equal(found[:, others], np.repeat(matrix.X[None, others], 2, axis=0))

    kept = sorted(tmp_path.glob("*.npz"))
    assert len(kept) == 2
    kept[0].write_bytes(b"cut short")  # that tower is embedded again, the other recalled
    opened: list[str] = []
    open_edited = row_views.open_edited
    monkeypatch.setattr(
        row_views,
        "open_edited",
        lambda tower, *a, **k: opened.append(tower.modality) or open_edited(tower, *a, **k),
    )
    np.testing.assert_array_equal(embedded(), found)
    assert len(opened) == 1


def test_augment_command_embeds_views_that_the_stores_lack(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a run without views, with the weights named again; without them the folder is asked for."""
    opened: list[str] = []
    open_again = row_views.open_again
    monkeypatch.setattr(
        row_views, "open_again", lambda name, how: opened.append(name) or open_again(name, how)
    )
    with FeatureStore.open(next((in_world.root / "features").glob("*.h5"))) as store:
        name = store.meta["identity"]["backbone"]
    asked = ["augment", "--run", str(in_world.run), "--out", str(tmp_path), "--draws", "1", "--folds", "2"]
    assert main(asked) == 2
    assert f"--weights {name}=DIR" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []  # said before anything is begun
    opened.clear()
    assert main([*asked, "--weights", f"{name}={in_world.clip}", "--views", "1", "--json"]) == 0
    assert opened == [name]  # two towers, one backbone, whose weights are looked for and hashed once
    found = json.loads(capsys.readouterr().out)
    assert found["n_views"] == 1
    assert [line["variant"] for line in found["variants"]] == ["none", "random 1", "targeted"]


def test_augment_command_refuses_what_cannot_be(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is no run, a run without a winner, and settings out of range are one line each."""
    assert main(["augment", "--run", str(tmp_path / "none")]) == 1
    assert "not a finished run folder" in capsys.readouterr().err
    assert main(["augment", "--run", str(in_world.run), "--folds", "1", "--metric", "beauty"]) == 2
    shown = capsys.readouterr().err
    assert "folds 1 must be at least 2" in shown
    assert "beauty" in shown
    codes = labels_of(60)
    imported = make_store(tmp_path / "i.h5", "i", {"text": noisy(codes, 1.0)}, codes)
    train = ["train", "--features", str(imported), "--folds", "2", "--out", str(tmp_path / "r")]
    assert main([*train, "--study", "imported"]) == 0
    out = tmp_path / "never"
    assert (
        main(["augment", "--run", str(tmp_path / "r" / "imported"), "--out", str(out), "--folds", "2"]) == 2
    )
    assert "were imported or counted" in capsys.readouterr().err
    assert not out.exists()
    copy = tmp_path / "copy"
    shutil.copytree(in_world.run, copy)
    (copy / "metrics.json").write_text("{}", encoding="utf-8")
    assert main(["augment", "--run", str(copy)]) == 1
    assert "has no winner" in capsys.readouterr().err
