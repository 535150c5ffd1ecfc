"""Spoil the seeds of ``corpus/`` by chance and give them to a reader, for some seconds, in its own process.

``python -m tests.hostile.fuzz_readers manifest|text|store FOLDER SECONDS SEED`` prints a JSON object: how
many were read and how many refused. Whatever is neither ends the process; FOLDER keeps the input that did it.
"""

from __future__ import annotations

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


def read_manifest(path: Path) -> None:
    """Read a table or list; what is read must be fit to be stored."""
    from extract import DataError, read_data_set

    try:
        data_set = read_data_set(path)
    except (DataError, FileNotFoundError) as error:
        assert str(error)
        raise ValueError(str(error)) from error
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
    from extract.texts import RECIPES, clean_text

    data = path.read_bytes()
    text, encoding = decode_text(data)
    assert "\0" not in text
    assert text.encode(encoding) == data or encoding in ("utf-8-sig", "utf-16", "utf-32", "gb18030")
    for recipe in RECIPES:
        cleaned = clean_text(text, recipe)
        assert recipe == "none" or cleaned == cleaned.strip()


def read_store(path: Path) -> None:
    """Open a store; what opens must be the very content of the seed."""
    from cache import FeatureStore, StoreError
    from tests.faults.read_damaged import content, is_same

    good = CORPUS.parents[1] / "golden" / "store-1.0.h5"
    try:
        found = content(path)
    except StoreError as error:
        raise ValueError(str(error)) from error
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
        except ValueError as error:  # every named error of the floors is one
            assert str(error)
            counts["refused"] += 1
        else:
            counts["read"] += 1
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main()
