"""Hostile pictures: a stated status for each, within memory and time, and the pass goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import Status
from extract import DataError, SourceOptions, read_data_set, read_sources
from extract.images import BadImageError, decode_image
from tests.hostile.picture_corpus import PICTURES, encoded, small, verdict
from tests.kit.data_sets import write_guid_data_set, write_list

ROOT = Path(__file__).resolve().parents[2]


def _noise(size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8))


#: Every way in which the allowed formats write pixels.
KINDS: dict[str, bytes] = {
    "JPEG": encoded(_noise(), "JPEG"),
    "progressive JPEG": encoded(_noise(), "JPEG", progressive=True),
    "CMYK JPEG": encoded(_noise().convert("CMYK"), "JPEG"),
    "MPO": encoded(_noise(), "MPO", save_all=True, append_images=[_noise()]),
    "PNG": encoded(_noise(), "PNG"),
    "transparent PNG": encoded(_noise().convert("RGBA"), "PNG"),
    "palette PNG": encoded(_noise().convert("P"), "PNG"),
    "animated PNG": encoded(_noise(), "PNG", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
    "WebP": encoded(_noise(), "WEBP"),
    "lossless WebP": encoded(_noise(), "WEBP", lossless=True),
    "animated WebP": encoded(_noise(), "WEBP", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
    "GIF": encoded(_noise().convert("P"), "GIF"),
    "animated GIF": encoded(_noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
    "BMP": encoded(_noise(), "BMP"),
    "palette BMP": encoded(_noise().convert("P"), "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_decode_image_never_shows_half_a_picture(kind: str) -> None:
    """Cut at every percent, a picture of any kind is refused, or its first frame was all there."""
    data = KINDS[kind]
    whole = np.asarray(decode_image(data))
    refused = 0
    for percent in range(1, 100):
        try:
            found = decode_image(data[: len(data) * percent // 100])
        except BadImageError as error:
            assert error.status in (Status.IMAGE_CORRUPT, Status.IMAGE_FORMAT), (percent, error)
            refused += 1
        else:
            np.testing.assert_array_equal(np.asarray(found), whole, err_msg=f"{kind} cut at {percent} %")
    # An animation's later frames, and the second picture of an MPO, may be missing.
    assert refused >= (40 if "animated" in kind or kind == "MPO" else 97)


def test_hostile_pictures_get_a_status_within_memory_and_time() -> None:
    """Bombs, polyglots, endless chunks, scans and animations: a stated status, 1 GB and 10 s at most."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.picture_corpus"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {name: found[0] for name, found in answer["found"].items()} == {
        name: expected for name, (_, expected) in PICTURES.items()
    }
    assert max(found[1] for found in answer["found"].values()) < 10
    assert answer["peak_bytes"] < 1 << 30


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp"])
def test_picture_of_another_ending_is_read_by_its_content(form: str, suffix: str, tmp_path: Path) -> None:
    """What a file is called says nothing: a PNG named .jpg is a PNG."""
    write_guid_data_set(tmp_path, 10, 0)
    for old in (tmp_path / "data").glob("100.*"):
        if old.suffix != ".txt":
            old.unlink()
    (tmp_path / "data" / f"100{suffix}").write_bytes(small(form))
    source = read_sources(read_data_set(tmp_path), SourceOptions(decode_images=True))[0]
    assert (source.image_status, source.width, source.height) == (Status.OK, 20, 10)


def _table(folder: Path, *names: str) -> Path:
    rows = "".join(f"{i},{name},positive\n" for i, name in enumerate(names))
    (folder / "t.csv").write_text("id,image,label\n" + rows)
    return folder / "t.csv"


def test_picture_that_is_no_file_is_missing(tmp_path: Path) -> None:
    """A pipe, a folder named like a picture and a file of a terabyte are never waited for nor read."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "giant.jpg").touch()
    os.truncate(tmp_path / "giant.jpg", 1 << 40)
    (tmp_path / "good.jpg").write_bytes(small())
    names = ["pipe.jpg", "folder.jpg", "gone.jpg", "giant.jpg", "good.jpg"]
    sources = read_sources(read_data_set(_table(tmp_path, *names)), SourceOptions(decode_images=True))
    missing = Status.IMAGE_MISSING
    assert [s.image_status for s in sources] == [missing] * 3 + [Status.IMAGE_TOO_LARGE, Status.OK]


@pytest.mark.parametrize("target", ["/etc/hostname", "/dev/zero", "../outside.jpg"])
@pytest.mark.parametrize("layout", ["guid", "table", "classes"])
def test_link_that_leaves_the_data_set_is_refused(layout: str, target: str, tmp_path: Path) -> None:
    """A picture that is a link to a file outside the data set is refused by name in every layout."""
    (tmp_path / "outside.jpg").write_bytes(small())
    folder = tmp_path / "set"
    data = folder / ("good" if layout == "classes" else "data")
    data.mkdir(parents=True)
    (data / "2.jpg").write_bytes(small())
    (data / "1.jpg").symlink_to(target if target.startswith("/") else f"../{target}")
    if layout == "guid":
        write_list(folder / "train.txt", [("1", "positive"), ("2", "negative")])
    path = _table(folder, "data/1.jpg", "data/2.jpg") if layout == "table" else folder
    with pytest.raises(DataError, match=r"outside the (data set|folder of the table)"):
        read_data_set(path)


@pytest.mark.parametrize("layout", ["guid", "table", "classes"])
def test_link_that_stays_in_the_data_set_is_followed(layout: str, tmp_path: Path) -> None:
    """A link from one folder of the data set to a picture in another is that picture."""
    data = tmp_path / ("good" if layout == "classes" else "data")
    data.mkdir()
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "x").write_bytes(small())
    (data / "1.jpg").symlink_to("../pool/x")
    if layout == "guid":
        write_list(tmp_path / "train.txt", [("1", "positive")])
    path = _table(tmp_path, "data/1.jpg") if layout == "table" else tmp_path
    (source,) = read_sources(read_data_set(path), SourceOptions())
    assert (source.image_status, source.width) == (Status.OK, 20)


def test_strips_of_a_large_picture_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture that is made RGB strip by strip is, to the last bit, the one that is made at once."""
    grey = Image.fromarray(np.random.default_rng(1).integers(0, 65535, (40, 60)).astype(np.uint16))
    kinds = [KINDS["transparent PNG"], encoded(grey, "PNG"), encoded(_noise().convert("LA"), "PNG")]
    kinds.append(encoded(_noise().convert("P"), "PNG", transparency=7))
    at_once = [np.asarray(decode_image(data)) for data in kinds]
    monkeypatch.setattr("extract.images._STRIP_PIXELS", 7 * 60)
    for data, whole in zip(kinds, at_once, strict=True):
        np.testing.assert_array_equal(np.asarray(decode_image(data)), whole)


def test_verdict_of_a_good_picture_is_ok() -> None:
    """The picture that most tricks start from is good by itself."""
    assert verdict(small()) == "ok"
