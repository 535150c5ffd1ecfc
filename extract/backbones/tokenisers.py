"""Tokenisers: texts in, token ids within the network's limit out; they need no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from extract.backbones.contract import Tokens


class CutTokeniser:
    """Tokens of texts, cut to a limit; the closing token stays.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        Neither cuts nor pads, and closes a text with one special token (see ``load_tokenizer``).
    token_limit : int
        Most tokens of a text, special tokens included.
    prompt : str
        Words put before every text.

    Attributes
    ----------
    backend : tokenizers.Tokenizer
    prompt : str
    """

    def __init__(self, tokenizer: Any, token_limit: int, *, prompt: str = "") -> None:
        self.backend = tokenizer.backend_tokenizer
        self.prompt, self._limit = prompt, token_limit

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return one :class:`Tokens` per text, in order. Safe to call from several threads."""
        whole = [self.prompt + text for text in texts] if self.prompt else list(texts)
        # The fast form leaves out where in the text each token came from, which nobody asks for.
        return [
            self._cut(np.array(encoding.ids, dtype=np.int64))
            for encoding in self.backend.encode_batch_fast(whole)
        ]

    def _cut(self, ids: np.ndarray) -> Tokens:
        if len(ids) <= self._limit:
            return Tokens(ids, len(ids))
        # The closing token stays: BERT was trained with it, and CLIP reads the vector at its position.
        return Tokens(np.append(ids[: self._limit - 1], ids[-1]), len(ids))
