"""Stores whose hashes all fit but whose content does not: named errors, and nothing steers the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache import FeatureStore, ReuseIndex, StoreCorruptError, verify_store
from pipelines.cli import main
from tests.cache.builders import Toy
from tests.hostile.sealed_stores import REFUSED_DATA, REFUSED_META, Edit, edit_data, edit_meta


def _refused(path: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that readers and commands refuse the store with one line."""
    for reader in (verify_store, FeatureStore.open):
        with pytest.raises(StoreCorruptError, match=message):
            reader(path)
    for words in (["inspect"], ["verify"], ["tune", "--trials", "1", "--features"], ["train", "--features"]):
        assert main([*words, str(path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"embedonce: '{path}' is damaged: ")
        assert error.count("\n") == 1


@pytest.mark.parametrize(("edit", "message"), REFUSED_META.values(), ids=REFUSED_META)
def test_store_with_odd_provenance_is_refused(
    edit: Edit, message: str, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a stranger writes into ``/meta`` is refused by its name in every command that reads it."""
    edit_meta(store_path, edit)
    _refused(store_path, message, capsys)


@pytest.mark.parametrize(("name", "value", "message"), REFUSED_DATA.values(), ids=REFUSED_DATA)
def test_store_with_odd_columns_is_refused(
    name: str, value: Any, message: str, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codes, offsets and JSON that the format does not allow are refused although their hashes fit."""
    edit_data(store_path, name, value)
    _refused(store_path, message, capsys)


def test_sealed_store_is_read_when_nothing_is_wrong(store_path: Path) -> None:
    """The seal itself is good: an unchanged store that was sealed again opens."""
    edit_meta(store_path, lambda _: None)
    assert verify_store(store_path).n_rows == 10


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5), (2, 2, 2, 2), (1,) * 32])
def test_sealed_store_may_hold_more(shape: tuple[int, ...], store_path: Path) -> None:
    """A listed data set of any shape that no reader knows does no harm: newer minor versions add some."""
    edit_data(store_path, "/rows/extra", np.zeros(shape, "<i4"))
    assert verify_store(store_path).n_rows == 10
    assert ReuseIndex.from_folder(store_path.parent).notes == []


def test_store_cannot_steer_the_terminal(store_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and reversed text in the names of a store are printed as what they are."""
    evil = "\x1b]0;owned\x07\x9b2J\u202egpj.exe"
    edit_meta(store_path, lambda meta: meta.update(card={"name": evil}, class_names=[evil, "b", "c"]))
    assert main(["inspect", str(store_path)]) == 0
    printed = capsys.readouterr().out
    assert "rows by \\u001b]0;owned\\u0007\\u009b2J\\u202egpj.exe" in printed
    assert not set(printed) & set("\x1b\x07\x9b\u202e")
    assert main(["inspect", str(store_path), "--json"]) == 0
    printed = capsys.readouterr().out
    assert not set(printed) & set("\x1b\x07\x9b\u202e")
    assert json.loads(printed)["backbone"] == evil


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_store_with_numbers_that_are_none_trains_nothing(
    value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A valid row with one infinite or missing number ends training with its place, not with a model."""
    monkeypatch.chdir(tmp_path)
    toy = Toy(n=40)
    path = toy.write(tmp_path / "toy.h5")
    x = toy.data["text"].features["text.pooled"].copy()
    x[int(np.flatnonzero(toy.data["text"].valid)[0]), 2] = value
    edit_data(path, "/features/text.pooled/x", x)
    assert main(["train", "--features", str(path), "--folds", "2"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("embedonce: ")
    assert "row " in error
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/metrics.json"))
