"""Spoil the text of boosted trees at random, and give what passes the check to LightGBM, in a child process.

``python -m tests.hostile.fuzz_trees BOOSTER COUNT SEED`` prints how many were refused and how many read.
"""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

import numpy as np

from heads.tree_text import checked_tree_text

COLUMNS, CLASSES = 6, 3
#: What takes the place of a number.
NASTY = (
    "-1",
    "0",
    "1",
    "7",
    "2000000000",
    "-2000000000",
    "99999999999999999999",
    "nan",
    "inf",
    "",
    "x",
    "1e999",
)


def spoil(text: str, chance: random.Random) -> str:
    """Return the text with one to three places changed."""
    for _ in range(chance.randint(1, 3)):
        lines = text.split("\n")
        at = chance.randrange(len(lines))
        kind = chance.randrange(5)
        if kind == 0:  # one number of a line
            key, equals, value = lines[at].partition("=")
            words = value.split(" ")
            words[chance.randrange(len(words))] = chance.choice(NASTY)
            lines[at] = key + equals + " ".join(words)
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, chance.choice(lines))
        elif kind == 3:  # two lines change places
            other = chance.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        text = "\n".join(lines)
        if kind == 4:  # one character
            place = chance.randrange(len(text))
            text = text[:place] + chr(chance.randrange(32, 127)) + text[place + 1 :]
    return text


def main() -> None:
    """Spoil, check, and read what passes."""
    import lightgbm

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    good = Path(sys.argv[1]).read_text()
    chance = random.Random(int(sys.argv[3]))
    rows = np.random.default_rng(0).normal(size=(20, COLUMNS))
    refused = read = 0
    for _ in range(int(sys.argv[2])):
        try:
            text = checked_tree_text(spoil(good, chance), n_columns=COLUMNS, n_classes=CLASSES)
        except ValueError:
            refused += 1
            continue
        booster = lightgbm.Booster(model_str=text)
        assert booster.predict(rows, num_threads=1).shape == (20, CLASSES)
        booster.dump_model()
        read += 1
    sys.stdout.write(f"{refused} {read}")


if __name__ == "__main__":
    main()
