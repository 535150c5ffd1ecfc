"""Types of command-line arguments: text in, value out, or an error that argparse shows."""

from __future__ import annotations

import argparse
from pathlib import Path


def words(text: str) -> tuple[str, ...]:
    """Parse ``a,b,c``."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def encodings(text: str) -> tuple[str, ...]:
    """Parse ``utf-8,cp1252``: names that Python knows."""
    from extract.texts import normal_encoding

    names = words(text)
    faults = []
    for name in names:
        try:
            normal_encoding(name)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise argparse.ArgumentTypeError("; ".join(faults))
    return names


def pairs(text: str) -> dict[str, str]:
    """Parse ``a=b,c=d``."""
    pairs = {}
    for part in words(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise argparse.ArgumentTypeError(f"{part!r} is not NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def parameter(text: str) -> tuple[str, object]:
    """Parse ``name=value``, the value as JSON or else as a word."""
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def folder_of(text: str) -> tuple[str, Path]:
    """Parse ``BACKBONE=DIR``."""
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not BACKBONE=DIR")
    return name, Path(value)


def batch_size(text: str) -> int | None:
    """Parse ``auto`` (None) or a number of at least 1."""
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a number of at least 1")
    return int(text)


def count(text: str) -> int:
    """Parse a number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def whole(text: str) -> int:
    """Parse a number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Parse ``1,3,5``."""
    return tuple(whole(word) for word in words(text))


def share(text: str) -> float:
    """Parse ``0.1`` or ``10%``."""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.1 or 10%") from error
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def views_used(text: str) -> int | None:
    """Parse ``all`` (None), ``none`` (0) or a number."""
    if text in ("all", "none"):
        return None if text == "all" else 0
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not all, none or a number")
    return int(text)


def view_counts(text: str) -> tuple[int | None, ...]:
    """Parse ``none,2,all``."""
    return tuple(views_used(word) for word in words(text))
