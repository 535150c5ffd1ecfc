"""Heads by name: their default parameters, and whole pipelines."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imblearn.pipeline import Pipeline

from heads.blocks import BlockImputer
from heads.names import HEADS, OTHER_HEADS, RESAMPLERS, unknown_name
from heads.resampling import make_resampler
from heads.term_blocks import term_recipe
from heads.term_weights import TermWeights

if TYPE_CHECKING:
    import numpy as np

    from heads.estimator import Head
    from heads.parameter_rules import Rule

# Arguments that make_pipeline has itself, so that they cannot differ between the steps.
_PIPELINE_ARGUMENTS = ("blocks", "random_state", "resampler")
# Where and how fast a head runs, not what it learns.
_MACHINE_ARGUMENTS = ("device", "n_jobs")


def default_parameters(head: str) -> dict[str, object]:
    """Return the constructor defaults of a head that may be tuned.

    Parameters
    ----------
    head : str
        One of ``heads.HEADS`` or ``heads.OTHER_HEADS``.

    Returns
    -------
    dict of str to object
        Fit for JSON, and for ``make_pipeline(head, parameters=...)``. Without ``blocks``, ``random_state``,
        ``resampler`` (arguments of ``make_pipeline``), ``device`` and ``n_jobs``.

    Raises
    ------
    ValueError
        If the head is unknown.
    """
    if head not in (*HEADS, *OTHER_HEADS):
        raise ValueError(f"Nothing was made: {unknown_name('head', head, (*HEADS, *OTHER_HEADS))}.")
    left_out = (*_PIPELINE_ARGUMENTS, *_MACHINE_ARGUMENTS)
    return {name: value for name, value in _constructor_defaults(head).items() if name not in left_out}


def parameter_rules(head: str) -> Mapping[str, Rule]:
    """Return what values the parameters of a head may have.

    Parameters
    ----------
    head : str
        One of ``heads.HEADS`` or ``heads.OTHER_HEADS``.

    Returns
    -------
    mapping of str to rule
        A rule takes a value, and returns None when the head takes it, else what is allowed instead.

    Raises
    ------
    ValueError
        If the head is unknown.
    """
    return head_class(head)._rules


def make_pipeline(
    head: str,
    *,
    blocks: Mapping[str, int] | None = None,
    resampler: str = "none",
    parameters: Mapping[str, object] | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Pipeline:
    """Make the pipeline that fills in invalid blocks, resamples and trains a head.

    Parameters
    ----------
    head : str
        One of ``heads.HEADS`` or ``heads.OTHER_HEADS``.
    blocks : mapping of str to int, or None
        Name and width of each block of X, in column order; None is one block.
    resampler : str
        One of ``heads.RESAMPLERS``.
    parameters : mapping of str to object, optional
        Constructor arguments of the head, other than ``blocks``, ``resampler`` and ``random_state``.
    random_state : int, RandomState or None

    Returns
    -------
    imblearn.pipeline.Pipeline
        Steps ``terms`` (with a block of term counts, see ``heads.term_weights``), ``impute``, ``resample``
        (when needed) and ``head``; not fitted. Resampling happens in ``fit`` only. For ``"mlp"`` there is no
        ``resample`` step: the head resamples by itself, after it has put rows aside for early stopping.

    Raises
    ------
    ValueError
        If a name is unknown; the message names all of them. Wrong values are found in ``fit``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [4.0, 5.0], [np.nan, np.nan]], dtype=np.float32)
    >>> pipeline = make_pipeline("logreg", parameters={"C": 1.0}).fit(X, [0, 0, 1, 1])
    >>> pipeline.predict(X[:3]).tolist()
    [0, 0, 1]
    """
    _check_names(head, resampler, parameters or {})
    arguments: dict[str, Any] = {**(parameters or {}), "blocks": blocks, "random_state": random_state}
    steps: list[tuple[str, object]] = [("impute", BlockImputer(blocks=blocks))]
    if any(term_recipe(name) for name in blocks or {}):
        # Before imputing: the mean of weighted rows stands in for a missing text, not the mean of counts.
        steps.insert(0, ("terms", TermWeights(blocks=blocks)))
    if head == "mlp":
        arguments["resampler"] = resampler
    elif resampler != "none":
        steps.append(("resample", make_resampler(resampler, random_state=random_state)))
    steps.append(("head", head_class(head)(**arguments)))
    return Pipeline(steps)


def trains_by_chunks(pipeline: Pipeline, n_features: int) -> bool:
    """Tell whether a pipeline can be trained on a matrix on disk without reading it as a whole.

    Parameters
    ----------
    pipeline : imblearn.pipeline.Pipeline
        From `make_pipeline`.
    n_features : int
        Columns of the matrix.
    """
    by_chunks: bool = pipeline["head"].fits_by_chunks(n_features)
    return by_chunks and not {"terms", "resample"} & pipeline.named_steps.keys()


def head_class(head: str) -> type[Head]:
    """Return the class behind a name of ``heads.HEADS``; its module is imported here."""
    if head == "mlp":
        from heads.mlp import MLPHead

        return MLPHead
    if head == "logreg":
        from heads.linear import LogisticHead

        return LogisticHead
    if head == "lightgbm":
        from heads.boosting import LightGBMHead

        return LightGBMHead
    if head == "ridge":
        from heads.ridge import RidgeHead

        return RidgeHead
    if head == "svm":
        from heads.svm import LinearSVMHead

        return LinearSVMHead
    if head == "centroid":
        from heads.centroids import CentroidHead

        return CentroidHead
    if head == "knn":
        from heads.neighbours import NeighboursHead

        return NeighboursHead
    if head == "zero-shot":
        from heads.zero_shot import ZeroShotHead

        return ZeroShotHead
    if head == "tabpfn":
        from heads.in_context import InContextHead

        return InContextHead
    raise ValueError(f"Nothing was made: {unknown_name('head', head, (*HEADS, *OTHER_HEADS))}.")


def _constructor_defaults(head: str) -> dict[str, object]:
    """Return every constructor argument of a head with its default."""
    signature = inspect.signature(head_class(head))
    return {name: parameter.default for name, parameter in signature.parameters.items()}


def _check_names(head: str, resampler: str, parameters: Mapping[str, object]) -> None:
    """Refuse unknown names, all in one message."""
    faults = []
    if resampler not in RESAMPLERS:
        faults.append(unknown_name("resampler", resampler, RESAMPLERS))
    if head not in (*HEADS, *OTHER_HEADS):
        faults.append(unknown_name("head", head, (*HEADS, *OTHER_HEADS)))
    else:
        known = [name for name in _constructor_defaults(head) if name not in _PIPELINE_ARGUMENTS]
        for name in parameters:
            if name in _PIPELINE_ARGUMENTS:
                faults.append(f"parameter {name!r} is an argument of make_pipeline itself, pass it there")
            elif name not in known:
                faults.append(unknown_name(f"parameter of {head!r}", name, known))
    if faults:
        raise ValueError(f"Cannot make the pipeline, {len(faults)} fault(s): {'; '.join(faults)}.")
