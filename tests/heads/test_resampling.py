"""Resamplers, and that nothing they make reaches rows it should not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imblearn.combine import SMOTEENN
from imblearn.over_sampling import ADASYN, SMOTE, BorderlineSMOTE
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import heads
from heads import LogisticHead, MLPHead, make_pipeline, make_resampler
from heads.class_neighbors import ClassNeighbors
from heads.resampling import picks_rows, resampled_size

ACTIVE = [name for name in heads.RESAMPLERS if name != "none"]
FAST = {
    "mlp": {"hidden": 32, "max_epochs": 8, "learning_rate": 3e-3},
    "logreg": {},
    "lightgbm": {"n_estimators": 15},
    "ridge": {},
    "svm": {},
    "centroid": {},
    "knn": {},
}

# Predictions that do not depend on the labels have an expected macro-F1 of at most 1/3 at 6 : 1 : 3 (reached
# when classes are predicted at their own shares; 0.25 when only the largest is). On 600 rows one shuffle
# spreads by 0.02 around that.
CHANCE_LOW, CHANCE_HIGH = 0.25 - 4 * 0.02, 1 / 3 + 4 * 0.02


@pytest.fixture(scope="module")
def permuted() -> tuple[np.ndarray, np.ndarray]:
    """600 rows of 40 columns at 6 : 1 : 3 whose labels mean nothing."""
    random = np.random.default_rng(5)
    y = np.repeat([0, 1, 2], [360, 60, 180])
    random.shuffle(y)
    return random.normal(size=(600, 40)).astype(np.float32), y


def _macro_f1(pipeline, X, y) -> float:
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return f1_score(y, cross_val_predict(pipeline, X, y, cv=folds), average="macro")


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
@pytest.mark.parametrize("head", heads.HEADS)
def test_pipeline_permuted_labels_score_chance(head, resampler, permuted):
    """No pipeline scores above chance on labels that mean nothing, as it would if synthetic rows leaked."""
    X, y = permuted
    pipeline = make_pipeline(head, resampler=resampler, parameters=FAST[head], random_state=0)
    assert CHANCE_LOW < _macro_f1(pipeline, X, y) < CHANCE_HIGH


@pytest.mark.parametrize("fusion", heads.FUSIONS)
def test_fusion_permuted_labels_score_chance(fusion, permuted):
    """No fusion scores above chance on labels that mean nothing, with two blocks and synthetic rows."""
    X, y = permuted
    parameters = {**FAST["mlp"], "fusion": fusion, "projection_width": 16, "stop_metric": "macro_f1"}
    pipeline = make_pipeline("mlp", resampler="smote", parameters=parameters, blocks={"a": 15, "b": 25})
    assert CHANCE_LOW < _macro_f1(pipeline, X, y) < CHANCE_HIGH


def test_chance_bound_notices_a_leak(permuted):
    """The bound above has teeth: resampling before the split breaks it by far."""
    X, y = make_resampler("random-over", random_state=0).fit_resample(*permuted)
    assert _macro_f1(make_pipeline("lightgbm", parameters=FAST["lightgbm"]), X, y) > CHANCE_HIGH + 0.1


@pytest.mark.parametrize("name", ["random-over", "smote", "borderline-smote"])
def test_resampler_evens_out_classes_and_keeps_rows(name, hard):
    """Classes become equally large, and the original rows stay in front, unchanged."""
    X, y = hard
    rows, labels = make_resampler(name, random_state=0).fit_resample(X, y)
    assert np.bincount(labels).tolist() == [180, 180, 180]
    assert rows.dtype == np.float32
    assert_array_equal(rows[: len(X)], X)
    assert_array_equal(labels[: len(y)], y)


def test_resampler_inverse_frequency_draws_classes_evenly(hard):
    """Classes times the largest class are drawn, about as many of each class, and only original rows."""
    X, y = hard
    sampler = make_resampler("inverse-frequency", random_state=0)
    rows, labels = sampler.fit_resample(X, y)
    assert len(rows) == 3 * 180
    # Each class is drawn 180 times in expectation; 5 standard deviations of the binomial are 55.
    assert np.abs(np.bincount(labels) - 180).max() < 55
    assert_array_equal(rows, X[sampler.sample_indices_])
    assert_array_equal(labels, y[sampler.sample_indices_])


@pytest.mark.parametrize("seed", range(20))
def test_resampler_inverse_frequency_misses_no_class(seed):
    """Even of a handful of rows every class is drawn."""
    y = np.array(["a", "b", "c", "d", "e"])
    _, labels = make_resampler("inverse-frequency", random_state=seed).fit_resample(np.eye(5), y)
    assert sorted(set(labels)) == sorted(y)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("smote", SMOTE(random_state=4)),
        ("borderline-smote", BorderlineSMOTE(random_state=4)),
        ("adasyn", ADASYN(random_state=4)),
        ("smote-enn", SMOTEENN(random_state=4)),
    ],
)
def test_resampler_equals_imblearn_when_rows_suffice(name, plain, hard):
    """With six rows or more in every class these are the published methods, row for row."""
    X, y = hard
    ours, theirs = make_resampler(name, random_state=4).fit_resample(X, y), plain.fit_resample(X, y)
    assert_array_equal(ours[0], theirs[0])
    assert_array_equal(ours[1], theirs[1])
    assert ours[0].dtype == np.float32


def test_resampler_random_under_draws_as_many_of_each_class(hard):
    """Every class is cut to the smallest, without repeating a row."""
    X, y = hard
    sampler = make_resampler("random-under", random_state=0)
    rows, labels = sampler.fit_resample(X, y)
    assert np.bincount(labels).tolist() == [30, 30, 30]
    assert len(set(sampler.sample_indices_.tolist())) == 90
    assert_array_equal(rows, X[sampler.sample_indices_])


def _apart() -> tuple[np.ndarray, np.ndarray]:
    """Three classes at 6 : 1 : 3 so far apart that no row has a neighbour of another class."""
    y = np.repeat([0, 1, 2], [60, 12, 30])
    X = np.random.default_rng(0).normal(size=(102, 4)) + 1000.0 * y[:, None]
    return X.astype(np.float32), y


@pytest.mark.parametrize("name", ["borderline-smote", "adasyn"])
def test_resampler_falls_back_on_smote_for_classes_without_a_border(name):
    """Where the library refuses, or leaves a class as it is, plain SMOTE makes the rows."""
    X, y = _apart()
    with pytest.raises(RuntimeError, match="ADASYN is not suited"):
        ADASYN(random_state=0).fit_resample(X, y)
    assert len(BorderlineSMOTE(random_state=0).fit_resample(X, y)[1]) == 102
    rows, labels = make_resampler(name, random_state=0).fit_resample(X, y)
    assert np.bincount(labels).tolist() == [60, 60, 60]
    assert np.abs(rows - 1000.0 * labels[:, None]).max() < 10


def test_resampler_smote_enn_empties_no_class():
    """A class whose every row is contradicted by its neighbours keeps its rows."""
    random = np.random.default_rng(0)
    X = np.repeat(random.normal(size=(40, 3)), 2, axis=0) + 0.01 * random.normal(size=(80, 3))
    y = np.tile([0, 1], 40)  # each row has its twin in the other class
    assert len(SMOTEENN(random_state=0).fit_resample(X, y)[1]) == 0
    rows, labels = make_resampler("smote-enn", random_state=0).fit_resample(X, y)
    assert sorted(labels.tolist()) == sorted(y.tolist())
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in X}


@pytest.mark.parametrize("n_rare", [2, 3])
@pytest.mark.parametrize("name", ACTIVE)
def test_resampler_takes_a_handful_of_rows(name, n_rare):
    """Five rows in one class and two or three in the other are resampled by every method."""
    random = np.random.default_rng(0)
    y = np.repeat([0, 1], [5, n_rare])
    rows, labels = make_resampler(name, random_state=0).fit_resample(random.normal(size=(len(y), 3)), y)
    assert set(labels.tolist()) == {0, 1}
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("n_rare", [2, 3, 5])
def test_resampler_smote_shrinks_its_neighbourhood(n_rare, hard):
    """A class of two to five rows is enlarged too; its new rows lie between its own."""
    X, y = hard
    rare = np.flatnonzero(y == 1)[:n_rare]
    kept = np.sort(np.concatenate([np.flatnonzero(y != 1), rare]))
    rows, labels = make_resampler("smote", random_state=0).fit_resample(X[kept], y[kept])
    assert np.bincount(labels).tolist() == [180, 180, 180]
    low, high = X[rare].min(axis=0), X[rare].max(axis=0)
    made = rows[labels == 1]
    assert ((made >= low - 1e-5) & (made <= high + 1e-5)).all()


@pytest.mark.parametrize("name", ["smote", "borderline-smote", "adasyn", "smote-enn"])
def test_resampler_refuses_single_rows(name, hard):
    """A class of one row is named, with what to do."""
    X, y = hard
    alone = np.flatnonzero(y == 1)[0]
    kept = np.sort(np.append(np.flatnonzero(y != 1), alone))
    message = r"class 1 has 1 training row\. Use resampler='random-over'"
    with pytest.raises(ValueError, match=message):
        make_resampler(name, random_state=0).fit_resample(X[kept], y[kept])


def test_resampler_balanced_labels_pass_through():
    """Classes that are equally large already are left alone by SMOTE."""
    X, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 3
    rows, _ = make_resampler("smote", random_state=0).fit_resample(X, y)
    assert_array_equal(rows, X)


@pytest.mark.parametrize("name", heads.RESAMPLERS)
def test_resampled_size_is_what_the_sampler_makes(name, hard):
    """Of overlapping classes; ADASYN rounds, and SMOTE-ENN removes what only the rows tell."""
    X, y = hard
    size = resampled_size(name, np.bincount(y))
    sampler = make_resampler(name, random_state=0)
    made = len(y) if sampler is None else len(sampler.fit_resample(X, y)[1])
    if name == "smote-enn":
        assert size is None
        assert made < 3 * 180
    else:
        assert size == (pytest.approx(made, rel=0.02) if name == "adasyn" else made)


@pytest.mark.parametrize("name", ACTIVE)
def test_samplers_that_pick_rows_pick_the_same_whatever_the_columns(name, hard):
    """Their numbers say all that they did; the others make rows, or look at neighbours."""
    X, y = hard
    sampler = make_resampler(name, random_state=0)
    rows, labels = sampler.fit_resample(X, y)
    assert picks_rows(name) == hasattr(sampler, "sample_indices_")
    if picks_rows(name):
        other = make_resampler(name, random_state=0)
        other.fit_resample(X[:, :1] ** 2, y)
        assert_array_equal(other.sample_indices_, sampler.sample_indices_)
        assert_array_equal(rows, X[sampler.sample_indices_])
        assert_array_equal(labels, y[sampler.sample_indices_])
    assert not picks_rows("none")


def test_resampler_unknown_name_suggests():
    """A near miss is answered with what was meant; "none" is no sampler."""
    assert make_resampler("none", random_state=0) is None
    with pytest.raises(ValueError, match=r"unknown resampler 'smoote'.*did you mean 'smote'"):
        make_resampler("smoote", random_state=0)
    with pytest.raises(ValueError, match=r"unknown resampler 'smoote'.*did you mean 'smote'"):
        resampled_size("smoote", np.array([3, 4]))


@pytest.mark.parametrize("resampler", ACTIVE)
def test_pipeline_resamples_in_fit_only(resampler, hard):
    """The head is trained on the resampled training rows; rows to predict are neither added nor changed."""
    X, y = hard
    train, rest = slice(0, 200), slice(200, 300)
    pipeline = make_pipeline("logreg", resampler=resampler, random_state=7).fit(X[train], y[train])
    sampler = make_resampler(resampler, random_state=7)
    by_hand = LogisticHead(random_state=7).fit(*sampler.fit_resample(X[train], y[train]))
    assert_array_equal(pipeline["head"].coef_, by_hand.coef_)
    assert pipeline.predict_proba(X[rest]).shape == (100, 3)
    assert_array_equal(pipeline.predict_proba(X[rest]), by_hand.predict_proba(X[rest]))


def _prepared(head: MLPHead, X: np.ndarray, codes: np.ndarray):
    """Return the rows that the head would learn from and stop on."""
    return head._prepare(X, codes, np.ones(len(codes)), None, device=torch.device("cpu"), seed=0)


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_mlp_stops_on_original_rows_only(resampler, hard):
    """The rows MLPHead stops on are original, all different, and none of them is learnt from."""
    X, y = hard
    head = MLPHead(resampler=resampler, class_weight=None)
    head.classes_, codes = np.unique(y, return_inverse=True)
    data = _prepared(head, X, codes)
    rows, held_out = data.learnt_from, data.stopped_on
    original = {row.tobytes(): label for row, label in zip(data.scale.apply(X), y, strict=True)}
    stopped_on = [row.tobytes() for row in held_out.X.numpy()]
    assert len(set(stopped_on)) == len(stopped_on) == 27 + 4 + 14  # 15 % of 180, 30 and 90, rounded
    assert [original[row] for row in stopped_on] == held_out.codes.tolist()
    assert not set(stopped_on) & {row.tobytes() for row in rows.X.numpy()}
    sizes = {"none": (255, 255), "random-under": (78, 78), "adasyn": (450, 470), "smote-enn": (26, 459)}
    low, high = sizes.get(resampler, (3 * 153, 3 * 153))
    assert low <= len(rows.X) <= high


@pytest.mark.parametrize("resampler", heads.RESAMPLERS)
def test_mlp_stops_on_the_loss_it_trains(resampler, hard):
    """Held-out classes weigh as much as they do among the rows that are learnt from, resampled or not."""
    X, y = hard
    head = MLPHead(resampler=resampler, class_weight={1: 2.0})
    head.classes_, codes = np.unique(y, return_inverse=True)
    data = _prepared(head, X, codes)
    parts = (data.learnt_from, data.stopped_on)
    shares = [np.bincount(part.codes, weights=part.weights) / len(part.codes) for part in parts]
    assert_allclose(shares[0], shares[1], rtol=1e-5)


def test_mlp_scales_by_the_rows_it_learns_from(hard):
    """Held-out rows take no part in the column means."""
    X, y = hard
    head = MLPHead()
    head.classes_, codes = np.unique(y, return_inverse=True)
    rows = _prepared(head, X, codes).learnt_from
    assert_allclose(rows.X.numpy().mean(axis=0), 0, atol=1e-5)
    assert_allclose(rows.X.numpy().std(axis=0), 1, atol=1e-5)


def test_mlp_refuses_weights_with_resampling(hard):
    """Sample weights and resampling do not go together, and the message says so."""
    X, y = hard
    with pytest.raises(ValueError, match="sample_weight cannot be combined with resampler='smote'"):
        MLPHead(resampler="smote").fit(X, y, sample_weight=np.ones(len(y)))


def test_resampler_smote_searches_a_large_class_in_parts(monkeypatch):
    """Dealt out into parts, a row's neighbours are exactly the nearest rows of its own part."""
    monkeypatch.setattr("heads.class_neighbors._MOST_TOGETHER", 40)
    X = np.random.default_rng(0).normal(size=(103, 5)).astype(np.float32)  # 3 parts: 35, 34 and 34 rows
    distances, places = ClassNeighbors(4).fit(X).kneighbors(X)
    assert_array_equal(places[:, 0], np.arange(103))
    for row in (0, 1, 5, 102):
        part = np.arange(row % 3, 103, 3)
        away = np.linalg.norm(X[part] - X[row], axis=1)
        assert_array_equal(places[row], part[np.argsort(away)[:4]])
        assert_allclose(distances[row], np.sort(away)[:4], atol=1e-3)
    assert_array_equal(ClassNeighbors(4).fit(X).kneighbors(X, return_distance=False), places)
    with pytest.raises(ValueError, match="neighbours are found for these rows only, not for 7 others"):
        ClassNeighbors(4).fit(X).kneighbors(X[:7])


def test_resampler_smote_of_a_large_class_stays_between_its_rows(monkeypatch):
    """With parts, classes are evened out as without, and every new row lies between two rows of its class."""
    random = np.random.default_rng(1)
    y = random.permutation(np.repeat([0, 1, 2], [90, 20, 70]))
    X = (random.normal(size=(180, 3)) + 3 * y[:, None]).astype(np.float32)
    whole, _ = make_resampler("smote", random_state=0).fit_resample(X, y)
    monkeypatch.setattr("heads.class_neighbors._MOST_TOGETHER", 30)
    rows, labels = make_resampler("smote", random_state=0).fit_resample(X, y)
    assert_array_equal(np.bincount(labels), [90, 90, 90])
    assert_array_equal(rows[:180], X)
    assert (rows[-20:] != whole[-20:]).any()  # class 2, of 70 rows, comes last
    for row, label in zip(rows[180:], labels[180:], strict=True):
        own = X[y == label]
        towards = own - row
        lengths = np.linalg.norm(towards, axis=1)
        directions = towards / np.maximum(lengths, 1e-9)[:, None]
        opposite = (directions @ directions.T).min()
        assert lengths.min() < 1e-4 or opposite < -1 + 1e-4
