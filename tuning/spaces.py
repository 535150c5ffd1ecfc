"""What may be tried: one function per head that turns an Optuna trial into a configuration.

The ranges suit 500 to 10,000 rows of 768 to 2,048 standardised features. A parameter that is not suggested
keeps the default of its head. Names in the study are prefixed by the head (``mlp.dropout``), so that the
heads do not share parameters that merely have the same name.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import heads
from tuning.trials import Configuration

if TYPE_CHECKING:
    import optuna

# One choice for the rare classes: weighting them and repeating them as well would count the prior twice.
_CLASS_WEIGHT = "class-weight"

SEARCHED_RESAMPLERS = ("none", "random-over", "smote", "inverse-frequency")
"""The part of ``heads.RESAMPLERS`` that a search tries. The others are near relatives of SMOTE, or lose rows:
each would take trials from the rest, and a study that was begun without them could not be continued."""


def _mlp(trial: "optuna.Trial") -> dict[str, Any]:
    return {
        "hidden": trial.suggest_categorical("mlp.hidden", [64, 128, 256, 512]),
        "n_hidden": trial.suggest_int("mlp.n_hidden", 1, 2),
        "dropout": trial.suggest_float("mlp.dropout", 0.0, 0.7),
        "learning_rate": trial.suggest_float("mlp.learning_rate", 1e-4, 1e-2, log=True),
        "weight_decay": trial.suggest_float("mlp.weight_decay", 1e-4, 1.0, log=True),
        "batch_size": trial.suggest_categorical("mlp.batch_size", [64, 128, 256]),
        "label_smoothing": trial.suggest_float("mlp.label_smoothing", 0.0, 0.2),
    }


def _logreg(trial: "optuna.Trial") -> dict[str, Any]:
    # Standardised columns by the hundred separate small data perfectly: the useful strengths are small.
    return {"C": trial.suggest_float("logreg.C", 1e-5, 10.0, log=True)}


def _lightgbm(trial: "optuna.Trial") -> dict[str, Any]:
    # Cost grows with rounds x leaves x columns; principal components, few leaves and a small share of the
    # columns per tree are 20 to 50 times cheaper than the usual ranges on dense embeddings, and no worse.
    return {
        "n_estimators": trial.suggest_int("lightgbm.n_estimators", 30, 150),
        "learning_rate": trial.suggest_float("lightgbm.learning_rate", 0.02, 0.3, log=True),
        "num_leaves": trial.suggest_int("lightgbm.num_leaves", 3, 31, log=True),
        "min_child_samples": trial.suggest_int("lightgbm.min_child_samples", 5, 80, log=True),
        "feature_fraction": trial.suggest_float("lightgbm.feature_fraction", 0.1, 0.6),
        "reg_lambda": trial.suggest_float("lightgbm.reg_lambda", 1e-2, 100.0, log=True),
        "pca": trial.suggest_categorical("lightgbm.pca", [32, 64, 128]),
    }


def _ridge(trial: "optuna.Trial") -> dict[str, Any]:
    return {"alpha": trial.suggest_float("ridge.alpha", 1.0, 1e5, log=True)}


def _svm(trial: "optuna.Trial") -> dict[str, Any]:
    # The curvature of the squared hinge is eight times that of the logistic loss: smaller C than logreg's.
    return {"C": trial.suggest_float("svm.C", 1e-6, 0.1, log=True)}


def _centroid(_trial: "optuna.Trial") -> dict[str, Any]:
    return {}  # nothing but the treatment of the rare classes moves its predictions


def _knn(trial: "optuna.Trial") -> dict[str, Any]:
    return {
        "n_neighbors": trial.suggest_int("knn.n_neighbors", 3, 100, log=True),
        "temperature": trial.suggest_float("knn.temperature", 0.02, 1.0, log=True),
    }


_SPACES: dict[str, Callable[["optuna.Trial"], dict[str, Any]]] = {
    "mlp": _mlp,
    "logreg": _logreg,
    "lightgbm": _lightgbm,
    "ridge": _ridge,
    "svm": _svm,
    "centroid": _centroid,
    "knn": _knn,
}


def check_heads(names: Sequence[str]) -> None:
    """Refuse an empty list of heads, an unknown head or one given twice.

    Parameters
    ----------
    names : sequence of str

    Raises
    ------
    ValueError
        All faults in one message.
    """
    unknown = [name for name in names if name not in _SPACES]
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    faults = []
    if isinstance(names, str) or not names:
        faults.append(f"'heads' is {names!r}, not a list of one or more names")
    elif unknown:
        faults.append(f"unknown heads {unknown[:5]}")
    if repeated and not isinstance(names, str):
        faults.append(f"heads given twice {repeated[:5]}")
    if faults:
        raise ValueError(f"{'; '.join(faults)}. Allowed are {', '.join(_SPACES)}, each once.")


def suggest(trial: "optuna.Trial", heads: Sequence[str]) -> Configuration:
    """Ask a trial for a head, its parameters, and how to treat the rare classes.

    Parameters
    ----------
    trial : optuna.Trial
    heads : sequence of str
        Names of the heads to choose from.

    Returns
    -------
    Configuration
        Rare classes are either weighted (``class_weight="balanced"``), or resampled, or left alone.

    Raises
    ------
    ValueError
        When ``heads`` is empty, or holds an unknown or a repeated name.
    """
    check_heads(heads)
    head = trial.suggest_categorical("head", list(heads))
    parameters = {**_defaults(head), **_SPACES[head](trial)}
    balance = trial.suggest_categorical(f"{head}.balance", _balances())
    parameters["class_weight"] = "balanced" if balance == _CLASS_WEIGHT else None
    return Configuration(head, "none" if balance == _CLASS_WEIGHT else balance, parameters)


def default_configuration(head: str) -> Configuration:
    """Return the configuration of a head that nobody tuned: its default parameters, without resampling.

    Parameters
    ----------
    head : str

    Returns
    -------
    Configuration

    Raises
    ------
    ValueError
        When the head is unknown.
    """
    check_heads([head])
    return Configuration(head, "none", _defaults(head))


def default_parameters_in_study(head: str) -> dict[str, Any]:
    """Return the study parameters with which `suggest` answers ``default_configuration(head)``.

    Parameters
    ----------
    head : str

    Returns
    -------
    dict of str to JSON value
        Names as in `suggest`; parameters that `suggest` does not ask for do no harm.
    """
    defaults = _defaults(head)
    balance = _CLASS_WEIGHT if defaults["class_weight"] == "balanced" else "none"
    prefixed = {f"{head}.{name}": value for name, value in defaults.items()}
    return {"head": head, **prefixed, f"{head}.balance": balance}


def _defaults(head: str) -> dict[str, Any]:
    return dict(heads.default_parameters(head))


def _balances() -> list[str]:
    return [_CLASS_WEIGHT, *SEARCHED_RESAMPLERS]
