"""Options of every command: parsers only, so that ``--help`` answers without loading anything heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from heads import HEADS, RESAMPLERS

Parser = argparse.ArgumentParser


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _pairs(text: str) -> dict[str, str]:
    """Parse ``a=b,c=d``."""
    pairs = {}
    for part in _words(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise argparse.ArgumentTypeError(f"{part!r} is not NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def _parameter(text: str) -> tuple[str, object]:
    """Parse ``name=value``, the value as JSON or else as a word."""
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _folder_of(text: str) -> tuple[str, Path]:
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not BACKBONE=DIR")
    return name, Path(value)


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a number of at least 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return int(text)


def _share(text: str) -> float:
    """Parse ``0.1`` or ``10%``."""
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 0.1 or 10%") from error
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def _data_options(parser: Parser) -> None:
    parser.add_argument(
        "--columns",
        type=_pairs,
        metavar="id=COLUMN,...",
        help="names of the table's columns: id, text, text_path, image, label, split, group",
    )
    parser.add_argument(
        "--encodings",
        type=_words,
        default=("utf-8", "gb18030", "cp1252"),
        metavar="LIST",
        help="encodings to try after UTF-8 (default: utf-8,gb18030,cp1252)",
    )


def _features(parser: Parser) -> None:
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="FILE[:SPACE]",
        help="a store, or one space of it; repeat for several (default: the stores in features/)",
    )


def _views_used(text: str) -> int | None:
    if text in ("all", "none"):
        return None if text == "all" else 0
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not all, none or a number")
    return int(text)


def _use_views(parser: Parser) -> None:
    parser.add_argument(
        "--use-views",
        type=_views_used,
        default=None,
        metavar="all|none|N",
        help="train on the augmented views that the stores hold (default: all; no effect without views)",
    )


def _run_options(parser: Parser) -> None:
    parser.add_argument("--metric", default="macro-f1", help="score that decides (default: %(default)s)")
    parser.add_argument("--folds", type=int, default=5, help="cross-validation folds (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of folds, search and heads (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of the runs (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="replay the settings of a run's config.json; options given here win",
    )


def add_extract(parser: Parser) -> None:
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
        type=_batch_size,
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
        type=_words,
        default=(),
        metavar="LIST",
        help="text, image, joint (default: what the backbone and the data have)",
    )
    parser.add_argument(
        "--readout",
        type=_words,
        default=("pooled",),
        metavar="LIST",
        help="which vectors to take: pooled, cls, mean, last, layer:K, or of one modality, such as "
        "image.layer:3 (default: pooled)",
    )
    parser.add_argument(
        "--views",
        type=_whole,
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
    parser.add_argument("--limit", type=_count, metavar="N", help="embed only the first N samples")
    parser.add_argument(
        "--max-bad",
        type=_share,
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
    _data_options(parser)
    _json(parser)


def add_tune(parser: Parser) -> None:
    """Options of ``tune``."""
    _features(parser)
    parser.add_argument(
        "--trials", type=int, default=200, metavar="N", help="configurations to try (default: %(default)s)"
    )
    parser.add_argument(
        "--heads",
        type=_words,
        default=("mlp", "logreg", "lightgbm"),
        metavar="LIST",
        help="heads to try (default: mlp,logreg,lightgbm)",
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop asking for new trials after this time"
    )
    parser.add_argument(
        "--study", metavar="NAME", help="name of the run folder, and of the study in --storage"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="share the study: an Optuna URL, or a file ending in .journal"
    )
    _use_views(parser)
    _run_options(parser)
    _json(parser)


def add_train(parser: Parser) -> None:
    """Options of ``train``."""
    _features(parser)
    parser.add_argument("--head", default="logreg", help=f"{', '.join(HEADS)} (default: %(default)s)")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a head of a report with all its settings, such as clip-l14-attention ('list' shows them); "
        "--set and --resampler win",
    )
    parser.add_argument(
        "--resampler",
        default="none",
        help=f"{', '.join(RESAMPLERS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="parameters",
        help="a parameter of the head, e.g. C=0.1; repeat for several",
    )
    parser.add_argument("--study", metavar="NAME", help="name of the run folder")
    _use_views(parser)
    _run_options(parser)
    _json(parser)


def add_predict(parser: Parser) -> None:
    """Options of ``predict``."""
    parser.add_argument("--run", type=Path, required=True, metavar="RUN", help="run folder of tune or train")
    _features(parser)
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="embed and predict every sample of this data set"
    )
    parser.add_argument("--text", help="predict this text")
    parser.add_argument("--image", type=Path, metavar="FILE", help="predict this picture")
    parser.add_argument(
        "--out", type=Path, default=Path("predictions.csv"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--weights",
        type=_folder_of,
        action="append",
        default=[],
        metavar="BACKBONE=DIR",
        help="folder with a backbone's weights; repeat for several",
    )
    _data_options(parser)
    _json(parser)


def add_ablate(parser: Parser) -> None:
    """Options of ``ablate``."""
    _features(parser)
    parser.add_argument(
        "--heads", type=_words, default=("logreg",), metavar="LIST", help="heads to compare (default: logreg)"
    )
    _run_options(parser)
    _json(parser)


def add_report(parser: Parser) -> None:
    """Options of ``report``."""
    parser.add_argument(
        "--run", type=Path, required=True, metavar="RUN", help="run folder of tune, train or ablate"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run folder")
    _json(parser)


def add_demo(parser: Parser) -> None:
    """Options of ``demo``."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo/")
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="trials of the search (default: %(default)s)"
    )
    _json(parser)


def add_import(parser: Parser) -> None:
    """Options of ``import``."""
    parser.add_argument(
        "--table",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV, TSV, JSONL or Parquet with id, label, optional split, group, text",
    )
    for modality in ("text", "image", "joint"):
        parser.add_argument(
            f"--{modality}",
            type=Path,
            metavar="FILE",
            help=f"{modality} vectors, rows in the table's order (.npy, .npz, .csv, .parquet)",
        )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the store to write")
    _json(parser)


def add_backbones(parser: Parser) -> None:
    """Options of ``backbones``."""
    parser.add_argument(
        "--modality", choices=("text", "image", "joint"), help="only backbones that embed this (default: all)"
    )
    parser.add_argument(
        "--match", default="", metavar="WORD", help="only backbones with this in their name or family"
    )
    _json(parser)


def add_inspect(parser: Parser) -> None:
    """Options of ``inspect``."""
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a store")
    parser.add_argument("--data", type=Path, metavar="PATH", help="a data set")
    parser.add_argument("--backbone", metavar="NAME", help="count tokens with this backbone's tokenizer")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with that backbone's weights")
    parser.add_argument(
        "--clean",
        default="basic",
        choices=("none", "basic", "sentiment"),
        help="text cleaning recipe (default: %(default)s)",
    )
    _data_options(parser)
    _json(parser)


def add_verify(parser: Parser) -> None:
    """Options of ``verify``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a store")
    _json(parser)


#: Verb -> (what it does, its options).
VERBS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "extract": ("embed every text and image once, into a feature store", add_extract),
    "tune": ("search for the best head on stored features", add_tune),
    "train": ("cross-validate and fit one head", add_train),
    "predict": ("answer with the model of a run", add_predict),
    "ablate": ("compare text, image and both on the same folds", add_ablate),
    "report": ("write the report page of a run anew", add_report),
    "demo": ("see the whole idea on real data, in about a minute", add_demo),
    "import": ("make a store from arrays made elsewhere", add_import),
    "inspect": ("describe a store, or a data set with --data", add_inspect),
    "verify": ("prove that a store is whole and unchanged", add_verify),
    "backbones": ("list the backbones", add_backbones),
}


def build_parser() -> Parser:
    """Return the parser of ``embedonce``."""
    parser = Parser(
        prog="embedonce", allow_abbrev=False, description="Embed once. Train, tune and compare in seconds."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (summary, add) in VERBS.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        add(verbs.add_parser(verb, help=summary, description=description, allow_abbrev=False))
    return parser


def build_single_parser(prog: str, verb: str) -> Parser:
    """Return the parser of a command that is one verb, such as ``tune``."""
    summary, add = VERBS[verb]
    parser = Parser(prog=prog, allow_abbrev=False, description=f"{summary[0].upper()}{summary[1:]}.")
    add(parser)
    parser.set_defaults(verb=verb)
    return parser


def given_options(arguments: Sequence[str]) -> set[str]:
    """Return the destinations of the options that stand on a command line."""
    return {word.split("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")}
