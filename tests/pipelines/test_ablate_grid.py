"""Grids of ablations: swapped stores, fusions, resamplers, the ledger, tables and resuming."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from pipelines.ablate import AblateSettings, ablate
from pipelines.ablation import fitting
from pipelines.ablation.feature_sets import named_specs, read_feature_sets
from pipelines.ablation.figure import write_figure
from pipelines.ablation.fitted_rows import RowMemory
from pipelines.ablation.fitting import fit_rows
from pipelines.ablation.grid import Grid, candidates_of
from pipelines.ablation.ledger import CASES, cases_of
from pipelines.ablation.tables import latex, markdown
from pipelines.cli import main
from pipelines.errors import UsageError
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tuning import default_configuration, evaluate

N = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stores: a good pair, a pair without signal that lacks ten rows, and a text store."""
    root, codes = tmp_path_factory.mktemp("grid"), labels_of(N)
    good = {"text": noisy(codes, 2.0, seed=1), "image": noisy(codes, 1.0, seed=2, width=9)}
    make_store(root / "good.h5", "good", good, codes)
    noise = {"text": noisy(codes, 0.0, seed=3)[:-10], "image": noisy(codes, 0.0, seed=4)[:-10]}
    make_store(root / "noise.h5", "noise", noise, codes[:-10])
    make_store(root / "words.h5", "words", {"text": noisy(codes, 1.5, seed=5)}, codes)
    return root


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    capsys.readouterr()
    assert main(["ablate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_swapped_stores_are_compared_on_common_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows go over feature sets, all on the samples that every store holds, and the replay is the same."""
    words = ["--swap", f"a={folder}/good.h5", "--swap", f"{folder}/noise.h5", "--folds", 3, "--shuffles", 0]
    found = _run(capsys, *words, "--out", tmp_path)
    assert found["n"] == N - 10
    names = [row["name"] for row in found["rows"]]
    assert names == [f"{name}: {part}" for name in ("a", "noise") for part in ("text", "image", "both")]
    rows = {row["name"]: row for row in found["rows"]}
    assert found["reference"] == "a: both"
    assert rows["a: both"]["against_reference"] is None
    assert rows["noise: both"]["against_reference"]["verdict"] == "worse"
    config = Path(found["run"]) / "config.json"
    again = _run(capsys, "--config", config, "--out", tmp_path / "again")
    assert Path(again["run"]).name == Path(found["run"]).name
    shown = ["cv", "per_class", "n_parameters", "against_reference"]
    assert [[row[k] for k in shown] for row in again["rows"]] == [
        [row[k] for k in shown] for row in found["rows"]
    ]


def test_rows_that_any_set_takes_for_duplicates_share_a_fold(tmp_path: Path) -> None:
    """Cleaning that makes two texts equal in one store keeps them together for all stores."""
    codes = labels_of(60)
    raw = tuple(f"text {i}" for i in range(60))
    cleaned = ("same", *raw[1:59], "same")
    codes[59] = codes[0]
    for name, texts in (("raw", raw), ("cleaned", cleaned)):
        make_store(tmp_path / f"{name}.h5", name, {"text": noisy(codes, 1.0)}, codes, texts=texts)
    sets = read_feature_sets(named_specs((), [str(tmp_path / "raw.h5"), str(tmp_path / "cleaned.h5")]))
    assert list(sets.matrices) == ["raw", "cleaned"]
    for _, valid in sets.folds(5, 0):
        assert (0 in valid) == (59 in valid)


def test_grid_crosses_heads_fusions_and_resamplers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fusions vary only where there are blocks to fuse, and a chosen reference is the one compared with."""
    words = ["--features", folder / "good.h5", "--heads", "logreg,mlp", "--fusions", "concat,gated"]
    words += ["--resamplers", "none,smote", "--folds", 2, "--shuffles", 0, "--modalities", "text,both"]
    found = _run(capsys, *words, "--reference", "text / logreg", "--out", tmp_path)
    assert [row["name"] for row in found["rows"]] == [
        "text / logreg",
        "both / logreg",
        "text / logreg, smote",
        "both / logreg, smote",
        "text / mlp",
        "both / mlp",
        "text / mlp, smote",
        "both / mlp, smote",
        "both / mlp gated",
        "both / mlp gated, smote",
    ]
    assert [row["against_reference"] is None for row in found["rows"]] == [True, *[False] * 9]
    parameters = {row["name"]: row["n_parameters"] for row in found["rows"]}
    assert parameters["text / logreg"] == 3 * 9
    assert parameters["both / mlp gated"] != parameters["both / mlp"]


def test_scores_are_those_of_scikit_learn_and_of_a_plain_cross_validation(
    folder: Path, tmp_path: Path
) -> None:
    """Rows are what `tuning.evaluate` gives, and every column what scikit-learn computes from it."""
    settings = AblateSettings(features=(str(folder / "good.h5"),), folds=3, shuffles=0, out=tmp_path)
    row = {row["name"]: row for row in ablate(settings).rows}["both"]
    sets = read_feature_sets({"": settings.features})
    folds, y, matrix = sets.folds(3, 0), sets.labels, sets.samples
    trial = evaluate(
        default_configuration("logreg"), matrix.X, y, folds, blocks=matrix.blocks, n_classes=3, random_state=0
    )
    candidates = candidates_of(sets, Grid(("logreg",), ("none",), ("both",), (), ()))
    fitted = fit_rows(candidates, sets, folds, seed=0, memory=RowMemory(tmp_path), on_row=lambda *_: None)
    np.testing.assert_allclose(fitted[candidates[0].key].oof, trial.oof, atol=1e-5)
    predicted = trial.oof.argmax(axis=1)
    macro = {"average": "macro", "labels": [0, 1, 2], "zero_division": 0}
    for name, function in (
        ("macro_f1", lambda a, b: f1_score(a, b, **macro)),
        ("weighted_f1", lambda a, b: f1_score(a, b, average="weighted")),
        ("accuracy", accuracy_score),
        ("macro_precision", lambda a, b: precision_score(a, b, **macro)),
        ("macro_recall", lambda a, b: recall_score(a, b, **macro)),
    ):
        expected = np.mean([function(y[valid], predicted[valid]) for _, valid in folds])
        assert row["cv"][name]["mean"] == pytest.approx(expected, abs=1e-9), name
    per_class = f1_score(y, predicted, average=None)
    assert [row["per_class"][name]["f1"] for name in matrix.class_names] == pytest.approx(list(per_class))


def test_permuted_labels_give_chance_in_every_row(tmp_path: Path) -> None:
    """On labels that mean nothing, every row and every line of the ledger is at chance."""
    codes = labels_of(300)
    vectors = {"text": noisy(codes, 3.0, seed=1), "image": noisy(codes, 3.0, seed=2)}
    store = make_store(tmp_path / "p.h5", "p", vectors, np.random.default_rng(7).permutation(codes))
    settings = AblateSettings(
        features=(str(store),), heads=("logreg", "mlp"), resamplers=("none", "smote"), folds=3, out=tmp_path
    )
    found = ablate(settings)
    for row in found.rows:
        assert row["cv"]["balanced_accuracy"]["mean"] == pytest.approx(1 / 3, abs=0.1), row["name"]
    unpaired = [
        row for row in found.metrics["ledger"][0]["rows"] if row["features"] != "shuffled within class"
    ]
    assert all(row["score"] < 0.45 for row in unpaired)


def test_ledger_knows_whether_the_pairing_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where text and image add up, a shuffled partner costs; where the image is noise, it costs nothing."""
    codes = labels_of(300)
    losses = {}
    for name, strength in (("useful", 2.0), ("useless", 0.0)):
        vectors = {"text": noisy(codes, 1.5, seed=1), "image": noisy(codes, strength, seed=2)}
        store = make_store(tmp_path / f"{name}.h5", name, vectors, codes)
        found = _run(capsys, "--features", store, "--folds", 3, "--shuffles", 2, "--out", tmp_path)
        ledger = {row["features"]: row for row in found["ledger"][0]["rows"]}
        assert list(ledger) == ["text", "image", "both", "shuffled partner", "shuffled within class"]
        losses[name] = ledger["shuffled partner"]["both_better_by"]
        cases = {case["case"]: case for case in found["ledger"][0]["cases"]}
        assert sum(case["n"] for case in cases.values()) == 300
        run = Path(found["run"])
        with (run / "disagreements.csv").open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        only = [line for line in lines if line["case"] == "only text right"]
        assert len(only) == cases["only text right"]["n"]
        assert all(line["text"] == line["label"] != line["image"] for line in only)
        assert (run / "ledger.csv").is_file()
    assert losses["useful"]["verdict"] == "better"
    assert losses["useful"]["difference"] > 0.1
    assert abs(losses["useless"]["difference"]) < 0.07


def test_cases_name_who_is_right() -> None:
    """Each of the four cases is recognised."""
    y = np.array([0, 0, 0, 0])
    text, image = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 2])
    assert [CASES[case] for case in cases_of(text, image, y)] == list(CASES)


def test_interrupted_table_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After Ctrl-C the same command computes only the rows that are missing, and ends in the same table."""
    words = ["--features", folder / "good.h5", "--folds", 2, "--shuffles", 0]
    whole = _run(capsys, *words, "--out", tmp_path / "whole")
    put, stored = RowMemory.put, []

    def put_once(self: RowMemory, key: str, fitted: fitting.Fitted) -> None:
        if stored:
            raise KeyboardInterrupt("Ctrl-C")
        stored.append(key)
        put(self, key, fitted)

    monkeypatch.setattr(RowMemory, "put", put_once)
    cut = AblateSettings(features=(str(folder / "good.h5"),), folds=2, shuffles=0, out=tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt, match=r"Ctrl-C"):
        ablate(cut)
    asked = []
    fit_fold = fitting._fit_fold

    def counted(row: object, *rest: object) -> object:
        asked.append(row.key)  # type: ignore[attr-defined]
        return fit_fold(row, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RowMemory, "put", put)
    monkeypatch.setattr(fitting, "_fit_fold", counted)
    again = _run(capsys, *words, "--out", tmp_path / "cut")
    assert len(asked) == 2 * 2
    assert stored[0] not in asked
    assert [row["cv"] for row in again["rows"]] == [row["cv"] for row in whole["rows"]]


def test_result_does_not_depend_on_the_number_of_threads(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One fit at a time and three at a time give the same bits, for every kind of head."""
    sets = read_feature_sets({"": [str(folder / "good.h5")]})
    rows = candidates_of(sets, Grid(("logreg", "mlp", "lightgbm"), ("smote",), ("both",), (), ()))
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(fitting, "n_threads", lambda threads=threads: threads)
        memory = tmp_path / str(threads)
        memory.mkdir()
        arguments = {"seed": 0, "memory": RowMemory(memory), "on_row": lambda *_: None}
        found.append(fit_rows(rows, sets, sets.folds(2, 0), **arguments))
    for row in rows:
        assert np.array_equal(found[0][row.key].oof, found[1][row.key].oof)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fusions", "gated"], "add it with --heads mlp"),
        (["--heads", "mpl"], "did you mean 'mlp'"),
        (["--modalities", "texts"], "did you mean 'text'"),
        (["--reference", "bth"], "did you mean 'both'"),
        (["--use-views", "3"], "there are 0 views"),
        (["--resamplers", "smot"], "did you mean 'smote'"),
        (["--preset", "clip-fusion"], "did you mean 'clip-fusions'"),
        (["--swap", "a="], "is not NAME=FILE"),
    ],
)
def test_wrong_words_are_one_line(
    folder: Path, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever does not exist is named with what does, and the exit code is 2."""
    assert main(["ablate", "--features", str(folder / "good.h5"), *words, "--out", str(tmp_path / "r")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not (tmp_path / "r").exists()


def test_sets_of_one_name_are_refused() -> None:
    """Two feature sets need two names; a name may be left out."""
    assert named_specs((), ["x/a.h5,x/b.h5"]) == {"a+b": ("x/a.h5", "x/b.h5")}
    assert list(named_specs(["x/c.h5"], ["n=x/a.h5"])) == ["c", "n"]
    with pytest.raises(UsageError, match=r"Several feature sets are named 'a'"):
        named_specs((), ["x/a.h5", "y/a.h5"])


def test_names_cannot_break_tables() -> None:
    """Signs that mean something in LaTeX or Markdown are escaped."""
    assert r"a\_b \& 50 \%" in latex(["x"], [["a_b & 50 %"]])
    assert r"\begin{tabular}{lr}" in latex(["x", "y"], [["a", "+0.100"]])
    assert markdown(["x"], [["a|b"]]).splitlines()[-1] == r"| a\|b |"


def test_figure_is_drawn_with_and_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SVG is always there, with every name in it; a PNG where matplotlib is installed."""
    points = [("a <b> $x$", 0.5, 0.4, 0.6, False), ("c", 0.7, 0.65, 0.75, True)]
    monkeypatch.setattr("pipelines.ablation.figure.find_spec", lambda _: None)
    (path,) = write_figure(tmp_path, "plain", points, label="macro F1")
    drawn = path.read_text(encoding="utf-8")
    assert "a &lt;b&gt; $x$" in drawn
    assert drawn.count("<circle") == 2
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    paths = write_figure(tmp_path, "fine", points, label="macro F1")
    assert [found.suffix for found in paths] == [".png", ".svg"]
    assert "a &lt;b&gt; $x$" in paths[1].read_text(encoding="utf-8")
