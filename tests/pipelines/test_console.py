"""What commands print: p-values, and tables with them."""

from __future__ import annotations

import io
import json
import sys

import pytest

from pipelines.ablation.tables import latex
from pipelines.console import p_in_words, p_text, say_json, table


@pytest.mark.parametrize(
    ("p", "cell", "words"),
    [
        (0.0, "<0.001", "p < 0.001"),
        (0.000999, "<0.001", "p < 0.001"),
        (0.001, "0.001", "p = 0.001"),
        (0.0432, "0.043", "p = 0.043"),
        (1.0, "1.000", "p = 1.000"),
    ],
)
def test_p_text_never_says_zero(p: float, cell: str, words: str) -> None:
    """A cell and a sentence say the same, and no p-value is printed as 0."""
    assert p_text(p) == cell
    assert p_in_words(p) == words


def test_tables_take_a_small_p_value_for_a_number() -> None:
    """Its column stands right on the terminal and in LaTeX, where the sign is written out."""
    rows = [["text", p_text(0.5)], ["image", p_text(1e-9)]]
    assert table(rows, ["row", "p"]).splitlines()[2:] == ["text    0.500", "image  <0.001"]
    lines = latex(["row", "p"], rows).splitlines()
    assert lines[1] == r"\begin{tabular}{lr}"
    assert r"image & \textless{}0.001 \\" in lines


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_say_json_is_the_same_value_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that a terminal's encoding lacks is written out instead of failing after the work."""
    stream = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding))
    say_json({"path": "\u6f22/\u00e9"})
    sys.stdout.flush()
    assert json.loads(stream.getvalue().decode(encoding)) == {"path": "\u6f22/\u00e9"}
    assert (b"\\u6f22" in stream.getvalue()) == (encoding != "utf-8")
