"""Rows that are the same thing: across splits, with other labels, and across the folds of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.auditing.findings import Finding, first_ids
from pipelines.auditing.rows import TRAINING, UNLABELLED, VALIDATION, AuditRows

_NEAR = ("near text", "near picture")


def duplicate_findings(rows: AuditRows) -> list[Finding]:
    """Find rows that are related across splits, and related rows with different labels.

    Each kind is looked at on its own: equal texts with equal pictures, equal pictures under other texts,
    equal texts over other pictures, near duplicates that are not equal, and declared groups.
    """
    findings = []
    for kind, groups, severity in _kinds(rows):
        across = [group for group in groups if len(set(rows.parts[group])) > 1]
        if across:
            findings.append(_across(rows, kind, across, severity))
        torn = [group for group in groups if len(set(rows.labels[group][rows.labels[group] >= 0])) > 1]
        if torn and kind.startswith(("exact", "near")):
            findings.append(_torn(rows, kind, torn))
    return findings


def _kinds(rows: AuditRows) -> Iterator[tuple[str, list[np.ndarray], str]]:
    """Yield kind of relation, its groups of row numbers, and how bad it is across splits."""
    keys = rows.related.keys
    text, picture = keys.get("text"), keys.get("picture")
    if text is not None and picture is not None:
        whole = [None if t is None or p is None else (t, p) for t, p in zip(text, picture, strict=True)]
        same = _groups(whole)
        yield "exact duplicates", same, "high"
        yield "same picture, other text", _differing(_groups(picture), text), "high"
        yield "same text, other picture", _differing(_groups(text), picture), "medium"
    elif text is not None or picture is not None:
        yield "exact duplicates", _groups(text if text is not None else picture or ()), "high"
    for name in keys:
        if name.startswith("near"):
            equal = picture if "picture" in name else text if "text" in name else None
            near = _groups(keys[name])
            yield _near_name(name), near if equal is None else _differing(near, equal), "high"
    yield "declared groups", _groups(keys["group"]), "high"


def _near_name(key: str) -> str:
    if key in _NEAR:
        return f"near-duplicate {key.removeprefix('near ')}s"
    return f"near-duplicate vectors of {key.removeprefix('near vector ')}"


def _groups(key: Sequence[object]) -> list[np.ndarray]:
    """Return the rows of every key that several rows have."""
    rows_of: dict[object, list[int]] = {}
    for row, value in enumerate(key):
        if value is not None:
            rows_of.setdefault(value, []).append(row)
    return [np.array(rows) for rows in rows_of.values() if len(rows) > 1]


def _differing(groups: Sequence[np.ndarray], key: Sequence[object]) -> list[np.ndarray]:
    """Return the groups whose rows do not all have the same value of another key."""
    return [group for group in groups if len({key[row] for row in group.tolist()}) > 1]


def _across(rows: AuditRows, kind: str, groups: Sequence[np.ndarray], severity: str) -> Finding:
    pairs: dict[str, int] = {}
    concerned = 0
    for group in groups:
        parts = sorted(set(rows.parts[group]), key=_order)
        inner = TRAINING if TRAINING in parts else parts[0]
        outside = int((rows.parts[group] != inner).sum())
        concerned += outside
        name = " + ".join(parts)
        pairs[name] = pairs.get(name, 0) + outside
    only_unlabelled = all("test" not in name and VALIDATION not in name for name in pairs)
    detail = "; ".join(f"{name}: {count:,}" for name, count in sorted(pairs.items()))
    return Finding(
        f"{kind} across splits",
        "low" if only_unlabelled else severity,
        concerned,
        f"{len(groups):,} group(s); rows outside training by splits: {detail}",
        _shown(rows, groups),
        "Nothing to do for scores: these rows have no label. What training rows say of them is known."
        if only_unlabelled
        else "Move each group to one split, or drop its rows from the held-out one.",
    )


def _torn(rows: AuditRows, kind: str, groups: Sequence[np.ndarray]) -> Finding:
    exact = kind.startswith("exact")
    return Finding(
        f"{kind} with different labels",
        "medium" if exact else "low",
        sum(map(len, groups)),
        f"{len(groups):,} group(s)" + ("; at most one of their labels can be right" if exact else ""),
        _shown(rows, groups),
        "Decide on one label, or leave the rows out." if exact else "Look at them: is each label meant?",
    )


def _order(part: str) -> int:
    return [TRAINING, VALIDATION, "test", UNLABELLED].index(part)


def _shown(rows: AuditRows, groups: Sequence[np.ndarray]) -> tuple[str, ...]:
    return first_ids([" = ".join(rows.ids[row] for row in group[:3]) for group in groups])


def id_findings(rows: AuditRows) -> list[Finding]:
    """Find ids that differ only in case, leading zeros, spaces or a file ending, in different splits."""
    spelled: dict[str, list[int]] = {}
    for row, guid in enumerate(rows.ids):
        spelled.setdefault(_plain_id(guid), []).append(row)
    shared = [
        np.array(group) for group in spelled.values() if len({str(rows.parts[row]) for row in group}) > 1
    ]
    if not shared:
        return []
    return [
        Finding(
            "shared ids",
            "medium",
            sum(map(len, shared)),
            "ids of different splits that differ only in case, leading zeros, spaces or a file ending",
            _shown(rows, shared),
            "Check whether they are one sample; if so keep one row of each.",
        )
    ]


def _plain_id(guid: str) -> str:
    stem, dot, ending = guid.strip().casefold().rpartition(".")
    plain = stem if dot and 0 < len(ending) <= 4 else guid.strip().casefold()
    return plain.lstrip("0") or "0"


def fold_findings(rows: AuditRows, fold_of: dict[str, str]) -> list[Finding]:
    """Find out-of-fold rows of a run whose duplicate was among the rows they were predicted from.

    Parameters
    ----------
    rows : AuditRows
    fold_of : dict of str to str
        Id -> fold, from ``oof.csv``.
    """
    folds = np.array([fold_of.get(guid, "") for guid in rows.ids])
    findings = []
    for kind, groups, severity in _kinds(rows):
        near = kind.startswith("near")
        torn = [known for group in groups if len(set(folds[known := group[folds[group] != ""]])) > 1]
        if torn:
            count = sum(map(len, torn))
            # Near duplicates that `--duplicates near` itself leaves apart, so that no class is too small.
            left = near and all(len(set(rows.related.groups[group])) > 1 for group in torn)
            advice = (
                "Leave them out and run it again, for --duplicates near would leave a class too few groups: "
                "this score may be too good."
                if left
                else f"Run it again with --duplicates near: this score {'may be' if near else 'is'} too good."
            )
            findings.append(
                Finding(
                    f"{kind} across folds of the run",
                    "medium" if near else severity,
                    count,
                    f"{len(torn):,} group(s); {count:,} of {int((folds != '').sum()):,} out-of-fold rows "
                    "were predicted by a model that had seen their duplicate",
                    _shown(rows, torn),
                    advice,
                )
            )
    return findings
