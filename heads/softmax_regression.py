"""Multinomial logistic regression by preconditioned L-BFGS."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eigh
from scipy.linalg.lapack import get_lapack_funcs
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

Parts = Callable[[], Iterable[tuple[slice, NDArray[Any]]]]
"""Goes through all rows once: yields which rows and their standardised values, an array used again later."""

_RIDGE_SHARE = 1e-5  # of the mean diagonal: keeps the float32 factorisation positive definite at any C


@dataclass(frozen=True)
class SoftmaxFit:
    """Coefficients for standardised rows.

    Attributes
    ----------
    matrix : ndarray of shape (n_features, n_classes)
    bias : ndarray of shape (n_classes,)
    n_iter : int
    """

    matrix: NDArray[Any]
    bias: NDArray[Any]
    n_iter: int


def fit_softmax(
    X: NDArray[Any],
    codes: NDArray[np.intp],
    *,
    weights: NDArray[np.float64],
    n_classes: int,
    C: float,
    max_iter: int,
    tol: float,
) -> SoftmaxFit:
    """Minimise the weighted cross-entropy plus ``||W||^2 / 2C``, as scikit-learn's LogisticRegression does.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Standardised rows. The work is done in this dtype.
    codes : ndarray of shape (n_samples,), integer in [0, n_classes)
    weights : ndarray of shape (n_samples,), float64
    n_classes : int
    C : float
        Inverse strength of the L2 penalty on everything but the bias, against the SUM of the losses.
    max_iter : int
    tol : float
        Stops when no entry of the gradient (of the weighted mean loss) is larger.

    Returns
    -------
    SoftmaxFit

    Notes
    -----
    The curvature at the start is ``(I - 11'/K) / K`` times the weighted Gram matrix, so L-BFGS runs in the
    variable ``U = L' W`` with ``L L'`` the Cholesky factor of ``Gram / K + penalty``. Columns of embeddings
    are strongly correlated, and this takes 3 to 6 times fewer passes over the data than plain L-BFGS to the
    same gradient; the minimum is the same.

    References
    ----------
    D. Böhning, "Multinomial logistic regression algorithm", Ann. Inst. Statist. Math. 44 (1992), for the
    bound on the curvature that this preconditioner follows.
    """
    basis = row_space(X) if len(X) < X.shape[1] else None
    rows = X if basis is None else X @ basis
    fit = fit_softmax_parts(
        lambda: [(slice(0, len(rows)), rows)],
        codes,
        n_features=rows.shape[1],
        dtype=rows.dtype,
        weights=weights,
        n_classes=n_classes,
        C=C,
        max_iter=max_iter,
        tol=tol,
    )
    return fit if basis is None else SoftmaxFit(basis @ fit.matrix, fit.bias, fit.n_iter)


def fit_softmax_parts(
    parts: Parts,
    codes: NDArray[np.intp],
    *,
    n_features: int,
    dtype: np.dtype[Any],
    weights: NDArray[np.float64],
    n_classes: int,
    C: float,
    max_iter: int,
    tol: float,
) -> SoftmaxFit:
    """Do the same on rows that come in parts, such as from a disk: every pass goes through all parts.

    Parameters
    ----------
    parts : callable
        Called once for the preconditioner and once per evaluation of the loss.
    n_features : int
    dtype : numpy.dtype
        Of the rows.
    codes, weights, n_classes, C, max_iter, tol
        As for `fit_softmax`.

    Returns
    -------
    SoftmaxFit

    Notes
    -----
    The loss and the gradient are sums over rows, and sums over parts are taken in float64: the same minimum
    as with all rows in one part, to the rounding of the dtype. Memory does not grow with the rows.
    """
    objective = _Objective(
        parts, codes, n_features=n_features, dtype=dtype, weights=weights, n_classes=n_classes, C=C
    )

    def stop(intermediate_result: OptimizeResult) -> None:  # noqa: ARG001 - scipy looks at the name
        if objective.steepest <= tol:
            raise StopIteration

    result = minimize(
        objective,
        np.zeros((n_features + 1) * n_classes),
        jac=True,
        method="L-BFGS-B",
        callback=stop,
        # gtol is measured in U by scipy, so our own rule stands in its place.
        options={"maxiter": max_iter, "gtol": 0.0, "ftol": 64 * np.finfo(np.float64).eps, "maxls": 50},
    )
    # Stopping for another reason means that float32 can tell no further progress from rounding: good enough.
    if result.nit >= max_iter and objective.steepest > tol:
        warnings.warn(
            f"LogisticHead stopped at max_iter={max_iter} iterations with a gradient of "
            f"{objective.steepest:.1e}, above tol={tol:g}. The solution may be off; use a smaller C, a "
            "larger tol or a larger max_iter.",
            ConvergenceWarning,
            stacklevel=6,
        )
    matrix, bias = objective.unpack(result.x)
    return SoftmaxFit(matrix, bias, max(int(result.nit), 1))


def row_space(X: NDArray[Any]) -> NDArray[Any]:
    """Return an orthonormal basis of the rows of `X`, shape (n_features, rank), in the dtype of `X`.

    The penalised minimum is a combination of the rows, so with fewer rows than columns the search in this
    basis finds the same coefficients in a space of the size of the rows.
    """
    wide = X.astype(np.float64)
    squares, directions = eigh(wide @ wide.T, check_finite=False)
    kept = squares > squares[-1] * len(X) * np.finfo(X.dtype).eps
    if not kept.any():  # every column is constant
        return np.zeros((X.shape[1], 1), dtype=X.dtype)
    basis: NDArray[Any] = (wide.T @ (directions[:, kept] / np.sqrt(squares[kept]))).astype(X.dtype)
    return basis


class _Objective:
    """Loss and gradient as a function of the preconditioned variable."""

    def __init__(
        self,
        parts: Parts,
        codes: NDArray[np.intp],
        *,
        n_features: int,
        dtype: np.dtype[Any],
        weights: NDArray[np.float64],
        n_classes: int,
        C: float,
    ) -> None:
        total = float(weights.sum())
        self.parts = parts
        self.codes = codes
        self.n_features = n_features
        self.dtype = dtype
        self.share = weights / total
        self.penalty = 1.0 / (C * total)
        self.n_classes = n_classes
        self.steepest = np.inf
        self.whitening = self._whiten()

    def _whiten(self) -> NDArray[Any]:
        """Return the inverse of the lower Cholesky factor of the approximate curvature.

        The inverse itself, because two products a pass are several times faster than two triangular solves
        with so few columns. It need not be accurate: any invertible change of variable has the same minimum.
        """
        curvature = np.zeros((self.n_features, self.n_features), dtype=self.dtype)
        for rows, X in self.parts():
            weighted = X * np.sqrt(self.share[rows]).astype(self.dtype)[:, None]
            curvature += weighted.T @ weighted
        curvature /= self.n_classes
        ridge = self.penalty + _RIDGE_SHARE * float(np.trace(curvature)) / len(curvature)
        curvature.flat[:: len(curvature) + 1] += ridge
        factor = cholesky(curvature, lower=True, overwrite_a=True, check_finite=False)
        (invert,) = get_lapack_funcs(("trtri",), (factor,))
        inverse, _ = invert(factor, lower=1)  # the ridge keeps the diagonal away from zero
        whitening: NDArray[Any] = np.ascontiguousarray(np.tril(inverse))
        return whitening

    def unpack(self, flat: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Turn scipy's flat vector into (matrix, bias)."""
        table = flat.reshape(-1, self.n_classes).astype(self.dtype)
        # (K, d) @ (d, d) is the faster order for a row-major factor.
        matrix = (table[:-1].T @ self.whitening).T
        return matrix, table[-1]

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss and its gradient."""
        matrix, bias = self.unpack(flat)
        loss = 0.5 * self.penalty * float(np.sum(matrix.astype(np.float64) ** 2))
        gradient = np.zeros(matrix.shape)
        bias_gradient = np.zeros(bias.shape)
        for rows, X in self.parts():
            losses, residual = self._residual(X @ matrix + bias, rows)
            loss += float(self.share[rows] @ losses.astype(np.float64))
            # (K, n) @ (n, d) is the faster order for a row-major X.
            gradient += (residual.T @ X).T
            bias_gradient += residual.sum(axis=0)
        steep = gradient.astype(self.dtype) + np.asarray(self.penalty, self.dtype) * matrix
        self.steepest = float(max(np.abs(steep).max(), np.abs(bias_gradient).max()))
        inner = self.whitening @ steep
        return loss, np.vstack([inner, bias_gradient]).astype(np.float64).ravel()

    def _residual(self, logits: NDArray[Any], rows: slice) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return losses, and their gradients in the logits times the shares; `logits` are used up."""
        codes, places = self.codes[rows], np.arange(len(logits))
        logits -= logits.max(axis=1, keepdims=True)
        exp = np.exp(logits)
        total = exp.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - logits[places, codes]
        residual = exp / total
        residual[places, codes] -= 1.0
        residual *= self.share[rows].astype(self.dtype)[:, None]
        return losses, residual
