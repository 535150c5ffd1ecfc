"""Tables as manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from extract import DataError, open_backbone, read_data_set, tables
from extract.choices import shared_modalities

RECORDS = [
    {"id": "1", "text": "good, very", "image": "a/1.png", "label": "pos", "split": "train", "group": "g"},
    {"id": "2.0", "text": "=cmd()|x", "image": "", "label": "null", "split": "Test", "group": ""},
]


def _write(folder: Path, kind: str) -> Path:
    path = folder / f"posts.{kind}"
    frame = pd.DataFrame(RECORDS)
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        frame.to_csv(path, index=False, sep="\t")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in RECORDS), encoding="utf-8")
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_table_reads_the_same_samples_from_every_format(tmp_path: Path, kind: str) -> None:
    """Formats differ, samples do not."""
    first, second = read_data_set(_write(tmp_path, kind)).samples
    assert (first.id, first.text, first.label, first.split, first.group) == (
        "1",
        "good, very",
        "pos",
        "train",
        "g",
    )
    assert first.image_path == tmp_path / "a" / "1.png"
    assert (second.id, second.text, second.label, second.split, second.image_path) == (
        "2",
        "=cmd()|x",
        None,
        "test",
        None,
    )


def test_columns_can_be_renamed(tmp_path: Path) -> None:
    """--columns id=guid,label=tag works, and a wrong name gets near matches."""
    pd.DataFrame([{"guid": "1", "tag": "a", "text": "x"}]).to_csv(tmp_path / "t.csv", index=False)
    sample = read_data_set(tmp_path / "t.csv", columns={"id": "guid", "label": "tag"}).samples[0]
    assert (sample.id, sample.label) == ("1", "a")
    with pytest.raises(DataError, match="no column 'guidd' \\(near: guid\\)"):
        read_data_set(tmp_path / "t.csv", columns={"id": "guidd"})


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_columns_that_may_be_the_text_or_the_label_are_named(tmp_path: Path, kind: str) -> None:
    """A text or a label under another name is not dropped without a word."""
    path = _write(tmp_path, kind)
    frame = tables.load_frame(path).rename(columns={"text": "tweet", "label": "tag"})
    frame["image"] = "a/1.png"
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    note = read_data_set(path).notes["columns not read"]
    assert note == "'tweet', 'tag'; there is no text and no label (--columns text=COLUMN,label=COLUMN)"
    assert read_data_set(path, columns={"text": "tweet"}).notes["columns not read"].startswith("'tag'; there")
    assert "columns not read" not in read_data_set(path, columns={"text": "tweet", "label": "tag"}).notes
    with pytest.raises(DataError, match=r"has only image.*not read: 'tweet', 'tag'; there is no text"):
        shared_modalities(read_data_set(path), open_backbone("minilm-l6"), ())


def test_all_faulty_rows_are_named(tmp_path: Path) -> None:
    """Paths out of the folder, unknown splits and empty ids are listed together."""
    rows = [
        {"id": "1", "image": "../x.png", "split": ""},
        {"id": "2", "image": "/etc/passwd", "split": ""},
        {"id": "", "image": "", "split": ""},
        {"id": "4", "image": "", "split": "tset"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(
        DataError, match=r"4 faulty row\(s\): row 1: path '../x.png'.*row 2.*row 3: an empty id.*'tset'"
    ):
        read_data_set(tmp_path / "t.csv")


def test_a_table_without_inputs_is_refused(tmp_path: Path) -> None:
    """A table needs text or image, and an id."""
    pd.DataFrame([{"id": "1", "label": "a"}]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="it needs 'text', 'text_path' or 'image'"):
        read_data_set(tmp_path / "t.csv")
    pd.DataFrame([{"name": "1", "text": "a"}]).to_csv(tmp_path / "u.csv", index=False)
    with pytest.raises(DataError, match="none is 'id'"):
        read_data_set(tmp_path / "u.csv")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", b""),
        ("t.jsonl", b"{bad"),
        ("t.jsonl", b"[1]"),
        ("t.parquet", b"PAR1"),
        ("t.csv", b'id,text\n"1,x'),
    ],
)
def test_broken_tables_are_one_clear_error(tmp_path: Path, name: str, data: bytes) -> None:
    """Empty, cut and foreign files name the table."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=name):
        read_data_set(tmp_path / name)


def test_rows_that_do_not_fit_the_header_are_named_not_shifted(tmp_path: Path) -> None:
    """An unquoted comma in a text is a fault with its line, wherever it stands; so is a short row."""
    (tmp_path / "t.csv").write_text("id,text,label\n1,hello, world,a\n2,bye\n3,yes,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"2 fault\(s\): line 2 has 4 cells; line 3 has 2 cells"):
        read_data_set(tmp_path / "t.csv")


@pytest.mark.parametrize("data", [b"\nid,text\n1,a\n", b"\xef\xbb\xbf", b"\n"])
def test_tables_begin_with_their_header(tmp_path: Path, data: bytes) -> None:
    """An empty first line names no columns."""
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"does not begin with a header line|is empty"):
        read_data_set(tmp_path / "t.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_jsonl_is_decoded_once(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines are gone through twice, for the columns and for the rows, but checked and decoded once."""
    calls: list[str] = []
    for name in ("is_plain_utf8", "decode_text"):
        plain = getattr(tables, name)
        monkeypatch.setattr(
            tables, name, lambda *a, name=name, plain=plain: (calls.append(name), plain(*a))[1]
        )
    rows = [{"id": "1", "text": "très"}, {"id": "2", "text": "déjà", "label": "a"}]
    path = tmp_path / "t.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(encoding))
    samples = read_data_set(path, encodings=("cp1252",)).samples
    assert [(s.text, s.label) for s in samples] == [("très", None), ("déjà", "a")]
    assert calls == (["is_plain_utf8"] if encoding == "utf-8" else ["is_plain_utf8", "decode_text"])


def test_jsonl_keeps_unicode_line_separators(tmp_path: Path) -> None:
    """U+2028 inside a JSON string is part of the text, not the end of the line."""
    records = [{"id": "1", "text": "a\u2028b\u0085c", "label": "x"}]
    (tmp_path / "t.jsonl").write_text(json.dumps(records[0], ensure_ascii=False), encoding="utf-8")
    assert read_data_set(tmp_path / "t.jsonl").samples[0].text == "a\u2028b\u0085c"


def test_none_is_a_class_name(tmp_path: Path) -> None:
    """Stance data has a class called none; only the empty cell and null mean "no label"."""
    (tmp_path / "t.csv").write_text("id,text,label\n1,a,none\n2,b,\n3,c,null\n4,d,favor\n", encoding="utf-8")
    assert [s.label for s in read_data_set(tmp_path / "t.csv").samples] == ["none", None, None, "favor"]
