"""The pieces of a page: thumbnails, maps, importance, ticks, and the rows that a large page holds."""

from __future__ import annotations

import io
import json
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.picture_files import data_root
from pipelines.report.charts import nice_ticks
from pipelines.report.evidence import OutOfFold
from pipelines.report.maps import sample_maps
from pipelines.report.samples import MOST_ROWS, choose_rows
from pipelines.report.score_charts import history_chart, importance_charts
from pipelines.report.thumbnails import SHEET, make_thumbnails


def _tile(sheets: tuple[bytes, ...], tile: int) -> np.ndarray:
    """Return the middle of a picture in a sheet: mean colour of its inner half."""
    with Image.open(io.BytesIO(sheets[tile // SHEET**2])) as sheet:
        side = sheet.width // SHEET
        down, across = divmod(tile % SHEET**2, SHEET)
        box = [across * side + side // 4, down * side + side // 4]
        return np.asarray(sheet.convert("RGB").crop((*box, box[0] + side // 2, box[1] + side // 2))).mean(
            axis=(0, 1)
        )


def _pictures(folder: Path, n: int) -> tuple[list[str], list[tuple[int, int, int]]]:
    colours = [(40 + 23 * k % 200, 40 + 57 * k % 200, 40 + 91 * k % 200) for k in range(n)]
    for k, colour in enumerate(colours):
        Image.new("RGB", (120, 80), colour).save(folder / f"{k}.{'jpg' if k % 2 else 'png'}")
    return [f"{k}.{'jpg' if k % 2 else 'png'}" for k in range(n)], colours


def test_every_row_gets_its_own_thumbnail(tmp_path: Path) -> None:
    """Over several sheets, in any order, the tile of a row is the picture of that row."""
    paths, colours = _pictures(tmp_path, 300)
    order = np.random.default_rng(0).permutation(300).tolist()
    made = make_thumbnails(tmp_path, paths, None, order)
    assert len(made.sheets) == 2
    assert sorted(made.tiles) == list(range(300))
    for row in (0, 1, 17, 150, 298, 299):
        np.testing.assert_allclose(_tile(made.sheets, made.tiles[row]), colours[row], atol=12)


def test_thumbnails_leave_out_what_is_broken_changed_or_outside(tmp_path: Path) -> None:
    """A store may say anything: only whole, unchanged pictures inside the data folder are shown."""
    root = tmp_path / "data"
    root.mkdir()
    _pictures(root, 2)
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (root / "broken.jpg").write_bytes((root / "1.jpg").read_bytes()[:200])
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "0.png",
        "1.jpg",
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "broken.jpg",
        "",
        "no\0.png",
    ]
    known = [sha256((root / "0.png").read_bytes()).digest(), bytes([7]) * 32, *[bytes(32)] * 6]
    made = make_thumbnails(root, paths, known, list(range(len(paths))))
    assert made.tiles == (0, -1, -1, -1, -1, -1, -1, -1)
    assert made.note == "5 pictures could not be read; 1 pictures changed since they were embedded"


def test_data_folder_is_the_one_that_holds_the_pictures(tmp_path: Path) -> None:
    """A folder with one name in common is not taken for it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    paths, _ = _pictures(tmp_path / "b", 4)
    (tmp_path / "a" / paths[0]).write_bytes(b"x")
    assert data_root(paths, [tmp_path / "a", tmp_path / "b"]) == tmp_path / "b"
    assert data_root(paths, [tmp_path / "a"]) is None


@pytest.mark.nightly
def test_thumbnails_of_4000_noisy_pictures_stay_small(tmp_path: Path) -> None:
    """Noise is what compresses worst; 3.9 MB of sheets leave room for the rest of 8 MB."""
    rng = np.random.default_rng(0)
    for k in range(100):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    paths = [f"{k % 100}.png" for k in range(4000)]
    began = time.perf_counter()
    made = make_thumbnails(tmp_path, paths, None, list(range(4000)))
    assert sum(map(len, made.sheets)) <= 3_900_000
    assert time.perf_counter() - began < 30


def _planted(n: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, n)
    text = rng.normal(size=(n, 20)).astype(np.float32)
    text[np.arange(n), codes] += 9
    features = {"text": text, "image": rng.normal(size=(n, 8)).astype(np.float32)}
    return features, rng.dirichlet(np.ones(3), n), codes


def test_pca_map_is_that_of_the_singular_vectors() -> None:
    """Distances on the map are those along numpy's first two principal directions, up to the map's scale."""
    features, probabilities, codes = _planted()
    found = next(m for m in sample_maps(features, probabilities, codes, "abc") if m.key == "pca-text")
    centred = features["text"] - features["text"].mean(axis=0)
    expected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    for axis in range(2):
        assert abs(np.corrcoef(found.xy[:, axis], expected[:, axis])[0, 1]) > 0.999
    assert found.xy.min() == 0.0
    assert found.xy.max() == 1.0


def test_tsne_map_brings_the_planted_groups_together() -> None:
    """The nearest neighbour on the map is of the same planted group, nearly always."""
    features, probabilities, codes = _planted()
    found = next(m for m in sample_maps(features, probabilities, codes, "abc") if m.key == "tsne-text")
    apart = np.linalg.norm(found.xy[:, None] - found.xy, axis=2) + np.eye(len(codes)) * 9
    assert (codes[apart.argmin(axis=1)] == codes).mean() > 0.9


def test_labels_play_no_part_in_where_points_lie() -> None:
    """Permuted labels give the same places, so that separation on a map is never the labels' doing."""
    features, probabilities, codes = _planted()
    maps = sample_maps(features, probabilities, codes, "abc")
    others = sample_maps(features, probabilities, np.random.default_rng(1).permutation(codes), "abc")
    for one, other in zip(maps, others, strict=True):
        np.testing.assert_array_equal(one.xy, other.xy)


def test_maps_leave_out_rows_without_an_embedding() -> None:
    """A missing block is no point on its map; a block of nearly none, or of equal rows, is no crash."""
    features, probabilities, codes = _planted()
    features["image"][5] = np.nan
    features["joint"] = np.full((60, 4), np.nan, dtype=np.float32)
    features["flat"] = np.ones((60, 4), dtype=np.float32)
    maps = {m.key: m for m in sample_maps(features, probabilities, codes, "abc")}
    assert 5 not in maps["pca-image"].rows
    assert len(maps["pca-image"].rows) == 59
    assert "pca-joint" not in maps
    assert 5 in maps["pca-all-blocks"].rows
    assert np.isfinite(maps["tsne-flat"].xy).all()


def _trial(number: int, head: str, score: float, **parameters: object) -> dict[str, str]:
    return {
        "number": str(number), "state": "complete", "head": head, "resampler": "none", "score": str(score),
        "seconds": "1.0", "parameters": json.dumps(parameters),
    }  # fmt: skip


def test_importance_finds_the_parameter_that_decides() -> None:
    """Of a decisive number, an idle number, an idle choice and a constant, the first gets nearly all."""
    rng = np.random.default_rng(0)
    trials = []
    for k in range(40):
        c, idle, choice = 10 ** rng.uniform(-4, 2), rng.uniform(), rng.choice([None, "balanced"])
        trials.append(
            _trial(k, "logreg", float(np.tanh(np.log10(c) + 1)), C=c, idle=idle, choice=choice, tol=1e-4)
        )
    chart = next(iter(importance_charts(trials)))
    (bars,) = chart.marks
    found = {name: value for (_, name), value in zip(chart.y.marks(), bars.x, strict=True)}
    assert set(found) == {"C", "idle", "choice"}
    assert found["C"] > 0.8
    assert next(iter(found)) == "C"


def test_importance_needs_trials_that_differ() -> None:
    """Eleven trials, or equal scores, or nothing varied: no chart."""
    assert not list(importance_charts([_trial(k, "logreg", k / 20, C=k + 1.0) for k in range(11)]))
    assert not list(importance_charts([_trial(k, "logreg", 0.5, C=k + 1.0) for k in range(20)]))
    assert not list(importance_charts([_trial(k, "logreg", k / 20, C=1.0) for k in range(20)]))


def test_history_draws_the_best_so_far() -> None:
    """A staircase through the records, whatever the order of the rows; early stops are rings."""
    trials = [_trial(k, "mlp", score) for k, score in enumerate([0.3, 0.5, 0.4, 0.6])][::-1]
    trials.append({**_trial(4, "mlp", 0.9), "state": "stopped"})
    chart = history_chart(trials, "macro_f1")
    assert chart is not None
    line = chart.marks[0]
    assert list(zip(line.x, line.y, strict=True)) == [
        (0, 0.3),
        (1, 0.3),
        (1, 0.5),
        (3, 0.5),
        (3, 0.6),
        (4, 0.6),
    ]
    assert [(mark.hollow, len(mark.x)) for mark in chart.marks[1:]] == [(False, 4), (True, 1)]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.431, 0.502), (-3, 12000), (0, 2.5e-4), (99.99, 100.01)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    """Between 3 and 9 ticks, evenly spaced, and their words say their values."""
    ticks = nice_ticks(low, high)
    values = [value for value, _ in ticks]
    assert 3 <= len(ticks) <= 9
    assert low - 1e-9 <= values[0] <= values[-1] <= high + 1e-9
    step = values[1] - values[0]
    np.testing.assert_allclose(np.diff(values), step)
    np.testing.assert_allclose([float(text.replace(",", "")) for _, text in ticks], values, atol=step * 1e-6)


def test_large_runs_show_a_sample_and_the_most_confident_errors() -> None:
    """4,000 of 20,000 rows: the most confident errors are all among them, and the choice is repeatable."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(3), 20_000)
    rows = OutOfFold(
        tuple(map(str, range(20_000))),
        np.zeros(20_000, int),
        rng.integers(0, 3, 20_000),
        table,
        ("a", "b", "c"),
    )
    shown = choose_rows(rows)
    assert len(np.unique(shown)) == MOST_ROWS
    surest = np.argsort(np.where(rows.wrong, -rows.confidence, 1.0))[:900]
    assert set(surest) <= set(shown)
    np.testing.assert_array_equal(shown, choose_rows(rows))
