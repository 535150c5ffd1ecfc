"""Integrated gradients: what the tokens of a text and the patches of a picture add to a score.

The path is straight, from a baseline that says nothing (token embeddings of zero between the special tokens;
pixels of the network's mean colour) to the input, and the integral is a Gauss-Legendre sum. A patch
embedding is linear in the pixels, so the pixels of a patch add up to what its embedding would be given.

References
----------
M. Sundararajan, A. Taly and Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017 (completeness: the
attributions add up to the difference of the scores).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from extract.backbones.arithmetic import forward_context
from extract.backbones.image_towers import PixelTower
from extract.backbones.text_towers import MaskedTextTower

Score = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""Readout -> vectors (b, d) to scores (b,), through which gradients flow."""

_AT_ONCE = 8
_STEPS = (32, 64, 128)
_GAP = 0.01


@dataclass(frozen=True)
class TokenAttribution:
    """What each token adds to the score.

    Attributes
    ----------
    spans : tuple of (int, int)
        Where in the text each token stands; tokens that stand nowhere (special ones, a prompt) are left out.
    values : ndarray of shape (n_tokens,), float64
    difference : float
        Score of the text minus score of the baseline: what the values add up to.
    n_steps : int
    """

    spans: tuple[tuple[int, int], ...]
    values: np.ndarray
    difference: float
    n_steps: int


@dataclass(frozen=True)
class PatchAttribution:
    """What each patch adds to the score.

    Attributes
    ----------
    values : ndarray of shape (rows, columns), float64
    seen : PIL.Image.Image
        The picture as the network sees it, cut and resized; the patches cover it.
    difference : float
        Score of the picture minus score of the baseline: what the values add up to.
    n_steps : int
    """

    values: np.ndarray
    seen: Image.Image
    difference: float
    n_steps: int


def token_attribution(tower: Any, text: str, score: Score) -> TokenAttribution:
    """Attribute a score to the tokens of a text.

    Parameters
    ----------
    tower : MaskedTextTower
        In float32.
    text : str
        Cleaned text.
    score : callable

    Raises
    ------
    ValueError
        If the tower is of another kind.
    """
    if not isinstance(tower, MaskedTextTower):
        raise ValueError(_NO_GRADIENT.format(kind=type(tower).__name__))
    tokens = tower.tokenise([text])[0]
    n, length = len(tokens.ids), tower.bucket(tokens)
    ids = torch.full((1, length), tower._pad_id, dtype=torch.int64)
    ids[0, :n] = torch.from_numpy(tokens.ids)
    mask = torch.zeros((1, length), dtype=torch.int64)
    mask[0, :n] = 1
    ids, mask = ids.to(tower._device), mask.to(tower._device)
    spans = _spans(tower, text, n)
    table = _embedding_of(tower, ids, mask)
    whole = table(ids).detach()
    free = torch.zeros((1, length, 1), dtype=whole.dtype, device=whole.device)
    free[0, :n, 0] = torch.tensor([float(span is not None) for span in spans])

    def run(embedded: torch.Tensor) -> torch.Tensor:
        hook = table.register_forward_hook(lambda *_: embedded)
        try:
            many = len(embedded)
            with forward_context(tower.network):
                return score(tower._readout(ids.expand(many, -1), mask.expand(many, -1)))
        finally:
            hook.remove()

    values, difference, n_steps = _integrate(run, whole, whole * (1 - free))
    each = values.sum(dim=-1)[0].cpu().numpy()  # (length,)
    kept = [i for i, span in enumerate(spans) if span is not None]
    return TokenAttribution(
        tuple(span for span in spans if span is not None), each[kept], difference, n_steps
    )


_NO_GRADIENT = (
    "Gradients are not known for networks of kind {kind}. Use --method occlusion, which works for all."
)


def _spans(tower: MaskedTextTower, text: str, n_tokens: int) -> list[tuple[int, int] | None]:
    """Return where in the text each token stands; None for special tokens and those of a prompt."""
    prompt = tower._tokeniser.prompt
    encoding = tower._tokeniser.backend.encode(prompt + text)
    spans: list[tuple[int, int] | None] = [
        (max(0, start - len(prompt)), stop - len(prompt))
        if not special and stop > max(start, len(prompt))
        else None
        for (start, stop), special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    ]
    if len(spans) > n_tokens:  # the tower cuts in the same way: the closing token stays
        spans = [*spans[: n_tokens - 1], spans[-1]]
    return spans


def _embedding_of(tower: MaskedTextTower, ids: torch.Tensor, mask: torch.Tensor) -> torch.nn.Embedding:
    """Return the layer that turns token ids into embeddings: the one that is given the ids."""
    found: list[torch.nn.Embedding] = []

    def note(layer: Any, inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
        if inputs and inputs[0].shape == ids.shape and bool((inputs[0] == ids).all()):
            found.append(layer)

    layers = [layer for layer in tower.network.modules() if isinstance(layer, torch.nn.Embedding)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad(), forward_context(tower.network):
            tower._readout(ids, mask)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(_NO_GRADIENT.format(kind=type(tower.network).__name__))
    # The largest table, should positions happen to be numbered like the tokens.
    return max(found, key=lambda layer: layer.num_embeddings)


def patch_attribution(tower: Any, image: Image.Image, score: Score) -> PatchAttribution:
    """Attribute a score to the patches of a picture.

    Parameters
    ----------
    tower : PixelTower
        In float32.
    image : PIL.Image.Image
        RGB.
    score : callable

    Returns
    -------
    PatchAttribution
        The patches are the network's own where it has some; else a seventh of the side each.

    Raises
    ------
    ValueError
        If the tower is of another kind.
    """
    if not isinstance(tower, PixelTower):
        raise ValueError(_NO_GRADIENT.format(kind=type(tower).__name__))
    pixels = torch.from_numpy(tower._recipe.apply(image))[None].to(tower._device)  # (1, 3, side, side)

    def run(batch: torch.Tensor) -> torch.Tensor:
        with forward_context(tower.network):
            return score(tower._readout(batch))

    values, difference, n_steps = _integrate(run, pixels, torch.zeros_like(pixels))
    by_pixel = values.sum(dim=1)[0].cpu().numpy()  # (side, side)
    return PatchAttribution(
        _by_patch(by_pixel, _patch_size(tower)), _as_picture(tower, pixels[0]), difference, n_steps
    )


def _patch_size(tower: PixelTower) -> int | None:
    """Return the side of the squares that a transformer's first convolution cuts, or None."""
    for layer in tower.network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            size = layer.kernel_size[0]
            return size if layer.kernel_size == layer.stride and size >= 8 else None
    return None


def _by_patch(by_pixel: np.ndarray, patch: int | None) -> np.ndarray:
    """Add up the pixels of each patch; every pixel belongs to one."""
    side = by_pixel.shape[0]
    n = side // patch if patch and side % patch == 0 else min(7, side)
    edges = np.arange(n) * side // n
    rows: np.ndarray = np.add.reduceat(np.add.reduceat(by_pixel, edges, axis=0), edges, axis=1)
    return rows


def _as_picture(tower: PixelTower, pixels: torch.Tensor) -> Image.Image:
    """Turn the network's input back into a picture."""
    mean = np.array(tower._recipe.mean)[:, None, None]
    std = np.array(tower._recipe.std)[:, None, None]
    levels = (pixels.cpu().numpy() * std + mean).clip(0, 1) * 255
    return Image.fromarray(levels.round().astype(np.uint8).transpose(1, 2, 0))


def _integrate(
    run: Callable[[torch.Tensor], torch.Tensor], whole: torch.Tensor, baseline: torch.Tensor
) -> tuple[torch.Tensor, float, int]:
    """Return attributions of the shape of `whole`, the difference of the scores, and the steps it took.

    Steps are doubled until the attributions add up to the difference, within 1 % of it (or of one point of
    probability), or there are 128. Convolutional networks may need more than anyone can wait for: where a
    picture is flat, many units switch at one point of the path.
    """
    with torch.no_grad():
        difference = float(run(whole) - run(baseline))
    for n_steps in _STEPS:
        values = (whole - baseline).double() * _mean_gradient(run, whole, baseline, n_steps)
        if abs(float(values.sum()) - difference) <= _GAP * max(abs(difference), _GAP):
            break
    return values, difference, n_steps


def _mean_gradient(
    run: Callable[[torch.Tensor], torch.Tensor], whole: torch.Tensor, baseline: torch.Tensor, n_steps: int
) -> torch.Tensor:
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    total = torch.zeros_like(whole, dtype=torch.float64)
    shape = (-1,) + (1,) * (whole.ndim - 1)
    for start in range(0, n_steps, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        at = torch.from_numpy((nodes[part] + 1) / 2).to(whole).view(shape)
        points = (baseline + at * (whole - baseline)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(run(points).sum(), points)
        share = torch.from_numpy(weights[part] / 2).to(total).view(shape)
        total += (gradient.double() * share).sum(dim=0, keepdim=True)
    return total
