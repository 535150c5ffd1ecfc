"""Runs in a process of its own: open damaged copies of a store; a crash of HDF5 ends this process only.

Prints one JSON object with counts, and on stderr the damage being tried, so that a crash names itself.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from cache import FeatureStore, StoreError

ADDRESS_SPACE_BYTES = 4 << 30


def content(path: Path) -> dict[str, object]:
    """Read everything a reader can read."""
    with FeatureStore.open(path) as store:
        found: dict[str, object] = {
            name: getattr(store, name)
            for name in [
                "n_rows",
                "fingerprint",
                "meta",
                "class_names",
                "modalities",
                "spaces",
                "ids",
                "labels",
                "splits",
                "groups",
                "source_sha256",
                "status",
                "texts",
                "encodings",
                "image_paths",
                "image_sizes",
                "image_sha256",
            ]
        }
        for name in store.spaces:
            space = store.select(name)
            found |= {f"{name} x": np.asarray(space), f"{name} valid": space.valid, name: space.fingerprint}
            found[f"{name} views"] = None if space.views is None else np.asarray(space.views)
        return found


def is_same(left: dict[str, object], right: dict[str, object]) -> bool:
    """Compare by bytes, so that NaN and -0.0 count."""

    def plain(value: object) -> object:
        return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value

    return {k: plain(v) for k, v in left.items()} == {k: plain(v) for k, v in right.items()}


def main() -> None:
    """Usage: read_damaged.py STORE FLIPS CUTS."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    path, flips, cuts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    original, wanted = path.read_bytes(), content(path)
    rng = random.Random(0)
    damages = [("flip", rng.randrange(len(original) * 8)) for _ in range(flips)]
    damages += [("cut", rng.randrange(len(original))) for _ in range(cuts)]
    counts: Counter[str] = Counter()
    wrong = []
    for number, (kind, at) in enumerate(damages):
        data = bytearray(original[:at] if kind == "cut" else original)
        if kind == "flip":
            data[at // 8] ^= 1 << (at % 8)
        copy = path.with_name("damaged.h5")
        copy.write_bytes(data)
        os.utime(copy, ns=(number, number))
        sys.stderr.write(f"{kind} {at}\n")
        sys.stderr.flush()
        try:
            verdict = "harmless" if is_same(content(copy), wanted) else "wrong"
        except StoreError as error:
            verdict = "refused" if str(error) else "wrong"
        counts[f"{kind} {verdict}"] += 1
        if verdict == "wrong":
            wrong.append((kind, at))
    sys.stdout.write(json.dumps({**counts, "wrong": wrong}))


if __name__ == "__main__":
    main()
