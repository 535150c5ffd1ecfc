"""Boosted trees that grow a few rounds at a time are the trees that the plain head grows in one go."""

import lightgbm
import numpy as np
import pytest

import heads
from tuning import Configuration, evaluate, make_folds
from tuning.binned_rows import BinnedRows
from tuning.boosted_trees import BoostedTrees
from tuning.cores import Cores
from tuning.reductions import Reductions
from tuning.trials import fold_seed

SMALL = {"num_leaves": 5, "min_child_samples": 5, "n_estimators": 30, "pca": 32}


@pytest.fixture(scope="module")
def embedded():
    """Rows of two correlated blocks at 6 : 1 : 3, and their class codes."""
    random = np.random.default_rng(0)
    y = random.permutation(np.select([np.arange(300) % 10 < 6, np.arange(300) % 10 < 7], [0, 1], 2))
    hidden = random.normal(size=(300, 40))
    hidden[:, 0] += y
    hidden[:, 1] += y == 1
    X = hidden @ random.normal(size=(40, 90)) + 0.3 * random.normal(size=(300, 90))
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def folds(embedded):
    """Three folds of the rows."""
    return make_folds(embedded[1], n_folds=3, random_state=0)


@pytest.fixture(scope="module")
def reductions(embedded, folds):
    """Their reductions, with two blocks."""
    return Reductions(*embedded, folds, blocks={"text": 50, "image": 40})


def _configuration(**parameters):
    return Configuration("lightgbm", parameters.pop("resampler", "none"), {**SMALL, **parameters})


def _population(configurations, reductions, **arguments):
    return BoostedTrees(configurations, reductions, n_classes=3, random_state=7, **arguments)


def _head(configuration, fold):
    pipeline = heads.make_pipeline(
        "lightgbm", parameters=configuration.parameters, random_state=fold_seed(7, fold)
    )
    return pipeline.named_steps["head"]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_boosted_trees_equal_cross_validation(class_weight, embedded, folds, reductions):
    """On all folds the probabilities are those of the plain pipeline, within 1e-3."""
    configuration = _configuration(class_weight=class_weight, n_estimators=40)
    plain = evaluate(
        configuration, *embedded, folds, blocks={"text": 50, "image": 40}, n_classes=3, random_state=7
    )
    trees = _population([configuration], reductions)
    for fold, (_, valid) in enumerate(folds):
        trees.train(dict.fromkeys([0], len(trees.checkpoints) - 1), [fold])
        np.testing.assert_allclose(trees.probabilities(0, fold)[-1], plain.oof[valid], atol=1e-3)


def test_boosted_trees_continue_to_what_one_training_gives(reductions):
    """Whatever the stops on the way, each checkpoint equals lightgbm.train with that many rounds."""
    settings = [{"class_weight": None}, {"class_weight": "balanced"}, {"learning_rate": 0.3}]
    configurations = [_configuration(**chosen) for chosen in settings]
    trees = _population(configurations, reductions)
    assert trees.checkpoints == (10, 20, 30)
    trees.train(dict.fromkeys([1, 0], 0), [0])
    # Members that stand at different rounds, the weighted one begun first, on bins that they share.
    trees.train(dict.fromkeys([0, 1, 2], 2), [0])
    rows = reductions.rows(0, 32)
    for member, configuration in enumerate(configurations):
        head = _head(configuration, 0)
        data = lightgbm.Dataset(
            rows.train,
            label=rows.train_codes,
            weight=head.booster_weights(rows.train_codes, [0, 1, 2], np.ones(len(rows.train))),
            params=head.binning_settings(),
        )
        booster = lightgbm.train(head.booster_settings(3), data, num_boost_round=30)
        for position, rounds in enumerate(trees.checkpoints):
            np.testing.assert_allclose(
                trees.probabilities(member, 0)[position],
                booster.predict(rows.valid, num_iteration=rounds),
                atol=1e-6,
            )


def test_boosted_trees_do_not_depend_on_company_or_threads(reductions):
    """A member alone on one thread is the same, to the bit, as among others on two."""
    configurations = [
        _configuration(num_leaves=leaves, pca=pca, class_weight=weight)
        for leaves in (3, 7)
        for pca in (8, 16)
        for weight in (None, "balanced")
    ]
    together = _population(configurations, reductions, cores=Cores(2))
    together.train(dict.fromkeys(range(len(configurations)), 2), [1])
    for member, configuration in enumerate(configurations):
        alone = _population([configuration], reductions, cores=Cores(1))
        alone.train(dict.fromkeys([0], 2), [1])
        np.testing.assert_array_equal(together.probabilities(member, 1), alone.probabilities(0, 1))


def test_boosted_trees_stop_at_the_rounds_asked_for(reductions):
    """A member ends at its n_estimators, between checkpoints or beyond those of the others."""
    trees = _population([_configuration(n_estimators=13), _configuration(n_estimators=130)], reductions)
    assert trees.checkpoints == (10, 20, 30, 40, 60, 80, 100, 125, 150)
    trees.train(dict.fromkeys([0, 1], 3), [0])
    assert len(trees.probabilities(0, 0)) == 2
    assert len(trees.probabilities(1, 0)) == 4
    assert trees.final(0, 0).parameters["n_estimators"] == 10
    assert trees.final(0, 5).parameters["n_estimators"] == 13
    assert trees.final(1, 8).parameters == {**SMALL, "n_estimators": 130}
    exact = _population([_configuration(n_estimators=13)], reductions)
    exact.train(dict.fromkeys([0], 1), [0])
    np.testing.assert_array_equal(trees.probabilities(0, 0), exact.probabilities(0, 0))


def test_boosted_trees_training_again_changes_nothing(reductions):
    """A checkpoint that was reached is not trained for again."""
    trees = _population([_configuration()], reductions)
    assert trees.probabilities(0, 0).shape == (0, len(reductions.folds[0][1]), 3)
    trees.train(dict.fromkeys([0], 2), [0])
    before, seconds = trees.probabilities(0, 0), trees.seconds(0)
    trees.train(dict.fromkeys([0, 0], 1), [0])
    np.testing.assert_array_equal(trees.probabilities(0, 0), before)
    assert trees.seconds(0) == seconds > 0


def test_boosted_trees_see_no_validation_row(embedded, folds):
    """Validation rows and labels that are changed leave the trees as they are."""
    X, y = embedded
    train, valid = folds[0]
    other, labels = X.copy(), y.copy()
    other[valid[1:]] *= 1e3
    labels[valid] = 0
    found = []
    for rows, codes in ((X, y), (other, labels)):
        trees = _population([_configuration(pca=16)], Reductions(rows, codes, [(train, valid)]))
        trees.train(dict.fromkeys([0], 2), [0])
        found.append(trees.probabilities(0, 0)[:, 0])  # of the one validation row that was left alone
    np.testing.assert_array_equal(found[0], found[1])


def test_boosted_trees_learn_nothing_from_permuted_labels(embedded, folds):
    """With permuted labels the out-of-fold accuracy is no better than chance."""
    X, y = embedded
    random = np.random.default_rng(3)
    hits = []
    for _ in range(5):
        codes = random.permutation(y)
        trees = _population([_configuration(pca=16)], Reductions(X, codes, folds))
        for fold, (_, valid) in enumerate(folds):
            trees.train(dict.fromkeys([0], 2), [fold])
            predicted = trees.probabilities(0, fold)[-1].argmax(axis=1)
            hits += [np.mean([(predicted[codes[valid] == k] == k).mean() for k in range(3)])]
    assert abs(np.mean(hits) - 1 / 3) < 0.05


def test_boosted_trees_give_an_absent_class_probability_zero(embedded, folds):
    """A class that only validation rows have gets probability 0, as in tuning.evaluate."""
    X, y = embedded
    train, valid = folds[0]
    train = train[y[train] != 1]
    trees = _population([_configuration(class_weight="balanced")], Reductions(X, y, [(train, valid)]))
    trees.train(dict.fromkeys([0], 2), [0])
    probabilities = trees.probabilities(0, 0)
    assert (probabilities[..., 1] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)


def test_boosted_trees_without_a_possible_split_are_silent(reductions, capfd):
    """When no leaf can be split the class shares are answered, and nothing is printed, in any thread."""
    trees = _population([_configuration(min_child_samples=250, class_weight=None)] * 3, reductions)
    trees.train(dict.fromkeys([0, 1, 2], 0), [0])
    trees.train(dict.fromkeys([0, 1, 2], 2), [0])
    shares = np.bincount(reductions.rows(0, 32).train_codes) / len(reductions.folds[0][0])
    np.testing.assert_allclose(trees.probabilities(2, 0)[-1], np.tile(shares, (100, 1)), atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_boosted_trees_drop_frees_boosters_and_keeps_probabilities(reductions):
    """A dropped member cannot go on, its probabilities stay, and the others are not touched."""
    trees = _population([_configuration(), _configuration(num_leaves=3)], reductions)
    trees.train(dict.fromkeys([0, 1], 0), [0])
    before = trees.probabilities(0, 0)
    trees.drop(0)
    np.testing.assert_array_equal(trees.probabilities(0, 0), before)
    trees.train(dict.fromkeys([1], 2), [0])
    assert len(trees.probabilities(1, 0)) == 3
    with pytest.raises(ValueError, match=r"Members \[0\] were dropped and cannot be trained on"):
        trees.train(dict.fromkeys([0, 1], 2), [0])


def test_binned_rows_are_shared_between_populations(reductions):
    """One Dataset per fold, width, bins and weighting serves all populations, and no weights are mixed up."""
    binned = BinnedRows(reductions)
    first = _head(_configuration(class_weight=None), 0)
    weighted = _head(_configuration(class_weight="balanced", num_leaves=3), 0)
    one, other = binned.of(0, first), binned.of(0, weighted)
    assert binned.of(0, _head(_configuration(class_weight=None, num_leaves=9), 0)) is one
    assert other is not one
    assert one.dataset.get_weight() is None  # so LightGBM keeps weights that are all 1
    labels = np.asarray(other.dataset.get_label())
    masses = [other.dataset.get_weight()[labels == k].sum() for k in range(3)]
    np.testing.assert_allclose(masses, len(labels) / 3, rtol=1e-5)


def test_boosted_trees_accept_what_they_can_train():
    """Another head, resampling, and raw columns by the hundred are left to others."""
    accepts = BoostedTrees.accepts
    assert accepts(_configuration())
    assert not accepts(Configuration("logreg", "none", {}))
    assert not accepts(_configuration(resampler="smote"))
    assert not accepts(_configuration(pca=None))
    assert not accepts(_configuration(pca=None), n_features=1536)
    assert accepts(_configuration(pca=None), n_features=64)


def test_boosted_trees_refuse_what_the_head_refuses(reductions):
    """Wrong configurations, checkpoints and labels are named with what is allowed."""
    with pytest.raises(ValueError, match=r"Head 'logreg' cannot be boosted trees; allowed is 'lightgbm'"):
        _population([Configuration("logreg", "none", {})], reductions)
    with pytest.raises(ValueError, match=r"2 wrong parameter\(s\): learning_rate=-1 .*num_leaves=1 "):
        _population([_configuration(learning_rate=-1, num_leaves=1)], reductions)
    with pytest.raises(ValueError, match=r"no checkpoint 3; allowed are 0 to 2 \(30 rounds\)"):
        _population([_configuration()], reductions).train(dict.fromkeys([0], 3), [0])


def test_boosted_trees_refuse_one_class(embedded, folds):
    """A fold with one class cannot be trained on."""
    X, y = embedded
    train = np.flatnonzero(y == 2)
    trees = _population([_configuration()], Reductions(X, y, [(train, folds[0][1])]))
    with pytest.raises(ValueError, match=r"rows of fold 0 are all of class \[2\]"):
        trees.train(dict.fromkeys([0], 0), [0])
