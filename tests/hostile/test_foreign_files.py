"""No reader opens another file: the whole corpus through every entry point, under strace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipelines.cli import main
from tests.cache.builders import Toy
from tests.hostile.hdf5_corpus import TRICKS, WHOLE_FILES

ROOT = Path(__file__).resolve().parents[2]
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@dataclass(frozen=True)
class Corpus:
    """All hostile files with their reasons, a good store, and a run that could read them."""

    files: Path
    reasons: dict[str, str]
    good: Path
    run: Path
    decoy: Path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    decoy = root / "decoy" / "secret.h5"
    decoy.parent.mkdir()
    with h5py.File(decoy, "w") as file:
        file["x"] = np.arange(10, dtype="<i4")
    good = Toy(n=40).write(root / "good.h5")
    words = ["train", "--features", str(good), "--folds", "2", "--study", "run", "--out", str(root)]
    assert main(words) == 0
    spoilt = Toy().write(root / "toy.h5").read_bytes()
    reasons = {trick.name: trick.message for trick in TRICKS}
    reasons |= {make.__name__: message for make, message in WHOLE_FILES}
    makers: dict[str, Any] = {trick.name: lambda path, t=trick: t.make(path, decoy) for trick in TRICKS}
    makers |= {make.__name__: make for make, _ in WHOLE_FILES}
    for name, make in makers.items():
        path = root / "files" / name / f"{name}.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes(spoilt)
        make(path)
    return Corpus(root / "files", reasons, good, root / "run", decoy)


def _watched(corpus: Corpus, folder: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Read the corpus under strace; return what was said, and every open of the process and its children."""
    log = folder / "strace.log"
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=open,openat,openat2",
        "-s",
        "400",
        "-o",
        str(log),
    ]
    command += [sys.executable, "-m", "tests.hostile.read_corpus", str(corpus.files), *words]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HDF5_PLUGIN_PATH": str(corpus.decoy.parent),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), log.read_text()


@needs_strace
def test_no_entry_point_opens_a_foreign_file(corpus: Corpus, tmp_path: Path) -> None:
    """Every trick is refused by name in 12 ways, its target stays closed, and memory stays under 1 GB."""
    said, opens = _watched(corpus, tmp_path, str(corpus.run), str(corpus.good))
    assert set(said["answers"]) == set(corpus.reasons)
    for name, answers in said["answers"].items():
        assert len(answers) == 12
        for reader, answer in answers.items():
            assert re.search(corpus.reasons[name], answer), (name, reader, answer)
            assert answer.count("\n") == 0, (name, reader, answer)
            assert "internal error" not in answer
    assert str(corpus.files) in opens
    assert str(corpus.decoy.parent) not in opens
    assert said["peak_bytes"] < 1 << 30


@needs_strace
def test_strace_sees_what_h5py_alone_would_open(corpus: Corpus, tmp_path: Path) -> None:
    """The proof can fail: plain h5py opens the target of links, external storage and virtual data."""
    said, opens = _watched(corpus, tmp_path, "naive", "-")
    assert opens.count(f'"{corpus.decoy}"') >= 4
    values = str(np.arange(10))
    assert [name for name, answer in said["answers"].items() if answer == values] == [
        "external_link",
        "virtual",
    ]
