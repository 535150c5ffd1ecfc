"""``embedonce backbones``."""

from __future__ import annotations

from argparse import Namespace

from pipelines.verbs.shared import Parser, json_option

HELP = "list the backbones"


def add_options(parser: Parser) -> None:
    """Options of ``backbones``."""
    parser.add_argument(
        "--modality", choices=("text", "image", "joint"), help="only backbones that embed this (default: all)"
    )
    parser.add_argument(
        "--match", default="", metavar="WORD", help="only backbones with this in their name or family"
    )
    json_option(parser)


def run(options: Namespace, _words: list[str]) -> None:
    """Run ``backbones``."""
    from pipelines.backbone_list import list_backbones

    list_backbones(modality=options.modality, match=options.match, as_json=options.json)
