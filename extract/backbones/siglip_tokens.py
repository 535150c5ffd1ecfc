"""SigLIP's tokenizers: SentencePiece on cleaned texts (SigLIP), Gemma's on lower-case texts (SigLIP 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extract.backbones.loading import load_tokenizer, quiet_transformers
from extract.weights import WeightsMissingError, read_json

#: Classes that the SigLIP 2 checkpoints declare. All of them mean Gemma's vocabulary with lower-case texts.
_GEMMA_CLASSES = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")
_SENTENCEPIECE_CLASS = "SiglipTokenizer"


def tokenizer_kind(folder: Path) -> str:
    """Return "sentencepiece", "gemma" or "other" for the tokenizer in `folder`."""
    file = folder / "tokenizer_config.json"
    declared = read_json(file).get("tokenizer_class") if file.is_file() else None
    if declared in _GEMMA_CLASSES:
        return "gemma"
    if declared == _SENTENCEPIECE_CLASS or (declared is None and (folder / "spiece.model").is_file()):
        return "sentencepiece"
    return "other"


def text_cleaning(kind: str) -> str:
    """Return what happens to a text before it is cut into tokens; it enters the fingerprint."""
    return {
        "sentencepiece": "lower case unless do_lower_case is off, ASCII punctuation removed, spaces folded",
        "gemma": "lower case",
    }.get(kind, "the tokenizer's own")


def load_siglip_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a SigLIP checkpoint, set to neither cut nor pad.

    Raises
    ------
    WeightsMissingError
        If its vocabulary is not in the folder.
    ValueError
        If it pads on the left, has no padding token, or does not close texts.

    Notes
    -----
    The SigLIP 2 paper (https://arxiv.org/abs/2502.14786): "transforming the text to lower case before
    tokenization". Its published folders declare Gemma's tokenizer class, which keeps capitals, so that
    transformers' AutoProcessor cuts texts with capitals in a way the network was not trained for, except in
    NaFlex folders. transformers made Siglip2Tokenizer for it (its pull request 43101); what that class does
    is done here for every SigLIP 2 folder.
    """
    kind = tokenizer_kind(folder)
    _refuse_left_padding(folder)
    if kind == "sentencepiece":
        return _load_sentencepiece(folder)
    tokenizer = load_tokenizer(folder)
    if kind == "gemma" and type(tokenizer).__name__ != "Siglip2Tokenizer":
        from tokenizers import normalizers

        backend = tokenizer.backend_tokenizer
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), backend.normalizer])
    return tokenizer


@dataclass(frozen=True)
class Encoding:
    """The token ids of one text."""

    ids: list[int]


class SentencePieceTokenizer:
    """transformers' SiglipTokenizer behind the part of a fast tokenizer's interface that text towers use.

    Parameters
    ----------
    tokenizer : SiglipTokenizer
        It has no fast version: a converted one cleans some texts differently (transformers issue 29925).
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.pad_token_id: int = tokenizer.pad_token_id
        self.eos_token_id: int = tokenizer.eos_token_id
        self.backend_tokenizer = self

    def encode_batch_fast(self, texts: Sequence[str]) -> list[Encoding]:
        """Return the ids of each text with the closing token."""
        return [Encoding(self._encode(text)) for text in texts]

    def _encode(self, text: str) -> list[int]:
        ids = self._tokenizer.convert_tokens_to_ids(self._tokenizer.tokenize(text))
        # A text that ends with the closing token's own letters gets no second one.
        return list(ids) if ids and ids[-1] == self.eos_token_id else [*ids, self.eos_token_id]


def _load_sentencepiece(folder: Path) -> SentencePieceTokenizer:
    from transformers import SiglipTokenizer

    if not (folder / "spiece.model").is_file():
        raise WeightsMissingError(
            f"Folder '{folder}' lacks 'spiece.model', the vocabulary of its tokenizer (SiglipTokenizer). "
            "Copy the whole folder of the model again."
        )
    with quiet_transformers():
        tokenizer = SiglipTokenizer.from_pretrained(str(folder), local_files_only=True)
    if tokenizer.pad_token_id is None or tokenizer.eos_token_id is None:
        raise ValueError(
            f"Tokenizer in '{folder}' (SiglipTokenizer) has no padding or no closing token. Copy the whole "
            "folder of the model again."
        )
    return SentencePieceTokenizer(tokenizer)


def _refuse_left_padding(folder: Path) -> None:
    """Refuse a folder whose padding comes first: SigLIP reads the last position, which padding fills."""
    file = folder / "tokenizer_config.json"
    side = read_json(file).get("padding_side", "right") if file.is_file() else "right"
    if side != "right":
        raise ValueError(
            f"Tokenizer in '{folder}' pads on the {side}; SigLIP was trained with padding on the right. Set "
            'padding_side to "right" in tokenizer_config.json.'
        )
