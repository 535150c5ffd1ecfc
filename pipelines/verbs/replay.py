"""The values of ``--config``: a run's settings, where the command line says nothing itself."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.verbs.shared import given_options

#: Settings that are recorded as the option has them.
_AS_RECORDED = (
    "heads", "trials", "metric", "folds", "seed", "timeout", "study", "storage", "resampler", "use_views",
    "preset", "space", "grid", "select", "repeats", "calibrate", "decide", "duplicates", "modalities",
    "fusions", "resamplers", "reference", "shuffles", "leaky", "prompts", "seeds", "splits",
)  # fmt: skip


def replayed(options: Namespace, words: Sequence[str]) -> Namespace:
    """Return the options with the values of ``--config`` where the command line says nothing itself."""
    if options.config is None:
        return options
    from pipelines.errors import RunError, UsageError
    from pipelines.named_stores import check_stores_unchanged
    from pipelines.run_reading import check_config, read_json, recorded_weights
    from pipelines.runs import CONFIG

    if options.config.is_dir():
        raise RunError(f"'{options.config}' is a folder; --config takes a file: '{options.config / CONFIG}'.")
    config = read_json(options.config)
    check_config(config, options.config)
    if config.get("command") != options.verb:
        raise UsageError(
            f"'{options.config}' was written by '{config.get('command')}', not by '{options.verb}'."
        )
    given = given_options(words)
    if not {"features", "swap"} & given:
        check_stores_unchanged(config["spaces"], options.config)
    recorded: dict[str, Any] = {
        **_replayed_stores(config, given),
        "head": config["heads"][0],
        "parameters": _replayed_parameters(config, options, given),
        "weights": list(recorded_weights(config).items()),
        **{name: config[name] for name in _AS_RECORDED if name in config},
    }
    if "head" in given:
        recorded.pop("preset", None)  # another head is no longer that preset
    values = dict(vars(options))
    values.update({k: v for k, v in recorded.items() if k in values and k not in given})
    return Namespace(**values)


def _replayed_stores(config: Mapping[str, Any], given: set[str]) -> dict[str, list[str]]:
    """Return the recorded stores as ``--features``, or as ``--swap`` where an ablation compared sets."""
    if {"features", "swap"} & given:
        return {}
    sets: dict[str, list[str]] = {}
    for space in config["spaces"]:
        sets.setdefault(space.get("set", ""), []).append(f"{space['path']}:{space['space']}")
    if "" in sets or config.get("preset"):
        return {"features": [spec for specs in sets.values() for spec in specs]}
    return {"swap": [f"{name}={','.join(specs)}" for name, specs in sets.items()]}


def _replayed_parameters(config: Mapping[str, Any], options: Namespace, given: set[str]) -> list[Any]:
    """Return the recorded parameters and those of ``--set``, the latter last, so that they win."""
    own = getattr(options, "parameters", [])
    other_head = {"head", "preset"} & given
    return list(own) if other_head else [*config.get("parameters", {}).items(), *own]
