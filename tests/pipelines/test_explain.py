"""``explain``: what speaks for an answer, on real small networks, and that it is said honestly."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.cli import main
from pipelines.explaining import ExplainSettings, explain
from pipelines.explaining.attributions import WordMap
from pipelines.explaining.printing import page_path
from pipelines.predict import PredictSettings, predict
from tests.kit.browser import CHROMIUM, Browser
from tests.kit.data_sets import write_list
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert
from tests.kit.tiny_paired import make_tiny_projected
from tests.pipelines.report.conftest import EVIL
from tests.pipelines.report.test_browser import browser  # noqa: F401 - a fixture

NETWORKS = {
    "tiny-bert": (make_tiny_bert, "text"),
    "resnet": (make_resnet18, "image"),
    "tiny-clip": (lambda folder: make_tiny_projected(folder, "clip"), "both"),
}
#: Run -> its features.
STORES = {
    "tiny-bert": "tiny-bert.h5",
    "resnet": "resnet.h5",
    "tiny-clip": "tiny-clip.h5",
    "clip-image": "tiny-clip.h5:image.pooled",
}
FILLER = ["day", "on", "the"]


class Planted:
    """A data set whose classes differ by one word and by one corner of the picture, and its runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weights = {name: make(root / "weights" / name) for name, (make, _) in NETWORKS.items()}

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def options(self) -> list[str]:
        return [word for name, folder in self.weights.items() for word in ("--weights", f"{name}={folder}")]


def _write(root: Path) -> None:
    generator = np.random.default_rng(0)
    (root / "data").mkdir()
    rows = []
    for k in range(80):
        label = ("happy", "sad")[k % 2]
        words = generator.choice(FILLER, 2).tolist()
        words.insert(int(generator.integers(0, 3)), {"happy": "dog", "sad": "cat"}[label])
        (root / "data" / f"{k}.txt").write_text(" ".join(words), encoding="utf-8")
        pixels = generator.integers(122, 130, (70, 70, 3))
        pixels[20:30, 40:50] = (255, 0, 0) if label == "happy" else (0, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "data" / f"{k}.jpg", quality=95)
        rows.append((str(k), label))
    (root / "data" / "evil.txt").write_text(f"dog {EVIL}", encoding="utf-8")
    Image.new("RGB", (70, 70), (120, 130, 140)).save(root / "data" / "evil.jpg")
    write_list(root / "train.txt", [*rows, ("evil", "happy")])
    write_list(root / "test_without_label.txt", [("free", "null")])
    (root / "data" / "free.txt").write_text("day dog on", encoding="utf-8")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    root = tmp_path_factory.mktemp("planted")
    made = Planted(root)
    _write(root)
    before = Path.cwd()
    os.chdir(root)
    try:
        for name, folder in made.weights.items():
            few = ["--limit", "40"] if name == "resnet" else []  # its forwards are 224 pixels wide
            assert main(["extract", "--backbone", str(folder), "--max-bad", "0.2", *few]) == 0
        train = ["train", "--folds", "2", "--duplicates", "exact"]
        for name, store in STORES.items():
            features = ["--features", f"features/{store}"]
            assert main([*train, "--head", "logreg", *features, "--study", name]) == 0
        steps = ["--calibrate", "temperature", "--decide", "low-confidence:sad,1,0"]
        words = ["--head", "logreg", "--features", "features/tiny-bert.h5", *steps]
        assert main([*train, *words, "--study", "decided"]) == 0
        mlp = ["--head", "mlp", "--set", "max_epochs=40", "--set", 'fusion="gated"']
        assert main([*train, *mlp, "--features", "features/tiny-clip.h5", "--study", "mlp"]) == 0
        yield made
    finally:
        os.chdir(before)


@pytest.fixture
def here(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.chdir(planted.root)
    return planted


def _settings(planted: Planted, run: str, **options: object) -> ExplainSettings:
    return ExplainSettings(run=planted.run(run), weights=planted.weights, **options)


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_the_planted_word_is_found(here: Planted, method: str) -> None:
    """The word that tells the classes speaks for the class more than any other, in most rows."""
    first = 0
    for guid in map(str, range(6)):
        found = explain(_settings(here, "tiny-bert", id=guid, method=method))
        assert found.case.label == found.classes[found.code]
        by_word = _by_word(found.attributions.words[0])
        first += (
            max(by_word, key=lambda word: by_word[word]) == {"happy": "dog", "sad": "cat"}[found.case.label]
        )
    assert first >= 5


def _by_word(word_map: WordMap) -> dict[str, float]:
    """Add up the values of the tokens of each word."""
    assert "".join(piece for piece, _ in word_map.pieces).split()
    values, names = [0.0], [""]
    for piece, value in word_map.pieces:
        if value is None:
            values.append(0.0)
            names.append("")
        else:
            values[-1] += value
            names[-1] += piece
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("run", ["resnet", "clip-image"])
def test_the_planted_cell_is_found_by_occlusion(here: Planted, run: str) -> None:
    """The cell of the picture that tells the classes is the one whose loss costs most."""
    first = 0
    # Rows of blue corners: a picture without one is nearer to the other class, one without red may not be.
    for guid in ("1", "3"):
        found = explain(_settings(here, run, id=guid))
        assert found.attributions.patches[0].values.shape == (7, 7)
        first += int(found.attributions.patches[0].values.argmax()) == 2 * 7 + 4
    assert first == 2


def test_occlusion_is_what_the_model_answers_without_the_part(here: Planted) -> None:
    """Each value is the drop against the text without the word, and the picture with the cell painted."""
    found = explain(_settings(here, "mlp", id="3"))
    scored = [
        (k, value) for k, (_, value) in enumerate(found.attributions.words[0].pieces) if value is not None
    ]
    pieces = [piece for piece, _ in found.attributions.words[0].pieces]
    image = here.root / "data" / "3.jpg"
    whole = found.probabilities[found.code]
    for k, value in scored:
        text = " ".join("".join(pieces[:k] + pieces[k + 1 :]).split())
        other = explain(_settings(here, "mlp", text=text, image=image, target=found.classes[found.code]))
        assert whole - other.probabilities[found.code] == pytest.approx(value, abs=1e-9)
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    mean = tuple(np.asarray(picture).mean(axis=(0, 1)).round().astype(int).tolist())
    picture.paste(mean, (40, 20, 50, 30))
    picture.save(here.root / "painted.png")
    text = found.case.text
    other = explain(_settings(here, "mlp", text=text, image=here.root / "painted.png"))
    drop = whole - other.probabilities[found.code]
    assert found.attributions.patches[0].values[2, 4] == pytest.approx(drop, abs=1e-9)


def test_gradients_of_a_picture_are_complete_or_said_to_be_not(here: Planted) -> None:
    """Every map of gradients comes with what it adds up to, and the share that the path has missed."""
    found = explain(_settings(here, "tiny-clip", id="3", method="gradient"))
    assert {m.title for m in found.attributions.patches} == {"Patches of tiny-clip, image"}
    assert found.attributions.patches[0].values.shape == (4, 4)
    assert len(found.attributions.notes) == 2
    for note, m in zip(found.attributions.notes, ("text", "image"), strict=True):
        assert note.startswith(f"tiny-clip, {m}: the values add up to")
        assert "do not trust" not in note


def test_shares_add_up_and_equal_the_four_evaluations(here: Planted) -> None:
    """The Shapley values of text and image are those of the definition, from the model itself."""
    found = explain(_settings(here, "mlp", id="2"))
    case, code = found.case, found.code
    gone = {block: np.full_like(x, np.nan) for block, x in case.vectors.items()}
    text, image = {"text.pooled": gone["text.pooled"]}, {"image.pooled": gone["image.pooled"]}
    whole, no_text, no_image, nothing = case.probabilities([{}, text, image, gone])[:, code]
    assert found.shares.values["text"] == pytest.approx(((no_image - nothing) + (whole - no_text)) / 2)
    assert found.shares.values["image"] == pytest.approx(((no_text - nothing) + (whole - no_image)) / 2)
    assert sum(found.shares.values.values()) == pytest.approx(found.shares.whole - found.shares.nothing)
    assert found.shares.whole == pytest.approx(whole)


def test_neighbours_are_the_largest_cosines_without_the_row_itself(here: Planted) -> None:
    """They are training rows in the order of scikit-learn's cosine."""
    from sklearn.metrics.pairwise import cosine_similarity

    found = explain(_settings(here, "mlp", id="7"))
    assert found.matrix is not None
    for block, near in found.neighbours.items():
        columns = found.matrix.columns([block])
        row = found.matrix.ids.index("7")
        cosines = cosine_similarity(columns[found.matrix.training], columns[[row]])[:, 0]
        order = [k for k in np.argsort(-cosines) if found.matrix.training[k] != row][:5]
        assert [n.cosine for n in near] == pytest.approx(cosines[order].tolist(), abs=1e-6)
        assert "7" not in [n.guid for n in near]


def test_a_training_row_is_said_to_be_one_and_an_unlabelled_row_not(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model knows its training rows, so their honest probability is printed; other rows have none."""
    words = [
        "explain",
        "--run",
        str(here.run("tiny-bert")),
        *here.options(),
        "--out",
        str(tmp_path / "e.html"),
    ]
    assert main([*words, "--id", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with (here.run("tiny-bert") / "oof.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "5")
    assert found["held_out"] == {"happy": float(row["p_happy"]), "sad": float(row["p_sad"])}
    assert "The model was trained on row '5'" in found["notes"][0]
    assert main([*words, "--id", "free", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["held_out"] is None
    assert found["notes"] == []
    assert found["label"] is None


def test_given_inputs_are_explained_like_the_stored_row(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same text and picture by hand give the same probabilities, words and cells."""
    text = (here.root / "data" / "4.txt").read_text(encoding="utf-8")
    stored = explain(_settings(here, "tiny-clip", id="4"))
    given = explain(_settings(here, "tiny-clip", text=text, image=here.root / "data" / "4.jpg"))
    np.testing.assert_allclose(given.probabilities, stored.probabilities, rtol=1e-9)
    np.testing.assert_allclose(
        given.attributions.patches[0].values, stored.attributions.patches[0].values, atol=1e-9
    )
    assert given.held_out is None
    alone = explain(_settings(here, "tiny-clip", text=text))
    assert list(alone.shares.values) == ["text"]
    assert alone.attributions.patches == ()
    words = ["explain", "--run", str(here.run("tiny-clip")), *here.options(), "--text", text]
    assert main([*words, "--out", str(tmp_path / "x.html")]) == 0
    printed, told = capsys.readouterr()
    assert "Words, each left out in turn" in printed
    assert printed.splitlines()[-1] == str(tmp_path / "x.html")
    assert told.endswith("; open the page\n")
    (tmp_path / "empty.jpg").touch()
    assert main([*words, "--out", str(tmp_path / "y.html"), "--image", str(tmp_path / "empty.jpg")]) == 0
    assert capsys.readouterr().err.endswith("; open the page\n")
    picture = ["--image", str(here.root / "data" / "4.jpg")]
    assert main([*words, "--out", str(tmp_path / "z.html"), *picture]) == 0
    assert capsys.readouterr().err.endswith("; open the page for the map over the picture\n")


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_explained_answer_is_that_of_predict(here: Planted, method: str) -> None:
    """Calibration and decision count: same probabilities, same class, and drops of the calibrated ones."""
    answers = predict(PredictSettings(run=here.run("decided"), features=("features/tiny-bert.h5",)))
    row = answers.ids.index("0")
    found = explain(_settings(here, "decided", id="0", method=method))
    assert found.classes == answers.class_names
    np.testing.assert_allclose(found.probabilities, answers.probabilities[row], rtol=1e-4)
    assert found.classes[found.predicted] == answers.tags[row] == "sad"  # the rule names it in every case
    assert found.code == found.predicted != found.probabilities.argmax()
    raw = found.case.model.predict_proba(found.case.rows([{}]))[0]
    assert np.abs(found.probabilities - raw).max() > 1e-3
    assert found.shares.whole == pytest.approx(found.probabilities[found.code])
    notes = " ".join(found.notes)
    assert ("before the run's calibration" in notes) == (method == "gradient")
    assert "named by the run's decision" in notes
    assert "trained without it said sad" in notes


def test_held_out_probabilities_are_calibrated_like_the_models(here: Planted) -> None:
    """What stands beside the model's answer was treated alike; the stored one was not."""
    found = explain(_settings(here, "decided", id="5"))
    with (here.run("decided") / "oof.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "5")
    stored = np.array([[float(row["p_happy"]), float(row["p_sad"])]])
    facts = found.case.model.extra["after"]
    logits = np.log(np.maximum(stored / stored.sum(), 1e-7)) / facts["calibration"]["temperature"]
    by_hand = np.exp(logits) / np.exp(logits).sum()
    assert found.held_out is not None
    assert list(found.held_out.values()) == pytest.approx(by_hand[0].tolist(), abs=1e-9)


def test_class_can_be_chosen(here: Planted) -> None:
    """For the other of two classes every value has the other sign."""
    one = explain(_settings(here, "tiny-bert", id="0"))
    other = explain(_settings(here, "tiny-bert", id="0", target="sad"))
    assert (one.classes[one.code], other.classes[other.code]) == ("happy", "sad")
    values = [value for _, value in one.attributions.words[0].pieces if value is not None]
    others = [value for _, value in other.attributions.words[0].pieces if value is not None]
    np.testing.assert_allclose(values, [-value for value in others], atol=1e-12)


def test_wrong_words_and_rows_are_named(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong run or picture ends with exit 1, wrong words with exit 2, each in one line."""
    run = ["explain", "--run", str(here.run("tiny-bert")), *here.options()]
    for words, code, part in [
        ([*run, "--id", "evli"], 2, "has no row 'evli'; near matches: 'evil'"),
        (["explain", "--run", str(tmp_path), "--id", "1"], 1, "is not a finished run folder"),
        (run, 2, "give either --id, or --text and/or --image"),
        ([*run, "--id", "1", "--text", "x"], 2, "give either --id, or --text and/or --image"),
        ([*run, "--id", "1", "--method", "magic"], 2, "method 'magic' is not known; allowed are occlusion"),
        ([*run, "--id", "1", "--class", "angry"], 2, "Class 'angry' is not one of the run's: 'happy', 'sad'"),
        ([*run, "--id", "1", "--out", str(tmp_path)], 2, "cannot be written"),
        ([*run, "--image", "data/1.jpg"], 2, "the input has no usable image"),
        ([*run, "--image", "nowhere.jpg"], 1, "'nowhere.jpg' does not exist"),
        ([*run, "--text", " "], 2, "the input has no usable text"),
    ]:
        assert main(words) == code, words
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert part in message, message


@pytest.mark.parametrize(
    ("run", "content", "status"),
    [
        ("clip-image", b"", "image_corrupt"),
        ("tiny-clip", b"", "image_corrupt"),
        ("clip-image", b"hello", "image_format"),
    ],
)
def test_picture_that_cannot_be_used_is_named_with_its_status(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str, content: bytes, status: str
) -> None:
    """An empty picture and one that is none: a wrong file, no wrong word; a text beside it is explained."""
    (tmp_path / "odd.jpg").write_bytes(content)
    words = ["explain", "--run", str(here.run(run)), *here.options(), "--image", str(tmp_path / "odd.jpg")]
    assert main(words) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"has no usable image that it could be answered from: '{tmp_path}/odd.jpg' is {status}." in line
    if run == "tiny-clip":
        assert main([*words, "--text", "dog on", "--out", str(tmp_path / "page.html")]) == 0


def test_heads_without_a_gradient_point_to_occlusion(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradients of such a head are refused before any network runs; occlusion explains it."""
    words = [
        "--features",
        "features/tiny-bert.h5",
        "--study",
        "ridge",
        "--folds",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(["train", "--head", "ridge", *words]) == 0
    run = ["explain", "--run", str(tmp_path / "ridge"), *here.options(), "--id", "2"]
    out = ["--out", str(tmp_path / "e.html")]
    assert main([*run, *out, "--method", "gradient"]) == 2
    assert "has no gradient that could be followed" in capsys.readouterr().err
    assert not (tmp_path / "e.html").exists()
    assert main([*run, *out]) == 0
    assert (tmp_path / "e.html").stat().st_size > 10_000


def test_ids_become_harmless_file_names() -> None:
    """Ids are data: no path, no surprise, and two of them never share a page."""
    names = [
        page_path(ExplainSettings(Path("r"), id=guid)).name
        for guid in ("12", "../../x", "..-..-x", "a b", "a_b")
    ]
    assert names[0] == "explain-12.html"
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.") for name in names)
    assert len(set(names)) == len(names)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (CI installs it)")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_page_is_drawn_and_strangers_text_stays_text(
    browser: Browser,  # noqa: F811
    here: Planted,
    tmp_path: Path,
    width: int,
    dark: bool,
) -> None:
    """Map, words, charts and neighbours are drawn offline; markup in a text is shown and never run."""
    page = tmp_path / "e.html"
    words = ["explain", "--run", str(here.run("tiny-clip")), *here.options(), "--out", str(page)]
    assert main([*words, "--id", "evil"]) == 0
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.value("document.title").startswith("Why evil?")
    assert EVIL.split()[0] in browser.value("document.querySelector('#words p').textContent")
    assert browser.value("document.querySelectorAll('#picture figure > svg rect').length") == 49
    assert browser.value("document.querySelectorAll('#neighbours .card .thumb').length") == 10
    assert browser.value("document.documentElement.scrollWidth") <= width
    loaded = "(async () => { const i = new Image(); i.src = document.querySelector('#picture image')"
    loaded += ".getAttribute('href'); await i.decode(); return i.naturalWidth; })()"
    assert browser.value(loaded) == 70
    browser.value(
        "document.querySelector('#picture rect').scrollIntoView({block: 'center', behavior: 'instant'})"
    )
    place = browser.value(
        "(() => { const cell = document.querySelectorAll('#picture figure > svg rect')[24];"
        " const b = cell.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    browser.hover(*place)
    assert browser.value("document.getElementById('tip').textContent").startswith("row 4, column 4: ")


# --- the offer of `errors` ---------------------------------------------------------------------------


def _offered(capsys: pytest.CaptureFixture[str], run: Path, guid: str, *words: str) -> list[str] | None:
    """Words of the explain command that ``errors --id`` proposes, or None."""
    capsys.readouterr()
    assert main(["errors", "--run", str(run), "--id", guid, *words]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "embedonce explain" in line]
    assert len(lines) <= 1
    return (
        shlex.split(lines[0].removeprefix("Next: ").removesuffix(" shows what decided it")) if lines else None
    )


def test_errors_offer_an_explanation_that_can_be_made(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words that errors --id proposes explain that row, once DIR is the folder of the weights."""
    offered = _offered(capsys, here.run("tiny-clip"), "3", "--data", ".")
    assert offered is not None
    assert offered[:4] == ["embedonce", "explain", "--run", str(here.run("tiny-clip"))]
    assert offered[-2:] == ["--weights", "tiny-clip=DIR"]
    words = [*offered[1:-1], f"tiny-clip={here.weights['tiny-clip']}", "--out", str(tmp_path / "page.html")]
    assert main(words) == 0
    assert (tmp_path / "page.html").is_file()


def test_errors_offer_no_explanation_of_what_cannot_be_embedded_again(
    here: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of a row whose picture is gone, nor of a run on counted terms."""
    run = here.run("clip-image")
    assert _offered(capsys, run, "3") is not None
    picture = here.root / "data" / "3.jpg"
    picture.rename(tmp_path / "3.jpg")
    try:
        assert _offered(capsys, run, "3") is None
        assert _offered(capsys, run, "4") is not None
    finally:
        (tmp_path / "3.jpg").rename(picture)
    terms = ["--features", "features/tiny-bert.h5:text.terms", "--out", str(tmp_path), "--study", "terms"]
    assert main(["train", "--folds", "2", "--duplicates", "exact", *terms]) == 0
    assert _offered(capsys, tmp_path / "terms", "3") is None
    assert main(["explain", "--run", str(tmp_path / "terms"), "--id", "3"]) == 2  # as it would have said
