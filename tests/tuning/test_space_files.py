"""A space file says what is tried, is written back unchanged, and every fault in it is named at once."""

import re
from pathlib import Path

import pytest

import heads
from tuning import build_spaces, default_configuration, parse_space, space_as_toml, starting_configuration
from tuning.dimensions import Choice, Float, Int

WIDE = {"blocks": {"text": 768, "image": 768}, "n_features": 1536, "n_rows": 4000}

EVERY_KIND = """
[mlp]
hidden = [64, [128, 64]]
n_hidden = {low = 1, high = 3}
learning_rate = {low = 1e-4, high = 1e-2, log = true}
label_smoothing = {low = 0, high = 0.5}
weight_decay = [0, 0.01]
dropout = 0.3
clip_norm = ["none", 1.0]
norm = "none"
balance = ["none", "class-weight^0.3", "smote"]
"""


def mlp_space(text, **shape):
    """The space of an MLP as a file changes it."""
    return build_spaces(["mlp"], **(shape or WIDE), declared=parse_space(text)).heads["mlp"]


def test_parse_space_reads_every_kind_of_value():
    """Lists are choices, tables ranges, the rest fixed; none is None where the head takes no such word."""
    space = mlp_space(EVERY_KIND)
    asked = space.dimensions
    assert asked["hidden"] == Choice((64, [128, 64]))
    assert asked["n_hidden"] == Int(1, 3)
    assert asked["learning_rate"] == Float(1e-4, 1e-2, log=True)
    assert asked["label_smoothing"] == Float(0.0, 0.5)
    assert asked["clip_norm"] == Choice((None, 1.0))
    assert asked["balance"] == Choice(("none", "class-weight^0.3", "smote"))
    assert [type(value) for value in asked["weight_decay"].values] == [float, float]
    assert (space.fixed["dropout"], space.fixed["norm"]) == (0.3, "none")
    assert "dropout" not in asked
    assert "fusion" in asked  # what the file does not name stays


@pytest.mark.parametrize("shape", [WIDE, {}, {"n_features": 12}])
def test_space_as_toml_of_the_own_spaces_reads_back_as_the_same_spaces(shape):
    """Printed, read and built again, the spaces are what they were, and so is what is tried first."""
    spaces = build_spaces(heads.HEADS, **shape)
    declared = parse_space(space_as_toml(spaces.declared()))
    again = build_spaces(heads.HEADS, **shape, declared=declared)
    assert again == spaces
    for head in heads.HEADS:
        assert starting_configuration(head, again) == starting_configuration(head, spaces)


def test_space_as_toml_reads_back_as_the_same_declaration():
    """Lists in lists, words, ranges and truth survive."""
    declared = parse_space(EVERY_KIND + "only = true")
    assert parse_space(space_as_toml(declared)) == declared


def test_only_leaves_the_rest_as_it_is_tried_first():
    """With `only = true` one dimension is asked, and the others have the values of the start."""
    space = mlp_space("[mlp]\ndropout = [0.1, 0.2]\nonly = true")
    assert list(space.dimensions) == ["dropout"]
    start = starting_configuration("mlp", build_spaces(["mlp"], **WIDE)).parameters
    for name in ("pca", "hidden", "learning_rate", "fusion", "label_smoothing"):
        assert space.fixed[name] == start[name]
    assert space.fixed["balance"] == "class-weight"


def test_declared_values_move_the_start_into_the_space():
    """What is tried first keeps to the ranges and to the fixed values of a file."""
    space = mlp_space("[mlp]\nmax_epochs = 8\npca = 'none'\ndropout = {low = 0.5, high = 0.7}")
    start = space.starting_configuration().parameters
    assert (start["max_epochs"], start["pca"], start["dropout"]) == (8, None, 0.5)
    assert "whiten" not in space.dimensions  # nothing to whiten without directions


def test_sections_of_heads_that_are_not_searched_do_no_harm():
    """One file serves several commands."""
    declared = parse_space("[mlp]\ndropout = 0.1\n[logreg]\nC = 0.1")
    assert list(build_spaces(["logreg"], declared=declared).heads) == ["logreg"]
    start = starting_configuration("logreg", build_spaces(["logreg"], declared=declared))
    assert start.parameters == {**default_configuration("logreg").parameters, "C": 0.1}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[mpl]\nx = 1", ["unknown head 'mpl'", "did you mean 'mlp'"]),
        ("mlp = 3", ["mlp is 3, not a section (write [mlp]"]),
        ("[mlp]\ndropuot = 0.3", ["[mlp] unknown parameter 'dropuot'", "did you mean 'dropout'"]),
        ("[mlp]\ndropout = 1.5", ["[mlp] dropout=1.5 (allowed: a number in [0, 1))"]),
        ("[mlp]\ndropout = [0.1, 'high']", ["dropout='high' (allowed: a number in [0, 1))"]),
        ("[mlp]\ndropout = [0.1, 0.1]", ["holds a value twice"]),
        ("[mlp]\ndropout = []", ["dropout is an empty list"]),
        ("[mlp]\ndropout = nan", ["dropout=nan (allowed: a number in [0, 1))"]),
        ("[mlp]\ndropout = 1979-05-27", ["dropout=datetime.date(1979, 5, 27) (allowed: a number"]),
        ("[mlp]\nhidden = [64.5, 0]", ["hidden=64.5 (allowed: a whole", "hidden=0 (allowed: a whole"]),
        ("[mlp]\nfusion = ['concta']", ["fusion='concta'", "did you mean 'concat'"]),
        ("[mlp]\nonly = 1", ["only is 1 (allowed: true or false)"]),
        ("[mlp]\nclass_weight = 'balanced'", ["class_weight is not declared by itself (use balance)"]),
        ("[mlp]\nbalance = 'smot'", ["balance='smot' (allowed: 0 < P < 1 in:", "did you mean 'smote'"]),
        ("[mlp]\nrank = {low = 1, hi = 3}", ["unknown word 'hi'", "rank has no 'high'"]),
        ("[mlp]\nrank = {low = 3, high = 3}", ["rank: low 3 is not below high 3"]),
        ("[mlp]\nrank = {low = 'a', high = 3}", ["rank: 'a' is no number"]),
        ("[mlp]\nrank = {low = 1, high = 2.5}", ["rank=2.5 (allowed: a whole number"]),
        ("[mlp]\ndropout = {low = 0, high = 0.5, log = true}", ["low 0 is not above 0, which log = true"]),
        ("[mlp]\ndropout = {low = 0, high = 0.5, log = 1}", ["dropout: log is 1 (allowed: true or false)"]),
        ("[knn]\nn_jobs = 2", ["[knn] unknown parameter 'n_jobs'"]),
        ("[mlp]\ndropout = 2\nnorm = 'x'\n[svm]\nC = 0", ["has 3 fault(s)", "dropout", "norm", "[svm] C=0"]),
    ],
)
def test_parse_space_names_every_fault(text, faults):
    """Wrong heads, parameters and values come in one error, with what is allowed and near matches."""
    with pytest.raises(ValueError, match="search space has ") as error:
        parse_space(text)
    for fault in faults:
        assert fault in str(error.value)


def test_parse_space_refuses_what_is_no_toml():
    """The error says where."""
    with pytest.raises(ValueError, match=r"not TOML: .*line 2"):
        parse_space("[mlp]\ndropout 0.3")


def test_build_spaces_refuses_a_dimension_that_plays_no_part():
    """A rank without a bilinear fusion would be searched for nothing."""
    message = "[mlp] rank plays no part, because it matters only while fusion is 'bilinear'"
    with pytest.raises(ValueError, match=re.escape(message)):
        mlp_space("[mlp]\nrank = [2, 4]\nfusion = 'gated'")


def test_documented_example_is_a_space():
    """The file shown in docs/spaces.md has no fault, and changes both heads."""
    page = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    space = build_spaces(["mlp", "svm"], **WIDE, declared=parse_space(example))
    assert list(space.heads["svm"].dimensions) == ["C"]
    assert space.heads["mlp"].dimensions["pca"] == Choice((64, 128, None))
