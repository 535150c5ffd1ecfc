"""Sentence towers: an encoder and the steps that a sentence-transformers folder puts after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from extract.backbones.loading import one_line
from extract.backbones.sentence_pipeline import SentencePipeline, Step, step_weights
from extract.backbones.text_towers import EncoderTower
from extract.backbones.token_pooling import pool_tokens
from extract.weights import read_state_dict


class SentenceTower(EncoderTower):
    """sentence-transformers folders: "pooled" is what their own pipeline returns.

    Parameters
    ----------
    network, tokenizer, readouts, token_limit, device, prompt
        See :class:`EncoderTower`.
    pipeline : SentencePipeline
        The steps around the encoder, read from ``modules.json``.
    steps : torch.nn.Module
        The steps after pooling (see :func:`load_steps`).

    Raises
    ------
    ValueError
        If the prompt leaves no room for a text.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        readouts: Sequence[str],
        token_limit: int,
        device: str,
        prompt: str,
        pipeline: SentencePipeline,
        steps: nn.Module,
    ) -> None:
        super().__init__(
            network, tokenizer, readouts=readouts, token_limit=token_limit, device=device, prompt=prompt
        )
        self._pipeline = pipeline
        self._steps = steps
        n_prompt = _prompt_tokens(tokenizer, prompt)
        if n_prompt >= token_limit - 1:
            raise ValueError(
                f"Prompt '{prompt}' takes {n_prompt} tokens of the {token_limit} that a text may have; it "
                "must leave some for the text. Shorten it in config_sentence_transformers.json."
            )
        self._skip = 0 if pipeline.include_prompt else n_prompt

    def _pooled(self, output: Any, mask: torch.Tensor) -> torch.Tensor:
        states = output.last_hidden_state  # (b, length, d)
        pooled = [pool_tokens(name, states, mask, skip=self._skip) for name in self._pipeline.pooling]
        # The steps stay in float32 even where the encoder's matrices run in bf16 (see ``arithmetic``).
        with torch.autocast("cpu", enabled=False):
            return self._steps(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


def load_steps(folder: Path, steps: Sequence[Step], *, device: str) -> nn.Module:
    """Load the steps after pooling, in eval mode and float32: they are small, and norms need the digits.

    Raises
    ------
    ValueError
        If a step's weights are not those that its settings describe.
    """
    return (
        nn.Sequential(*(_load_step(folder, step) for step in steps)).eval().requires_grad_(False).to(device)
    )


class _Dense(nn.Module):
    """``sentence_transformers`` Dense: a linear layer, an activation, optionally added to its input."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        settings = step.settings
        n_in, n_out = settings["in_features"], settings["out_features"]
        self.linear = nn.Linear(n_in, n_out, bias=settings["bias"])
        # One of ACTIVATIONS: names of torch's own classes without arguments.
        self.activation = getattr(nn, settings["activation"])()
        self.is_residual = bool(settings["residual"])
        if self.is_residual and n_in != n_out:
            self.residual = nn.Linear(n_in, n_out, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return (b, out) for (b, in)."""
        out: torch.Tensor = self.activation(self.linear(vectors))
        if self.is_residual:
            out = out + (self.residual(vectors) if hasattr(self, "residual") else vectors)
        return out


class _LayerNorm(nn.Module):
    """``sentence_transformers`` LayerNorm; the wrapper gives its tensors their names in the file."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(step.settings["dimension"])

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return (b, d) for (b, d)."""
        normed: torch.Tensor = self.norm(vectors)
        return normed


class _Normalize(nn.Module):
    """Division by the L2 norm."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return (b, d) for (b, d)."""
        return nn.functional.normalize(vectors, dim=-1)


def _load_step(folder: Path, step: Step) -> nn.Module:
    if step.kind == "Normalize":
        return _Normalize()
    module = _Dense(step) if step.kind == "Dense" else _LayerNorm(step)
    file = step_weights(folder, step)
    state = {name: tensor.float() for name, tensor in read_state_dict(file).items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"Weights in '{file}' do not fit the step {step.kind} that its config.json describes "
            f"({one_line(error)}). Copy the whole folder of the model again."
        ) from error
    return module


def _prompt_tokens(tokenizer: Any, prompt: str) -> int:
    """Return the tokens of `prompt` with the opening, without the closing special token.

    The rule of sentence_transformers 6.2, ``Transformer._get_prompt_length``.
    """
    if not prompt:
        return 0
    ids = tokenizer.backend_tokenizer.encode(prompt).ids
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)
