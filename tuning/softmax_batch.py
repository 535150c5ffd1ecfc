"""Many multinomial logistic regressions on the same rows, solved side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, helmert
from scipy.linalg.blas import strmm
from scipy.linalg.lapack import strtri

Floats = NDArray[np.float32]

_REMEMBERED = 6  # steps that L-BFGS keeps per member
_PENALTY_RATIO = 4.0  # members whose penalties are closer than this share a preconditioner
_RIDGE_SHARE = 1e-4  # of the mean diagonal: keeps the float32 factorisation positive definite
_ENOUGH_DECREASE = 1e-4  # of what the slope promises (Armijo)
_ROUNDING = 1e-7  # of the loss: smaller differences are float32 noise
_SMALLEST_STEP = 1e-3  # a shorter step gains nothing that float32 could tell


@dataclass(frozen=True, eq=False)
class SoftmaxBatch:
    """Coefficients of many fits, for rows as they were given.

    Attributes
    ----------
    matrices : ndarray of shape (n_members, n_features, n_classes), float32
        The coefficients of a feature sum to zero over the classes.
    biases : ndarray of shape (n_members, n_classes), float32
    n_iter : ndarray of shape (n_members,), int64
        Passes over the rows.
    steepest : ndarray of shape (n_members,), float32
        Largest entry of the gradient of the weighted mean loss at the end.
    """

    matrices: Floats
    biases: Floats
    n_iter: NDArray[np.int64]
    steepest: Floats


def fit_softmax_batch(
    X: Floats,
    codes: NDArray[np.int64],
    class_shares: NDArray[np.float64],
    penalties: NDArray[np.float64],
    *,
    tol: float,
    max_iter: int,
    on_pass: Callable[[], None] = lambda: None,
) -> SoftmaxBatch:
    """Minimise, for each member, its weighted cross-entropy plus ``penalty * ||W||^2 / 2``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Standardised rows.
    codes : ndarray of shape (n_samples,), int64
        Classes 0 to n_classes - 1, each with a row.
    class_shares : ndarray of shape (n_members, n_classes), float64
        Weight of one row of each class; over all rows the weights of a member sum to one.
    penalties : ndarray of shape (n_members,), float64
        Positive.
    tol : float
        A member is finished when no entry of its gradient is larger.
    max_iter : int
        Passes over the rows after which the rest is given as it is.
    on_pass : callable
        Called before each pass; what it raises ends the solve.

    Returns
    -------
    SoftmaxBatch

    Notes
    -----
    The members' coefficients form one wide matrix, so that a pass is two wide products, whatever their
    number. Everything else (history, step length) is a member's own: each takes the steps it would take
    alone, and leaves the batch when it is finished. Coefficients are kept in ``n_classes - 1`` orthonormal
    contrasts, because the minimum sums to zero over the classes: a third less work for three classes. The
    curvature is approximated as in ``heads.softmax_regression``, once for members of similar penalty.

    References
    ----------
    J. Nocedal, "Updating quasi-Newton matrices with limited storage", Math. Comp. 35 (1980).
    """
    objective = _Objective(X, codes, class_shares, penalties)
    curvature = _Curvature(objective.rows, penalties, n_classes=class_shares.shape[1])
    table, n_iter, steepest = _minimise(objective, curvature, tol=tol, max_iter=max_iter, on_pass=on_pass)
    whole = np.einsum("ck,mcd->mdk", objective.contrasts, table)
    return SoftmaxBatch(whole[:, :-1], whole[:, -1], n_iter, steepest)


class _Objective:
    """Loss and gradient of some members at once.

    Coefficients have shape (n_members, n_contrasts, n_features + 1), the bias last.
    """

    def __init__(
        self,
        X: Floats,
        codes: NDArray[np.int64],
        class_shares: NDArray[np.float64],
        penalties: NDArray[np.float64],
    ) -> None:
        self.rows = np.ones((len(X), X.shape[1] + 1), dtype=np.float32)
        self.rows[:, :-1] = X
        self.contrasts: Floats = helmert(class_shares.shape[1]).astype(np.float32)
        self.targets = np.ascontiguousarray(self.contrasts[:, codes])  # (n_contrasts, n_samples)
        self.shares = class_shares.astype(np.float32)[:, codes]  # (n_members, n_samples)
        self.penalties = penalties.astype(np.float32)

    def __call__(self, table: Floats, members: NDArray[np.intp]) -> tuple[NDArray[np.float64], Floats]:
        """Return the losses of the given members, shape (m,), and their gradients, shaped like `table`."""
        m, n_contrasts, width = table.shape
        # Contrast by contrast, so that what is summed over contrasts or classes lies in whole matrices.
        wide = np.ascontiguousarray(table.transpose(1, 0, 2)).reshape(-1, width)
        scores = (wide @ self.rows.T).reshape(n_contrasts, m, -1)
        own = np.einsum("cn,cmn->mn", self.targets, scores)
        logits = np.einsum("ck,cmn->kmn", self.contrasts, scores)
        highest = logits.max(axis=0)
        logits -= highest
        np.exp(logits, out=logits)
        total = logits.sum(axis=0)
        shares = self.shares[members]
        losses = np.einsum("mn,mn->m", shares, np.log(total) + highest - own, dtype=np.float64)
        logits /= total
        residual = np.einsum("ck,kmn->cmn", self.contrasts, logits)
        residual -= self.targets[:, None]
        residual *= shares
        gradient = (residual.reshape(n_contrasts * m, -1) @ self.rows).reshape(n_contrasts, m, width)
        gradient = np.ascontiguousarray(gradient.transpose(1, 0, 2))
        penalised = self.penalties[members, None, None] * table[:, :, :-1]
        gradient[:, :, :-1] += penalised
        losses += 0.5 * np.einsum("mcd,mcd->m", penalised, table[:, :, :-1], dtype=np.float64)
        return losses, gradient


class _Curvature:
    """Approximate inverse curvature of each member: ``(Gram / n_classes + penalty)^-1``."""

    def __init__(self, rows: Floats, penalties: NDArray[np.float64], *, n_classes: int) -> None:
        gram = rows.T @ rows
        gram /= len(rows) * n_classes
        floor = _RIDGE_SHARE * float(np.trace(gram)) / len(gram)
        self.levels = _levels(np.maximum(penalties, floor))
        self.roots = [_inverse_root(gram, penalty) for penalty in self.levels[0]]

    def solve(self, gradient: Floats, members: NDArray[np.intp]) -> Floats:
        """Multiply gradients of shape (m, n_contrasts, width) by the inverse curvature."""
        out = np.empty_like(gradient)
        for level, root in enumerate(self.roots):
            here = np.flatnonzero(self.levels[1][members] == level)
            if len(here):
                flat = gradient[here].reshape(-1, gradient.shape[2]).T
                # Column-major on purpose: triangular products in place, at half the work of full ones.
                half = strmm(1.0, root, flat, lower=1, overwrite_b=1)
                whole = strmm(1.0, root, half, lower=1, trans_a=1, overwrite_b=1)
                out[here] = whole.T.reshape(len(here), *gradient.shape[1:])
        return out


def _levels(penalties: NDArray[np.float64]) -> tuple[list[float], NDArray[np.intp]]:
    """Group penalties into few levels; return the penalty of each, and the level of each member."""
    level = np.zeros(len(penalties), dtype=np.intp)
    groups: list[list[float]] = []
    for position in np.argsort(penalties):
        penalty = float(penalties[position])
        if not groups or penalty > groups[-1][0] * _PENALTY_RATIO:
            groups.append([penalty])
        groups[-1].append(penalty)
        level[position] = len(groups) - 1
    return [float(np.sqrt(group[0] * group[-1])) for group in groups], level


def _inverse_root(gram: Floats, penalty: float) -> Floats:
    """Return the inverse of the lower Cholesky factor of ``gram + penalty``, column-major, noise above."""
    shifted = gram.copy()
    shifted.flat[: -1 : len(gram) + 1] += penalty  # the bias, which comes last, has none
    factor = cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
    inverse: Floats = strtri(factor, lower=1)[0]  # the penalty keeps the diagonal away from zero
    return inverse


class _Steps:
    """The last steps of each member, and the direction that L-BFGS makes of them.

    All members share the slots; a pass in which a member took no step leaves its slot without effect.
    """

    def __init__(self, table: Floats) -> None:
        self.moves = np.zeros((_REMEMBERED, *table.shape), dtype=np.float32)
        self.turns = np.zeros_like(self.moves)
        self.inverse = np.zeros((_REMEMBERED, len(table)))  # one over <move, turn>; 0 has no effect
        self.newest = -1

    def add(self, move: Floats, turn: Floats, accepted: NDArray[np.bool_]) -> None:
        """Remember a step in coefficients and the change of the gradient over it."""
        product = _dot(move, turn)
        useful = accepted & (product > 1e-10 * _dot(turn, turn))
        self.newest = (self.newest + 1) % _REMEMBERED
        self.moves[self.newest] = move
        self.turns[self.newest] = turn
        self.inverse[self.newest] = np.where(useful, 1.0 / np.where(useful, product, 1.0), 0.0)

    def keep(self, members: NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.moves, self.turns = self.moves[:, members], self.turns[:, members]
        self.inverse = self.inverse[:, members]

    def direction(self, gradient: Floats, solve: Callable[[Floats], Floats]) -> Floats:
        """Return the step downhill, by the two loops of the reference."""
        slots = [(self.newest - back) % _REMEMBERED for back in range(_REMEMBERED)]
        step = gradient.copy()
        shares = {}
        for slot in slots:
            shares[slot] = self.inverse[slot] * _dot(self.moves[slot], step)
            step -= _times(shares[slot], self.turns[slot])
        step = solve(step)
        for slot in reversed(slots):
            back = self.inverse[slot] * _dot(self.turns[slot], step)
            step += _times(shares[slot] - back, self.moves[slot])
        return -step


def _minimise(
    objective: _Objective,
    curvature: _Curvature,
    *,
    tol: float,
    max_iter: int,
    on_pass: Callable[[], None],
) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Return coefficients, passes and the largest entry of the gradient of every member."""
    n_members, width = len(objective.penalties), objective.rows.shape[1]
    n_contrasts = len(objective.contrasts)
    solution = np.zeros((n_members, n_contrasts, width), dtype=np.float32)
    n_iter, steepest = np.zeros(n_members, dtype=np.int64), np.zeros(n_members, dtype=np.float32)
    members = np.arange(n_members)
    here = solution.copy()
    on_pass()
    loss, gradient = objective(here, members)
    steps = _Steps(here)
    direction = -curvature.solve(gradient, members)
    slope, length = _dot(direction, gradient), np.ones(n_members)
    for done in range(1, max_iter + 1):
        on_pass()
        move = _times(length, direction)
        there = here + move
        new_loss, new_gradient = objective(there, members)
        slack = _ROUNDING * np.abs(loss)
        accepted = new_loss <= loss + _ENOUGH_DECREASE * length * slope + slack
        steps.add(move, new_gradient - gradient, accepted)
        curve = new_loss - loss - length * slope
        here[accepted], gradient[accepted] = there[accepted], new_gradient[accepted]
        loss = np.where(accepted, new_loss, loss)
        largest = np.abs(gradient).max(axis=(1, 2))
        # A refused step is cut to the lowest point of the parabola through what is known.
        lowest = -slope * length**2 / np.maximum(2 * curve, np.finfo(np.float64).tiny)
        length = np.where(accepted, 1.0, np.clip(lowest, 0.1 * length, 0.5 * length))
        finished = (largest <= tol) | (length < _SMALLEST_STEP) | (done == max_iter)
        if finished.any():
            out = members[finished]
            solution[out], n_iter[out], steepest[out] = here[finished], done, largest[finished]
            going = ~finished
            if not going.any():
                break
            members, accepted, length, loss = members[going], accepted[going], length[going], loss[going]
            here, gradient, direction = here[going], gradient[going], direction[going]
            steps.keep(going)
        ahead = steps.direction(gradient, partial(curvature.solve, members=members))
        direction = np.where(accepted[:, None, None], ahead, direction)
        slope = _dot(direction, gradient)
    return solution, n_iter, steepest


def _dot(left: Floats, right: Floats) -> NDArray[np.float64]:
    """Return the inner product of each member, shape (m,)."""
    m = len(left)
    products = left.reshape(m, 1, -1) @ right.reshape(m, -1, 1)
    return products[:, 0, 0].astype(np.float64)


def _times(factors: NDArray[np.float64], table: Floats) -> Floats:
    """Multiply each member's table by its factor."""
    return factors.astype(np.float32)[:, None, None] * table
