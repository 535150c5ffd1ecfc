"""``embedonce stability``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from heads import HEADS
from pipelines.verbs import types
from pipelines.verbs.replay import replayed
from pipelines.verbs.shared import (
    Parser,
    features_option,
    given_options,
    head_options,
    json_option,
    run_options,
)

HELP = "measure how much seeds and splits move a score"


def add_options(parser: Parser) -> None:
    """Options of ``stability``."""
    features_option(parser)
    parser.add_argument("--head", default="logreg", help=f"{', '.join(HEADS)} (default: %(default)s)")
    parser.add_argument("--preset", metavar="NAME", help="a head of a report, as for train")
    parser.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        help="the winner of this run, on its stores, with its metric, folds and views",
    )
    head_options(parser)
    parser.add_argument(
        "--use-views",
        type=types.views_used,
        default=0,
        metavar="all|none|N",
        help="train on the augmented views that the stores hold (default: as the run, else none)",
    )
    parser.add_argument(
        "--seeds", type=types.count, default=5, metavar="N", help="seeds of the head (default: %(default)s)"
    )
    parser.add_argument(
        "--splits", type=types.count, default=5, metavar="N", help="ways to cut folds (default: %(default)s)"
    )
    run_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``stability``."""
    from pipelines import stability
    from pipelines.errors import UsageError

    given = given_options(words)
    named = sorted({"head", "preset", "run"} & given)
    if len(named) > 1:
        raise UsageError(
            f"--{' and --'.join(named)} each name a configuration. Give one of --head, --preset and --run."
        )
    if "run" in given and {"set", "resampler"} & given:
        raise UsageError("A run brings its own parameters and resampler. Leave out --set and --resampler.")
    values = replayed(options, words)
    scored = {
        name: getattr(values, name)
        for name in ("metric", "folds", "duplicates", "use_views")
        if "run" not in given or name in given  # else it is the run's
    }
    if scored.get("use_views", 0) is None:
        scored["use_views"] = "all"
    settings = stability.StabilitySettings(
        features=tuple(values.features),
        head=values.head,
        resampler=values.resampler,
        parameters=dict(values.parameters),
        preset=values.preset if "preset" in given else None,  # a replay has it expanded already
        run=values.run,
        seeds=values.seeds,
        splits=values.splits,
        seed=values.seed,
        out=values.out,
        **scored,
    )
    stability.print_stability(stability.stability(settings), as_json=options.json)
