"""Boosted trees of strangers: whatever LightGBM's reader would trust is checked before it reads."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from heads.tree_text import checked_tree_text

ROOT = Path(__file__).resolve().parents[2]
COLUMNS, CLASSES = 6, 3


def _booster(rounds: int = 3, classes: int = CLASSES, **settings: Any) -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, COLUMNS)), rng.integers(0, classes, 150)
    X[:, 5] = 1.0  # a column that no tree can split
    asked = {
        "objective": "multiclass",
        "num_class": classes,
        "verbosity": -1,
        "num_leaves": 4,
        "num_threads": 1,
    }
    return lightgbm.train(asked | settings, lightgbm.Dataset(X, label=y), num_boost_round=rounds)


@pytest.fixture(scope="module")
def good() -> str:
    return str(_booster().model_to_string())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"classes": 2},
        {"classes": 5, "rounds": 20},
        {"num_leaves": 63, "min_data_in_leaf": 1},
        {"min_data_in_leaf": 1000},  # trees of one leaf
        {"learning_rate": 1e-7, "lambda_l2": 1e6},
    ],
    ids=str,
)
def test_tree_text_of_lightgbm_predicts_the_same_after_its_check(settings: dict[str, Any]) -> None:
    """What LightGBM writes passes, and predicts to the last bit what it did."""
    booster = _booster(**settings)
    text = checked_tree_text(
        booster.model_to_string(), n_columns=COLUMNS, n_classes=settings.get("classes", CLASSES)
    )
    rows = np.random.default_rng(1).normal(size=(50, COLUMNS))
    again = lightgbm.Booster(model_str=text)
    np.testing.assert_array_equal(again.predict(rows), booster.predict(rows))
    assert "parameters" not in text


def _swap(old: str, new: str) -> Callable[[str], str]:
    """Replace the first match of a pattern."""
    return lambda text: re.sub(old, new, text, count=1)


def _resized(edit: Callable[[str], str]) -> Callable[[str], str]:
    """Edit, and give the list of sizes what it must say: an attacker would."""

    def spoil(text: str) -> str:
        text = edit(text)
        trees = text[text.index("Tree=0\n") : text.index("end of trees\n")]
        sizes = [
            len(part.encode()) for part in re.split(r"(?=^Tree=\d+$)", trees, flags=re.MULTILINE) if part
        ]
        return re.sub("tree_sizes=.*", "tree_sizes=" + " ".join(map(str, sizes)), text)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_swap("tree_sizes=.*", "tree_sizes=99999999 1 1 1 1 1 1 1 1"), "its list says 100000007"),
        (_swap("tree_sizes=.*", "tree_sizes=-5 1 1 1 1 1 1 1 1"), "has no bytes"),
        (_swap("tree_sizes=.*\n", ""), "'tree_sizes'"),
        (_swap("num_class=3", "num_class=2000000000"), "num_class is '2000000000', but '3' is needed"),
        (_swap("max_feature_idx=5", "max_feature_idx=500"), "max_feature_idx is '500'"),
        (_swap("version=v4", "version=v3"), "version is 'v3', but 'v4'"),
        (_swap("objective=.*", "objective=custom"), "objective is 'custom'"),
        (_resized(_swap(r"split_feature=\d", "split_feature=6")), "splits a column that is not there"),
        (_resized(_swap(r"split_feature=\d", "split_feature=-9")), "splits a column that is not there"),
        (_resized(_swap(r"left_child=\S+", "left_child=100000000")), "does not reach each of its nodes"),
        (_resized(_swap(r"left_child=\S+", "left_child=0")), "does not reach each of its nodes"),
        (_resized(_swap(r"right_child=\S+", "right_child=-200000000")), "does not reach each of its nodes"),
        (_resized(_swap("num_leaves=4", "num_leaves=2000000000")), "where a whole number must be"),
        (_resized(_swap("num_leaves=4", "num_leaves=400")), r"has 3 numbers, but 399|has 4 numbers, but 400"),
        (_resized(_swap("num_leaves=4", "num_leaves=-1")), "has no leaves"),
        (_resized(_swap("num_cat=0", "num_cat=1")), "categorical or linear"),
        (_resized(_swap("is_linear=0", "is_linear=1")), "categorical or linear"),
        (_resized(_swap("decision_type=2", "decision_type=1")), "decision type"),
        (_resized(_swap(r"threshold=\S+", "threshold=nan")), "threshold of tree 0 holds something"),
        (_resized(_swap("num_cat=0", "num_cat=0\ncat_threshold=1")), "not one that LightGBM writes"),
        (lambda _: "", "does not begin with 'tree'"),
        (lambda text: text.replace("\n", "\r\n"), "does not begin with 'tree'"),
    ],
)  # fmt: skip
def test_tree_text_of_strangers_is_refused(spoil: Callable[[str], str], message: str, good: str) -> None:
    """Sizes, indices, children and kinds that would lead LightGBM astray are each refused by name."""
    assert spoil(good) != good
    with pytest.raises(ValueError, match=message):
        checked_tree_text(spoil(good), n_columns=COLUMNS, n_classes=CLASSES)


def test_tree_text_of_great_depth_is_refused() -> None:
    """A chain of 2,000 nodes would overflow the stack when LightGBM describes it."""
    n = 2000
    lists = {
        "num_leaves": [n + 1],
        "num_cat": [0],
        "split_feature": [0] * n,
        "threshold": [0] * n,
        "decision_type": [2] * n,
        "left_child": [*range(1, n), -1],
        "right_child": range(-2, -n - 2, -1),
        "leaf_value": [0] * (n + 1),
    }
    tree = "Tree=0\n" + "".join(f"{key}={' '.join(map(str, v))}\n" for key, v in lists.items()) + "\n\n"
    trees = tree + tree.replace("Tree=0", "Tree=1")
    head = (
        "tree\nversion=v4\nnum_class=2\nnum_tree_per_iteration=2\nlabel_index=0\nmax_feature_idx=0\n"
        "objective=multiclass num_class:2\nfeature_names=a\nfeature_infos=none\n"
        f"tree_sizes={len(tree)} {len(tree)}\n\n"
    )
    with pytest.raises(ValueError, match="tree 0 is 2000 levels deep; at most 1000"):
        checked_tree_text(head + trees + "end of trees\n", n_columns=1, n_classes=2)


def _fuzz(good: str, folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Fuzz in a child; return how many texts were refused and how many read."""
    (folder / "booster.txt").write_text(good)
    command = [
        sys.executable,
        "-m",
        "tests.hostile.fuzz_trees",
        str(folder / "booster.txt"),
        str(count),
        str(seed),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    refused, read = map(int, done.stdout.rsplit("\n", 1)[-1].split())
    return refused, read


def test_fuzzed_trees_never_end_the_process(good: str, tmp_path: Path) -> None:
    """1,000 spoilt texts: each is refused, or read and predicted with; no signal, no abort."""
    refused, read = _fuzz(good, tmp_path, 1_000, 0)
    assert refused + read == 1_000
    assert refused > 500
    assert read > 10


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 5))
def test_fuzzed_trees_never_end_the_process_at_length(good: str, tmp_path: Path, seed: int) -> None:
    """As above, 50,000 texts each."""
    assert sum(_fuzz(good, tmp_path, 50_000, seed)) == 50_000
