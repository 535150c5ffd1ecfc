"""Checkpoints: folders in the transformers format, what their files are called and what they declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extract.cards import Card
from extract.weight_sources import HubSnapshot
from extract.weights import WeightsMissingError, hash_files, read_json, transformers_weight_files

TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "spm.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)

_LARGEST_TOKENIZER = 128 << 20  # bytes; a vocabulary of 256,000 words takes 35 MB

#: What makes a vocabulary: each line alone is enough. The last ones are read through sentencepiece.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("spm.model",),
)


def hub_source(card: Card, *, former_name: str | None = None) -> HubSnapshot:
    """Return the hub repository that the card's source names."""
    return HubSnapshot(card.source.removeprefix("hf:"), card.revision, former_name=former_name)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files of `folder` that make its tokenizer.

    Raises
    ------
    ValueError
        If one is larger than any vocabulary is.
    """
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    for file in files:
        if file.stat().st_size > _LARGEST_TOKENIZER:
            raise ValueError(
                f"File '{file}' has {file.stat().st_size:,} bytes; tokenizers of up to "
                f"{_LARGEST_TOKENIZER:,} are read. Copy the whole folder of the model again."
            )
    return files


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of a network that reads texts: weights, ``config.json`` and tokenizer.

    Raises
    ------
    WeightsMissingError
        If there are no weights, or a part of them is not there.
    ValueError
        See `tokenizer_files`.
    """
    return [*transformers_weight_files(folder), folder / "config.json", *tokenizer_files(folder)]


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """Return the declared class of the folder's tokenizer and the hash of its files."""
    config = folder / "tokenizer_config.json"
    declared = read_json(config).get("tokenizer_class") if config.is_file() else None
    return {"tokenizer": declared or "auto", "tokenizer_sha256": hash_files(folder, tokenizer_files(folder))}


def check_vocabulary(folder: Path) -> None:
    """Raise WeightsMissingError if no tokenizer file in `folder` holds a vocabulary."""
    there = {file.name for file in tokenizer_files(folder)}
    if any(there.issuperset(names) for names in _VOCABULARIES):
        return
    kinds = ", ".join(" with ".join(f"'{name}'" for name in names) for names in _VOCABULARIES)
    raise WeightsMissingError(
        f"Folder '{folder}' holds no vocabulary of a tokenizer: expected one of {kinds}. Copy the whole "
        "folder of the model again."
    )


def model_type(folder: Path) -> str:
    """Return ``model_type`` of the folder's config.json."""
    return str(read_json(folder / "config.json").get("model_type"))


def is_openclip_layout(folder: Path) -> bool:
    """Whether `folder` describes itself in OpenCLIP's way only; in both ways, it is transformers'."""
    return (folder / "open_clip_config.json").is_file() and not (folder / "config.json").is_file()
