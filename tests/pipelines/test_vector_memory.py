"""``VectorMemory``: what an interrupted command kept is recalled whole, or made again."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cache import Status
from extract import Source
from pipelines.run_inputs import TowerRows
from pipelines.vector_memory import VectorMemory

IDS = ["a", "b", "c"]
FACTS = {"variant": "noise 1"}


def _tower(width: int = 4) -> TowerRows:
    """Three texts, and the stored vectors of two readouts."""
    sources = tuple(Source(text, "", Status.OK, bytes(32), Status.OK, bytes(32), 0, 0) for text in IDS)
    spaces = tuple({"space_fingerprint": name, "store_fingerprint": "s"} for name in ("f", "g"))
    stored = {
        "text.pooled": np.zeros((3, width), dtype=np.float32),
        "text.cls": np.zeros((3, 2), dtype=np.float32),
    }
    return TowerRows("tiny", "fp32", "text", spaces, sources, (None,) * 3, stored)


def _made(n_views: int | None, tower: TowerRows) -> dict[str, np.ndarray]:
    """Vectors of the shapes that are kept, one row without any."""
    rng = np.random.default_rng(0)
    views = () if n_views is None else (n_views,)
    made = {
        block: rng.normal(size=(*views, *x.shape)).astype(np.float32) for block, x in tower.stored.items()
    }
    made["text.cls"][..., 1, :] = np.nan
    return made


def _saved(*arrays: np.ndarray, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    write = np.savez_compressed if compressed else np.savez
    write(buffer, **{str(i): array for i, array in enumerate(arrays)})
    return buffer.getvalue()


@pytest.mark.parametrize("n_views", [None, 2])
def test_vector_memory_recalls_what_was_kept_for_the_same_question(
    n_views: int | None, tmp_path: Path
) -> None:
    """The same rows, texts and facts get the same bits; other facts get nothing."""
    tower, memory = _tower(), VectorMemory(tmp_path / "work", n_views=n_views)
    made = _made(n_views, tower)
    assert memory.recall(tower, IDS, FACTS) is None
    memory.keep(tower, IDS, FACTS, made)
    found = VectorMemory(tmp_path / "work", n_views=n_views).recall(tower, IDS, FACTS)
    assert found is not None
    for block, vectors in made.items():
        np.testing.assert_array_equal(found[block], vectors)
    assert memory.recall(tower, IDS, {"variant": "noise 2"}) is None
    assert memory.recall(tower, ["a", "b", "d"], FACTS) is None


def _declaring_more(file: bytes) -> bytes:
    """A sound zip file whose first array declares 4.8 terabytes of values."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as archive, zipfile.ZipFile(buffer, "w") as made:
        for name in archive.namelist():
            content = archive.read(name)
            shapes = b"'shape': (3, 4), }            ", b"'shape': (300000000000, 4), } "
            made.writestr(name, content.replace(*shapes))
    return buffer.getvalue()


def _promising_bytes(file: bytes) -> bytes:
    """A zip file whose directory says that the first array has 2 GiB."""
    at = file.index(b"PK\x01\x02")
    return file[: at + 24] + struct.pack("<I", 2**31) + file[at + 28 :]


def _locked(file: bytes) -> bytes:
    """A zip file whose directory says that the first array is encrypted."""
    at = file.index(b"PK\x01\x02")
    return file[: at + 8] + b"\x01\x00" + file[at + 10 :]


RIGHT = (np.ones((3, 4), dtype=np.float32), np.ones((3, 2), dtype=np.float32))
PLANTED = {
    "another width": _saved(RIGHT[0][:, :3], RIGHT[1]),
    "a row that would be repeated": _saved(RIGHT[0][:1], RIGHT[1]),
    "one number": _saved(np.float32(0.5), RIGHT[1]),
    "views": _saved(RIGHT[0][None], RIGHT[1]),
    "double precision": _saved(RIGHT[0].astype(np.float64), RIGHT[1]),
    "texts of as many bytes": _saved(np.full((3, 4), "x", dtype="<U1"), RIGHT[1]),
    "columns first": _saved(np.asfortranarray(RIGHT[0]), RIGHT[1]),
    "one readout": _saved(RIGHT[0]),
    "a bomb": _saved(np.zeros((5_000_000, 4), dtype=np.float32), RIGHT[1], compressed=True),
    "a header of a terabyte": _declaring_more(_saved(*RIGHT)),
    "a directory of 2 GiB": _promising_bytes(_saved(*RIGHT)),
    "encrypted": _locked(_saved(*RIGHT)),
    "changed values": _saved(*RIGHT).replace(b"\x00\x00\x80\x3f", b"\x00\x00\x80\x3e", 1),
    "cut short": _saved(*RIGHT)[:300],
    "no zip file": b"\x93NUMPY",
    "nothing": b"",
}


@pytest.mark.parametrize("name", PLANTED)
def test_vector_memory_does_not_take_what_does_not_fit(name: str, tmp_path: Path) -> None:
    """Planted or damaged files are removed, and the vectors are made again."""
    tower, memory = _tower(), VectorMemory(tmp_path)
    memory.keep(tower, IDS, FACTS, _made(None, tower))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(_saved(*RIGHT))
    found = memory.recall(tower, IDS, FACTS)
    assert found is not None
    assert (found["text.pooled"] == 1).all()  # the plain case of what is planted here fits
    kept.write_bytes(PLANTED[name])
    assert memory.recall(tower, IDS, FACTS) is None
    assert not kept.exists()


def test_vector_memory_planted_files_are_what_their_names_say() -> None:
    """The edits above reach the places that they are meant for."""
    whole = _saved(*RIGHT)
    with zipfile.ZipFile(io.BytesIO(_declaring_more(whole))) as archive:
        assert archive.testzip() is None
        assert b"(300000000000, 4)" in archive.read("0.npy")
        assert archive.getinfo("0.npy").file_size == 128 + 3 * 4 * 4
    with zipfile.ZipFile(io.BytesIO(_promising_bytes(whole))) as archive:
        assert archive.getinfo("0.npy").file_size == 2**31
    with zipfile.ZipFile(io.BytesIO(_locked(whole))) as archive:
        assert archive.getinfo("0.npy").flag_bits == 1
