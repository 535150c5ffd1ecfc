"""Near duplicates of texts and pictures are found, unrelated ones are not, and folds keep them together."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.cli import main
from pipelines.duplicates import RelatedRows, compared_blocks, find_related_rows, related_notes
from pipelines.matrices import read_matrix
from pipelines.picture_marks import marks_of_pixels, same_picture_pairs
from tests.kit.planted_posts import VARIANTS, Posts, draw_picture, image_vectors, make_posts, vary_picture

N_PICTURES = 80


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[np.ndarray]]:
    """Real JPEG files: 80 drawings, then each of their variants."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    drawn = [draw_picture(rng) for _ in range(N_PICTURES)]
    all_pictures = list(drawn)
    names = []
    for number, picture in enumerate(drawn):
        names.append(f"{number}.jpg")
        picture.save(root / names[-1], quality=95)
    for kind in VARIANTS:
        for number, picture in enumerate(drawn):
            varied, quality = vary_picture(picture, rng, kind)
            names.append(f"{number}-{kind}.jpg")
            varied.save(root / names[-1], quality=quality)
            all_pictures.append(varied)
    return root, names, [image_vectors(all_pictures)]


@pytest.mark.parametrize("with_vectors", [True, False])
def test_pictures_are_found_in_every_variant_and_no_others(
    pictures: tuple[Path, list[str], list[np.ndarray]], with_vectors: bool
) -> None:
    """Re-encoded and halved pictures are all found, at least 90 % of variants in all, no pair is false."""
    root, names, vectors = pictures
    pairs = same_picture_pairs(vectors if with_vectors else [], names, None, [root])
    assert pairs is not None
    origin = np.array([int(name.split(".")[0].split("-")[0]) for name in names])
    assert (origin[pairs[:, 0]] == origin[pairs[:, 1]]).all()
    found = {int(j) for i, j in pairs.tolist() if i < N_PICTURES}
    share = {
        kind: np.mean([names.index(f"{k}-{kind}.jpg") in found for k in range(N_PICTURES)])
        for kind in VARIANTS
    }
    assert all(share[kind] == 1 for kind in ("q60", "q90", "half"))
    if with_vectors:
        assert np.mean(list(share.values())) >= 0.9
        assert share["crop"] >= 0.7


def test_pictures_elsewhere_or_changed_or_blank_are_not_compared(tmp_path: Path) -> None:
    """None stands for no folder; a changed file, or one of a single colour, pairs with nothing."""
    posts = make_posts(tmp_path, 12)
    for row in range(1, 12, 2):
        posts.copy_exactly(row - 1, row)
    posts.write()
    names = [f"data/{row}.jpg" for row in range(12)]
    vectors = [image_vectors(posts.pictures)]
    assert same_picture_pairs(vectors, names, None, [tmp_path / "elsewhere"]) is None
    whole = same_picture_pairs(vectors, names, None, [tmp_path])
    assert whole is not None
    assert whole.tolist() == [[row, row + 1] for row in range(0, 12, 2)]
    pairs = same_picture_pairs(vectors, names, [b"\0" * 31 + b"\1"] + [None] * 11, [tmp_path])
    assert pairs is not None
    assert pairs.tolist() == whole.tolist()[1:]
    assert not marks_of_pixels(np.full((1, 32, 32), 200, dtype=np.uint8)).any()


TEXT = "the quick brown fox jumps over a lazy dog near the old river bank"


def _planted(folder: Path, n: int = 120) -> Posts:
    """Posts 0..19 have an exact copy at 40..59 and posts 20..39 a near one at 60..79; none is a test row."""
    posts = make_posts(folder, n, seed=3, test_share=0.0)
    rng = np.random.default_rng(1)
    for row in range(20):
        posts.copy_exactly(row, row + 40)
        posts.copy_nearly(row + 20, row + 60, rng, VARIANTS[row % len(VARIANTS)])
    return posts.write()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Posts:
    return _planted(tmp_path_factory.mktemp("planted"))


def test_matrix_groups_follow_the_rule(planted: Posts) -> None:
    """none groups nothing, exact the copies, near at least 90 % of the near duplicates and nobody else."""
    specs = [str(planted.store)]
    assert len(np.unique(read_matrix(specs, duplicates="none").groups)) == 120
    exact = read_matrix(specs, duplicates="exact").groups
    assert all(exact[row] == exact[row + 40] for row in range(20))
    assert len(np.unique(exact)) == 100
    matrix = read_matrix(specs)
    found = sum(matrix.groups[row + 20] == matrix.groups[row + 60] for row in range(20))
    assert found >= 18
    assert len(np.unique(matrix.groups)) == 100 - found
    assert any(f"{2 * found} near duplicates in {found} group(s)" in note for note in matrix.notes)
    assert matrix.related is not None
    assert (matrix.related.groups_under("exact") == exact).all()


def test_groups_without_pictures_say_so(planted: Posts) -> None:
    """When the pictures are gone their vectors decide alone, and a note says that this finds less."""
    matrix = read_matrix([str(planted.store)])
    related = find_related_rows(
        "near",
        np.full(120, -1),
        texts=None,
        image_hashes=None,
        images=matrix.images,
        blocks={"image.pooled": matrix.X[:, matrix.blocks["text.pooled"] :]},
        folders=[planted.folder / "elsewhere"],
    )
    assert "near vector image.pooled" in related.keys
    assert any("by their vectors alone" in note for note in related_notes(related, matrix.labels))
    assert all(related.groups[row] == related.groups[row + 40] for row in range(20))


@pytest.mark.parametrize(
    ("texts", "images", "compared"),
    [
        (("a", "b"), ("a.png", ""), ["image.pooled", "joint.pooled@s"]),
        (("a", "b"), ("", ""), ["image.pooled"]),
        (None, None, ["text.pooled", "image.pooled"]),
    ],
)
def test_compared_blocks_are_those_that_are_looked_into(texts, images, compared) -> None:
    """Leaving the other blocks out changes no group."""
    names = ["text.pooled", "image.pooled", "joint.pooled@s"]
    assert compared_blocks("near", names, 2, texts=texts, images=images) == compared
    assert not compared_blocks("exact", names, 2, texts=texts, images=images)
    assert not compared_blocks("near", names, 100_001, texts=texts, images=images)
    vectors = {name: np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32) for name in names}

    def related(blocks: list[str]) -> RelatedRows:
        return find_related_rows(
            "near",
            np.full(2, -1),
            texts=texts,
            image_hashes=None,
            images=images,
            blocks={name: np.repeat(vectors[name][:1], 2, axis=0) for name in blocks},
            folders=[],
        )

    assert related(compared).keys == related(names).keys
    assert related(compared).keys.keys() != related([]).keys.keys()


@pytest.mark.parametrize("rule", ["near", "exact"])
def test_rows_without_a_text_are_not_duplicates(rule: str) -> None:
    """No text, and the mark that the recipe `sentiment` puts in its place, say nothing."""
    texts = ["", "", "[EMPTY]", "[EMPTY]", "one and the same", "one and the same"]
    related = find_related_rows(
        rule, np.full(6, -1), texts=texts, image_hashes=None, images=None, blocks={}, folders=[]
    )
    assert related.groups.tolist() == [0, 1, 2, 3, 4, 4]


def related_texts(texts: list[str], labels: np.ndarray | None = None) -> RelatedRows:
    """Relate rows that are nothing but texts."""
    return find_related_rows(
        "near",
        np.full(len(texts), -1),
        texts=texts,
        image_hashes=None,
        images=None,
        blocks={},
        folders=[],
        labels=labels,
    )


def test_notes_warn_of_torn_labels() -> None:
    """A group with several labels is worth a sentence."""
    texts = [f"{TEXT} {letter}" for letter in "abcdefgh"] + [f"w{k} x{k} y{k}" for k in range(92)]
    notes = " ".join(related_notes(related_texts(texts), np.arange(100) % 2))
    assert "8 near duplicates in 1 group(s) stay in one fold" in notes
    assert "1 group(s) of duplicates hold rows with different labels" in notes


def test_a_crowd_of_similar_rows_is_a_kind_and_falls_apart() -> None:
    """Twenty texts made from one form are no duplicates, but copies among them still are; a note says so."""
    texts = [f"{TEXT} {letter}" for letter in "abcdefghijklmnopqrst"] + [f"w{k} x{k}" for k in range(79)]
    related = related_texts([*texts, texts[3]])
    assert len(np.unique(related.groups)) == 99
    assert related.groups[3] == related.groups[99]
    assert (related.n_near, related.n_crowded) == (0, 21)
    assert set(related.keys["near text"]) == {None}  # so that nobody takes them for duplicates
    assert "21 of 100 rows are like so many others" in " ".join(related_notes(related, np.zeros(100)))


def test_more_rows_than_can_be_compared_are_told_so() -> None:
    """Above 100,000 rows exact copies alone share a fold, and a note says so."""
    texts = [f"w{k} x{k} y{k}" for k in range(100_001)]
    texts[7] = texts[3]
    related = related_texts(texts)
    assert related.groups[7] == related.groups[3]
    assert len(np.unique(related.groups)) == 100_000
    assert "of these 100,001 only exact copies" in " ".join(related_notes(related, np.zeros(100_001)))


def test_near_duplicates_never_leave_a_class_too_small_for_folds() -> None:
    """Where every text of a rare class is like another, exact copies alone decide."""
    said = [" ".join(f"{letter}{k}" for letter in "abcdefghij") for k in range(6)]
    pairs = [f"{text} {end}" for text in said for end in ("today", "tomorrow")]
    texts = [*pairs, *(f"w{k} x{k} y{k}" for k in range(88))]
    assert related_texts(texts).n_near > 0
    labels = np.array([1] * 12 + [0] * 88)
    related = related_texts(texts, labels)
    assert len(np.unique(related.groups)) == 100
    assert len(set(related.keys["near text"]) - {None}) == 6  # across splits they are duplicates still
    assert (related.n_near, related.n_crowded) == (0, 0)
    (note,) = related_notes(related, labels)
    assert "would leave a class fewer groups than folds need, so only exact copies" in note


def test_train_keeps_near_duplicates_in_one_fold_and_records_the_rule(
    planted: Posts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The summary has the line, folds keep groups, another rule is another run, and a replay repeats it."""
    train = ["train", "--features", str(planted.store), "--folds", "4", "--out", str(tmp_path)]
    runs = {}
    for rule in ("near", "exact", "none"):
        assert main([*train, "--duplicates", rule, "--json"]) == 0
        printed = capsys.readouterr()
        assert ("near duplicates in" in printed.err) == (rule == "near")
        runs[rule] = {path.name for path in tmp_path.iterdir()} - set().union(*runs.values(), set())
    configs = {}
    for rule, names in runs.items():
        (name,) = names
        configs[rule] = json.loads((tmp_path / name / "config.json").read_text(encoding="utf-8"))
    assert configs["near"].get("duplicates") is None
    assert len(configs["near"]["related_rows"]) == 16
    assert [configs[rule]["duplicates"] for rule in ("exact", "none")] == ["exact", "none"]
    groups = read_matrix([str(planted.store)]).groups
    with (tmp_path / next(iter(runs["near"])) / "oof.csv").open(encoding="utf-8", newline="") as file:
        fold_of = {row["id"]: row["fold"] for row in csv.DictReader(file)}
    folds = np.array([fold_of[guid] for guid in planted.ids])
    assert all(len(set(folds[groups == group])) == 1 for group in np.unique(groups))
    replay = tmp_path / next(iter(runs["exact"])) / "config.json"
    assert main(["train", "--config", str(replay), "--out", str(tmp_path / "again"), "--json"]) == 0
    assert {path.name for path in (tmp_path / "again").iterdir()} == runs["exact"]


def test_a_wrong_rule_is_a_wrong_word(planted: Posts, capsys: pytest.CaptureFixture[str]) -> None:
    """--duplicates takes three words."""
    with pytest.raises(SystemExit, match="2"):
        main(["tune", "--features", str(planted.store), "--duplicates", "some"])
    assert "choose from near, exact, none" in capsys.readouterr().err.replace("'", "")


@pytest.mark.parametrize(
    "words",
    [
        ["ablate", "--heads", "ridge", "--shuffles", "0", "--folds", "3"],
        ["stability", "--head", "ridge", "--seeds", "1", "--splits", "2", "--folds", "3"],
    ],
)
def test_ablate_and_stability_keep_near_duplicates_together(
    planted: Posts, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """Both say what stays together, record the groups, and take another rule for another run."""
    command = [*words, "--features", f"{planted.store}:text.pooled", "--out", str(tmp_path)]
    recorded = []
    for rule in ("near", "exact"):
        assert main([*command, "--duplicates", rule, "--json"]) == 0
        printed = capsys.readouterr()
        assert ("near duplicates in" in printed.err) == (rule == "near")
        config = Path(json.loads(printed.out)["run"]) / "config.json"
        recorded.append(json.loads(config.read_text(encoding="utf-8")))
    assert ("related_rows" in recorded[0], recorded[1]["duplicates"]) == (True, "exact")


def test_audit_needs_neither_stores_with_texts_nor_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Imported vectors alone, some of them missing or copied with noise, are audited by their vectors."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 32)).astype(np.float32)
    X[60:70] = X[:10] + 0.001
    np.save(tmp_path / "x.npy", X)
    lines = [f"r{row},{'ab'[row % 2]},{'test' if row >= 50 else 'train'}" for row in range(80)]
    (tmp_path / "t.csv").write_text("\n".join(["id,label,split", *lines]) + "\n", encoding="utf-8")
    store = tmp_path / "x.h5"
    arrays = ["--table", str(tmp_path / "t.csv"), "--image", str(tmp_path / "x.npy"), "--out", str(store)]
    assert main(["import", *arrays]) == 0
    capsys.readouterr()
    assert main(["audit", "--features", str(store), "--json"]) == 0
    findings = {f["check"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["near-duplicate vectors of image.pooled across splits"]["count"] == 10
