"""What speaks for an answer, on real small networks, and that it is said honestly."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from pipelines.explaining import explain
from pipelines.explaining.attributions import WordMap
from pipelines.predict import PredictSettings, predict
from tests.pipelines.explaining.conftest import Planted, settings_of


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_the_planted_word_is_found(here: Planted, method: str) -> None:
    """The word that tells the classes speaks for the class more than any other, in most rows."""
    first = 0
    for guid in map(str, range(6)):
        found = explain(settings_of(here, "tiny-bert", id=guid, method=method))
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
        found = explain(settings_of(here, run, id=guid))
        assert found.attributions.patches[0].values.shape == (7, 7)
        first += int(found.attributions.patches[0].values.argmax()) == 2 * 7 + 4
    assert first == 2


def test_occlusion_is_what_the_model_answers_without_the_part(here: Planted) -> None:
    """Each value is the drop against the text without the word, and the picture with the cell painted."""
    found = explain(settings_of(here, "mlp", id="3"))
    scored = [
        (k, value) for k, (_, value) in enumerate(found.attributions.words[0].pieces) if value is not None
    ]
    pieces = [piece for piece, _ in found.attributions.words[0].pieces]
    image = here.root / "data" / "3.jpg"
    whole = found.probabilities[found.code]
    for k, value in scored:
        text = " ".join("".join(pieces[:k] + pieces[k + 1 :]).split())
        other = explain(settings_of(here, "mlp", text=text, image=image, target=found.classes[found.code]))
        assert whole - other.probabilities[found.code] == pytest.approx(value, abs=1e-9)
    with Image.open(image) as opened:
        picture = opened.convert("RGB")
    mean = tuple(np.asarray(picture).mean(axis=(0, 1)).round().astype(int).tolist())
    picture.paste(mean, (40, 20, 50, 30))
    picture.save(here.root / "painted.png")
    text = found.case.text
    other = explain(settings_of(here, "mlp", text=text, image=here.root / "painted.png"))
    drop = whole - other.probabilities[found.code]
    assert found.attributions.patches[0].values[2, 4] == pytest.approx(drop, abs=1e-9)


def test_gradients_of_a_picture_are_complete_or_said_to_be_not(here: Planted) -> None:
    """Every map of gradients comes with what it adds up to, and the share that the path has missed."""
    found = explain(settings_of(here, "tiny-clip", id="3", method="gradient"))
    assert {m.title for m in found.attributions.patches} == {"Patches of tiny-clip, image"}
    assert found.attributions.patches[0].values.shape == (4, 4)
    assert len(found.attributions.notes) == 2
    for note, m in zip(found.attributions.notes, ("text", "image"), strict=True):
        assert note.startswith(f"tiny-clip, {m}: the values add up to")
        assert "do not trust" not in note


def test_shares_add_up_and_equal_the_four_evaluations(here: Planted) -> None:
    """The Shapley values of text and image are those of the definition, from the model itself."""
    found = explain(settings_of(here, "mlp", id="2"))
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

    found = explain(settings_of(here, "mlp", id="7"))
    assert found.matrix is not None
    for block, near in found.neighbours.items():
        columns = found.matrix.columns([block])
        row = found.matrix.ids.index("7")
        cosines = cosine_similarity(columns[found.matrix.training], columns[[row]])[:, 0]
        order = [k for k in np.argsort(-cosines) if found.matrix.training[k] != row][:5]
        assert [n.cosine for n in near] == pytest.approx(cosines[order].tolist(), abs=1e-6)
        assert "7" not in [n.guid for n in near]


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_explained_answer_is_that_of_predict(here: Planted, method: str) -> None:
    """Calibration and decision count: same probabilities, same class, and drops of the calibrated ones."""
    answers = predict(PredictSettings(run=here.run("decided"), features=("features/tiny-bert.h5",)))
    row = answers.ids.index("0")
    found = explain(settings_of(here, "decided", id="0", method=method))
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
    found = explain(settings_of(here, "decided", id="5"))
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
    one = explain(settings_of(here, "tiny-bert", id="0"))
    other = explain(settings_of(here, "tiny-bert", id="0", target="sad"))
    assert (one.classes[one.code], other.classes[other.code]) == ("happy", "sad")
    values = [value for _, value in one.attributions.words[0].pieces if value is not None]
    others = [value for _, value in other.attributions.words[0].pieces if value is not None]
    np.testing.assert_allclose(values, [-value for value in others], atol=1e-12)
