"""Checkpoints: folders in the transformers format, what their files are called and what they declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extract.cards import Card
from extract.weight_sources import HubSnapshot
from extract.weights import hash_files, read_json

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def hub_source(card: Card, *, former_name: str | None = None) -> HubSnapshot:
    """Return the hub repository that the card's source names."""
    return HubSnapshot(card.source.removeprefix("hf:"), card.revision, former_name=former_name)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that make its tokenizer."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """Return the declared class of the folder's tokenizer and the hash of its files."""
    config = folder / "tokenizer_config.json"
    declared = read_json(config).get("tokenizer_class") if config.is_file() else None
    return {"tokenizer": declared or "auto", "tokenizer_sha256": hash_files(folder, tokenizer_files(folder))}


def model_type(folder: Path) -> str:
    """Return ``model_type`` of the folder's config.json."""
    return str(read_json(folder / "config.json").get("model_type"))
