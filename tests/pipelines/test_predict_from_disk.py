"""``predict`` on stores: answers part by part, the same as at once, in memory that rows do not fill."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heads import load_model
from pipelines import predict as command
from pipelines.cli import main
from pipelines.console import Progress
from pipelines.matrices import read_matrix
from pipelines.predict import PredictSettings, predict
from pipelines.prediction_blocks import TermBlock
from pipelines.reordered_rows import ReorderedBlock
from pipelines.runs import write_predictions
from pipelines.term_counts import count_terms
from tests.pipelines.planted_stores import planted_rows, write_planted

ROOT = Path(__file__).resolve().parents[2]
N = 2500
HEADS = {
    "logreg": (),
    "mlp": ("--set", "fusion=gated", "--set", "max_epochs=2", "--set", "hidden=8"),
    "lightgbm": ("--set", "n_estimators=5"),
}


def _named(stores: list[str]) -> list[str]:
    return [word for store in stores for word in ("--features", store)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every head on 240 samples of a text store and an image store."""
    folder = tmp_path_factory.mktemp("runs")
    few = []
    for modality, width, seed in (("text", 6, 0), ("image", 8, 1)):
        x, labels = planted_rows(240, width, seed)
        few.append(write_planted(folder / f"{modality}.h5", modality, x, labels, missing=(4, 50)))
    for head, words in HEADS.items():
        asked = ["train", *_named(few), "--head", head, "--folds", "2", "--out", str(folder), "--study", head]
        assert main([*asked, *words]) == 0
    return folder


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stores of 2,500 samples with missing vectors, one sample (9) missing in both, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return [_text(tmp_path / "text.h5"), _image(tmp_path / "image.h5")]


def _text(path: Path, order: np.ndarray | None = None) -> str:
    x, labels = planted_rows(N, 6, 2)
    return write_planted(path, "text", x, labels, missing=(9, 70), order=order)


def _image(path: Path, order: np.ndarray | None = None) -> str:
    x, labels = planted_rows(N, 8, 3)
    return write_planted(path, "image", x, labels, missing=(9, 1500, 2499), order=order)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Answer 1,024 rows at a time; the sizes of the parts."""
    monkeypatch.setattr(command, "_PART_BYTES", 0)
    sizes: list[int] = []
    plain = command.answer

    def noted(model, X):
        sizes.append(len(X))
        return plain(model, X)

    monkeypatch.setattr(command, "answer", noted)
    return sizes


@pytest.mark.parametrize("head", HEADS)
def test_answers_in_parts_are_those_at_once_to_the_bit(head, runs, stores, parts):
    """Probabilities of two stores with missing vectors are those of the model on the matrix in memory."""
    found = predict(PredictSettings(run=runs / head, features=tuple(stores)))
    assert parts == [1024, 1024, 452]
    matrix = read_matrix(stores)
    model = load_model(runs / head / "model")
    np.testing.assert_array_equal(found.probabilities, model.predict_proba(matrix.X))
    assert found.ids == matrix.ids
    assert found.notes[-2:] == (
        "2 of 2,500 rows have no text.pooled; the training mean stands in for it",
        "3 of 2,500 rows have no image.pooled; the training mean stands in for it",
    )


def test_file_is_the_same_however_many_parts(runs, stores, monkeypatch):
    """``predictions.csv`` of parts is byte for byte that of all rows at once."""
    asked = ["predict", "--run", str(runs / "logreg"), *_named(stores), "--out"]
    assert main([*asked, "whole.csv"]) == 0
    monkeypatch.setattr(command, "_PART_BYTES", 0)
    assert main([*asked, "parts.csv"]) == 0
    assert Path("parts.csv").read_bytes() == Path("whole.csv").read_bytes()
    with Path("whole.csv").open(encoding="utf-8", newline="") as file:
        assert [row["guid"] for row in csv.DictReader(file)] == [f"id{i}" for i in range(N)]


@pytest.mark.parametrize("turned", ["text", "image"])
def test_stores_in_two_orders_get_the_same_answers(runs, stores, parts, tmp_path, turned):
    """Each id gets the answer that stores in one order give, in the order of the first block's store."""
    expected = predict(PredictSettings(run=runs / "logreg", features=tuple(stores)))
    parts.clear()
    order = np.random.default_rng(0).permutation(N)
    if turned == "text":
        specs = (_text(tmp_path / "turned.h5", order), stores[1])
    else:
        specs = (stores[0], _image(tmp_path / "turned.h5", order))
    found = predict(PredictSettings(run=runs / "logreg", features=specs))
    assert parts == [1024, 1024, 452]
    rows = order if turned == "text" else np.arange(N)
    assert found.ids == tuple(f"id{i}" for i in rows)
    # A row's place among the rows may change the last bit of a product.
    np.testing.assert_allclose(found.probabilities, expected.probabilities[rows], rtol=1e-12)
    if turned == "image":
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_rows_answered_at_once_are_not_put_in_order(runs, stores, tmp_path, monkeypatch):
    """They are read in their store's own order, and no temporary file is written for them."""
    turned = _image(tmp_path / "turned.h5", np.random.default_rng(0).permutation(N))
    asked = PredictSettings(run=runs / "logreg", features=(stores[0], turned))
    at_once = predict(PredictSettings(run=runs / "logreg", features=tuple(stores)))
    monkeypatch.setattr(ReorderedBlock, "_in_order", None)  # would fail if it were called
    np.testing.assert_array_equal(predict(asked).probabilities, at_once.probabilities)
    monkeypatch.setattr(command, "_PART_BYTES", 0)
    with pytest.raises(TypeError, match="NoneType"):
        predict(asked)


def test_samples_that_one_store_lacks_are_said_and_left_out(runs, stores, parts, tmp_path):
    """Rows of a smaller second store are joined by id; the others are counted."""
    x, labels = planted_rows(1100, 8, 3)
    fewer = write_planted(tmp_path / "fewer.h5", "image", x, labels, order=np.arange(1100)[::-1].copy())
    found = predict(PredictSettings(run=runs / "logreg", features=(stores[0], fewer)))
    assert parts == [1024, 76]
    assert found.ids == tuple(f"id{i}" for i in range(1100))
    assert found.notes[0] == f"1,400 rows of '{stores[0]}' are not in every store and are left out"


def test_unlabelled_rows_alone_are_read_in_parts(runs, stores, parts, monkeypatch):
    """Without inputs, the unlabelled rows of the run's own stores get what the run wrote."""
    monkeypatch.setattr(command, "_PART_ROWS", 10)
    monkeypatch.chdir(runs)
    found = predict(PredictSettings(run=runs / "mlp"))
    assert parts == [10, 10, 4]
    with (runs / "mlp" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == list(
            zip(found.ids, found.tags, strict=True)
        )


def test_terms_counted_in_parts_are_those_of_all_texts():
    """Counts of some texts are those rows of the counts of all."""
    texts = [f"the {word} sat" for word in ("cat", "dog", "cat dog", "", "owl")]
    space = {"space": "text.terms", "terms": ("cat", "dog", "the cat")}
    block = TermBlock(texts, space)
    assert (block.width, block.valid.tolist()) == (3, [True] * 5)
    whole = count_terms(texts, "text.terms", space["terms"])
    assert whole.sum() == 6
    np.testing.assert_array_equal(np.concatenate([block.read(slice(0, 2)), block.read(slice(2, 5))]), whole)


def test_progress_is_told_after_two_seconds(runs, stores, parts, monkeypatch, capsys):
    """Rows done and left are told while rows are answered."""
    monkeypatch.setattr(Progress, "_quiet_seconds", 0.0)
    monkeypatch.setattr(Progress, "_log_every", 0.0)
    predict(PredictSettings(run=runs / "logreg", features=tuple(stores)))
    told = capsys.readouterr().err
    assert "predicting: 1,024/2,500 rows (41 %)" in told
    assert "predicting: 2,500/2,500 rows (100 %)" in told
    assert len(parts) == 3


def test_wrong_out_is_refused_before_anything_is_read(runs, stores, monkeypatch, capsys):
    """A file that cannot be written costs no waiting."""
    monkeypatch.setattr(command, "predict", None)  # would fail if it were called
    asked = ["predict", "--run", str(runs / "logreg"), *_named(stores), "--out"]
    for out in (".", "gone/x.csv"):
        assert main([*asked, out]) == 2
        assert (
            f"'{out}' cannot be written: it is a folder, or its folder does not exist"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no store at 'x.h5'."),
        (b"", "'x.h5' is not a readable store: the file is empty."),
        (b"id,label\n", "'x.h5' is not a readable store: it is not an HDF5 file."),
    ],
)
def test_stores_that_are_none_are_one_clear_error(content, message, runs, stores, capsys):
    """A wrong path, an empty file and another kind of file end in exit 1 and no file."""
    if content is not None:
        Path("x.h5").write_bytes(content)
    assert main(["predict", "--run", str(runs / "logreg"), "--features", "x.h5"]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not Path("predictions.csv").exists()


_STOPPED = """
import os, signal, sys
from pipelines import predict as command
from pipelines.cli import main
command._PART_BYTES = 0
plain, seen = command.answer, []
def answer(model, X):
    seen.append(len(X))
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return plain(model, X)
command.answer = answer
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_leaves_the_old_file(runs, stores, tmp_path):
    """Stopped between two parts, with a store in another order: exit 130, the old file, and no other."""
    turned = _image(tmp_path / "turned.h5", np.arange(N)[::-1].copy())
    out = tmp_path / "answers.csv"
    out.write_text("old", encoding="utf-8")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = sorted(tmp_path.rglob("*"))
    words = ["predict", "--run", str(runs / "logreg"), *_named([stores[0], turned]), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED, *words],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "Stopped." in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_text(encoding="utf-8") == "old"
    assert sorted(tmp_path.rglob("*")) == before


_STOPPED_WHILE_ORDERING = """
import os, signal, sys
from pathlib import Path
from pipelines import reordered_rows
from pipelines.cli import main
reordered_rows._READ_BYTES = 100 * 16
plain, seen = reordered_rows._put_rows, []
def put_rows(file, values, places):
    seen.append(len(places))
    Path(sys.argv[1]).write_text(str(seen))
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return plain(file, values, places)
reordered_rows._put_rows = put_rows
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("verb", ["predict", "train"])
def test_ctrl_c_ends_the_ordering_of_rows_at_once(verb, runs, stores, tmp_path):
    """Rows are put in order where Ctrl-C reaches: it is not waited until all are."""
    turned = _image(tmp_path / "turned.h5", np.arange(N)[::-1].copy())
    words = {
        "predict": ["predict", "--run", str(runs / "logreg")],
        "train": ["train", "--head", "logreg", "--folds", "2", "--duplicates", "exact"],
    }[verb]
    in_parts = {
        "predict": "from pipelines import predict\npredict._PART_BYTES = 0\n",
        "train": "from heads import large_rows\nlarge_rows.LARGE_BYTES = 0\n",
    }[verb]
    code = in_parts + _STOPPED_WHILE_ORDERING
    done = subprocess.run(
        [sys.executable, "-c", code, "seen", *words, *_named([stores[0], turned])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert Path("seen").read_text(encoding="utf-8") == "[100, 100]"
    assert not Path("predictions.csv").exists()


def test_ctrl_c_while_the_file_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    """Not even the temporary file stays, which nothing would ever remove there."""
    out = tmp_path / "answers.csv"
    out.write_text("old", encoding="utf-8")

    def stop(_):
        raise KeyboardInterrupt("now")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt, match="now"):
        write_predictions(out, ["a", "b"], ["positive", "neutral"])
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_text(encoding="utf-8") == "old"


_MEASURED = """
import sys
from pathlib import Path
from pipelines import predict as command
from pipelines.predict import PredictSettings, predict
from benchmarks.peak import peak_bytes
command._PART_BYTES, command._PART_ROWS = 0, 64
run, few, many = Path(sys.argv[1]), sys.argv[2:4], sys.argv[4:]
predict(PredictSettings(run=run, features=tuple(few)))
before = peak_bytes()
found = predict(PredictSettings(run=run, features=tuple(many)))
print(len(found.ids), peak_bytes() - before)
"""


def test_rows_do_not_fill_the_memory(tmp_path):
    """100 MB of vectors in two stores, one in another order, are answered with less than half of that."""
    small, large = [], []
    x, labels = planted_rows(160, 1600, 0)
    for modality in ("text", "image"):
        small.append(write_planted(tmp_path / f"{modality}-160.h5", modality, x, labels))
        many, codes = np.tile(x, (100, 1)), np.tile(labels, 100)
        order = np.arange(len(many))[::-1].copy() if modality == "image" else None
        large.append(write_planted(tmp_path / f"{modality}.h5", modality, many, codes, order=order))
    asked = ["train", *_named(small), "--head", "logreg", "--folds", "2", "--duplicates", "exact"]
    assert main([*asked, "--out", str(tmp_path), "--study", "run"]) == 0
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(tmp_path / "run"), *small, *large],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    n_rows, grown = map(int, done.stdout.split())
    assert n_rows == 16_000
    assert grown < 16_000 * 3200 * 2 / 2
