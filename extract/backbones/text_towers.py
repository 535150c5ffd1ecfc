"""Text towers: tokens in, vectors out, for encoders that mask their padding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from extract.backbones.contract import TextTower, Tokens
from extract.backbones.device_forwards import run_forward
from extract.backbones.fixed_batches import CPU_TOKENS, chunks_by_length, padded_length
from extract.backbones.token_pooling import pool_tokens
from extract.backbones.token_states import asked_states
from extract.backbones.tokenisers import CutTokeniser

#: How a readout other than "pooled" and "layer:k" pools the last layer's states.
_POOLING_OF = {"cls": "cls", "mean": "mean", "last": "lasttoken"}


class MaskedTextTower(TextTower):
    """A text network that takes an attention mask, so that padding does not change a vector.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode, on `device`.
    tokenizer : transformers tokenizer
        Neither cuts nor pads, and closes a text with one special token (see ``load_tokenizer``).
    readouts : sequence of str
    token_limit : int
    device : str
    prompt : str
        Words put before every text.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        readouts: Sequence[str],
        token_limit: int,
        device: str,
        prompt: str = "",
    ) -> None:
        self.network = network
        self.readouts = tuple(readouts)
        self._tokeniser = CutTokeniser(tokenizer, token_limit, prompt=prompt)
        self._pad_id = tokenizer.pad_token_id
        self._limit = token_limit
        self._device = device

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts. See :meth:`TextTower.tokenise`."""
        return self._tokeniser(texts)

    def bucket(self, tokens: Tokens) -> int:
        """Return the padded length. See :meth:`TextTower.bucket`."""
        return padded_length(len(tokens.ids), self._limit)

    def rows_per_forward(self, bucket: int) -> int | None:
        """Return the rows of a fixed shape. See :meth:`Tower.rows_per_forward`."""
        return max(1, CPU_TOKENS // bucket) if self._device == "cpu" else None

    def forward(self, batch: Sequence[Tokens]) -> dict[str, np.ndarray]:
        """Embed tokenised texts. See :meth:`TextTower.forward`."""
        lengths = [len(tokens.ids) for tokens in batch]
        if self._device != "cpu":
            return self._embed(batch, max(lengths))
        rows: dict[str, np.ndarray] = {}
        for length, positions, n_real in chunks_by_length(lengths, self._limit):
            vectors = self._embed([batch[i] for i in positions], length)
            for readout, values in vectors.items():
                whole = rows.setdefault(readout, np.empty((len(batch), values.shape[1]), dtype=np.float32))
                whole[positions[:n_real]] = values[:n_real]
        return rows

    @abstractmethod
    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return readout -> (b, d) for ids and mask of shape (b, length)."""

    def _embed(self, batch: Sequence[Tokens], length: int) -> dict[str, np.ndarray]:
        ids = np.full((len(batch), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens.ids)] = tokens.ids
            mask[row, : len(tokens.ids)] = 1
        return run_forward(self.network, self._device, self.readouts, self._readout, ids, mask)


class EncoderTower(MaskedTextTower):
    """Encoders of the BERT kind, all readouts from one forward.

    Token types are never passed: the networks that have them take type 0 for a single text.

    Parameters
    ----------
    network, tokenizer, readouts, token_limit, device, prompt
        See :class:`MaskedTextTower`.
    reads_pooler : bool
        Whether "pooled" is the trained pooler's output; else the masked mean.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        readouts: Sequence[str],
        token_limit: int,
        device: str,
        prompt: str = "",
        reads_pooler: bool = False,
    ) -> None:
        super().__init__(
            network, tokenizer, readouts=readouts, token_limit=token_limit, device=device, prompt=prompt
        )
        self._reads_pooler = reads_pooler
        self._states = asked_states(readouts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network(input_ids=ids, attention_mask=mask, **self._states.request)
        vectors = self._states.read(output, lambda states: pool_tokens("mean", states, mask))
        for readout in self.readouts:
            if readout in _POOLING_OF:
                vectors[readout] = pool_tokens(_POOLING_OF[readout], output.last_hidden_state, mask)
        if "pooled" in self.readouts:
            vectors["pooled"] = self._pooled(output, mask)
        return vectors

    def _pooled(self, output: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return the default readout, (b, d)."""
        if self._reads_pooler:
            return output.pooler_output  # type: ignore[no-any-return]
        return pool_tokens("mean", output.last_hidden_state, mask)
