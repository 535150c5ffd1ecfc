"""Text towers: tokens in, vectors out, for encoders that mask their padding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from extract.backbones.contract import TextTower, Tokens
from extract.backbones.fixed_batches import CPU_TOKENS, chunks_by_length, padded_length

if TYPE_CHECKING:
    from extract.backbones.sentence_pipeline import SentencePipeline


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
    """

    def __init__(
        self, network: Any, tokenizer: Any, *, readouts: Sequence[str], token_limit: int, device: str
    ) -> None:
        self.network = network
        self.readouts = tuple(readouts)
        self._backend = tokenizer.backend_tokenizer
        self._pad_id = tokenizer.pad_token_id
        self._limit = token_limit
        self._device = device

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts. See :meth:`TextTower.tokenise`."""
        return [
            self._cut(np.array(encoding.ids, dtype=np.int64))
            for encoding in self._backend.encode_batch(list(texts))
        ]

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

    def _cut(self, ids: np.ndarray) -> Tokens:
        if len(ids) <= self._limit:
            return Tokens(ids, len(ids))
        # The closing token stays: BERT was trained with it, and CLIP reads the vector at its position.
        return Tokens(np.append(ids[: self._limit - 1], ids[-1]), len(ids))

    @torch.inference_mode()
    def _embed(self, batch: Sequence[Tokens], length: int) -> dict[str, np.ndarray]:
        ids = np.full((len(batch), length), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), length), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens.ids)] = tokens.ids
            mask[row, : len(tokens.ids)] = 1
        vectors = self._readout(
            torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
        )
        return {readout: vectors[readout].float().cpu().numpy() for readout in self.readouts}


class BertTower(MaskedTextTower):
    """BERT encoders: "pooled" is the trained pooler's output, "cls" the first state, "mean" masked."""

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.network(input_ids=ids, attention_mask=mask)
        vectors = token_readouts(output.last_hidden_state, mask)  # (b, d) each
        if output.pooler_output is not None:
            vectors["pooled"] = output.pooler_output
        return vectors


class SentenceTower(MaskedTextTower):
    """sentence-transformers folders: "pooled" is what their own pipeline returns.

    Parameters
    ----------
    pipeline : SentencePipeline
        The steps after the encoder, read from ``modules.json``.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        readouts: Sequence[str],
        token_limit: int,
        device: str,
        pipeline: SentencePipeline,
    ) -> None:
        super().__init__(network, tokenizer, readouts=readouts, token_limit=token_limit, device=device)
        self._pipeline = pipeline

    def tokenise(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts. See :meth:`TextTower.tokenise`."""
        return super().tokenise([text.lower() for text in texts] if self._pipeline.lower_case else texts)

    def _readout(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.network(input_ids=ids, attention_mask=mask).last_hidden_state  # (b, length, d)
        vectors = token_readouts(states, mask)
        pooled = vectors[self._pipeline.pooling]
        if self._pipeline.normalise:
            pooled = torch.nn.functional.normalize(pooled, dim=1)
        vectors["pooled"] = pooled
        return vectors


def token_readouts(states: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return "cls" and "mean", each of shape (b, d), float32, from states (b, length, d) and their mask (b,
    length).

    Sums and norms are taken in float32: in half precision they overflow or lose the small texts' digits.
    """
    states = states.float()
    weights = mask.unsqueeze(-1).float()  # (b, length, 1)
    return {"cls": states[:, 0], "mean": (states * weights).sum(1) / weights.sum(1)}
