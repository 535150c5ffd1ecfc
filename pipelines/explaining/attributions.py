"""Attributions: what each word and each part of the picture does to the probability of a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.augmentations.texts import text_pieces
from extract.edited_inputs import Edit
from extract.occlusions import cell_edits, word_edits
from pipelines.console import Progress
from pipelines.errors import UsageError
from pipelines.explaining.case import Case
from pipelines.run_inputs import TowerRows, open_edited

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from heads import LoadedModel

METHODS = ("occlusion", "gradient")

_LARGEST_GAP = 0.05  # of completeness, as a share of the difference
_CELLS = 7  # per side: cells of a 224-pixel picture are then as large as the patches of a ViT-B/32


@dataclass(frozen=True)
class WordMap:
    """A text in pieces, with what each adds to the probability of the class.

    Attributes
    ----------
    title : str
    pieces : tuple of (str, float or None)
        They add up to the text; None for what was not looked at, such as white space.
    """

    title: str
    pieces: tuple[tuple[str, float | None], ...]

    @property
    def scored(self) -> list[tuple[str, float]]:
        """Pieces with a value, the largest first by size."""
        return sorted(
            ((piece, value) for piece, value in self.pieces if value is not None),
            key=lambda item: -abs(item[1]),
        )


@dataclass(frozen=True, eq=False)
class PatchMap:
    """A picture under a grid, with what each cell adds to the probability of the class.

    Attributes
    ----------
    title : str
    picture : PIL.Image.Image
        The grid covers it.
    values : ndarray of shape (rows, columns), float64
    """

    title: str
    picture: Image
    values: np.ndarray


@dataclass(frozen=True)
class Attributions:
    """Word maps and patch maps of one case, and what to know about them."""

    method: str
    words: tuple[WordMap, ...] = ()
    patches: tuple[PatchMap, ...] = ()
    notes: tuple[str, ...] = field(default=())


def occlude(case: Case, code: int) -> Attributions:
    """Hide every word and every cell of the picture in turn, and embed what is left.

    Parameters
    ----------
    case : Case
    code : int
        Position of the class among the model's.

    Returns
    -------
    Attributions
        A value is the probability of the class minus that without the part, so positive parts speak for it.
        A text or picture that several networks read is hidden from all of them at once.
    """
    words = [] if case.text is None else word_edits(case.text)
    cells = [] if case.picture is None else cell_edits(_CELLS, _CELLS)
    edits = [*(("text", edit) for _, edit in words), *(("image", edit) for edit in cells)]
    changes: list[dict[str, np.ndarray]] = [{} for _ in edits]
    progress = Progress("hiding parts", "inputs")
    total = sum(len(_reached(edits, tower)) for tower in case.towers)
    done = 0
    for tower in case.towers:
        reached = _reached(edits, tower)
        if reached:
            made = _embedded(case, tower, [edits[k][1] for k in reached], progress, done, total)
            for i, k in enumerate(reached):
                changes[k].update({block: x[i, 0] for block, x in made.items()})
            done += len(reached)
    progress.close()
    whole = case.probabilities([{}])[0, code]
    drops = whole - case.probabilities(changes)[:, code] if changes else np.zeros(0)
    word_maps: tuple[WordMap, ...] = ()
    patch_maps: tuple[PatchMap, ...] = ()
    if words and case.text is not None:
        of_place = {place: float(drop) for (place, _), drop in zip(words, drops, strict=False)}
        pieces = tuple((piece, of_place.get(i)) for i, (piece, _) in enumerate(text_pieces(case.text)))
        word_maps = (WordMap("Words, each left out in turn", pieces),)
    if cells and case.picture is not None:
        grid = drops[len(words) :].reshape(_CELLS, _CELLS)
        patch_maps = (PatchMap("Cells, each painted over in turn", case.picture, grid),)
    return Attributions("occlusion", word_maps, patch_maps)


def _reached(edits: Sequence[tuple[str, Edit]], tower: TowerRows) -> list[int]:
    """Return which edits change what a tower reads."""
    return [k for k, (modality, _) in enumerate(edits) if tower.modality in (modality, "joint")]


def _embedded(
    case: Case, tower: TowerRows, edits: Sequence[Edit], progress: Progress, before: int, total: int
) -> Mapping[str, np.ndarray]:
    with open_edited(tower, case.backbones[tower.backbone], device=case.device) as inputs:
        found = inputs.embed(edits, on_progress=lambda done: progress.update(before + done, total))
    return tower.by_block(found)


def check_gradient(model: LoadedModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the model's probabilities as a function of tensors.

    Raises
    ------
    UsageError
        If its head has no gradient.
    """
    try:
        return model.differentiable()
    except ValueError as error:
        raise UsageError(f"{error} Use --method occlusion, which works for all.") from error


def follow_gradients(case: Case, code: int) -> Attributions:
    """Follow the probability of a class back to tokens and patches, by integrated gradients.

    Parameters
    ----------
    case : Case
    code : int

    Returns
    -------
    Attributions
        One map per network, while the blocks of the others stay as they are. The values of a map add up to
        the head's probability, before the run's calibration, minus that of an empty input; its note says how
        well.

    Raises
    ------
    UsageError
        If the head or a network has no gradient that could be followed.
    """
    from extract.integrated_gradients import patch_attribution, token_attribution

    answer = check_gradient(case.model)
    words, patches, notes = [], [], []
    for tower in case.towers:
        if not np.isfinite(case.vectors[tower.spaces[0]["block"]]).all():
            continue
        # In float32 whatever the run's precision: gradients of half precision are noise.
        network: Any = case.backbones[tower.backbone].open_tower(
            tower.modality, readouts=tower.readouts, device=case.device, precision="fp32"
        )
        score = _score_of(case, tower, answer, code)
        title = f"{tower.backbone}, {tower.modality}"
        try:
            if tower.modality == "text":
                text = tower.sources[0].text
                tokens = token_attribution(network, text, score)
                words.append(WordMap(f"Tokens of {title}", _pieces(text, tokens.spans, tokens.values)))
                notes.append(_completeness(title, tokens.values, tokens.difference, tokens.n_steps))
            else:
                assert case.picture is not None  # the tower has a vector of it
                found = patch_attribution(network, case.picture, score)
                patches.append(PatchMap(f"Patches of {title}", found.seen, found.values))
                notes.append(_completeness(title, found.values, found.difference, found.n_steps))
        except ValueError as error:
            raise UsageError(f"{title}: {error}") from error
    return Attributions("gradient", tuple(words), tuple(patches), tuple(notes))


def _score_of(case: Case, tower: TowerRows, answer: Any, code: int) -> Any:
    """Return readouts -> probability of the class, with the blocks of other towers as they are."""
    import torch

    base = torch.from_numpy(np.asarray(case.model.filled(case.rows([{}])), dtype=np.float64))
    widths = [int(space["width"]) for space in case.spaces]
    parts = torch.split(base, widths, dim=1)
    own = {space["block"]: readout for space, readout in zip(tower.spaces, tower.readouts, strict=True)}

    def score(readouts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        many = len(next(iter(readouts.values())))
        columns = [
            readouts[own[space["block"]]].double().cpu() if space["block"] in own else part.expand(many, -1)
            for space, part in zip(case.spaces, parts, strict=True)
        ]
        return answer(torch.cat(columns, dim=1))[:, code]  # type: ignore[no-any-return]

    return score


def _pieces(
    text: str, spans: Sequence[tuple[int, int]], values: np.ndarray
) -> tuple[tuple[str, float | None], ...]:
    """Cut a text at its tokens; several tokens of one character (bytes of an emoji) are added up."""
    by_span: dict[tuple[int, int], float] = {}
    for span, value in zip(spans, values.tolist(), strict=True):
        by_span[span] = by_span.get(span, 0.0) + value
    pieces: list[tuple[str, float | None]] = []
    at = 0
    for (start, stop), value in sorted(by_span.items()):
        if start > at:
            pieces.append((text[at:start], None))
        pieces.append((text[max(start, at) : stop], value))
        at = max(at, stop)
    if at < len(text):
        pieces.append((text[at:], None))
    return tuple(pieces)


def _completeness(title: str, values: np.ndarray, difference: float, n_steps: int) -> str:
    text = (
        f"{title}: the values add up to {values.sum():+.4f}, the probability differs from that of an empty "
        f"input by {difference:+.4f} ({n_steps} steps)"
    )
    if abs(values.sum() - difference) > _LARGEST_GAP * max(abs(difference), _LARGEST_GAP):
        return f"{text}. They should be equal: do not trust this map, use --method occlusion"
    return text
