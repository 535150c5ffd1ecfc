"""The parsers of the command line: no verb's work is loaded here, so that ``--help`` answers at once."""

from __future__ import annotations

from pipelines.verbs import VERBS, find_verb
from pipelines.verbs.shared import Parser


def build_parser() -> Parser:
    """Return the parser of ``embedonce``."""
    parser = Parser(
        prog="embedonce", allow_abbrev=False, description="Embed once. Train, tune and compare in seconds."
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        verb = find_verb(name)
        description = f"{verb.HELP[0].upper()}{verb.HELP[1:]}."
        verb.add_options(verbs.add_parser(name, help=verb.HELP, description=description, allow_abbrev=False))
    return parser


def build_single_parser(prog: str, name: str) -> Parser:
    """Return the parser of a command that is one verb, such as ``tune``."""
    verb = find_verb(name)
    parser = Parser(prog=prog, allow_abbrev=False, description=f"{verb.HELP[0].upper()}{verb.HELP[1:]}.")
    verb.add_options(parser)
    parser.set_defaults(verb=name)
    return parser
