"""Spoil the seeds of ``corpus/`` by chance and give them to a reader, for some seconds, in its own process.

``python -m tests.hostile.fuzz_readers manifest|text|store FOLDER SECONDS SEED`` prints a JSON object: how
many were read and how many refused. Whatever is neither ends the process; FOLDER keeps the input that did it.
"""

from __future__ import annotations

import codecs
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.hostile.broken_data import spoiled

CORPUS = Path(__file__).with_name("corpus")
ADDRESS_SPACE = 4 << 30


class RefusedError(Exception):
    """The input was refused by the error that its reader names; no other error may come out of a reader."""


def read_manifest(path: Path) -> None:
    """Read a table or list; what is read must be fit to be stored."""
    from extract import DataError, read_data_set

    try:
        data_set = read_data_set(path)
    except DataError as error:
        raise RefusedError(str(error)) from error
    ids = [sample.id for sample in data_set.samples]
    assert len(set(ids)) == len(ids) > 0
    root = data_set.root.resolve()
    for sample in data_set.samples:
        assert sample.id.strip() == sample.id != ""
        sample.id.encode("utf-8")
        for place in (sample.image_path, sample.text_path):
            assert place is None or place.resolve().is_relative_to(root)


def read_text(path: Path) -> None:
    """Decode a text; encoding it again must give the bytes back."""
    from extract import decode_text
    from extract.texts import RECIPES, TextEncodingError, clean_text

    data = path.read_bytes()
    try:
        text, encoding = decode_text(data)
    except TextEncodingError as error:
        raise RefusedError(str(error)) from error
    assert "\0" not in text
    assert encoded(text, encoding, data) == data
    for recipe in RECIPES:
        cleaned = clean_text(text, recipe)
        assert recipe == "none" or cleaned == cleaned.strip()


def encoded(text: str, encoding: str, data: bytes) -> bytes:
    """Return the text's bytes with the mark of `data`, whose byte order an encoder would not know."""
    orders = {
        "utf-8-sig": {codecs.BOM_UTF8: "utf-8"},
        "utf-16": {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"},
        "utf-32": {codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be"},
    }
    if encoding not in orders:
        return text.encode(encoding)
    mark, name = next((mark, name) for mark, name in orders[encoding].items() if data.startswith(mark))
    return mark + text.encode(name)


def read_store(path: Path) -> None:
    """Open a store; what opens must be the very content of the seed."""
    from cache import FeatureStore, StoreError
    from tests.faults.read_damaged import content, is_same

    good = CORPUS.parents[1] / "golden" / "store-1.0.h5"
    try:
        found = content(path)
    except StoreError as error:
        raise RefusedError(str(error)) from error
    assert is_same(found, content(good))
    FeatureStore.open(path, verify=False).close()


def seeds(kind: str) -> list[Path]:
    """Return the good inputs that a kind starts from."""
    if kind == "store":
        return [CORPUS.parents[1] / "golden" / "store-1.0.h5"]
    names = {"manifest": ("*.csv", "*.tsv", "*.jsonl"), "text": ("*.txt",)}[kind]
    return sorted(path for name in names for path in CORPUS.glob(name))


READER: dict[str, Callable[[Path], None]] = {
    "manifest": read_manifest,
    "text": read_text,
    "store": read_store,
}


def main() -> None:
    """Spoil and read until the time is up."""
    kind, folder, seconds, seed = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    chance, counts = random.Random(seed), Counter({"read": 0, "refused": 0})
    sources = {path: path.read_bytes() for path in seeds(kind)}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        source = chance.choice(list(sources))
        path = folder / f"spoiled{source.suffix}"
        path.write_bytes(spoiled(sources[source], chance))
        try:
            READER[kind](path)
        except RefusedError as error:
            assert str(error)
            counts["refused"] += 1
        else:
            counts["read"] += 1
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main()
