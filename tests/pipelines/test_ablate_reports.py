"""``ablate --preset``: the tables of the reports, on small stores with the names of their backbones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from extract import backbone_names
from heads import PRESETS
from pipelines.ablation.reported_tables import REPORTED_TABLES, USUAL_BACKBONE
from pipelines.cli import main
from pipelines.term_counts import TERMS_BACKBONE
from tests.pipelines.ablation_stores import labels_of, make_store, noisy

N = 120


@pytest.fixture
def features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``features/`` in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "features"


def _store(features: Path, backbone: str, *modalities: str) -> None:
    codes = labels_of(N)
    vectors = {name: noisy(codes, 2.0, seed=seed) for seed, name in enumerate(modalities)}
    make_store(features / f"{backbone}.h5", backbone, vectors, codes)


def _table(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> dict:
    capsys.readouterr()
    assert main(["ablate", "--preset", name, "--folds", "2", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_clip_fusions_stand_beside_the_reported_figures(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The five rows of report 000 are computed, and the files hold its figures in columns of their own."""
    _store(features, "clip-vit-b32", "text", "image")
    found = _table(capsys, "clip-fusions")
    assert [row["name"] for row in found["rows"]] == ["text", "image", "late", "early", "attention"]
    assert found["reference"] == "early"
    assert found["rows"][3]["reported"] == {"weighted_f1": 0.7854, "accuracy": 0.7883}
    assert found["rows"][0]["blocks"] == ["text.pooled"]
    run = Path(found["run"])
    with (run / "ablation.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["reported weighted_f1"] for line in lines] == [
        "0.6941",
        "0.7485",
        "0.781",
        "0.7854",
        "0.7306",
    ]
    assert "reported accuracy" in (run / "ablation.tex").read_text(encoding="utf-8")
    again = _table(capsys, "clip-fusions")
    assert again["run"] == found["run"]


def test_vote_is_the_majority_of_three_fusions(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last row of report 004 counts votes, replays, and is compared like every other row."""
    _store(features, "clip-vit-l14-336", "text", "image")
    found = _table(capsys, "clip-l14-fusions")
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows)[-1] == "vote"
    voters = [rows[name]["n_parameters"] for name in ("concat", "attention", "weighted sum")]
    assert rows["vote"]["n_parameters"] == sum(voters)
    assert rows["vote"]["head"] == "vote of 3"
    assert set(rows["vote"]["against_reference"]) >= {"difference", "p_value", "p_holm", "verdict"}
    config = str(Path(found["run"]) / "config.json")
    again = _table(capsys, "clip-l14-fusions", "--config", config, "--out", "again")
    assert [row["cv"] for row in again["rows"]] == [row["cv"] for row in found["rows"]]


def test_rows_without_their_stores_are_named_with_the_command(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table is computed as far as the stores go; the rest keeps its figures and says what to extract."""
    _store(features, "clip-vit-b32", "text", "image")
    found = _table(capsys, "systems")
    assert [row["name"] for row in found["rows"]] == ["CLIP ViT-B/32"]
    skipped = {row["name"]: row for row in found["skipped"]}
    assert "embedonce extract --backbone bert-base-uncased" in skipped["BERT + ResNet18 late"]["note"]
    assert "embedonce extract --backbone resnet18" in skipped["BERT + ResNet18 late"]["note"]
    assert skipped["TF-IDF + ResNet18"]["reported"] == {"macro_f1": 0.4118, "accuracy": 0.5025}
    _store(features, "bert-base-uncased", "text")
    _store(features, "resnet18", "image")
    capsys.readouterr()
    assert main(["ablate", "--preset", "systems", "--folds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "reported macro_f1" in printed
    assert "0.5354" in printed


def test_tfidf_rows_take_the_texts_of_any_store(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Report 001's TF-IDF rows count terms of the first store with texts; BERT's rows do not use them."""
    codes = labels_of(N)
    words = np.array(["good sunny", "plain grey", "bad rainy"])
    texts = tuple(f"{words[code]} day number{row}" for row, code in enumerate(codes))
    vectors = {"text": noisy(codes, 0.0)}
    make_store(features / "roberta-base.h5", "roberta-base", vectors, codes, texts=texts)
    _store(features, "resnet18", "image")
    found = _table(capsys, "systems")
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["TF-IDF + ResNet18"]["blocks"] == ["text.terms", "image.pooled"]
    assert rows["TF-IDF text only"]["blocks"] == ["text.terms"]
    assert rows["ResNet18 image only"]["blocks"] == ["image.pooled"]
    assert set(rows) == {"TF-IDF + ResNet18", "TF-IDF text only", "ResNet18 image only"}
    own = _table(
        capsys,
        "systems",
        "--features",
        "features/roberta-base.h5:text.chars-min3",
        "--features",
        "features/resnet18.h5",
        "--out",
        "own",
    )
    assert own["rows"][0]["blocks"] == ["text.chars-min3", "image.pooled"]


def test_table_without_any_store_is_one_line(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing can be computed: exit 1, and every command that would help."""
    assert main(["ablate", "--preset", "flava"]) == 1
    error = capsys.readouterr().err
    assert (
        error.count("no store has text vectors of 'flava-full' (make it with: embedonce extract --backbone")
        == 1
    )
    assert "Traceback" not in error


def test_named_stores_may_stand_in(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store of another backbone serves when it is named, and a note says what that means."""
    _store(features, "mine", "text", "image")
    found = _table(capsys, "clip-heads", "--features", "features/mine.h5")
    assert len(found["rows"]) == 6
    assert main(["ablate", "--preset", "clip-heads", "--folds", "2", "--features", "features/mine.h5"]) == 0
    assert "the reported figures do not carry over" in capsys.readouterr().err


def test_flava_rows_use_one_vector_each(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both is the joint vector, and without a modality is the other one's."""
    _store(features, "flava-full", "text", "image", "joint")
    rows = {row["name"]: row["blocks"] for row in _table(capsys, "flava")["rows"]}
    assert rows == {
        "both": ["joint.pooled"],
        "without image": ["text.pooled"],
        "without text": ["image.pooled"],
    }


def test_cached_features_with_three_heads(features: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BERT and ResNet50 under three heads, beside figures whose F1 the report does not name."""
    _store(features, "bert-base-uncased", "text")
    _store(features, "resnet50", "image")
    found = _table(capsys, "cached-features")
    assert [row["reported"]["f1"] for row in found["rows"]] == [0.81, 0.72, 0.74]
    assert all(np.isfinite(row["cv"]["macro_f1"]["mean"]) for row in found["rows"])


@pytest.mark.parametrize("name", REPORTED_TABLES)
def test_tables_name_what_exists(name: str) -> None:
    """Presets, backbones, references and voters of a table exist."""
    found = REPORTED_TABLES[name]
    rows = {row.name: row for row in found.rows}
    assert rows[found.reference].preset
    for row in found.rows:
        assert not row.preset or row.preset in PRESETS
        assert set(row.votes) <= set(rows)
        for modality in row.modalities if row.preset else ():
            wanted = row.backbones[modality]
            if wanted == TERMS_BACKBONE:  # counted in a store's texts, by no backbone
                continue
            assert USUAL_BACKBONE.get(wanted, wanted) in backbone_names()
        assert row.preset or row.votes or row.note


def test_list_shows_every_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`--preset list` names the tables and what to extract."""
    assert main(["ablate", "--preset", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == list(REPORTED_TABLES)
