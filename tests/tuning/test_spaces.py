"""Every configuration that can be asked can be built, and what is tried first lies among them."""

import itertools

import pytest
from optuna.trial import FixedTrial

import heads
from tuning import (
    Configuration,
    build_spaces,
    default_configuration,
    evaluate,
    make_folds,
    open_study,
    starting_configuration,
    suggest,
)
from tuning.balance import SEARCHED_RESAMPLERS, balance_of, is_balance, treatment
from tuning.dimensions import Choice, Float, Int

LENGTHS = {"max_epochs", "n_estimators"}
TWO_BLOCKS = {"blocks": {"text": 300, "image": 200}, "n_features": 500, "n_rows": 1000}


@pytest.mark.parametrize("head", heads.HEADS)
@pytest.mark.parametrize("shape", [{}, TWO_BLOCKS, {"n_features": 12, "n_rows": 100}, {"n_rows": 50_000}])
def test_suggest_answers_the_start_when_its_parameters_are_fixed(head, shape):
    """What is tried first lies inside the space, but for a shorter training."""
    space = build_spaces(heads.HEADS, **shape)
    start = starting_configuration(head, space)
    found = suggest(FixedTrial(space.study_parameters(start)), heads.HEADS, space)
    lengths = {name: start.parameters[name] for name in LENGTHS & set(start.parameters)}
    assert Configuration(head, found.resampler, {**found.parameters, **lengths}) == start
    assert all(length < found.parameters[name] for name, length in lengths.items())


@pytest.mark.parametrize("head", [h for h in heads.HEADS if h not in ("mlp", "lightgbm")])
def test_suggest_answers_the_default_when_its_parameters_are_fixed(head):
    """Heads that a search trains as anybody would have their default inside the space."""
    trial = FixedTrial(build_spaces([head]).study_parameters(default_configuration(head)))
    assert suggest(trial, heads.HEADS) == default_configuration(head) == starting_configuration(head)


@pytest.mark.parametrize("head", heads.HEADS)
def test_study_parameters_of_the_default_are_a_point_of_the_space(head):
    """Optuna takes them without a word: every value is one that the space may give."""
    study, asked = open_study(), build_spaces([head]).study_parameters(default_configuration(head))
    study.enqueue_trial(asked)
    trial = study.ask()
    suggest(trial, heads.HEADS)
    assert {name: asked[name] for name in trial.params} == trial.params


@pytest.mark.parametrize("head", heads.HEADS)
def test_default_configuration_is_the_head_as_it_comes(head):
    """Nothing resampled, and the parameters of `heads.default_parameters`."""
    configuration = default_configuration(head)
    assert configuration.resampler == "none"
    assert configuration.parameters == heads.default_parameters(head)


def test_starting_configuration_trains_without_rows_put_aside():
    """A search's first network learns from all training rows, 20 epochs long, on 128 directions per block."""
    start = starting_configuration("mlp").parameters
    fixed = {
        "validation_fraction": 0.0,
        "batch_size": 256,
        "schedule": "constant",
        "class_weight": "balanced",
    }
    asked = {"pca": 128, "hidden": 128, "n_hidden": 1, "learning_rate": 1e-3, "weight_decay": 1e-2}
    assert {**start, **fixed, **asked, "max_epochs": 20, "dropout": 0.3} == start
    assert starting_configuration("lightgbm") == default_configuration("lightgbm")


def ask(space, n):
    """Ask a new study ``n`` times; return the trials with their configurations."""
    study = open_study(random_state=0)
    found = []
    for _ in range(n):
        trial = study.ask()
        found.append((trial, space.suggest(trial)))
        study.tell(trial, 0.5)
    return found


def test_suggest_asks_only_what_pipelines_accept():
    """Sixty configurations all build; all heads and resamplers occur; never weights and resampling both."""
    found = ask(build_spaces(heads.HEADS, **TWO_BLOCKS), 60)
    for trial, configuration in found:
        head = configuration.head
        heads.make_pipeline(
            head, resampler=configuration.resampler, parameters=configuration.parameters, random_state=0
        )
        assert all(name == "head" or name.startswith(f"{head}.") for name in trial.params)
        assert configuration.resampler == "none" or configuration.parameters["class_weight"] is None
        assert set(configuration.parameters) == set(heads.default_parameters(head))
    assert {configuration.head for _, configuration in found} == set(heads.HEADS)
    assert {configuration.resampler for _, configuration in found} == set(SEARCHED_RESAMPLERS)
    assert set(SEARCHED_RESAMPLERS) <= set(heads.RESAMPLERS)


def test_suggest_configurations_train(make_data):
    """Of every head, what a space gives on narrow data is cross-validated without an objection."""
    X, y = make_data(80)
    space = build_spaces(heads.HEADS, n_features=12, n_rows=80, declared={"mlp": {"max_epochs": 2}})
    folds = make_folds(y, n_folds=2)
    by_head = {configuration.head: configuration for _, configuration in ask(space, 40)}
    assert set(by_head) == set(heads.HEADS)
    for configuration in by_head.values():
        trial = evaluate(configuration, X, y, folds, n_classes=3)
        assert 0 < trial.score <= 1


def test_build_spaces_asks_for_fusion_only_with_several_blocks():
    """One block has nothing to combine."""
    assert "fusion" in build_spaces(["mlp"], **TWO_BLOCKS).heads["mlp"].dimensions
    assert "fusion" not in build_spaces(["mlp"], blocks={"text": 500}).heads["mlp"].dimensions


@pytest.mark.parametrize(
    ("shape", "mlp", "lightgbm"),
    [
        ({}, (64, 128, 256, None), (16, 32, 64)),
        (TWO_BLOCKS, (64, 128, None), (16, 32, 64)),
        ({"n_features": 1536}, (64, 128, 256), (16, 32, 64)),
        ({"blocks": {"a": 40, "b": 400}, "n_features": 440}, None, (16, 32)),
        ({"n_features": 64}, None, None),
        ({"n_features": 500, "n_rows": 150}, (64, None), (16, 32, 64)),
    ],
)
def test_build_spaces_asks_for_directions_that_the_data_has(shape, mlp, lightgbm):
    """At most the narrowest block's width and half the rows; none on few columns; one choice is fixed."""
    spaces = build_spaces(["mlp", "lightgbm"], **shape).heads
    for head, expected in (("mlp", mlp), ("lightgbm", lightgbm)):
        if isinstance(expected, tuple):
            assert spaces[head].dimensions["pca"] == Choice(expected)
        else:
            assert "pca" not in spaces[head].dimensions
            assert spaces[head].fixed["pca"] == expected
    assert ("whiten" in spaces["mlp"].dimensions) == isinstance(mlp, tuple)


def test_suggest_asks_only_what_matters():
    """Whitening needs directions, a projection's width a projection, a rank a bilinear fusion."""
    declared = {
        "mlp": {
            "rank": {"low": 1, "high": 8},
            "projection_width": [16, 32],
            "n_attention_heads": [2, 4],
            "fusion": ["concat", "bilinear", "attention"],
        }
    }
    seen = set()
    for trial, configuration in ask(build_spaces(["mlp"], **TWO_BLOCKS, declared=declared), 40):
        fusion, names = configuration.parameters["fusion"], set(trial.params)
        seen.add((fusion, configuration.parameters["pca"] is None))
        assert ("mlp.rank" in names) == (fusion == "bilinear")
        assert ("mlp.projection_width" in names) == (fusion != "concat")
        assert ("mlp.n_attention_heads" in names) == (fusion == "attention")
        assert ("mlp.whiten" in names) == (configuration.parameters["pca"] is not None)
        if fusion == "concat":
            assert configuration.parameters["projection_width"] == 64  # what is fixed
    assert seen == set(itertools.product(("concat", "bilinear", "attention"), (True, False)))


@pytest.mark.parametrize("word", ["none", "class-weight", "class-weight^0.25", "effective", "smote-enn"])
def test_balance_words_survive_the_way_there_and_back(word):
    """A word, what it means, and the word for that."""
    assert is_balance(word)
    resampler, class_weight = treatment(word)
    assert balance_of(resampler, {"class_weight": class_weight}) == word


@pytest.mark.parametrize("word", ["class-weight^1.5", "class-weight^x", "class-weight^0", "smot", 3, None])
def test_balance_refuses_other_words(word):
    """Powers lie between 0 and 1, and names are those of the resamplers."""
    assert not is_balance(word)
    with pytest.raises(ValueError, match=r"no way to treat rare classes, allowed are 0 < P < 1 in: "):
        treatment(str(word))


def test_balance_of_has_no_word_for_both():
    """Weights beside a resampler, or weights by class, are no single treatment."""
    assert balance_of("smote", {"class_weight": "balanced"}) is None
    assert balance_of("none", {"class_weight": {"rare": 2.0}}) is None


@pytest.mark.parametrize(
    ("dimension", "value", "nearest"),
    [
        (Float(0.1, 0.5), 0.9, 0.5),
        (Float(0.1, 0.5), None, 0.1),
        (Int(1, 8), 3.6, 4),
        (Int(1, 8), 0, 1),
        (Choice((64, 128, None)), 100, 128),
        (Choice((64, 128, None)), None, None),
        (Choice(("a", "b")), "c", "a"),
    ],
)
def test_dimensions_find_the_nearest_value(dimension, value, nearest):
    """Inside it is the value itself, outside the nearest end or choice."""
    assert dimension.nearest(value) == nearest


def test_choice_of_lists_survives_a_study(tmp_path):
    """Lists of layer widths are choices too, and are found again in a stored study."""
    layers = Choice(([128, 64], [64], 32))
    study = open_study("s", str(tmp_path / "s.journal"))
    study.enqueue_trial({"hidden": layers.label([64])})
    first, second = study.ask(), study.ask()
    assert layers.ask(first, "hidden") == [64]
    assert layers.ask(second, "hidden") in layers.values
    assert open_study("s", str(tmp_path / "s.journal")).trials[0].params == {"hidden": "[64]"}


def test_space_study_parameters_of_a_foreign_configuration_are_near():
    """Weights by class have no word, so the first treatment stands in; numbers go to the nearest choice."""
    parameters = {**heads.default_parameters("lightgbm"), "pca": 60, "class_weight": {"rare": 2.0}}
    found = build_spaces(["lightgbm"]).study_parameters(Configuration("lightgbm", "none", parameters))
    assert (found["lightgbm.pca"], found["lightgbm.balance"]) == (64, "class-weight")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"'heads' is \[\], not a list of one or more names"),
        ("mlp", "'heads' is 'mlp', not a list"),
        (
            ["mlp", "forest", "mlp"],
            r"unknown heads \['forest'\]; heads given twice \['mlp'\]\. Allowed",
        ),
    ],
)
def test_suggest_refuses_wrong_heads(names, message):
    """All faults of a list of heads come in one message."""
    with pytest.raises(ValueError, match=message):
        suggest(FixedTrial({}), names)


@pytest.mark.parametrize(
    ("n_rows", "epochs"), [(None, 30), (2000, 30), (2001, 20), (20_000, 20), (20_001, 12), (100_000, 12)]
)
def test_space_trains_fewer_epochs_on_many_rows(n_rows, epochs):
    """The most epochs of an MLP are 30, 20 above 2,000 rows and 12 above 20,000, unless the user says so."""
    assert build_spaces(["mlp"], n_rows=n_rows).heads["mlp"].fixed["max_epochs"] == epochs
    declared = build_spaces(["mlp"], n_rows=n_rows, declared={"mlp": {"max_epochs": 40}}).heads["mlp"]
    assert declared.fixed["max_epochs"] == 40
    assert declared.starting_configuration().parameters["max_epochs"] == 40
