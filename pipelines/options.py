"""The parsers of the command line: no verb's work is loaded here, so that ``--help`` answers at once."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from pipelines.verbs import VERBS, find_verb
from pipelines.verbs.shared import Parser


def build_parser() -> Parser:
    """Return the parser of ``embedonce``."""
    parser = _HelpfulParser(
        prog="embedonce", allow_abbrev=False, description="Embed once. Train, tune and compare in seconds."
    )
    _add_version(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in VERBS:
        verb = find_verb(name)
        description = f"{verb.HELP[0].upper()}{verb.HELP[1:]}."
        verb.add_options(verbs.add_parser(name, help=verb.HELP, description=description, allow_abbrev=False))
    return parser


def build_single_parser(prog: str, name: str) -> Parser:
    """Return the parser of a command that is one verb, such as ``tune``."""
    verb = find_verb(name)
    parser = _HelpfulParser(
        prog=prog, allow_abbrev=False, description=f"{verb.HELP[0].upper()}{verb.HELP[1:]}."
    )
    _add_version(parser)
    verb.add_options(parser)
    parser.set_defaults(verb=name)
    return parser


def _add_version(parser: Parser) -> None:
    unset = argparse.SUPPRESS
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=unset, default=unset, help="show the version and exit"
    )


class _Version(argparse.Action):
    """Print the version; argparse's own action would look it up for every command."""

    def __call__(self, parser: Parser, *_: object) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"embedonce {version('embedonce')}\n")
        parser.exit()


class _HelpfulParser(Parser):
    """An ``ArgumentParser`` that names what a mistyped option or word may have meant."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """Refuse unknown options here, where the options of the verb are known."""
        self._words = sys.argv[1:] if args is None else list(args)
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [word.split("=")[0] for word in unknown if word.startswith("-")]
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + self._meant_by(options))
        return known, unknown

    def error(self, message: str) -> NoReturn:
        """Add near matches to argparse's own words, then exit with 2."""
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            message += _meant(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        elif "required" in message:  # argparse misses a required option before it looks at unknown ones
            message += self._meant_by([word.split("=")[0] for word in self._words if word.startswith("--")])
        super().error(message)

    def _meant_by(self, options: Iterable[str]) -> str:
        """Return near matches of the options that this parser does not know."""
        known = self._option_string_actions
        return "".join(_meant(option, known) for option in options if option not in known)


def _meant(word: str, allowed: Iterable[str]) -> str:
    """Return words that name at most five near matches, or nothing."""
    from difflib import get_close_matches

    bare = {name.lstrip("-"): name for name in allowed}  # dashes would make everything alike
    near = [bare[name] for name in get_close_matches(word.lstrip("-"), bare, n=5)]
    return f"; for {word!r}, did you mean {' or '.join(map(repr, near))}" if near else ""
