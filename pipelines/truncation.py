"""What a pass counted of texts that were too long for their tower, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def truncation_lines(truncated: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line per modality whose texts were counted.

    Parameters
    ----------
    truncated : mapping
        ``meta["truncated"]`` of a store: modality -> counts of texts and tokens, and how many were cut.
    """
    return [
        f"truncated ({modality}): {_share(count['texts_cut'], count['texts'])} of {count['texts']:,} texts, "
        f"{_share(count['tokens_cut'], count['tokens'])} of {count['tokens']:,} tokens"
        for modality, count in truncated.items()
    ]


def _share(part: int, whole: int) -> str:
    """Return ``"12 (3.4%)"``, or the number alone where a share says nothing."""
    return f"{part:,} ({part / whole:.1%})" if part and whole else str(part)
