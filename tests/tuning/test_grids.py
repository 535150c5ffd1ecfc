"""Grids hold every combination once and in order, and the logistic cover is coarse first."""

from pathlib import Path

import numpy as np
import pytest

import heads
from tuning import (
    build_spaces,
    default_configuration,
    grid_configurations,
    logistic_grid,
    parse_space,
    starting_configuration,
)
from tuning.batch_evaluation import _is_on_a_path
from tuning.grids import is_on_a_path

SPACES = Path(__file__).parents[2] / "docs" / "spaces"


def grid(text, *, names=("mlp",), limit=200, **shape):
    """The grid of a space file."""
    return grid_configurations(build_spaces(names, **shape, declared=parse_space(text)), limit=limit)


def test_grid_configurations_hold_every_combination_in_order():
    """The last dimension varies fastest, and what is not named is as it is tried first."""
    found = grid("[mlp]\nbatch_size = [4, 8]\ndropout = [0.1, 0.2]\nonly = true")
    pairs = [(one.parameters["batch_size"], one.parameters["dropout"]) for one in found]
    assert pairs == [(4, 0.1), (4, 0.2), (8, 0.1), (8, 0.2)]
    start = starting_configuration("mlp").parameters
    assert all(one.parameters["learning_rate"] == start["learning_rate"] for one in found)
    assert len({one.key for one in found}) == 4


def test_grid_configurations_follow_the_heads():
    """Head after head, in the order asked for; a head without dimensions is one combination."""
    text = "[svm]\nC = [0.1, 0.01]\nonly = true\n[centroid]\nonly = true"
    found = grid(text, names=("centroid", "svm"))
    assert [(one.head, one.parameters.get("C")) for one in found] == [
        ("centroid", None),
        ("svm", 0.1),
        ("svm", 0.01),
    ]


def test_grid_configurations_vary_only_what_matters():
    """The rank of a bilinear fusion is not varied beside another fusion."""
    found = grid("[mlp]\nfusion = ['concat', 'bilinear']\nrank = [2, 3, 5]\nonly = true", limit=4)
    assert [(one.parameters["fusion"], one.parameters["rank"]) for one in found] == [
        ("concat", 4),
        ("bilinear", 2),
        ("bilinear", 3),
        ("bilinear", 5),
    ]


def test_grid_configurations_refuse_ranges():
    """All ranges are named."""
    with pytest.raises(ValueError, match=r"there are ranges: mlp\.n_hidden, mlp\.dropout, .*only = true"):
        grid("")


def test_grid_configurations_refuse_more_than_the_limit():
    """The error has the count; a huge grid is refused as fast."""
    text = "[mlp]\nbatch_size = [4, 8]\ndropout = [0.1, 0.2]\nonly = true"
    with pytest.raises(ValueError, match=r"grid has 4 combinations, and --trials allows 3\."):
        grid(text, limit=3)
    many = ", ".join(str(n) for n in range(1, 2000))
    with pytest.raises(ValueError, match=r"grid has more than 100,000 combinations"):
        grid(f"[mlp]\nhidden = [{many}]\nprojection_width = [{many}]\nfusion = 'gated'\nonly = true")


@pytest.mark.parametrize(
    ("name", "n", "varied"),
    [
        ("report-001-grid.toml", 16, {"batch_size", "learning_rate", "weight_decay", "dropout"}),
        ("report-001-fine-grid.toml", 27, {"learning_rate", "weight_decay", "dropout"}),
    ],
)
def test_grids_of_a_report_have_its_points(name, n, varied):
    """The files in docs/spaces give as many points as the report says, and vary what it varied."""
    shape = {"blocks": {"text": 512, "image": 512}, "n_features": 1024, "n_rows": 3600}
    found = grid((SPACES / name).read_text(encoding="utf-8"), limit=n, **shape)
    assert len(found) == n
    values = {key: {str(one.parameters[key]) for one in found} for key in found[0].parameters}
    assert {key for key, seen in values.items() if len(seen) > 1} == varied
    heads.make_pipeline("mlp", parameters=found[0].parameters)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 36, 60, 100])
def test_logistic_grid_covers_coarse_first(n):
    """As many different configurations as asked for, the default first, every beginning a wide cover."""
    found = logistic_grid(n)
    assert len(found) == len({one.key for one in found}) == n
    assert found[0] == default_configuration("logreg")
    for start in (12, 24, 48):
        if start <= n:
            C = np.log10([one.parameters["C"] for one in found[:start]])
            assert C.min() <= -3.4
            assert C.max() >= -0.6
            assert {one.parameters["class_weight"] for one in found[:start]} == {None, 0.5, "balanced"}


def test_logistic_grid_stays_in_a_declared_space():
    """Fixed values, choices and weights of a file hold; resamplers are left out."""
    text = "[logreg]\nC = [0.1, 0.3]\ntol = 0.001\nbalance = ['smote', 'none', 'class-weight^0.7']"
    found = logistic_grid(20, build_spaces(["logreg"], declared=parse_space(text)))
    settings = {(one.parameters["C"], one.parameters["class_weight"]) for one in found}
    assert settings >= {(0.1, None), (0.1, 0.7), (0.3, None), (0.3, 0.7)}
    assert {one.parameters["tol"] for one in found} == {0.001}
    assert len(found) == 5  # the start, with the first treatment of the file, and the four
    assert found[0].resampler == "smote"


def test_logistic_grid_refuses_bad_arguments():
    """At least one configuration, and of a space with that head."""
    with pytest.raises(ValueError, match="'n' is 0, allowed is 1 or more"):
        logistic_grid(0)
    with pytest.raises(ValueError, match="does not hold 'logreg'"):
        logistic_grid(3, build_spaces(["svm"]))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("", True),
        ("C = 0.3", True),
        ("C = [0.1, 0.3]\nl1_ratio = 0", True),
        ("balance = ['none', 'class-weight^0.7']", True),
        ("l1_ratio = 0.5", False),
        ("tol = 0.001", False),
        ("balance = 'smote'", False),
        ("l1_ratio = [0.0, 0.5]", False),
    ],
)
def test_is_on_a_path_says_what_is_solved_as_one(section, expected):
    """A path is laid out only where every configuration of it is one that the path's solver takes."""
    space = build_spaces(["logreg"], declared=parse_space(f"[logreg]\n{section}"))
    assert is_on_a_path(space.heads["logreg"]) is expected
    laid_out = logistic_grid(12, space)
    assert all(_is_on_a_path(one) for one in laid_out) or not expected
