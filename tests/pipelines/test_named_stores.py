"""Large stores: what is said while they are opened."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cache import FeatureStore
from pipelines import named_stores
from pipelines.cli import main
from pipelines.matrices import read_matrix
from pipelines.named_stores import check_stores_unchanged
from pipelines.prediction_blocks import rows_to_predict
from pipelines.prediction_rows import find_spaces, own_unlabelled_rows
from pipelines.run_stores import store_specs
from tests.pipelines.planted_stores import planted_rows, write_planted


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A space of a store that counts as large and has been there for a while."""
    monkeypatch.setattr(named_stores, "_SLOW_BYTES", 0)
    monkeypatch.setattr("cache.verify._SETTLED_NS", 0)
    path = write_planted(tmp_path / "text.h5", "text", *planted_rows(40, 6, 0))
    with FeatureStore.open(path, verify=False) as store:
        return {
            "block": "text.pooled",
            "path": str(path),
            "space": "text.pooled",
            "width": 6,
            "store_fingerprint": store.fingerprint,
            "space_fingerprint": store.select("text").fingerprint,
        }


def _found_and_read(space: dict[str, Any], _: ExitStack) -> None:
    read_matrix(store_specs([space], Path("runs/x")))


def _replayed(space: dict[str, Any], _: ExitStack) -> None:
    check_stores_unchanged([space], Path("config.json"))
    read_matrix([space["path"]])


def _predicted(space: dict[str, Any], stack: ExitStack) -> None:
    rows_to_predict(find_spaces([space["path"]], [space]), [space], unlabelled_only=False, stay_open=stack)


def _predicted_again(space: dict[str, Any], stack: ExitStack) -> None:
    own_unlabelled_rows(Path("runs/x"), [space], stack)


def _verified(space: dict[str, Any], _: ExitStack) -> None:
    assert main(["verify", space["path"]]) == 0


@pytest.mark.parametrize("read", [_found_and_read, _replayed, _predicted, _predicted_again, _verified])
def test_hashing_of_a_large_store_is_told_once_and_first(
    read: Any, space: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the hashes are compared, and not again for a file that is known, whichever way it is opened."""
    told_before: list[str] = []

    def hashed(*arguments: Any) -> int:
        told_before.append(capsys.readouterr().err)
        return plain(*arguments)

    from cache import verify

    plain = verify.check_hash
    monkeypatch.setattr(verify, "check_hash", hashed)
    with ExitStack() as stack:
        read(space, stack)
    assert f"comparing the hashes of '{space['path']}', " in told_before[0]
    assert "comparing" not in "".join(told_before[1:]) + capsys.readouterr().err


def test_hashing_of_a_small_store_is_not_told(
    space: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes less than a second."""
    monkeypatch.undo()
    read_matrix([space["path"]])
    assert "comparing" not in capsys.readouterr().err
