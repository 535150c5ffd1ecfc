"""``embedonce extract``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from pipelines.verbs import types
from pipelines.verbs.shared import Parser, data_options, json_option

HELP = "embed every text and image once, into a feature store"


def add_options(parser: Parser) -> None:
    """Options of ``extract``."""
    parser.add_argument(
        "--backbone",
        required=True,
        action="append",
        metavar="NAME",
        help="a name from 'embedonce backbones', hf:ORG/NAME, timm:NAME, or a folder of weights; repeat for "
        "several, which then decode every picture once",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(),
        metavar="PATH",
        help="folder or manifest of the data set (default: the current folder)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("features"),
        metavar="DIR",
        help="folder of the stores (default: features/)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:N, all (every GPU), or several with commas, one process each "
        "(default: auto)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "fp16", "bf16"),
        help="default: auto (fp16 on a GPU; bf16 for large networks on a CPU that computes in it; else fp32)",
    )
    parser.add_argument(
        "--batch-size",
        type=types.batch_size,
        default=None,
        metavar="N",
        help="rows per forward on a GPU (default: auto, found by trying once); a CPU has fixed shapes",
    )
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="most memory that the network may take on the device, such as 4GB (default: no limit)",
    )
    parser.add_argument(
        "--modality",
        type=types.words,
        default=(),
        metavar="LIST",
        help="text, image, joint (default: what the backbone and the data have)",
    )
    parser.add_argument(
        "--readout",
        type=types.words,
        default=("pooled",),
        metavar="LIST",
        help="which vectors to take: pooled, cls, mean, last, layer:K, or of one modality, such as "
        "image.layer:3 (default: pooled)",
    )
    parser.add_argument(
        "--views",
        type=types.whole,
        default=0,
        metavar="K",
        help="augmented views of every sample, extra training rows for the heads (default: 0)",
    )
    parser.add_argument(
        "--augment",
        choices=("light", "strong"),
        default="light",
        help="kind of views (default: %(default)s)",
    )
    parser.add_argument(
        "--clean",
        default="basic",
        choices=("none", "basic", "sentiment"),
        help="text cleaning recipe (default: %(default)s)",
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with the backbone's weights")
    parser.add_argument("--limit", type=types.count, metavar="N", help="embed only the first N samples")
    parser.add_argument(
        "--max-bad",
        type=types.share,
        default=0.1,
        metavar="SHARE",
        help="largest share of rows that may be broken (default: 10%%)",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="write over a store with other settings; unchanged rows are copied",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done: rows, bytes, time")
    data_options(parser)
    json_option(parser)


def run(options: Namespace, words: list[str]) -> None:
    """Run ``extract``."""
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
        # `extract-features ...` has no verb among its words.
        command=tuple(words) if words[:1] == ["extract"] else ("extract", *words),
    )
    if options.dry_run:
        extract.print_dry_runs(extract.plan_extraction(settings), as_json=options.json)
    else:
        extract.print_reports(extract.extract_features(settings), as_json=options.json)
