"""Check the text of boosted trees before LightGBM sees it: its C++ reader trusts sizes, indices and children.

A stranger's text with one wrong size ends the process with a segmentation fault, and hashes are no signature.
So every line that LightGBM would parse is checked here, and what it does not need to predict is left out.
"""

from __future__ import annotations

import re

_VERSION = "v4"
_MAX_DEPTH = 1000  # LightGBM's dump of a tree calls itself once per level
_HEADER = {
    "version",
    "num_class",
    "num_tree_per_iteration",
    "label_index",
    "max_feature_idx",
    "objective",
    "feature_names",
    "feature_infos",
    "tree_sizes",
}
_PER_NODE = {
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "internal_value",
    "internal_weight",
    "internal_count",
}
_PER_LEAF = {"leaf_value", "leaf_weight", "leaf_count"}
_NEEDED = {"split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value"}
_SINGLE = {"Tree", "num_leaves", "num_cat", "is_linear", "shrinkage"}
_NUMBER = re.compile(r"-?\d{1,25}(\.\d{1,25})?(e[+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"-?\d{1,9}", re.ASCII)
_NAME = re.compile(r"[\x21-\x3c\x3e-\x7e]{1,100}")  # printable ASCII without "="
_INFO = re.compile(rf"none|\[{_NUMBER.pattern}:{_NUMBER.pattern}\]", re.ASCII)  # the range of a column
_END = "end of trees\n"


def checked_tree_text(text: str, *, n_columns: int, n_classes: int) -> str:
    """Return the part of a multiclass booster's text that predicting needs, after checking all of it.

    Parameters
    ----------
    text : str
        From ``lightgbm.Booster.model_to_string``.
    n_columns : int
        Columns of the rows that the trees will see.
    n_classes : int

    Returns
    -------
    str
        Header and trees, unchanged; importances and training parameters are left out.

    Raises
    ------
    ValueError
        Naming the first thing that LightGBM did not write.

    References
    ----------
    LightGBM, ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp``.
    """
    start, end = text.find("Tree=0\n"), text.find(_END)
    if not text.startswith("tree\n") or not 0 <= start < end or "\r" in text[:end]:
        raise ValueError("the booster's text does not begin with 'tree' or has no trees")
    sizes = _check_header(text[:start], n_columns, n_classes)
    trees = text[start:end].encode()
    if sum(sizes) != len(trees) or len(sizes) % n_classes:
        raise ValueError(f"the booster's text has {len(trees)} bytes of trees; its list says {sum(sizes)}")
    position = 0
    for number, size in enumerate(sizes):
        _check_tree(trees[position : position + size].decode(), number, n_columns)
        position += size
    return text[:end] + _END


def _check_header(text: str, n_columns: int, n_classes: int) -> list[int]:
    """Check what stands before the trees; return their sizes in bytes."""
    fields = _fields(text.removeprefix("tree\n"), "the header", end="\n\n")
    wanted = {
        "version": _VERSION,
        "num_class": str(n_classes),
        "num_tree_per_iteration": str(n_classes),
        "label_index": "0",
        "max_feature_idx": str(n_columns - 1),
        "objective": f"multiclass num_class:{n_classes}",
    }
    for key, value in wanted.items():
        if fields.get(key) != value:
            raise ValueError(f"the booster's {key} is {fields.get(key)!r:.60}, but {value!r} is needed")
    if set(fields) != _HEADER:
        raise ValueError(f"the booster's header has {', '.join(sorted(set(fields) ^ _HEADER))[:60]!r} wrong")
    for key, rule in (("feature_names", _NAME), ("feature_infos", _INFO)):
        words = fields[key].split(" ")
        if len(words) != n_columns or not all(rule.fullmatch(word) for word in words):
            raise ValueError(f"the booster's {key} are not {n_columns} words")
    sizes = [_whole(word) for word in fields["tree_sizes"].split(" ")]
    if min(sizes) < 1:
        raise ValueError("a tree of the booster has no bytes")
    return sizes


def _check_tree(text: str, number: int, n_columns: int) -> None:
    """Check one tree: nothing unknown, every list as long as it must be, every index inside."""
    place = f"tree {number}"
    fields = _fields(text, place, end="\n\n\n")
    unknown = set(fields) - _SINGLE - _PER_NODE - _PER_LEAF
    if (
        unknown
        or not text.startswith(f"Tree={number}\n")
        or not set(fields) >= _NEEDED | {"num_leaves", "num_cat"}
    ):
        raise ValueError(f"{place} is not one that LightGBM writes ({', '.join(sorted(unknown))[:60]!r})")
    n_leaves = _whole(fields["num_leaves"])
    if n_leaves < 1 or fields["num_cat"] != "0" or fields.get("is_linear", "0") != "0":
        raise ValueError(f"{place} has no leaves, or categorical or linear parts")
    if not _NUMBER.fullmatch(fields.get("shrinkage", "1")):
        raise ValueError(f"{place} has no number as its shrinkage")
    for key in (_PER_NODE | _PER_LEAF) & set(fields):
        _check_numbers(
            fields[key], n_leaves - (key in _PER_NODE), f"{key} of {place}", is_stump=n_leaves == 1
        )
    if n_leaves > 1:
        _check_nodes(
            {key: [_whole(word) for word in fields[key].split(" ")] for key in _INDICES}, n_columns, place
        )


_INDICES = ("split_feature", "decision_type", "left_child", "right_child")


def _check_numbers(value: str, n: int, what: str, *, is_stump: bool) -> None:
    """Check a list of `n` numbers; LightGBM leaves out most lists of a tree of one leaf."""
    words = value.split(" ") if value else []
    if len(words) != n and not (is_stump and len(words) <= 1 and not what.startswith("leaf_value")):
        raise ValueError(f"{what} has {len(words)} numbers, but {n} are needed")
    if not all(_NUMBER.fullmatch(word) for word in words):
        raise ValueError(f"{what} holds something that is no number")


def _check_nodes(lists: dict[str, list[int]], n_columns: int, place: str) -> None:
    """Check that the nodes form one tree over the columns that there are."""
    left, right = lists["left_child"], lists["right_child"]
    n_nodes = len(left)
    if not all(0 <= feature < n_columns for feature in lists["split_feature"]):
        raise ValueError(f"{place} splits a column that is not there")
    # Bit 0 marks a categorical split, whose values would be read from another list.
    if not all(0 <= kind <= 10 and kind % 2 == 0 for kind in lists["decision_type"]):
        raise ValueError(f"{place} has a decision type that LightGBM does not write for numbers")
    if sorted(left + right) != [*range(-n_nodes - 1, 0), *range(1, n_nodes)]:
        raise ValueError(f"{place} does not reach each of its nodes and leaves once")
    level, depth = [0], 0
    while level:
        level = [child for node in level for child in (left[node], right[node]) if child >= 0]
        depth += 1
    if depth > _MAX_DEPTH:
        raise ValueError(f"{place} is {depth} levels deep; at most {_MAX_DEPTH} are read")


def _fields(text: str, place: str, *, end: str) -> dict[str, str]:
    """Parse ``key=value`` lines, each key once; LightGBM counts on blank lines at the end and only there."""
    body = text.removesuffix(end)
    if body == text or body.endswith("\n"):
        raise ValueError(f"{place} of the booster does not end as LightGBM ends it")
    pairs = [line.partition("=") for line in body.split("\n")]
    fields = {key: value for key, _, value in pairs}
    if len(fields) != len(pairs) or not all(equals for _, equals, _ in pairs):
        raise ValueError(f"{place} of the booster has a line twice, or one that is not 'key=value'")
    return fields


def _whole(word: str) -> int:
    if not _WHOLE.fullmatch(word):
        raise ValueError(f"the booster has {word!r:.40} where a whole number must be")
    return int(word)
