"""What commands print: p-values, and tables with them."""

from __future__ import annotations

import pytest

from pipelines.ablation.tables import latex
from pipelines.console import p_in_words, p_text, table


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
