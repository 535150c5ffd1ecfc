"""Inputs that change between two runs of one pass, or under a running one: never a vector of other bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cache import FingerprintMismatch
from extract import DataError, PassOptions, PassProgress, PassReport, open_backbone, read_data_set, run_pass
from tests.kit.data_sets import write_guid_data_set, write_picture
from tests.kit.tiny_checkpoints import make_tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_clip(tmp_path_factory.mktemp("weights") / "tiny-clip")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_guid_data_set(folder, 40, 4)
    return folder


def run(
    data: Path, clip: Path, out: Path, on_progress: Callable[[PassProgress], None] | None = None
) -> PassReport:
    options = PassOptions(out=out, shard_rows=5)
    return run_pass(read_data_set(data), open_backbone(str(clip)), options, on_progress=on_progress)


def stop_at_images(moment: PassProgress) -> None:
    if moment.stage == "image":
        raise KeyboardInterrupt


def _other_text(data: Path) -> None:
    (data / "data" / "107.txt").write_text("a dog go", encoding="utf-8")


def _other_picture(data: Path) -> None:
    write_picture(data / "data" / "107.jpg", (1, 200, 1), seed=99)


def _other_label(data: Path) -> None:
    lines = (data / "train.txt").read_text(encoding="utf-8").splitlines()
    guid, tag = lines[1].split(",")
    lines[1] = f"{guid},{'neutral' if tag != 'neutral' else 'positive'}"
    (data / "train.txt").write_text("\n".join(lines), encoding="utf-8")


def _other_order(data: Path) -> None:
    header, *lines = (data / "train.txt").read_text(encoding="utf-8").splitlines()
    (data / "train.txt").write_text("\n".join([header, *lines[::-1]]), encoding="utf-8")


def _one_row_less(data: Path) -> None:
    lines = (data / "train.txt").read_text(encoding="utf-8").splitlines()
    (data / "train.txt").write_text("\n".join(lines[:-1]), encoding="utf-8")


@pytest.mark.parametrize("change", [_other_text, _other_picture, _other_label, _other_order, _one_row_less])
def test_unfinished_pass_refuses_changed_inputs(
    data: Path, clip: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A text, picture, label, order or row that changed since the interruption: the pass is not continued."""
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(data, clip, out, stop_at_images)
    shards = sorted(path.name for path in out.glob("*.work/shards/*.h5"))
    assert shards
    change(data)
    with pytest.raises(FingerprintMismatch, match=r"started with identity\.rows.*delete the folder"):
        run(data, clip, out)
    assert sorted(path.name for path in out.glob("*.work/shards/*.h5")) == shards


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_running_pass_refuses_a_picture_that_changes(
    data: Path, clip: Path, tmp_path: Path, how: str
) -> None:
    """A picture that changes between hashing and embedding ends the pass; put back, the pass goes on."""
    out, path = tmp_path / "out", data / "data" / "139.jpg"
    before = path.read_bytes()

    def disturb(moment: PassProgress) -> None:
        if moment.stage == "text":  # all is hashed, no picture is embedded
            path.unlink(missing_ok=True)
            if how == "rewritten":
                write_picture(path, (1, 200, 1), seed=99)

    with pytest.raises(DataError, match=r"139\.jpg' has changed since the pass began"):
        run(data, clip, out, disturb)
    assert list(out.glob("*.h5")) == []
    path.write_bytes(before)
    assert run(data, clip, out).path.read_bytes() == run(data, clip, tmp_path / "calm").path.read_bytes()
