"""The README keeps its promises."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_COMMAND = 'pip install -e ".[demo]" && embedonce demo'
TEST_COMMAND = 'pip install -e ".[test]" && pytest'


def test_readme_has_the_two_commands() -> None:
    """The two lines that need nothing before them stand alone, to the letter."""
    lines = [line.strip() for line in README.splitlines()]
    assert lines.count(DEMO_COMMAND) == 1
    assert lines.count(TEST_COMMAND) == 1


def test_ci_runs_the_readme_test_command() -> None:
    """CI runs the test command as the README has it, to the letter."""
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_readme_names_every_command() -> None:
    """Each verb is in the table of commands."""
    assert [verb for verb in VERBS if f"`embedonce {verb}`" not in README] == []


def test_readme_links_lead_somewhere() -> None:
    """Every relative link is a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
