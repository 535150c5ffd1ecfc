"""Stacked MLPs: a member is the plain head, whatever is trained beside it and wherever it stops."""

import math

import numpy as np
import pytest

from heads import default_parameters, make_resampler
from tuning import Configuration, evaluate, make_folds
from tuning.reductions import Reductions
from tuning.stacked import StackedMLPs

BLOCKS = {"text.pooled": 7, "image.pooled": 5}


def configuration(resampler="none", **changes):
    """An MLP as a search trains it: all rows, a fixed number of epochs."""
    small = {"hidden": 16, "batch_size": 32, "max_epochs": 8, "learning_rate": 3e-3, "projection_width": 8}
    fixed = {"validation_fraction": 0.0, "schedule": "constant", "class_weight": "balanced"}
    return Configuration("mlp", resampler, {**default_parameters("mlp"), **fixed, **small, **changes})


def resampled(rows, resampler, seed):
    """Resample as the plain head does."""
    sampler = make_resampler(resampler, random_state=seed)
    X, codes = sampler.fit_resample(rows.train, rows.train_codes)
    return np.ascontiguousarray(X, dtype=np.float32), codes


@pytest.fixture
def task(make_data):
    """Rows, codes and folds with two blocks."""
    X, y = make_data(160)
    return X, y, make_folds(y, n_folds=2)


def population(task, configurations, **options):
    """A population on the rows of the task."""
    X, y, folds = task
    reductions = Reductions(X, y, folds, blocks=BLOCKS)
    return StackedMLPs(
        configurations, reductions, n_classes=3, random_state=3, resampled=resampled, **options
    )


MIXED = [
    configuration(),
    configuration(dropout=0.6, learning_rate=1e-2, class_weight=0.5),
    configuration(pca=4),
    configuration(pca=4, whiten=True, weight_decay=0.3),
    configuration(pca=4, fusion="gated", label_smoothing=0.1, max_epochs=4),
    configuration("smote", pca=3, class_weight=None, n_hidden=2),
    configuration("inverse-frequency", class_weight=None, loss="focal"),
]


def test_member_equals_the_plain_head_on_every_fold(task):
    """Cross-validating each configuration by itself gives the probabilities of the population."""
    X, y, folds = task
    found = population(task, MIXED)
    everyone = range(len(MIXED))
    for fold in range(2):
        found.train(dict.fromkeys(everyone, len(found.checkpoints) - 1), [fold])
    for member in everyone:
        asked = found.final(member, len(found.checkpoints) - 1)
        alone = evaluate(asked, X, y, folds, blocks=BLOCKS, n_classes=3, random_state=3)
        for fold, (_, valid) in enumerate(folds):
            # Columns are reduced in float32 here and in float64 there.
            np.testing.assert_allclose(
                found.probabilities(member, fold)[-1], alone.oof[valid], atol=1e-4, err_msg=str(asked)
            )


def test_member_leaves_out_the_blocks_that_the_plain_head_leaves_out(task):
    """With a block that says nothing, members are plain heads as well: screened, reduced and resampled."""
    X, y, folds = task
    X = X.copy()
    X[:, :7] += y[:, None]
    X[:, 7:] = np.random.default_rng(0).normal(size=(len(X), 5))
    members = [
        *(configuration(fusion=fusion) for fusion in ("concat", "gated", "product", "attention")),
        configuration(pca=4),
        configuration("smote", pca=3, class_weight=None),
        configuration("smote", pca=3, class_weight=None, screen_blocks=False),
    ]
    found = population((X, y, folds), members)
    found.train(dict.fromkeys(range(len(members)), len(found.checkpoints) - 1), [0, 1])
    for number, member in enumerate(members):
        asked = found.final(number, len(found.checkpoints) - 1)
        blocks, columns = (BLOCKS, 12) if number == 6 else ({"text.pooled": 7}, 7)
        alone = evaluate(asked, X[:, :columns], y, folds, blocks=blocks, n_classes=3, random_state=3)
        for fold, (_, valid) in enumerate(folds):
            np.testing.assert_allclose(
                found.probabilities(number, fold)[-1], alone.oof[valid], atol=1e-4, err_msg=str(member)
            )


def test_checkpoint_equals_the_configuration_that_stops_there(task):
    """What is kept after e epochs is the head with max_epochs=e, and `final` names it."""
    X, y, folds = task
    found = population(task, MIXED[:2])
    assert found.checkpoints == (2, 4, 6, 8)
    found.train(dict.fromkeys([0, 1], 1), [0])
    assert found.probabilities(0, 0).shape == (2, len(folds[0][1]), 3)
    assert found.probabilities(0, 1).shape == (0, len(folds[1][1]), 3)
    stopped = found.final(1, 1)
    assert stopped.parameters == {**MIXED[1].parameters, "max_epochs": 4}
    alone = evaluate(stopped, X, y, folds, blocks=BLOCKS, n_classes=3, random_state=3)
    np.testing.assert_allclose(found.probabilities(1, 0)[1], alone.oof[folds[0][1]], atol=1e-4)


def test_rows_that_are_made_cost_epochs(task):
    """A member with SMOTE takes as many steps as the others, so fewer epochs, unless it is taken as asked."""
    _, y, _ = task
    longer = 3 * np.bincount(y).max() / len(y)
    made = configuration("smote", class_weight=None)
    found = population(task, [configuration(), made, made], as_asked=[2])
    assert found.checkpoints == (2, 4, 6, 8)
    epochs = [[found.final(m, place).parameters["max_epochs"] for place in range(4)] for m in range(3)]
    assert epochs[0] == epochs[2] == [2, 4, 6, 8]
    assert epochs[1] == [math.ceil(e / longer) for e in (2, 4, 6, 8)]
    found.train({0: 3, 1: 3}, [0])
    assert found.probabilities(1, 0).shape == found.probabilities(0, 0).shape


def test_member_does_not_depend_on_its_company(task):
    """Trained step by step among others that are dropped, or alone at once: the same probabilities."""
    together, alone = population(task, MIXED), population(task, MIXED)
    together.train(dict.fromkeys(range(7), 0), [1])
    together.train(dict.fromkeys([1, 3, 4], 2), [1])
    together.train(dict.fromkeys([1, 4], 3), [1])
    for member in (1, 4):
        alone.train(dict.fromkeys([member], 3), [1])
        np.testing.assert_allclose(
            together.probabilities(member, 1), alone.probabilities(member, 1), atol=1e-6
        )
    assert len(together.probabilities(0, 1)) == 1
    assert len(together.probabilities(3, 1)) == 3


def test_rows_that_smote_enn_leaves_cost_epochs():
    """Classes apart keep what SMOTE made, and cost as many epochs; where most is removed, none are saved."""
    random = np.random.default_rng(0)
    y = random.permutation(np.repeat([0, 1, 2], [72, 12, 36]))
    noise = random.normal(size=(120, 6)).astype(np.float32)
    folds = make_folds(y, n_folds=3)
    member, epochs = configuration("smote-enn", class_weight=None), []
    for X in (noise + 100 * y[:, None].astype(np.float32), noise):
        found = StackedMLPs(
            [member], Reductions(X, y, folds), n_classes=3, random_state=3, resampled=resampled
        )
        epochs.append([found.final(0, place).parameters["max_epochs"] for place in range(4)])
    assert epochs == [[math.ceil(e / 1.8) for e in (2, 4, 6, 8)], [2, 4, 6, 8]]


def test_member_stops_at_its_own_most_epochs(task):
    """A member with fewer epochs than the others keeps its last state, once."""
    found = population(task, MIXED)
    found.train(dict.fromkeys(range(7), 3), [0])
    assert [len(found.probabilities(member, 0)) for member in (0, 4)] == [4, 2]
    assert found.final(4, 3).parameters["max_epochs"] == 4
    odd = population(task, [configuration(max_epochs=5), configuration(max_epochs=8)])
    odd.train(dict.fromkeys([0, 1], 3), [0])
    assert [len(odd.probabilities(member, 0)) for member in (0, 1)] == [3, 4]
    assert odd.final(0, 2).parameters["max_epochs"] == 5


def test_validation_rows_shape_nothing(task):
    """Moving the validation rows of a fold far away changes nothing that is learnt there."""
    X, y, folds = task
    moved = X.copy()
    moved[folds[0][1]] += 1000
    shared = X[folds[0][1]]
    plain, shifted = population(task, MIXED[:4]), population((moved, y, folds), MIXED[:4])
    for each in (plain, shifted):
        each.train(dict.fromkeys(range(4), 1), [0])
    for group, other in zip(plain._groups, shifted._groups, strict=True):
        mine, theirs = group.stacks[0][0]._parameters, other.stacks[0][0]._parameters
        for name in mine:
            np.testing.assert_array_equal(mine[name].detach(), theirs[name].detach())
    assert len(shared) == len(folds[0][1])


@pytest.mark.parametrize(
    "changes",
    [
        {"validation_fraction": 0.15},
        {"schedule": "one-cycle"},
        {"norm": "batch"},
        {"n_members": 2},
        {"mixup": 0.2},
        {"clip_norm": 1.0},
        {"modality_dropout": 0.1},
    ],
)
def test_what_cannot_be_stacked_is_not_accepted(changes):
    """Heads with an inner split, a course of the learning rate or BatchNorm are left to `evaluate`."""
    assert StackedMLPs.accepts(configuration())
    assert not StackedMLPs.accepts(configuration(**changes))
    assert not StackedMLPs.accepts(configuration("smote"))
    assert StackedMLPs.accepts(configuration("smote"), resamples=True)


def test_parameters_out_of_range_are_refused(task):
    """A parameter that the head would refuse is refused before anything is trained."""
    with pytest.raises(ValueError, match=r"dropout.*1\.5"):
        population(task, [configuration(dropout=1.5)])
