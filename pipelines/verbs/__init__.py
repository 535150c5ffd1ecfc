"""One module per verb: ``HELP``, ``add_options(parser)`` and ``run(options, words)``.

The modules load nothing heavy, so that ``--help`` answers at once; what a verb needs is imported in its
``run``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol, cast


class Verb(Protocol):
    """What a module of this package offers."""

    HELP: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, list[str]], None]


#: Verb -> its module here, in the order of ``embedonce --help``.
VERBS: Mapping[str, str] = {
    "extract": "extract",
    "tune": "tune",
    "train": "train",
    "predict": "predict",
    "ablate": "ablate",
    "stability": "stability",
    "robustness": "robustness",
    "explain": "explain",
    "errors": "errors",
    "augment": "augment",
    "report": "report",
    "demo": "demo",
    "import": "import_arrays",
    "inspect": "inspect",
    "audit": "audit",
    "verify": "verify",
    "backbones": "backbones",
    "doctor": "doctor",
}


def find_verb(name: str) -> Verb:
    """Return the module of a verb."""
    return cast("Verb", import_module(f"pipelines.verbs.{VERBS[name]}"))
