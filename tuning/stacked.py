"""Many MLP configurations trained a few epochs at a time, those of one shape as one computation."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

import heads
from tuning.checkpoints import checkpoints_up_to
from tuning.cores import Cores
from tuning.fold_rows import FoldRows
from tuning.reductions import Reductions
from tuning.resampling_plans import Resampled, growth
from tuning.trials import Configuration, fold_seed

if TYPE_CHECKING:
    from heads.network_stack import NetworkStack

_CHECKPOINTS = (
    2, 4, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 125, 150, 200, 300, 400, 600, 800, 1000,
)  # fmt: skip

_MOST_IN_A_STACK = 16  # more are no cheaper each (their numbers outgrow the caches), and keep a core waiting


@dataclass
class _Fit:
    """Probabilities of one member on one fold, at each checkpoint it has reached."""

    kept: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class _Group:
    """Members that can be one stack on each fold: one shape of network on one kind of rows."""

    members: list[int]
    stacks: "dict[int, tuple[NetworkStack, list[int], FoldRows]]" = field(default_factory=dict)


class StackedMLPs:
    """Configurations of the MLP that are trained fold by fold and a few epochs at a time.

    Parameters
    ----------
    configurations : sequence of Configuration
        The members. Each must pass `accepts`; ``max_epochs`` is the most epochs that it may take.
    reductions : Reductions
    n_classes : int
    random_state : int
        As for `tuning.evaluate`: each fold has its own seed made from this one.
    resampled : callable or None
        Makes the rows to train on; see `tuning.resampling_plans.Resampled`. None takes resampler "none" only.
    as_asked : collection of int
        Members that may take all their ``max_epochs``, however many rows an epoch has.
    cores : Cores or None
        Stacks are trained side by side, each on a thread and a core of its own; None takes all cores.

    Attributes
    ----------
    checkpoints : tuple of int
        Epochs after which probabilities are kept, ascending: the beginning of one sequence, up to the first
        that no member goes beyond. A member's last checkpoint is its ``max_epochs``, in the place of the
        first that is not smaller. Members whose resampler makes rows take as many steps as the others up to
        each checkpoint, so fewer epochs, also in all.
    configurations : tuple of Configuration

    Raises
    ------
    ValueError
        When a parameter is unknown or out of range.

    Notes
    -----
    A member after e epochs is the network that ``heads.MLPHead`` with ``max_epochs=e`` trains on the same
    rows, to the rounding of float32 (tested to 1e-5): members differ from each other by merit, not by luck,
    because they share first weights, order of rows and dropout draws.

    One stack to a core, because the kernels of a stack are too small to be worth splitting.
    """

    def __init__(
        self,
        configurations: Sequence[Configuration],
        reductions: Reductions,
        *,
        n_classes: int,
        random_state: int,
        resampled: Resampled | None = None,
        as_asked: Collection[int] = (),
        cores: Cores | None = None,
    ) -> None:
        self.configurations = tuple(configurations)
        self._reductions = reductions
        self._n_classes = n_classes
        self._random_state = random_state
        self._resampled = resampled
        self._cores = Cores() if cores is None else cores
        most = [_head(configuration).max_epochs for configuration in self.configurations]
        self.checkpoints = checkpoints_up_to(max(most, default=1), _CHECKPOINTS)
        self._epochs = [
            _epochs_at(self.checkpoints, own, 1.0 if member in as_asked else self._growth_of(member))
            for member, own in enumerate(most)
        ]
        self._groups = self._grouped()
        self._fits: dict[tuple[int, int], _Fit] = {}
        self._seconds = [0.0] * len(self.configurations)

    @staticmethod
    def accepts(configuration: Configuration, *, resamples: bool = False) -> bool:
        """Tell whether a population can take a configuration.

        Parameters
        ----------
        configuration : Configuration
        resamples : bool
            Whether the population will be given `resampled`.
        """
        from heads.stackable import can_be_stacked

        if configuration.head != "mlp" or (configuration.resampler != "none" and not resamples):
            return False
        return can_be_stacked(_head(configuration))

    def train(self, targets: Mapping[int, int], folds: Sequence[int]) -> None:
        """Bring members to checkpoints on some folds, going on from where they are.

        Parameters
        ----------
        targets : mapping of int to int
            Position in `configurations` -> position in `checkpoints`. Members that have begun on one of these
            folds and are not named, or are given less than others of their shape, cannot go on there.
        folds : sequence of int
        """
        import torch

        grouped = [(group, [m for m in group.members if m in targets]) for group in self._groups]
        jobs = [(group, members, fold) for fold in folds for group, members in grouped if members]
        jobs.sort(key=lambda job: -len(job[1]))  # ends evenly
        threads = torch.get_num_threads()
        try:
            taken = self._cores.run(
                lambda job: self._advance(job[0], job[1], job[2], targets),
                jobs,
                prepare=lambda: torch.set_num_threads(1),
            )
        finally:
            torch.set_num_threads(threads)
        for (_, members, _), seconds in zip(jobs, taken, strict=True):
            for member in members:
                self._seconds[member] += seconds / len(members)

    def probabilities(self, member: int, fold: int) -> NDArray[np.float32]:
        """Return the probabilities of a fold's validation rows at each checkpoint that was reached.

        Parameters
        ----------
        member : int
        fold : int

        Returns
        -------
        ndarray of shape (n_reached, n_valid, n_classes), float32
        """
        fit = self._fits.get((member, fold))
        if fit is None or not fit.kept:
            n_valid = len(self._reductions.folds[fold][1])
            return np.zeros((0, n_valid, self._n_classes), dtype=np.float32)
        return np.stack(fit.kept)

    def final(self, member: int, checkpoint: int) -> Configuration:
        """Return the configuration that stops at a checkpoint, everything else as asked.

        Parameters
        ----------
        member : int
        checkpoint : int
            Position in `checkpoints`.
        """
        asked = self.configurations[member]
        epochs = self._epochs[member][checkpoint]
        return Configuration(asked.head, asked.resampler, {**asked.parameters, "max_epochs": epochs})

    def seconds(self, member: int) -> float:
        """Return its share of the time that its stacks took so far, in seconds, over all folds."""
        return self._seconds[member]

    def drop(self, member: int) -> None:
        """Forget the probabilities of a member; its networks go with the next call of `train`."""
        for key in [key for key in self._fits if key[0] == member]:
            del self._fits[key]

    def _growth_of(self, member: int) -> float:
        """Return how many times as many rows an epoch of a member has as one without a resampler."""
        configuration = self.configurations[member]
        found = growth(configuration.resampler, self._reductions.codes)
        if found is None:  # the first fold shows it; the rows that are made for it are kept for its training
            rows, X, _ = self._learnt_from(configuration, 0)
            found = max(1.0, len(X) / len(rows.train))
        return found

    def _grouped(self) -> list[_Group]:
        """Put configurations of one shape on the same rows together."""
        from heads.stackable import check_stackable, stack_key

        groups: dict[Any, list[int]] = {}
        for number, configuration in enumerate(self.configurations):
            head = _head(configuration)
            check_stackable(head)
            whiten = head.whiten and head.pca is not None
            rows = (head.pca, whiten, head.screen_blocks, configuration.resampler)
            groups.setdefault((rows, stack_key(head)), []).append(number)
        return [_Group(part) for members in groups.values() for part in _shared_out(members)]

    def _advance(self, group: _Group, members: list[int], fold: int, targets: Mapping[int, int]) -> float:
        """Bring some members of one group to their checkpoints; return the seconds that it took."""
        started = time.perf_counter()
        if fold not in group.stacks:
            group.stacks[fold] = self._start(members, fold)
        stack, alive, rows = group.stacks[fold]
        while True:
            # A member leaves the stack when it is dropped, or has taken its most epochs.
            going = [m for m in alive if m in members and stack.n_epochs < self._target(m, targets[m])]
            if not going:
                break
            stack.keep([alive.index(m) for m in going])
            alive[:] = going
            following = min(self._next_target(m, fold) for m in going)
            stack.run_epochs(following - stack.n_epochs)
            found = stack.probabilities(rows.valid)
            for place, member in enumerate(going):
                self._record(member, fold, stack.n_epochs, targets[member], found[place])
        return time.perf_counter() - started

    def _target(self, member: int, position: int) -> int:
        """Return how many epochs a member has taken at a checkpoint."""
        return self._epochs[member][position]

    def _next_target(self, member: int, fold: int) -> int:
        return self._target(member, len(self._fits[member, fold].kept))

    def _record(
        self, member: int, fold: int, n_epochs: int, until: int, probabilities: NDArray[np.float32]
    ) -> None:
        """Keep probabilities for the checkpoints that lie at this number of epochs."""
        kept = self._fits[member, fold].kept
        while len(kept) <= until and self._target(member, len(kept)) == n_epochs:
            if len(kept) and self._target(member, len(kept) - 1) == n_epochs:
                break  # the member's last checkpoint is kept once
            kept.append(probabilities)

    def _start(self, members: list[int], fold: int) -> "tuple[NetworkStack, list[int], FoldRows]":
        """Make the stack of some members on one fold."""
        from heads.network_stack import NetworkStack
        from heads.stackable import stack_member, stack_seed, stack_shape

        seed = fold_seed(self._random_state, fold)
        parts = [_head(self.configurations[m], seed) for m in members]
        first = parts[0]
        rows, X, codes = self._learnt_from(self.configurations[members[0]], fold)
        stack = NetworkStack(
            first.fusion,
            stack_shape(first, rows.block_widths, self._n_classes),
            X,
            codes,
            [stack_member(part, codes, self._n_classes) for part in parts],
            batch_size=first.batch_size,
            seed=stack_seed(first),
        )
        for member in members:
            self._fits[member, fold] = _Fit()
        return stack, list(members), rows

    def _learnt_from(
        self, configuration: Configuration, fold: int
    ) -> tuple[FoldRows, NDArray[np.float32], NDArray[np.int64]]:
        """Return the rows of a fold, and of them those that a configuration learns from, with their codes."""
        from heads.stackable import stack_seed

        head, resampler = _head(configuration, fold_seed(self._random_state, fold)), configuration.resampler
        rows = self._reductions.rows(fold, head.pca, whiten=head.whiten, screen_blocks=head.screen_blocks)
        if resampler == "none":
            return rows, rows.train, rows.train_codes
        if self._resampled is None:
            raise ValueError(f"This population was not told how to resample with {resampler!r}.")
        return rows, *self._resampled(rows, resampler, stack_seed(head))


def _head(configuration: Configuration, seed: int = 0) -> "heads.MLPHead":
    """Make the head of a configuration."""
    pipeline = heads.make_pipeline(
        "mlp", resampler=configuration.resampler, parameters=configuration.parameters, random_state=seed
    )
    return cast("heads.MLPHead", pipeline.named_steps["head"])


def _epochs_at(checkpoints: Sequence[int], most: int, longer: float) -> tuple[int, ...]:
    """Return the epochs of a member at each checkpoint, if its epochs are so many times longer."""
    found = [0]
    for epochs in checkpoints:
        found.append(min(max(found[-1] + 1, math.ceil(epochs / longer)), math.ceil(most / longer)))
    return tuple(found[1:])


def _shared_out(members: list[int]) -> list[list[int]]:
    """Share out the members of one shape evenly to stacks that are not too large."""
    n_stacks = -(-len(members) // _MOST_IN_A_STACK)
    return [members[place::n_stacks] for place in range(n_stacks)]
