"""``embedonce train``."""

from __future__ import annotations

from argparse import Namespace

from heads.names import HEADS, OTHER_HEADS
from pipelines.verbs.replay import replayed
from pipelines.verbs.shared import (
    Parser,
    applied_options,
    features_option,
    given_options,
    head_options,
    json_option,
    run_options,
    use_views_option,
    weights_option,
)

HELP = "cross-validate and fit one head"


def add_options(parser: Parser) -> None:
    """Options of ``train``."""
    features_option(parser)
    parser.add_argument(
        "--head",
        default="logreg",
        help=f"{', '.join((*HEADS, *OTHER_HEADS))} (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        action="append",
        default=[],
        metavar="TEXT",
        help="for zero-shot: a description with {class} where the class goes, such as 'a photo of {class}'; "
        "repeat for several, which are averaged",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a head of a report with all its settings, such as clip-l14-attention ('list' shows them); "
        "--set and --resampler win",
    )
    head_options(parser)
    parser.add_argument("--study", metavar="NAME", help="name of the run folder")
    use_views_option(parser)
    weights_option(parser)
    applied_options(parser)
    run_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``train``."""
    from pipelines import presets, scoreboard, tune, tune_settings
    from pipelines.errors import UsageError

    if options.preset == presets.LIST:
        presets.print_presets(as_json=options.json)
        return
    given = given_options(words)
    if {"preset", "head"} <= given:
        raise UsageError("A preset brings its own head. Leave out --head, or --preset.")
    if options.prompts and "head" in given and options.head != "zero-shot":
        raise UsageError(f"--prompts are for --head zero-shot, not {options.head!r}.")
    values = replayed(options, words)
    settings = tune_settings.TuneSettings(
        features=tuple(values.features),
        heads=(values.head,),
        trials=1,
        metric=values.metric,
        folds=values.folds,
        duplicates=values.duplicates,
        seed=values.seed,
        study=values.study,
        out=values.out,
        use_views=values.use_views,
        resampler=values.resampler,
        parameters={**dict(values.parameters), **({"prompts": options.prompts} if options.prompts else {})},
        weights=dict(values.weights),
        preset=values.preset,
        calibrate=values.calibrate,
        decide=values.decide,
    )
    if "preset" in given:  # on the command line, not in --config, whose settings are expanded already
        settings = presets.apply_preset(settings, values.preset, keep_resampler="resampler" in given)
    scoreboard.print_run(tune.train(settings), as_json=options.json)
