"""Wrong words end a command with exit 2, wrong paths and files with exit 1, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract import DataError
from pipelines.cli import main
from pipelines.errors import UsageError, users_words
from tests.pipelines.conftest import World

GRID = """[logreg]
only = true
C = {values}
"""

#: CLIP and GRID stand for paths; see `_filled`.
WRONG_WORDS = [
    ("extract --backbone minilm", "Backbone 'minilm' is ambiguous: it could be 'minilm-l12', 'minilm-l6'"),
    ("extract --backbone no/such", "write 'hf:no/such'"),
    ("extract --backbone hf:none", "Backbone 'hf:none' is not valid"),
    ("inspect --data . --backbone minilm", "Backbone 'minilm' is ambiguous"),
    ("extract --backbone CLIP --readout foo", "Readout 'foo' of 'tiny-clip' does not exist for text"),
    (
        "extract --backbone CLIP --modality audio",
        "'tiny-clip' has no modality 'audio'; it embeds text, image",
    ),
    ("extract --backbone CLIP --device gpu", "Device 'gpu' is not known; allowed are auto, cpu, cuda"),
    ("extract --backbone CLIP --max-memory lots", "Memory size 'lots' is not valid"),
    ("explain --run runs/small --text x --device gpu", "Device 'gpu' is not known"),
    (
        "predict --run runs/small --text x --device gpu --weights tiny-clip=CLIP",
        "Device 'gpu' is not known",
    ),
    ("robustness --run runs/small --device gpu", "Device 'gpu' is not known"),
    ("augment --run runs/small --device gpu", "Device 'gpu' is not known"),
    *(
        (f"{verb} --features features/tiny-clip.h5:imag", "has no space 'imag'; it has 'text.pooled'")
        for verb in ("tune", "train", "ablate", "stability")
    ),
    ("train --set C=-1", "Head 'logreg' got 1 wrong parameter(s): C=-1 (allowed: a number in (0, inf))."),
    ("stability --set C=-1", "Head 'logreg' got 1 wrong parameter(s): C=-1"),
    ("tune --heads logreg --grid", "A grid is made of choices, but there are ranges: logreg.C"),
    (
        "tune --heads logreg --grid --space LONG --trials 2",
        "The grid has 3 combinations, and --trials allows 2",
    ),
    ("explain --run runs/small --id nobody", "has no row 'nobody'"),
    ("errors --run runs/small --id nobody", "has no out-of-fold prediction of 'nobody'"),
]

WRONG_PATHS = [
    ("extract --backbone ./nowhere", "Backbone './nowhere' looks like a path, but there is no such folder."),
    ("extract --backbone CLIP --data nowhere", "'nowhere' does not exist"),
    ("train --features nowhere.h5:imag", "There is no store at 'nowhere.h5'"),
    ("tune --heads logreg --grid --space ODD", "The search space has 1 fault(s): [logreg] C=-1"),
]


@pytest.fixture
def places(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The world as the current folder, and what the paths in the commands stand for."""
    for name, values in (("long", "[0.1, 1.0, 10.0]"), ("odd", "[-1, 1.0]")):
        (tmp_path / f"{name}.toml").write_text(GRID.format(values=values), encoding="utf-8")
    monkeypatch.chdir(world.root)
    return {
        "CLIP": str(world.clip),
        "LONG": str(tmp_path / "long.toml"),
        "ODD": str(tmp_path / "odd.toml"),
    }


def _filled(words: str, places: dict[str, str]) -> list[str]:
    for word, path in places.items():
        words = words.replace(word, path)
    return words.split()


def _files() -> set[Path]:
    return set(Path().rglob("*"))


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        *((words, 2, part) for words, part in WRONG_WORDS),
        *((words, 1, part) for words, part in WRONG_PATHS),
    ],
    ids=[words for words, _ in (*WRONG_WORDS, *WRONG_PATHS)],
)
def test_wrong_words_exit_2_and_wrong_paths_exit_1(
    places: dict[str, str], capsys: pytest.CaptureFixture[str], words: str, status: int, part: str
) -> None:
    """The last line names what is wrong, and no file or folder is left behind."""
    before = _files()
    assert main(_filled(words, places)) == status
    printed = capsys.readouterr()
    line = printed.err.strip().splitlines()[-1]
    assert line.startswith("embedonce: ")
    assert part in line
    assert printed.out == ""
    assert _files() == before


def test_too_many_folds_say_each_class_count_once(
    in_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every class is too small for a thousand folds; each is named, with its rows."""
    assert main(["tune", "--folds", "1000"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Every class needs at least 1000 labelled rows for 1000 folds, but 'negative' has " in line
    assert [line.count(name) for name in ("negative", "neutral", "positive")] == [1, 1, 1]


def test_users_words_takes_the_very_type_and_keeps_the_text() -> None:
    """A fault of a file, a subclass, stays what it is; so does every other error."""
    with pytest.raises(UsageError, match=r"^'x' is no word$"), users_words():
        raise ValueError("'x' is no word")
    with pytest.raises(DataError, match="a file") as caught, users_words():
        raise DataError("a file")
    assert type(caught.value) is DataError
    with pytest.raises(KeyError, match="other"), users_words():
        raise KeyError("other")
    with pytest.raises(UsageError, match="a key"), users_words(KeyError):
        raise KeyError("a key")
