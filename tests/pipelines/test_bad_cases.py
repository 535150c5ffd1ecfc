"""Bad cases of a run: planted faults are found, files and tables say what was found, wrong input is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from pipelines.bad_cases import find_bad_cases
from pipelines.bad_cases.facts import RowFacts
from pipelines.bad_cases.neighbours import Neighbours
from pipelines.bad_cases.opinions import modality_opinions
from pipelines.bad_cases.slices import input_slices, model_slices, slice_table
from pipelines.cli import main
from pipelines.matrices import read_matrix
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World
from tests.pipelines.planted_errors import SLICE, Planted, plant


def _train(store: Path, out: Path, folds: str = "5") -> Path:
    words = ["train", "--head", "logreg", "--features", str(store), "--out", str(out), "--study", "run"]
    assert main([*words, "--folds", folds]) == 0
    return out / "run"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, Path]:
    """A data set with planted faults, and a run on it."""
    folder = tmp_path_factory.mktemp("planted")
    found = plant(folder, signal=3.0)
    return found, _train(found.store, folder / "runs")


def _check_planted(planted: Planted, run: Path) -> float:
    """Check that the noisy slice comes first, and return the average precision of the label errors."""
    found = find_bad_cases(run)
    first = found.slices.iloc[0]
    assert (first["name"], first["n"]) == (SLICE, planted.noisy.sum())
    assert first["p_holm"] < 0.001
    precision = average_precision_score(planted.flipped, found.scores)
    assert precision >= 0.6
    assert planted.flipped[[int(guid) for guid in found.label_errors["id"]]].mean() > 0.3
    return float(precision)


def test_planted_label_errors_are_found_and_the_planted_slice_is_first(planted: tuple[Planted, Path]) -> None:
    """Average precision of at least 0.6 with a tenth flipped, beside a slice without signal."""
    _check_planted(*planted)


@pytest.mark.nightly
@pytest.mark.parametrize("signal", [2.5, 3.0, 4.0])
@pytest.mark.parametrize("seed", range(1, 11))
def test_planted_faults_are_found_for_many_seeds(tmp_path: Path, seed: int, signal: float) -> None:
    """Ten draws at three strengths of the signal."""
    faults = plant(tmp_path, seed=seed, signal=signal)
    _check_planted(faults, _train(faults.store, tmp_path / "runs"))


def test_bad_cases_list_what_is_wrong_or_suspected_and_nothing_else(planted: tuple[Planted, Path]) -> None:
    """Every wrong row is there once, the least believed label first, with numbers of oof.csv."""
    found = find_bad_cases(planted[1])
    rows = found.rows
    wrong = {rows.ids[i] for i in np.flatnonzero(rows.wrong)}
    assert wrong <= set(found.cases["id"])
    assert set(found.cases["id"]) - wrong <= set(found.label_errors["id"])
    assert found.cases["id"].is_unique
    assert found.cases["label_error_score"].is_monotonic_decreasing
    line = found.cases.iloc[0]
    p = rows.probabilities[found.place_of[line["id"]]]
    label = rows.classes.index(line["label"])
    assert line["margin"] == pytest.approx(p[label] - np.delete(p, label).max(), abs=1e-5)
    assert found.confusion_pairs["n"].sum() == rows.wrong.sum()


def test_neighbours_equal_a_plain_computation(tmp_path: Path) -> None:
    """Mean cosine over blocks of standardised columns, without the row itself."""
    codes = labels_of(60)
    vectors = {"text": noisy(codes, 1.0, seed=1), "image": noisy(codes, 1.0, seed=2, width=5)}
    matrix = read_matrix([str(make_store(tmp_path / "a.h5", "toy", vectors, codes))])
    unit = []
    for x in vectors.values():
        z = StandardScaler().fit_transform(x.astype(np.float64))
        unit.append(z / np.linalg.norm(z, axis=1, keepdims=True))
    cosine = sum(z @ z.T for z in unit) / 2
    np.fill_diagonal(cosine, -9)
    near, values = Neighbours(matrix, np.arange(60)).nearest(np.array([7, 0]), 4)
    np.testing.assert_array_equal(near, np.argsort(-cosine[[7, 0]], axis=1)[:, :4])
    np.testing.assert_allclose(values, np.sort(cosine[[7, 0]], axis=1)[:, ::-1][:, :4], atol=1e-5)


def test_neighbours_of_few_rows_are_all_the_others(tmp_path: Path) -> None:
    """Asking for more neighbours than there are rows gives every other row once."""
    codes = labels_of(10)
    store = make_store(tmp_path / "a.h5", "toy", {"text": noisy(codes, 1.0)}, codes)
    near, _ = Neighbours(read_matrix([str(store)]), np.arange(10)).nearest(np.array([3]), 50)
    assert sorted(near[0].tolist()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_opinions_on_permuted_labels_are_chance(tmp_path: Path) -> None:
    """What text alone and image alone say out of fold knows nothing of labels that are noise."""
    codes = labels_of(600)
    permuted = np.random.default_rng(3).permutation(codes)
    right = {}
    for name, y in (("real", codes), ("permuted", permuted)):
        vectors = {"text": noisy(codes, 2.0, seed=1), "image": noisy(codes, 2.0, seed=2)}
        matrix = read_matrix([str(make_store(tmp_path / f"{name}.h5", "toy", vectors, y))])
        said = modality_opinions(matrix, np.arange(600), np.arange(600) % 5)
        assert list(said) == ["text", "image"]
        right[name] = [
            np.mean([(codes_said == y)[y == c].mean() for c in range(3)]) for codes_said in said.values()
        ]
    assert min(right["real"]) > 0.6
    assert max(right["permuted"]) < 1 / 3 + 0.07


# --- slices ------------------------------------------------------------------------------------------


def _facts() -> RowFacts:
    texts = [
        "",
        "hi",
        "see https://x.y/z",
        "@you there",
        "so #happy",
        "good \U0001f600",
        "добрый день",
        "你好",
    ] * 5
    sizes = np.array([[10, 20], [20, 10], [15, 15], [0, 0], [40, 40], [40, 41], [90, 90], [91, 90]] * 5)
    status = np.array([1, 0, 0, 0, 0, 0, 0, 0] * 5, dtype=np.uint8)
    encodings = ["", "utf-8", "utf-8", "gb18030", *["utf-8"] * 4] * 5
    groups = np.concatenate([[0, 0], np.arange(1, 39)])
    return RowFacts(texts, None, encodings, sizes.astype(np.int32), {"text": status}, groups)


def test_input_slices_sort_rows_by_what_is_seen() -> None:
    """Signs, scripts, encodings, statuses, shapes and groups."""
    found = {name: np.flatnonzero(rows) % 8 for name, rows in input_slices(_facts(), np.arange(40)).items()}
    expected = {
        "text empty": [0],
        "text with URL": [2],
        "text with mention": [3],
        "text with hashtag": [4],
        "text with emoji": [5],
        "text in Cyrillic script": [6],
        "text in CJK script": [7],
        "text read as gb18030": [3],
        "text status text_empty": [0],
        "picture of unknown size": [3],
        "tall picture": [0],
        "wide picture": [1],
    }
    assert {name: sorted(set(found[name].tolist())) for name in expected} == expected
    assert found["shares a text, a picture or a group"].tolist() == [0, 1]


def test_input_slices_take_their_borders_from_the_given_rows_only() -> None:
    """Other rows are sorted by the same borders, whatever they hold."""
    texts = ["x" * (k + 1) for k in range(80)]
    learnt = np.arange(40)
    found = input_slices(RowFacts(texts), learnt)
    changed = input_slices(RowFacts([*texts[:40], *["y" * 500] * 40]), learnt)
    lengths = [name for name in found if name.startswith("text of")]
    assert lengths == [name for name in changed if name.startswith("text of")]
    assert len(lengths) == 4
    np.testing.assert_array_equal(sum(found[name].astype(int) for name in lengths), np.ones(80))
    assert changed[lengths[-1]][40:].all()


def test_slice_table_finds_the_worse_slice_and_keeps_small_ones_out() -> None:
    """The slice with more errors comes first; one of nine rows, or of all but nine, is not listed."""
    rng = np.random.default_rng(0)
    bad = np.arange(400) < 60
    wrong = np.where(bad, rng.random(400) < 0.6, rng.random(400) < 0.2)
    slices = {
        "other": rng.random(400) < 0.5,
        "bad": bad,
        "few": np.arange(400) < 9,
        "most": np.arange(400) > 8,
    }
    found = slice_table(slices, {"none": np.zeros(400, dtype=bool)}, wrong)
    assert found["name"].tolist() == ["bad", "other"]
    assert found["errors"].tolist()[0] == wrong[:60].sum()
    assert found["difference"][0] == pytest.approx(wrong[:60].mean() - wrong[60:].mean())
    assert found["p_holm"][0] < 0.001 < found["p_holm"][1]
    assert slice_table({}, {}, wrong).empty


def test_model_slices_hold_predictions_and_disagreement() -> None:
    """One slice per predicted class, and one where the modalities differ."""
    predicted = np.array([0, 1, 1])
    found = model_slices(predicted, ("a", "b", "c"), {"text": np.array([0, 1, 0]), "image": predicted})
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "predicted a": [True, False, False],
        "predicted b": [False, True, True],
        "text and image disagree": [False, False, True],
    }


# --- the command -------------------------------------------------------------------------------------


def test_errors_command_writes_tables_that_say_the_same(
    planted: tuple[Planted, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """bad_cases.csv, slices.csv and confusion_pairs.csv hold what --json says."""
    run = planted[1]
    capsys.readouterr()
    assert main(["errors", "--run", str(run), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    with (run / "slices.csv").open(encoding="utf-8", newline="") as file:
        slices = list(csv.DictReader(file))
    assert [line["name"] for line in slices] == [line["name"] for line in said["slices"]]
    with (run / "bad_cases.csv").open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    suspected = [line["id"] for line in cases if line["suspected"] == "True"]
    assert suspected == [line["id"] for line in said["label_errors"]]
    assert SLICE in {name for line in cases for name in line["slices"].split("; ")}
    assert len(cases[0]["neighbours"].split("; ")) == 5
    assert (run / "confusion_pairs.csv").is_file()
    assert main(["errors", "--run", str(run)]) == 0
    assert SLICE in capsys.readouterr().out


def test_errors_command_shows_one_case_with_its_neighbours(
    planted: tuple[Planted, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """--id prints the row's numbers and labelled rows near it; another id is refused with near matches."""
    capsys.readouterr()
    assert main(["errors", "--run", str(planted[1]), "--id", "12", "--json"]) == 0
    case = json.loads(capsys.readouterr().out)
    assert case["id"] == "12"
    assert sum(case["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert len(case["neighbours"]) == 5
    assert "12" not in {near["id"] for near in case["neighbours"]}
    assert main(["errors", "--run", str(planted[1]), "--id", "12"]) == 0
    printed = capsys.readouterr()
    assert "word word" in printed.out
    assert "embedonce explain" not in printed.err  # these vectors were imported
    assert main(["errors", "--run", str(planted[1]), "--id", "12345"]) == 2
    assert "no out-of-fold prediction of '12345'; did you mean" in capsys.readouterr().err


def test_errors_command_without_stores_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Predictions are enough for pairs and label errors; a note says why there is nothing else."""
    codes = labels_of(60)
    store = make_store(tmp_path / "a.h5", "toy", {"text": noisy(codes, 0.5)}, codes)
    run = _train(store, tmp_path / "runs")
    store.unlink()
    capsys.readouterr()
    assert main(["errors", "--run", str(run)]) == 0
    shown = capsys.readouterr()
    assert "is not there any more" in shown.err
    assert "likely label errors" in shown.out
    assert (run / "bad_cases.csv").is_file()


def test_errors_command_of_a_run_without_errors_has_empty_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong, nothing is suspected, and too few rows for any slice."""
    codes = labels_of(15, seed=1)
    run = _train(make_store(tmp_path / "a.h5", "toy", {"text": noisy(codes, 60.0)}, codes), tmp_path, "3")
    capsys.readouterr()
    assert main(["errors", "--run", str(run)]) == 0
    assert "0 of 15 rows are wrong" in capsys.readouterr().out
    assert main(["errors", "--run", str(run), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["confusion_pairs"], said["label_errors"], said["slices"]) == ([], [], [])
    assert (run / "bad_cases.csv").read_text(encoding="utf-8").startswith("id,fold,label")


def test_errors_command_looks_at_the_original_texts_when_asked(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cleaning dropped the URLs from the store; --data finds them in the files."""
    import shutil

    data = tmp_path / "data_set"
    shutil.copytree(in_world.root / "data", data / "data")
    shutil.copy(in_world.root / "train.txt", data / "train.txt")
    for guid in in_world.ids[:20]:
        path = data / "data" / f"{guid}.txt"
        path.write_text(path.read_text(encoding="utf-8") + " http://a.b", encoding="utf-8")
    run = shutil.copytree(in_world.run, tmp_path / "run")  # the command writes into it
    capsys.readouterr()
    assert main(["errors", "--run", str(run), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert main(["errors", "--run", str(run), "--data", str(data), "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert SLICE not in {line["name"] for line in before["slices"]}
    assert any("--data" in note for note in before["notes"])
    assert {line["name"]: line["n"] for line in after["slices"]}[SLICE] == 20


def test_errors_command_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without a run, an empty oof.csv and another data set are one line each."""
    assert main(["errors", "--run", str(tmp_path / "nothing")]) == 1
    assert "not a finished run folder" in capsys.readouterr().err
    codes = labels_of(60)
    run = _train(make_store(tmp_path / "a.h5", "toy", {"text": noisy(codes, 2.0)}, codes), tmp_path / "runs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.csv").write_text("id,text,label\nx,one,a\ny,two,b\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["errors", "--run", str(run), "--data", str(tmp_path / "other")]) == 1
    assert "lacks 60 of the run's 60 rows" in capsys.readouterr().err
    (run / "oof.csv").write_text("", encoding="utf-8")
    assert main(["errors", "--run", str(run)]) == 1
    assert "oof.csv" in capsys.readouterr().err
