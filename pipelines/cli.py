"""The command line: parse, call one function, print.

Errors are one clear line; the exit status is 0 for done, 1 for failed and 2 for wrong usage.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.options import Parser, build_parser, build_single_parser, given_options

_RESUME = "Stopped. Nothing is lost; the same command goes on from here."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``embedonce VERB``."""
    return _run(build_parser(), arguments)


def extract_features(arguments: Sequence[str] | None = None) -> int:
    """Run ``extract-features``."""
    return _run(build_single_parser("extract-features", "extract"), arguments)


def tune(arguments: Sequence[str] | None = None) -> int:
    """Run ``tune``."""
    return _run(build_single_parser("tune", "tune"), arguments)


def _run(parser: Parser, arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    # Before torch or LightGBM load: OpenMP threads that spin while they wait make fits beside another busy
    # process up to 15 times slower, and are no faster on a quiet machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Pillow warns about odd EXIF data and big pictures; here every picture gets a status instead.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        _COMMANDS[options.verb](options, words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _leave(130, _RESUME)
    except BrokenPipeError:
        # The reader of our output has gone (e.g. `| head`); keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the one place where errors become exit codes
        return _report(error)
    return 0


def _leave(code: int, text: str) -> int:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
    # Worker threads may sit in a long forward; an ordinary exit would wait for them.
    if _threads_left():
        os._exit(code)
    return code


def _threads_left() -> bool:
    import threading

    return threading.active_count() > 1


def _report(error: Exception) -> int:
    """Print one clear line for errors that a user can cause; anything else is a bug and says so."""
    from pipelines.errors import UsageError

    if os.environ.get("EMBEDONCE_DEBUG"):
        raise error
    # Every error class of the floors is also one of these builtins (DESIGN section 10).
    expected = (ValueError, TypeError, OSError, KeyError, ImportError, MemoryError)
    text = _one_line(error)
    if isinstance(error, UsageError):
        sys.stderr.write(f"embedonce: {text}\n")
        return 2
    if isinstance(error, expected):
        sys.stderr.write(f"embedonce: {text}\n")
        return 1
    sys.stderr.write(
        f"embedonce: internal error: {type(error).__name__}: {text}\n"
        "This is a bug. Run again with EMBEDONCE_DEBUG=1 for the traceback and report it.\n"
    )
    return 1


def _one_line(error: Exception) -> str:
    """Return the error's text; builtin OSErrors read better without their number."""
    if (
        isinstance(error, OSError)
        and error.strerror
        and error.filename
        and type(error).__module__ == "builtins"
    ):
        return f"{error.strerror}: '{error.filename}'"
    if isinstance(error, MemoryError):
        return "out of memory; pass a smaller --batch-size, or fewer --heads"
    return str(error) or type(error).__name__


# --- one function per verb --------------------------------------------------------------------------


def _extract(options: Namespace, _words: list[str]) -> None:
    from pipelines import extract

    settings = extract.ExtractSettings(
        backbone=tuple(options.backbone),
        data=options.data,
        out=options.out,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        max_memory=options.max_memory,
        modality=options.modality,
        readout=options.readout,
        views=options.views,
        augment=options.augment,
        clean=options.clean,
        encodings=options.encodings,
        columns=options.columns,
        weights=options.weights,
        limit=options.limit,
        max_bad=options.max_bad,
        replace=options.replace,
    )
    if options.dry_run:
        extract.print_dry_runs(extract.plan_extraction(settings), as_json=options.json)
    else:
        extract.print_reports(extract.extract_features(settings), as_json=options.json)


def _tune(options: Namespace, words: list[str]) -> None:
    from pipelines import scoreboard, tune

    values = _replayed(options, words)
    settings = tune.TuneSettings(
        features=tuple(values.features),
        heads=tuple(values.heads),
        trials=values.trials,
        metric=values.metric,
        folds=values.folds,
        seed=values.seed,
        timeout=values.timeout,
        study=values.study,
        storage=values.storage,
        out=values.out,
        use_views=values.use_views,
    )
    scoreboard.print_run(tune.tune(settings), as_json=options.json)


def _train(options: Namespace, words: list[str]) -> None:
    from pipelines import presets, scoreboard, tune
    from pipelines.errors import UsageError

    if options.preset == presets.LIST:
        presets.print_presets(as_json=options.json)
        return
    given = given_options(words)
    if {"preset", "head"} <= given:
        raise UsageError("A preset brings its own head. Leave out --head, or --preset.")
    values = _replayed(options, words)
    settings = tune.TuneSettings(
        features=tuple(values.features),
        heads=(values.head,),
        trials=1,
        metric=values.metric,
        folds=values.folds,
        seed=values.seed,
        study=values.study,
        out=values.out,
        use_views=values.use_views,
        resampler=values.resampler,
        parameters=dict(values.parameters),
        preset=values.preset,
    )
    if "preset" in given:  # on the command line, not in --config, whose settings are expanded already
        settings = presets.apply_preset(settings, values.preset, keep_resampler="resampler" in given)
    scoreboard.print_run(tune.train(settings), as_json=options.json)


def _predict(options: Namespace, _words: list[str]) -> None:
    from pipelines import predict

    settings = predict.PredictSettings(
        run=options.run,
        features=tuple(options.features),
        data=options.data,
        text=options.text,
        image=options.image,
        out=options.out,
        device=options.device,
        weights=dict(options.weights),
        columns=options.columns,
        encodings=options.encodings,
    )
    began = time.perf_counter()
    predictions = predict.predict(settings)
    seconds = time.perf_counter() - began
    predict.print_predictions(predictions, settings, seconds=seconds, as_json=options.json)


def _ablate(options: Namespace, words: list[str]) -> None:
    from pipelines import ablate

    values = _replayed(options, words)
    settings = ablate.AblateSettings(
        features=tuple(values.features),
        heads=tuple(values.heads),
        metric=values.metric,
        folds=values.folds,
        seed=values.seed,
        out=values.out,
    )
    ablate.print_ablation(ablate.ablate(settings), as_json=options.json)


def _replayed(options: Namespace, words: Sequence[str]) -> Namespace:
    """Return the options with the values of ``--config`` where the command line says nothing itself."""
    if options.config is None:
        return options
    from pipelines.errors import UsageError
    from pipelines.matrices import check_stores_unchanged
    from pipelines.runs import check_config, read_json

    config = read_json(options.config)
    check_config(config, options.config)
    if config.get("command") != options.verb:
        raise UsageError(
            f"'{options.config}' was written by '{config.get('command')}', not by '{options.verb}'."
        )
    given = given_options(words)
    if "features" not in given:
        check_stores_unchanged(config["spaces"], options.config)
    recorded: dict[str, Any] = {
        "features": [f"{space['path']}:{space['space']}" for space in config["spaces"]],
        "head": config["heads"][0],
        "parameters": _replayed_parameters(config, options, given),
        **{
            name: config[name]
            for name in (
                "heads",
                "trials",
                "metric",
                "folds",
                "seed",
                "timeout",
                "study",
                "storage",
                "resampler",
                "use_views",
                "preset",
            )
            if name in config
        },
    }
    if "head" in given:
        recorded.pop("preset", None)  # another head is no longer that preset
    values = dict(vars(options))
    values.update({k: v for k, v in recorded.items() if k in values and k not in given})
    return Namespace(**values)


def _replayed_parameters(config: Mapping[str, Any], options: Namespace, given: set[str]) -> list[Any]:
    """Return the recorded parameters and those of ``--set``, the latter last, so that they win."""
    own = getattr(options, "parameters", [])
    other_head = {"head", "preset"} & given
    return list(own) if other_head else [*config.get("parameters", {}).items(), *own]


def _report_page(options: Namespace, _words: list[str]) -> None:
    from pipelines.console import say
    from pipelines.report import write_ablation_report, write_report
    from pipelines.runs import CONFIG, REPORT, read_json

    target: Path = options.out or options.run / REPORT
    write = (
        write_ablation_report if read_json(options.run / CONFIG).get("command") == "ablate" else write_report
    )
    write(options.run, target, title=options.run.resolve().name)
    say(json.dumps({"report": str(target)}) if options.json else str(target))


def _demo(options: Namespace, _words: list[str]) -> None:
    from pipelines import demo
    from pipelines.errors import UsageError

    if options.trials < 1:
        raise UsageError(f"trials {options.trials} must be at least 1")
    demo.print_demo(demo.demo(options.out, trials=options.trials), as_json=options.json)


def _import(options: Namespace, _words: list[str]) -> None:
    from pipelines import importing

    settings = importing.ImportSettings(
        options.table, options.out, options.text, options.image, options.joint
    )
    began = time.perf_counter()
    path = importing.import_arrays(settings)
    importing.print_import(path, seconds=time.perf_counter() - began, as_json=options.json)


def _inspect(options: Namespace, _words: list[str]) -> None:
    from pipelines import inspecting
    from pipelines.errors import UsageError

    if (options.file is None) == (options.data is None):
        raise UsageError(
            "Give either a store (embedonce inspect FILE) or a data set (embedonce inspect --data PATH)."
        )
    if options.file is not None:
        inspecting.print_store(inspecting.describe_store(options.file), as_json=options.json)
        return
    settings = inspecting.InspectDataSettings(
        options.data, options.backbone, options.weights, options.clean, options.encodings, options.columns
    )
    inspecting.print_data(inspecting.describe_data(settings), as_json=options.json)


def _verify(options: Namespace, _words: list[str]) -> None:
    from pipelines import inspecting

    inspecting.verify(options.file, as_json=options.json)


def _backbones(options: Namespace, _words: list[str]) -> None:
    from pipelines.backbone_list import list_backbones

    list_backbones(modality=options.modality, match=options.match, as_json=options.json)


_COMMANDS: dict[str, Callable[[Namespace, list[str]], None]] = {
    "extract": _extract,
    "tune": _tune,
    "train": _train,
    "predict": _predict,
    "ablate": _ablate,
    "report": _report_page,
    "demo": _demo,
    "import": _import,
    "inspect": _inspect,
    "verify": _verify,
    "backbones": _backbones,
}
