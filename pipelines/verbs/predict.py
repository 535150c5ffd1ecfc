"""``embedonce predict``."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from pipelines.verbs.shared import (
    Parser,
    data_options,
    embedding_options,
    features_option,
    finished_run_option,
    json_option,
)

HELP = "answer with the model of a run"


def add_options(parser: Parser) -> None:
    """Options of ``predict``."""
    finished_run_option(parser)
    features_option(parser, default="the run's own stores, and of them the rows without label")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="embed and predict every sample of this data set"
    )
    parser.add_argument("--text", help="predict this text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="predict this picture")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), metavar="FILE", help="default: %(default)s"
    )
    embedding_options(parser)
    data_options(parser)
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``predict``."""
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
    predict.check_out(settings)
    began = time.perf_counter()
    predictions = predict.predict(settings)
    seconds = time.perf_counter() - began
    predict.print_predictions(predictions, settings, seconds=seconds, as_json=options.json)
