"""Fuzzing: whatever chance makes of a manifest, a text or a store is refused by name or read as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract import decode_text
from extract.texts import TextEncodingError

ROOT = Path(__file__).resolve().parents[2]


def _fuzz(kind: str, folder: Path, seconds: float, seed: int) -> dict[str, int]:
    words = [sys.executable, "-m", "tests.hostile.fuzz_readers", kind, str(folder), str(seconds), str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds + 300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


@pytest.mark.parametrize("kind", ["manifest", "text", "store"])
def test_fuzzed_inputs_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    """Three seconds of spoilt seeds each: no crash, no other exception, no wrong content."""
    counts = _fuzz(kind, tmp_path, 3, 0)
    assert min(counts["read"], counts["refused"]) >= 1


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["manifest", "text", "store"])
def test_fuzzed_inputs_are_refused_or_read_nightly(kind: str, tmp_path: Path) -> None:
    """Ten minutes in all."""
    counts = _fuzz(kind, tmp_path, 200, 1)
    assert min(counts["read"], counts["refused"]) >= 100


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_decode_text_gives_text_or_its_own_error(data: bytes) -> None:
    """Any bytes are text without NUL in an encoding that is named, or a named error."""
    try:
        text, encoding = decode_text(data)
    except TextEncodingError as error:
        assert str(error)
    else:
        assert "\0" not in text
        assert data.decode(encoding) == text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80))
def test_decode_text_gives_back_what_was_written(text: str) -> None:
    """UTF-8 with or without a mark, and UTF-16 with one, come back to the letter."""
    expected = text.removeprefix("\ufeff")  # a mark is no text
    assert decode_text(text.encode("utf-8"))[0] == expected
    for encoding in ("utf-8-sig", "utf-16"):
        assert decode_text(text.encode(encoding))[0] == text
