"""Term counts as a block of a matrix: in train, tune, ablate and predict, from stores and from raw texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cache import FeatureStore
from heads import load_model, make_pipeline
from pipelines import term_counts
from pipelines.cli import main
from pipelines.errors import RunError, UsageError
from pipelines.matrices import read_matrix
from pipelines.predict import PredictSettings, predict
from pipelines.term_counts import build_term_counts, count_terms, is_term_space
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tests.pipelines.conftest import World

STORE = "features/tiny-clip.h5"


def _run(folder: Path, *words: str, verb: str = "train", study: str = "terms") -> Path:
    command = [verb, *words, "--folds", "3", "--out", str(folder), "--study", study]
    assert main(command) == 0
    return folder / study


@pytest.fixture(scope="module")
def terms_run(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic regression on terms and pictures, trained once."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.root)
        return _run(folder, "--features", f"{STORE}:text.terms", "--features", f"{STORE}:image.pooled")


def test_matrix_holds_the_counts_of_the_stores_texts(in_world: World) -> None:
    """Each column counts its term in the cleaned text of the row."""
    matrix = read_matrix([f"{STORE}:text.terms", f"{STORE}:image.pooled"])
    terms = matrix.terms["text.terms"]
    assert list(matrix.blocks) == ["text.terms", "image.pooled"]
    assert matrix.blocks["text.terms"] == len(terms) > 5
    assert matrix.texts is not None
    counts = matrix.columns(["text.terms"])
    column = counts[:, terms.index("cat")]
    assert column.tolist() == [text.lower().split().count("cat") for text in matrix.texts]
    assert (np.count_nonzero(counts, axis=0) >= 2).all()
    assert "the cat" in terms


def test_trained_model_is_scikit_learns_tfidf_and_logistic_regression(
    in_world: World, tmp_path: Path
) -> None:
    """The saved text-only model is TfidfVectorizer and LogisticRegression on the training texts."""
    run = _run(tmp_path, "--features", f"{STORE}:text.terms", "--set", "C=0.1", "--set", "tol=1e-7")
    matrix = read_matrix([f"{STORE}:text.terms"])
    assert matrix.texts is not None
    vectorizer = TfidfVectorizer(min_df=2, ngram_range=(1, 2))
    known = vectorizer.fit_transform([matrix.texts[row] for row in matrix.training]).toarray()
    centre, spread = known.mean(axis=0), np.sqrt(known.var(axis=0).sum() / 512)
    theirs = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-9, max_iter=10_000)
    theirs.fit((known - centre) / spread, matrix.labels[matrix.training])
    wanted = theirs.predict_proba((vectorizer.transform(list(matrix.texts)).toarray() - centre) / spread)
    np.testing.assert_allclose(load_model(run / "model").predict_proba(matrix.X), wanted, atol=1e-4)


def test_every_way_in_gives_one_answer(in_world: World, terms_run: Path) -> None:
    """Stored rows, a data set and a single text and picture get the same probabilities."""
    weights = {"tiny-clip": in_world.clip}
    stored = predict(PredictSettings(run=terms_run, features=(STORE,)))
    raw = predict(PredictSettings(run=terms_run, data=Path(), weights=weights))
    assert raw.ids == stored.ids
    np.testing.assert_allclose(raw.probabilities, stored.probabilities, rtol=1e-12)
    own = predict(PredictSettings(run=terms_run))
    rows = [stored.ids.index(guid) for guid in own.ids]
    np.testing.assert_allclose(own.probabilities, stored.probabilities[rows], rtol=1e-12)
    guid = in_world.ids[-1]
    one = predict(
        PredictSettings(
            run=terms_run,
            text=(in_world.root / "data" / f"{guid}.txt").read_text(encoding="utf-8"),
            image=in_world.root / "data" / f"{guid}.jpg",
            weights=weights,
        )
    )
    np.testing.assert_allclose(one.probabilities[0], stored.probabilities[-1], rtol=1e-12)


def test_text_alone_needs_no_network(in_world: World, terms_run: Path) -> None:
    """A text is answered from its terms, with the training mean in place of the picture."""
    found = predict(PredictSettings(run=terms_run, text="the cat"))
    assert found.tags == ("positive",)
    assert "no image.pooled" in " ".join(found.notes)


def test_picture_alone_is_refused_by_a_run_on_terms(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run on texts alone says so when it is given a picture."""
    run = _run(tmp_path, "--features", f"{STORE}:text.chars", "--head", "ridge")
    capsys.readouterr()
    assert main(["predict", "--run", str(run), "--image", f"data/{in_world.ids[0]}.jpg"]) == 2
    assert "was trained on text.chars; the input has only image" in capsys.readouterr().err


def test_store_with_other_cleaning_is_no_source_of_terms(
    in_world: World, terms_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Texts that were cleaned in another way would give other counts."""
    command = ["extract", "--backbone", str(in_world.clip), "--clean", "none", "--out", str(tmp_path)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["predict", "--run", str(terms_run), "--features", str(tmp_path / "tiny-clip.h5")]) == 2
    assert "needs texts (cleaning basic)" in capsys.readouterr().err


def test_tune_weighs_terms_inside_every_fold(in_world: World, tmp_path: Path) -> None:
    """A search scores a trial as the pipeline fitted fold by fold does, to the tolerance of the path."""
    features = ["--features", f"{STORE}:text.terms", "--features", f"{STORE}:image.pooled"]
    run = _run(tmp_path, *features, "--heads", "logreg,ridge", "--trials", "4", verb="tune", study="search")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["n_failed"] == 0
    matrix = read_matrix([f"{STORE}:text.terms", f"{STORE}:image.pooled"])
    lines = (run / "oof.csv").read_text(encoding="utf-8").splitlines()[1:]
    fold = np.array([int(line.split(",")[1]) for line in lines])
    stored = np.array([[float(cell) for cell in line.split(",")[3:]] for line in lines])
    winner = metrics["winner"]
    rows = matrix.training
    pipeline = make_pipeline(winner["head"], blocks=matrix.blocks, parameters=winner["parameters"])
    pipeline.fit(matrix.X[rows[fold != 0]], matrix.labels[rows[fold != 0]])
    np.testing.assert_allclose(
        pipeline.predict_proba(matrix.X[rows[fold == 0]]), stored[fold == 0], atol=2e-4
    )


def test_ablate_compares_terms_with_vectors(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Term counts are a set of their own beside a backbone's."""
    swaps = ["--swap", f"tfidf={STORE}:text.terms", "--swap", f"clip={STORE}:text.pooled"]
    assert main(["ablate", *swaps, "--folds", "3", "--out", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["blocks"] for row in rows] == [["text.terms"], ["text.pooled"]]
    assert rows[0]["cv"]["macro_f1"]["mean"] > 0.9


def test_store_without_texts_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pictures alone have no terms."""
    codes = labels_of(60)
    store = make_store(tmp_path / "resnet18.h5", "resnet18", {"image": noisy(codes, 1.0)}, codes)
    assert main(["train", "--features", f"{store}:text.terms", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "has no texts, so there are no terms to count" in error
    assert "Traceback" not in error


def test_wrong_names_of_terms_are_usage_errors(in_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that begins like a block of terms but is none is answered with the grammar."""
    assert main(["train", "--features", f"{STORE}:text.terms-top5"]) == 2
    assert "'text.terms-top5' is no block of term counts; their names are" in capsys.readouterr().err
    with pytest.raises(UsageError, match="no block of term counts"):
        is_term_space("text.chars-")
    assert not is_term_space("text.pooled")


def test_terms_in_too_few_texts_are_refused() -> None:
    """When no two texts share a word, the message says what to change."""
    with pytest.raises(RunError, match=r"No term is in 2 or more of the 2 texts of 'x.h5'"):
        build_term_counts(["alpha", "beta"], "text.terms", "x.h5")


def test_too_many_terms_are_refused_with_a_number_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit nothing is made dense, and the name in the message is of a block that fits."""
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{n:03d}" for n in random.zipf(1.5, 12) % 300) for _ in range(80)]
    whole = build_term_counts(texts, "text.terms", "x.h5")
    monkeypatch.setattr(term_counts, "MOST_BYTES", whole.counts.nbytes // 2)
    with pytest.raises(RunError, match=r"--features x.h5:text.terms-min\d+ instead of text.terms") as caught:
        build_term_counts(texts, "text.terms", "x.h5")
    name = str(caught.value).split("x.h5:")[1].split(" ")[0]
    fitting = build_term_counts(texts, name, "x.h5")
    assert 0 < fitting.counts.nbytes <= term_counts.MOST_BYTES
    documents = dict(zip(whole.terms, np.count_nonzero(whole.counts, axis=0), strict=True))
    least = int(name.split("-min")[1])
    assert set(fitting.terms) == {term for term, count in documents.items() if count >= least}
    with pytest.raises(RunError, match="Predict in parts"):
        count_terms(texts * 3, "text.terms", whole.terms)


def test_chinese_texts_have_characters_and_a_note() -> None:
    """Texts without spaces keep their signs as runs of characters; words get a note that says so."""
    texts = ["今天天气很好", "今天心情不好", "天气不好", "很好很好"]
    chars = build_term_counts(texts, "text.chars", "x.h5")
    assert {"好", "不好", "今天", "天气"} <= set(chars.terms)
    assert chars.counts[3, chars.terms.index("很好")] == 2
    assert chars.note == ""
    words = build_term_counts([text + " ok" for text in texts], "text.terms", "x.h5")
    assert "text.chars counts runs of characters" in words.note
    np.testing.assert_array_equal(count_terms(texts, "text.chars", chars.terms), chars.counts)


def test_permuted_labels_score_chance_through_train(tmp_path: Path) -> None:
    """TF-IDF through the whole command finds nothing in texts whose labels mean nothing."""
    random = np.random.default_rng(3)
    words = np.array([f"word{n}" for n in range(40)])
    texts = tuple(" ".join(random.choice(words, 8)) for _ in range(240))
    codes = labels_of(240, seed=5)
    store = make_store(tmp_path / "b.h5", "bert", {"text": noisy(codes, 0.0)}, codes, texts=texts)
    run = _run(tmp_path, "--features", f"{store}:text.terms")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert abs(metrics["cv"]["macro_f1"]["mean"] - 1 / 3) < 0.09
    with FeatureStore.open(store) as opened:
        assert opened.spaces == ("text.pooled",)  # the store itself was not changed
