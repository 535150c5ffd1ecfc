"""The audit finds what was planted, says nothing about clean data, and each of its tests can fail."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.auditing import Audit, AuditSettings, audit, findings, print_audit
from pipelines.auditing.permuted import permutation_test
from pipelines.auditing.shifts import auc_with_interval, column_aucs
from pipelines.cli import main
from tests.kit.planted_posts import VARIANTS, Posts, image_vectors, make_posts
from tests.pipelines.ablation_stores import labels_of, make_store, noisy
from tuning import make_folds

N, N_EXACT, N_NEAR = 400, 10, 10  # 5 % of the rows are duplicates across the splits


def _plant(folder: Path) -> Posts:
    posts = make_posts(folder, N, seed=11)
    rng = np.random.default_rng(2)
    test, train = np.flatnonzero(posts.is_test), np.flatnonzero(~posts.is_test)
    for k in range(N_EXACT):
        posts.copy_exactly(int(train[k]), int(test[k]))
    for k in range(N_EXACT, N_EXACT + N_NEAR):
        posts.copy_nearly(int(train[k]), int(test[k]), rng, VARIANTS[k % len(VARIANTS)])
    for row in np.flatnonzero(posts.labels == 1)[::2]:
        posts.texts[row] += " zq7"  # half of the texts of class 'yes' say so
    columns = np.zeros((N, 4), dtype=np.float32)
    columns[:, 2] = posts.is_test * 2 * image_vectors(posts.pictures)[:, 2].std()
    return posts.write(columns)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Posts:
    return _plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(planted: Posts) -> Audit:
    return audit(AuditSettings(features=(str(planted.store),)))


def _by_check(result: Audit, name: str) -> tuple[int, str, float | None]:
    (finding,) = [finding for finding in result.findings if finding.check == name]
    return finding.count, finding.detail, finding.p


def test_audit_finds_all_exact_and_most_near_duplicates_across_splits(found: Audit) -> None:
    """Every exact copy in the test split is found, and at least 90 % of the near ones."""
    # The word that was planted is in some of the copies only, so their texts are near, not equal.
    same = [f for f in found.findings if f.check.endswith("across splits") and "near" not in f.check]
    near = [f for f in found.findings if f.check.startswith("near-duplicate") and "across" in f.check]
    assert sum(f.count for f in same) >= N_EXACT
    assert {f.severity for f in (*same, *near)} == {"high"}
    assert max(f.count for f in near) >= 0.9 * N_NEAR
    assert {f.check for f in near} == {
        "near-duplicate texts across splits",
        "near-duplicate pictures across splits",
    }


def test_audit_finds_a_word_that_encodes_the_label(found: Audit) -> None:
    """The planted word, its class and its p-value are named."""
    count, detail, p = _by_check(found, "word that gives the label away")
    assert detail.startswith("'zq7' is in")
    assert "of class 'yes' and in 0 others" in detail
    assert count > 0.2 * N
    assert p is not None
    assert p < 1e-6


def test_audit_finds_a_column_that_predicts_the_split(found: Audit) -> None:
    """The planted column is named with its AUC, alone and through a model of all columns."""
    _, detail, p = _by_check(found, "one feature predicts the split")
    assert f"column {48 + 2} of" in detail
    assert p is not None
    assert p < 1e-6
    _, detail, _ = _by_check(found, "features predict the split")
    assert "AUC" in detail


def test_audit_of_planted_data_finds_nothing_else(found: Audit) -> None:
    """What was not planted is not found."""
    expected = (
        "across splits",
        "with different labels",
        "word that gives",
        "predict the split",
        "predicts the",
    )
    assert [f.check for f in found.findings if not any(word in f.check for word in expected)] == []


@pytest.mark.parametrize("seed", [1])
def test_audit_of_clean_data_finds_nothing(tmp_path: Path, seed: int) -> None:
    """Unrelated posts with coins for labels and splits give no finding."""
    posts = make_posts(tmp_path, 200, seed=seed).write()
    assert audit(AuditSettings(features=(str(posts.store),), data=tmp_path / "posts.csv")).findings == ()


@pytest.mark.nightly
def test_audit_rarely_raises_a_false_alarm(tmp_path: Path) -> None:
    """Over 30 clean data sets at most 3 have any finding (5 % is the level of the tests)."""
    alarms = []
    for seed in range(100, 130):
        posts = make_posts(tmp_path / str(seed), 300, seed=seed).write()
        result = audit(AuditSettings(features=(str(posts.store),), seed=seed))
        alarms += [(seed, finding.check) for finding in result.findings]
    assert len({seed for seed, _ in alarms}) <= 3, alarms


def test_audit_of_a_data_set_alone_tells_kinds_of_duplicates_apart(tmp_path: Path) -> None:
    """Without stores: whole posts, pictures under other texts, and texts over other pictures."""
    posts = make_posts(tmp_path, 120, seed=5)
    test, train = np.flatnonzero(posts.is_test), np.flatnonzero(~posts.is_test)
    posts.copy_exactly(int(train[0]), int(test[0]))
    posts.pictures[test[1]] = posts.pictures[train[1]]
    posts.pictures[test[2]] = posts.pictures[train[2]]
    posts.texts[test[3]] = posts.texts[train[3]]
    posts.qualities[int(test[2])] = 60
    posts.write()
    result = audit(AuditSettings(data=tmp_path / "posts.csv"))
    assert _by_check(result, "exact duplicates across splits")[0] == 1
    assert _by_check(result, "same picture, other text across splits")[0] == 1
    assert _by_check(result, "same text, other picture across splits")[0] == 1
    assert _by_check(result, "near-duplicate pictures across splits")[0] == 1
    examples = next(f for f in result.findings if f.check.startswith("same text")).examples
    assert set(examples[0].split(" = ")) == {f"p{train[3]}", f"p{test[3]}"}


def _texts_audited(folder: Path, texts: list[str], labels: list[str]) -> Audit:
    """Audit texts of which every second is a test row."""
    table = folder / "texts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label", "split"])
        rows = enumerate(zip(texts, labels, strict=True))
        writer.writerows([f"r{k}", text, label, ("train", "test")[k % 2]] for k, (text, label) in rows)
    return audit(AuditSettings(data=table))


def test_audit_lists_torn_groups_and_does_not_point_to_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` says where to look at duplicates with different labels; the audit itself shows them."""
    words = "one two three four five six seven"
    codes = labels_of(40)
    texts = [f"{words} {row}" if row in (0, 1) else f"a{row} b{row} c{row} d{row}" for row in range(40)]
    codes[:2] = (0, 1)
    store = str(make_store(tmp_path / "s.h5", "s", {"text": noisy(codes, 1.0)}, codes, texts=tuple(texts)))
    note = "1 group(s) of duplicates hold rows with different labels"
    assert main(["train", "--features", store, "--folds", "2", "--out", str(tmp_path / "runs")]) == 0
    assert f"note: {note}; embedonce audit lists them" in capsys.readouterr().err.splitlines()
    assert main(["audit", "--features", store]) == 0
    printed = capsys.readouterr()
    assert f"note: {note}" in printed.err.splitlines()
    assert "texts with different labels" in printed.out
    assert "audit lists them" not in printed.err


def test_audit_does_not_take_a_crowd_of_one_kind_for_duplicates(tmp_path: Path) -> None:
    """Twenty texts made from one form are no finding, but a note; a pair of near duplicates is a finding."""
    form = "the quick brown fox jumps over a lazy dog near the old river bank"
    pair = [f"{'some other words of one longer text which was posted'} {end}" for end in ("today", "now")]
    texts = [*(f"{form} {letter}" for letter in "abcdefghijklmnopqrst"), *pair]
    texts += [f"w{k} x{k} y{k}" for k in range(178)]
    result = _texts_audited(tmp_path, texts, [("a", "b")[k // 2 % 2] for k in range(200)])
    count, detail, _ = _by_check(result, "near-duplicate texts across splits")
    assert (count, detail.split(";")[0]) == (1, "1 group(s)")
    assert any("20 of 200 rows are like so many others" in note for note in result.notes)


def test_audit_finds_near_duplicates_of_a_class_too_small_for_folds(tmp_path: Path) -> None:
    """That folds leave them apart does not make them harmless across splits."""
    said = [" ".join(f"{letter}{k}" for letter in "abcdefghij") for k in range(6)]
    texts = [f"{text} {end}" for text in said for end in ("today", "tomorrow")]
    texts += [f"w{k} x{k} y{k}" for k in range(88)]
    result = _texts_audited(tmp_path, texts, ["rare"] * 12 + ["often"] * 88)
    assert _by_check(result, "near-duplicate texts across splits")[0] == 6
    assert any("only exact copies stay in one fold" in note for note in result.notes)


def test_audit_finds_a_picture_size_that_encodes_the_label(tmp_path: Path) -> None:
    """Classes that were collected at two sizes are named, with the feature that tells them apart."""
    posts = make_posts(tmp_path, 160, seed=6)
    for row in np.flatnonzero(posts.labels == 1):
        posts.pictures[row] = posts.pictures[row].resize((110, 88))
    posts.write()
    result = audit(AuditSettings(features=(str(posts.store),)))
    (finding,) = [f for f in result.findings if f.check == "side features predict the label"]
    assert finding.severity == "high"
    assert "alone: image " in finding.detail


def test_audit_finds_class_names_ids_and_order(tmp_path: Path) -> None:
    """Texts that name their class, ids spelled in two ways, and rows sorted by class."""
    posts = make_posts(tmp_path, 160, seed=8)
    posts.labels = np.sort(posts.labels)
    for row in np.flatnonzero(posts.labels == 1)[::5]:
        posts.texts[row] += " yes"
    posts.write()
    table = tmp_path / "posts.csv"
    rows = table.read_text(encoding="utf-8").splitlines()
    test, train = int(np.flatnonzero(posts.is_test)[0]), int(np.flatnonzero(~posts.is_test)[0])
    rows[test + 1] = rows[test + 1].replace(f"p{test},", f"P{train}.jpg,")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    result = audit(AuditSettings(data=table))
    assert "'yes' is in" in _by_check(result, "class name in the text")[1]
    assert _by_check(result, "shared ids")[0] == 2
    assert "row order" in _by_check(result, "ids or order predict the label")[1]
    assert {f.severity for f in result.findings if f.check.startswith("ids")} == {"low"}


# --- the permutation check --------------------------------------------------------------------------


def _copies(*, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hundred rows, each twice with a little noise: X, labels and the number of the original."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(100, 24))
    X = np.concatenate([X, X + 0.01 * rng.normal(size=X.shape)]).astype(np.float32)
    return X, np.tile(rng.integers(0, 3, 100), 2), np.tile(np.arange(100), 2)


def test_permutation_check_fails_when_copies_straddle_folds() -> None:
    """Folds that ignore copies beat chance on labels that mean nothing; folds that keep them do not."""
    X, y, units = _copies()
    torn = permutation_test(X, y, units, make_folds(y, random_state=0), random_state=0)
    assert torn.finding is not None
    assert torn.p < 1e-6
    kept = permutation_test(X, y, units, make_folds(y, groups=units, random_state=0), random_state=0)
    assert kept.finding is None or kept.p > 0.05


def test_permutation_check_fails_when_a_fit_sees_the_labels_it_predicts() -> None:
    """Columns chosen by their correlation with all labels are found out; the honest choice is not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 400))
    y = rng.integers(0, 2, 120)
    folds = make_folds(y, random_state=0)

    def chooses_columns_on(everything: bool):
        def of_fold(fold):
            def predict(X, y, train):
                seen = np.arange(len(y)) if everything else train
                merit = (X[seen] - X[seen].mean(0)).T @ (y[seen] - y[seen].mean())
                best = np.argsort(-np.abs(merit))[:20]
                score = X[fold[1]][:, best] @ np.sign(merit[best])
                return (score > np.median(X[train][:, best] @ np.sign(merit[best]))).astype(int)

            return predict

        return of_fold

    leaky, honest = (
        permutation_test(X, y, np.arange(120), folds, random_state=0, predict=chooses_columns_on(flag))
        for flag in (True, False)
    )
    assert leaky.finding is not None
    assert leaky.p < 1e-6
    assert honest.p > 0.01


def test_permutation_p_values_are_not_small_under_the_null() -> None:
    """Over 60 draws of unrelated rows at most 5 % + 3 deviations of the p-values are below 0.05."""
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 3, 90)
        X = rng.normal(size=(90, 8)).astype(np.float32)
        folds = make_folds(y, random_state=seed)
        small += permutation_test(X, y, np.arange(90), folds, random_state=seed).p < 0.05
    assert small <= 60 * 0.05 + 3 * np.sqrt(60 * 0.05 * 0.95)


# --- AUC --------------------------------------------------------------------------------------------


def test_auc_equals_scikit_learn_and_scipy() -> None:
    """Ties and missing values included; the p-value is that of Mann and Whitney's test."""
    from scipy.stats import mannwhitneyu
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 150)
    X = np.round(rng.normal(size=(150, 70)), 1)
    expected = [roc_auc_score(y, column) for column in X.T]
    np.testing.assert_allclose(column_aucs(X, y), expected, atol=1e-12)
    scores = rng.normal(size=150) + 0.3 * y
    auc, low, high, p = auc_with_interval(scores, y)
    test = mannwhitneyu(
        scores[y == 1], scores[y == 0], alternative="greater", method="asymptotic", use_continuity=False
    )
    assert p == pytest.approx(test.pvalue, rel=1e-9)
    assert low < auc < high
    holed = X.copy()
    holed[::7, 0] = np.nan
    filled = np.where(np.isnan(holed[:, 0]), np.nanmedian(holed[:, 0]), holed[:, 0])
    assert column_aucs(holed, y)[0] == pytest.approx(roc_auc_score(y, filled))


def test_auc_interval_covers_the_true_value() -> None:
    """Of 300 samples with a true AUC of 0.76, 90 to 98 % have it inside."""
    from scipy.stats import norm

    true = norm.cdf(1 / np.sqrt(2))
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = np.arange(100) % 2
        _, low, high, _ = auc_with_interval(rng.normal(size=100) + y, y)
        inside += low <= true <= high
    assert 270 <= inside <= 294


# --- the command ------------------------------------------------------------------------------------


def test_audit_of_a_run_finds_duplicates_across_its_folds(
    planted: Posts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with --duplicates none is caught, by its folds and by permuted labels; one with near is not."""
    posts = make_posts(tmp_path / "data", 120, seed=9, test_share=0.0)
    for row in range(30):
        posts.copy_exactly(row, row + 60)
    posts.write()
    for rule in ("none", "near"):
        train = ["train", "--features", str(posts.store), "--study", rule, "--out", str(tmp_path / "runs")]
        assert main([*train, "--duplicates", rule]) == 0
        capsys.readouterr()
        assert main(["audit", "--run", str(tmp_path / "runs" / rule), "--json"]) == 0
        checks = {f["check"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
        across = "exact duplicates across folds of the run"
        assert (across in checks) == (rule == "none")
        assert ("score above chance on permuted labels" in checks) == (rule == "none")
        if rule == "none":
            assert checks[across]["count"] > 30
            assert "of 120 out-of-fold rows" in checks[across]["detail"]


@pytest.mark.parametrize(("p", "is_said"), [(0.006, True), (0.4, False)])
def test_small_effect_without_a_finding_is_explained(
    capsys: pytest.CaptureFixture[str], p: float, is_said: bool
) -> None:
    """A small p among what is no finding would look like an oversight."""
    tests = (findings.Tested("ids or order predict the label", p, "balanced accuracy 0.419"),)
    print_audit(Audit(9, {"train": 9}, (), tests, (), 1.0), as_json=False, out=None)
    assert ("an effect, but too weak or too usual to be a fault" in capsys.readouterr().out) == is_said


def test_audit_command_prints_writes_and_is_strict(
    planted: Posts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings go to stdout and a CSV, findings alone are no failure, with --strict they are."""
    out = tmp_path / "deep" / "audit.csv"
    assert main(["audit", "--features", str(planted.store), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "word that gives the label away" in printed.out
    assert "what to do: " in printed.out
    assert "no finding" in printed.out
    assert "audited in" in printed.err
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["severity", "finding", "rows", "p", "detail", "examples", "advice"]
    assert [row["severity"] for row in rows] == sorted(
        (row["severity"] for row in rows), key=["high", "medium", "low"].index
    )
    assert main(["audit", "--data", str(planted.folder / "posts.csv"), "--strict"]) == 1
    assert "--strict allows none" in capsys.readouterr().err


def test_audit_refuses_what_it_cannot_read(
    planted: Posts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong path, a run without rows, another data set and contradictory options: one line each."""
    (tmp_path / "empty.csv").write_text("id,text,label\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("id,text,label\nx,one two,a\ny,three four,b\n", encoding="utf-8")
    store = str(planted.store)
    for words, status, message in (
        (["--run", str(tmp_path / "nowhere")], 1, "not a finished run folder"),
        (["--data", str(tmp_path / "nowhere")], 1, "does not exist"),
        (["--data", str(tmp_path / "empty.csv")], 1, "empty.csv"),
        (["--features", store, "--data", str(tmp_path / "other.csv")], 1, "are not in the data set"),
        (["--features", store, "--run", str(tmp_path)], 2, "leave out --features"),
    ):
        assert main(["audit", *words]) == status
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
